"""The evaluation hook of a run, by its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data.prepared import Prepared
from data.tokenizer import Tokenizer
from evalsuite.averaging import Averaging
from evalsuite.child import Process
from evalsuite.hook import EvalHook
from evalsuite.measures import METRICS
from evalsuite.programme import programmes
from evalsuite.registry import Registry
from evalsuite.results import Identity
from evalsuite.task_list import TaskList
from scaling.errors import UsageError
from train.config import EvalConfig, read_config
from train.mtp import TrainedModel
from train.plan import Plan

if TYPE_CHECKING:
    from train.loop import Trainer

EVALS = "evals"


def check_eval(told: EvalConfig) -> None:
    """Refuse suites and tasks that are not there, before there is a run to watch.

    Raises:
        UsageError, StagewiseError: which setting, and what is valid.
    """
    if told.suites and told.tasks:
        raise UsageError("eval: give suites or tasks, one of them")
    if told.process and told.where != "disk":
        raise UsageError("eval.process: works from snapshots on disk; leave out eval.where, or eval.process")
    if told.metric not in METRICS:
        raise UsageError(f"eval.metric is {told.metric!r}, valid are {', '.join(METRICS)}")
    averaging_of(told)
    if watched := _watched(told, registry := Registry.open(told.folders)):
        programmes(watched, registry)


def averaging_of(told: EvalConfig) -> Averaging | None:
    """How snapshots are averaged; None where weights are evaluated as they are."""
    made = Averaging(told.average, told.spacing, told.weights, where=told.where, least=told.least)
    return made if told.average > 1 or told.process else None


def hook_of(trainer: Trainer, say: Callable[[str], None]) -> EvalHook | None:
    """The hook of a run, which writes into its folder; None where nothing is to be evaluated."""
    told = trainer.plan.config.eval
    registry = Registry.open(told.folders)
    watched = _watched(told, registry)
    if not watched or not told.every:
        return None
    plan = trainer.plan
    name = trainer.folder.resolve().name
    return EvalHook(
        watched, plan.prepared.tokenizer, folder=trainer.folder / EVALS, every=told.every,
        average=averaging_of(told), budget=told.budget or None,
        sinks=[] if trainer.sink is None else [trainer.sink], registry=registry,
        identity=Identity(
            model=name, family=plan.config.model.preset, params=float(plan.size.params),
            seed=plan.config.seed,
        ),
        raw=told.raw, rate=told.rate, process=_process(trainer) if told.process else None,
        max_length=plan.config.model.context,
        autocast=trainer.dtype if trainer.dtype != torch.float32 else None, say=say,
    )  # fmt: skip


def built(told: dict[str, str]) -> tuple[TrainedModel, Tokenizer]:
    """The model of a run with any weights, and its tokenizer: for a process that evaluates beside it.

    Args:
        told: `run`, its folder, `tokens`, those it reads, and `device`.
    """
    from train.run import CONFIG

    config, prepared = read_config(Path(told["run"]) / CONFIG), Prepared.read(told["tokens"])
    shape = Plan.of(config, prepared).shape
    model = TrainedModel(shape, config.mtp.depth, prepared.tokenizer.eos)
    return model.to(told["device"]), prepared.tokenizer


def _process(trainer: Trainer) -> Process:
    """How the evaluations of a run find their model."""
    folders = {"run": trainer.folder, "tokens": trainer.plan.prepared.folder}
    told = {name: str(path.resolve()) for name, path in folders.items()}
    return Process("train.evaluation:built", told | {"device": str(trainer.world.device)})


def _watched(told: EvalConfig, registry: Registry) -> Any:
    """Suites, or a list of tasks; nothing where none are named."""
    if told.tasks:
        return TaskList.of(told.tasks, registry, metric=told.metric, items=told.items)
    return told.suites
