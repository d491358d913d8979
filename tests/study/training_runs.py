"""What studies of training share: tokens of the corpus, runs that can be taken up again, scores."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.prepared import Prepared
from data.sources import Source
from tests.study.real import shared
from train.config import DataConfig, read_config
from train.loop import Outcome, Trainer
from train.plan import Plan

DOMAINS = ("children", "dialogue", "math", "prose", "textbook", "webdocs")


@dataclass(frozen=True)
class Trained:
    """A run at its end.

    Attributes:
        trainer: with the last weights, its model evaluating. outcome: of the run.
        cpu_seconds: of one thread for a step, the median; NaN where no step was left to do.
    """

    trainer: Trainer
    outcome: Outcome
    cpu_seconds: float


def corpus() -> Path | None:
    """The folder of real text; None where it is absent."""
    place = shared() / "corpus"
    return place if place.is_dir() else None


def corpus_missing() -> dict[str, str]:
    """The row a study prints in place of figures it cannot measure here."""
    return {"source": "corpus", "skipped": f"no folder corpus under {shared()}"}


def corpus_tokens(folder: Path, *, vocab: int, most: int) -> Prepared:
    """Tokens of the corpus, made once. Its makers have kept it apart from the tasks and held text out.

    Args:
        folder: of the tokens. vocab: ids of the BPE trained on them. most: bytes of each domain to train on.
    """
    from train.text import tokens_of

    place = shared() / "corpus"
    train = [Source(str(place / f"{one}.jsonl.zst"), domain=one, most=most) for one in DOMAINS]
    held_out = [Source(str(place / f"{one}.val.jsonl.zst"), domain=one, held_out=True) for one in DOMAINS]
    return tokens_of(DataConfig(sources=(*train, *held_out), tokenizer=vocab, overlap=False), folder)


def trained(folder: Path, settings: Mapping[str, Any]) -> Trained:
    """Train a run on one thread to its end, from where it was cut off if it was.

    Args:
        folder: of the run. settings: dotted names as for `read_config`, `data.folder` among them.
    """
    import torch

    from train.checkpoint import latest
    from train.loop import CHECKPOINTS
    from train.run import CONFIG
    from train.studies.runs import finished

    torch.set_num_threads(1)
    ticks: list[float] = []

    def tick(step: int, of: int, text: str) -> None:
        ticks.append(time.process_time())
        if step % 100 == 0:
            say(f"{folder.name}: {step} of {of}, {text}")

    told = {**settings, "device.device": "cpu", "device.threads": 1}
    outcome = finished(folder, read_config(settings=told), tick)
    config = read_config(folder / CONFIG)
    trainer = Trainer(folder, Plan.of(config, Prepared.read(str(config.data.folder))))
    newest = latest(folder / CHECKPOINTS, say)
    assert newest is not None
    trainer.load(newest)
    trainer.model.eval()
    # The median: some steps write a checkpoint, and a shared machine has its hiccups.
    cpu_seconds = float(np.median(np.diff(ticks))) if len(ticks) > 1 else math.nan
    return Trained(trainer, outcome, cpu_seconds)


def task_scores(
    trainer: Trainer, tasks: Sequence[str], items: int, metrics: Sequence[str] = ("bpb", "acc")
) -> dict[str, dict[str, float]]:
    """Metrics of the plain model by task, without solved examples.

    Args:
        trainer: of the model. tasks: of the shared folder, or skills. items: of each task at most; those
            whose answers are longer than the model's context are left out.
    """
    from evalsuite.registry import Registry
    from evalsuite.tasks import TaskFolder
    from train.model import Model
    from train.studies.tasks import TaskScores

    shape = trainer.plan.shape
    model = Model(shape).eval()
    model.load_state_dict(trainer.model.plain(), strict=not shape.tied)
    registry = Registry((TaskFolder.open(shared() / "tasks"),))
    return TaskScores.of(model, trainer.plan.prepared.tokenizer, registry, tasks, items).scores(metrics)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
