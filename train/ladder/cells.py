"""One run of a ladder: which size, how many tokens, of which mixture, from which seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.errors import UsageError
from train.config import CheckpointConfig, EvalConfig, RunConfig, ScheduleConfig, ValidationConfig

EVEN, WITHOUT = "even", "no-"


@dataclass(frozen=True)
class Cell:
    """A run of the grid.

    The learning rate is constant after the warmup, so that every checkpoint is as good an end as the last
    one: the checkpoints of a run are its token budgets, and the mean of four snapshots stands for the anneal.

    Attributes:
        size: preset of the model. mixture: its name, see `mixtures`. seed: of weights and order.
        tokens: of training. rows: of a step. mtp: depth of multi-token prediction.

    Example:
        >>> Cell("0.3m", "code", 1, 1e6).name
        '0.3m-code-1M-s1'
    """

    size: str
    mixture: str
    seed: int
    tokens: float
    rows: int = 8
    mtp: int = 0

    @property
    def name(self) -> str:
        """Of the run, unique within a ladder."""
        of = self.mixture if not self.mtp else f"{self.mixture}-mtp"
        return f"{self.size}-{of}-{_short(self.tokens)}-s{self.seed}"

    @property
    def family(self) -> str:
        """The recipe: runs that differ in size, length and seed alone share it."""
        return self.mixture if not self.mtp else f"{self.mixture}-mtp"

    def every(self, context: int, checkpoints: int) -> int:
        """Steps between evaluations."""
        return max(1, round(self.tokens / (self.rows * context * checkpoints)))

    def config(
        self, base: RunConfig, domains: Sequence[str], checkpoints: int, raw: int, tasks: Sequence[str]
    ) -> RunConfig:
        """The settings of the run.

        Args:
            base: data, device and what else all runs share. domains: of the text.
            checkpoints: evaluations of the run. raw: at every n-th of them the weights as they are too.
            tasks: to evaluate.
        """
        every = self.every(base.model.context, checkpoints)
        steps = every * checkpoints
        third = max(1, checkpoints // 3) * every
        return replace(
            base, steps=steps, tokens=None, seed=self.seed, mixture=dict(mixtures(domains)[self.mixture]),
            model=replace(base.model, preset=self.size), mtp=replace(base.mtp, depth=self.mtp),
            batch=replace(base.batch, rows=self.rows),
            schedule=ScheduleConfig(kind="constant", warmup=base.schedule.warmup, decay=0.0),
            validation=ValidationConfig(every=third, tokens=base.validation.tokens),
            checkpoint=CheckpointConfig(every=third),
            eval=EvalConfig(
                tasks=tuple(tasks), folders=base.eval.folders, every=every, raw=raw, budget=0.0, rate=0.0
            ),
        )  # fmt: skip


def mixtures(domains: Sequence[str]) -> Mapping[str, Mapping[str, float | str]]:
    """The data mixtures of a ladder, by name: weights by domain.

    `even` reads all domains alike; one named after a domain takes half its tokens from there and the rest
    from the others alike; `no-DOMAIN` leaves one out.

    Raises:
        UsageError: fewer than two domains, or one with the name of a mixture.

    Example:
        >>> mixtures(["code", "prose", "skills"])["code"]
        {'code': 0.5, 'prose': 0.25, 'skills': 0.25}
    """
    names = sorted(domains)
    if len(names) < 2:
        raise UsageError(f"ladder: the text has {len(names)} domain, valid is two or more")
    if odd := [one for one in names if one == EVEN or one.startswith(WITHOUT)]:
        raise UsageError(f"ladder: the domain {odd[0]!r} has the name of a mixture; give it another")
    found: dict[str, dict[str, Any]] = {EVEN: {name: 1 / len(names) for name in names}}
    for one in names:
        rest = 0.5 / (len(names) - 1)
        found[one] = {name: 0.5 if name == one else rest for name in names}
    for one in names:
        found[f"{WITHOUT}{one}"] = {name: 1 / (len(names) - 1) for name in names if name != one}
    return found


def _short(tokens: float) -> str:
    """Such as 350k or 1.5M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= unit:
            return f"{tokens / unit:.3g}{name}"
    return f"{tokens:.0f}"
