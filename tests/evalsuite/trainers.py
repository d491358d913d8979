"""What the trainers of others are tried with: a hook on generated tasks, rows of ids, and what a run left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.hook import EvalHook
from evalsuite.registry import Registry
from evalsuite.task_list import TaskList
from tests.evalsuite.net import VOCABULARY, Bytes

CONTEXT = 24
EVERY = 3
NAMES = ("skill_copy", "skill_add_1_digit")


def tasks() -> TaskList:
    return TaskList.of(NAMES, Registry(), items=6)


def hook(folder: Path, **changes: Any) -> EvalHook:
    """A hook without a budget, so that nothing depends on the clock."""
    options: dict[str, Any] = {
        "folder": folder, "every": EVERY, "budget": None, "rate": 0, "registry": Registry(),
        "average": Averaging(n=2, spacing=1),
    }  # fmt: skip
    return EvalHook(tasks(), Bytes(), **options | changes)


def rows(count: int = 64, seed: int = 0) -> torch.Tensor:
    """Token ids to train on, [count, CONTEXT]."""
    return torch.randint(0, VOCABULARY, (count, CONTEXT), generator=torch.Generator().manual_seed(seed))


def left(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """All that training goes on from: weights, optimiser, random state."""
    state = optimizer.state_dict()["state"]
    return {
        **{f"weight {name}": value.clone() for name, value in model.state_dict().items()},
        **{
            f"optimiser {i} {name}": torch.as_tensor(value).clone()
            for i, each in state.items()
            for name, value in each.items()
        },
        "random": torch.get_rng_state(),
    }


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two runs left the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def scores(found: Any) -> list[tuple]:
    """The scores of a hook, without what the clock adds."""
    frame = found.series()
    return list(
        frame[["step", "tokens", "task", "score", "first", "last"]].itertuples(index=False, name=None)
    )


class Seen:
    """Keeps what a hook is told."""

    def __init__(self, made: Any) -> None:
        self.steps: list[dict[str, Any]] = []
        self.saves: list[tuple[int, int | None]] = []
        call, saved = type(made).__call__, made.saved
        outer = self

        class Watched(type(made)):
            def __call__(self, step, model, **told):
                outer.steps.append({"step": step, **told})
                call(self, step, model, **told)

            def saved(self, step, oldest=None):
                outer.saves.append((step, oldest))
                saved(step, oldest)

        made.__class__ = Watched
