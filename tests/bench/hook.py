"""What the hook costs a run, measured from outside: seconds in it over seconds of training."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from data.prepared import Prepared
from evalsuite.evaluations import Evaluations
from evalsuite.hook import EvalHook
from evalsuite.registry import Registry
from evalsuite.task_list import TaskList
from tests.bench.training import SMALL, _trainer
from train.config import DataConfig
from train.text import tokens_of

STEPS, EVERY, BUDGETS = 1500, 50, (0.0, 0.02, 0.05, 0.1)
TASKS = ("skill_copy", "skill_add_*", "skill_code_*", "skill_agreement", "skill_recall")


def run() -> pd.DataFrame:
    """A row per budget, 0 for a hook that is off: share of training time, and what was left out for it."""
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as spare:
        prepared = tokens_of(DataConfig(tokenizer="bytes", overlap=False), Path(spare) / "tokens")
        for budget in BUDGETS:
            rows.append(_run(prepared, Path(spare) / f"{budget}", budget))
            print(rows[-1], file=sys.stderr)
    return pd.DataFrame(rows)


def _run(prepared: Prepared, folder: Path, budget: float) -> dict[str, Any]:
    trainer = _trainer(prepared, folder, {**SMALL, "steps": STEPS})
    registry = Registry()
    hook = EvalHook(
        TaskList.of(TASKS, registry), prepared.tokenizer, folder=folder / "evals",
        every=EVERY if budget else 0, budget=budget or None, registry=registry, say=lambda _: None,
        max_length=trainer.plan.config.model.context,
    )  # fmt: skip
    training = inside = 0.0
    for _ in range(STEPS):
        start = time.perf_counter()
        record = trainer._trained()
        between = time.perf_counter()
        hook(trainer.step, trainer.spread, flops=trainer.flops, tokens=trainer.tokens, lr=record["rate"])
        end = time.perf_counter()
        training, inside = training + between - start, inside + end - between
    start = time.perf_counter()
    hook.close()
    inside += time.perf_counter() - start
    row: dict[str, Any] = {
        "budget": budget, "share": inside / training, "over_budget": inside / training / (budget or 1),
        "training_s": training, "hook_s": inside,
    }  # fmt: skip
    if budget:
        found = Evaluations.open(folder)
        shares = [one.items for one in found.all]
        row |= {"evaluations": len(found.all), "due": STEPS // EVERY, "items": min(shares, default=0.0)}
    return row
