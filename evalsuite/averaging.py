"""How snapshots are averaged: settings."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal, get_args

from scaling.errors import UsageError

SPAN = 0.12
LEAST = 20  # steps: what an optimiser with momentum 0.95 remembers; snapshots closer than that are nearly one
WIDE = 0.3  # share of the steps so far from which on a mean lags behind the run
Unit = Literal["auto", "steps", "tokens", "minutes"]
Weights = Literal["uniform", "linear", "ema"]
Where = Literal["disk", "memory"]
_FORM = re.compile(r"(\S+)\s*(step|token|minute)s?")


@dataclass(frozen=True)
class Spacing:
    """How far apart snapshots are.

    Attributes:
        unit: of what. size: so many of it, above 0; of steps a whole number; of auto without a meaning.

    Example:
        >>> Spacing.parse("2e6 tokens")
        Spacing(unit='tokens', size=2000000.0)
    """

    unit: Unit
    size: float = 0.0

    @classmethod
    def parse(cls, told: str | int) -> Spacing:
        """Read a setting.

        Args:
            told: "auto"; a number of steps, as 50 or "50 steps"; "2e6 tokens"; "10 minutes".

        Raises:
            UsageError: anything else, with the valid forms.
        """
        if told == "auto":
            return cls("auto")
        text = f"{told} steps" if type(told) is int else told
        match = _FORM.fullmatch(text.strip().lower()) if isinstance(text, str) else None
        try:
            size = float(match[1]) if match else math.nan
        except ValueError:
            size = math.nan
        whole = match is None or match[2] != "step" or size % 1 == 0
        if match is None or not 0 < size < math.inf or not whole:
            raise UsageError(
                f"spacing {told!r}: valid is auto, a whole number of steps (50, '50 steps'), '2e6 tokens' or "
                "'10 minutes', above 0"
            )
        unit: Unit = f"{match[2]}s"  # pyright: ignore[reportAssignmentType]
        return cls(unit, size)


def counts_of(kind: Weights, n: int, decay: float) -> tuple[float, ...]:
    """How much each of n members counts, oldest first; they need not sum to 1.

    Example:
        >>> counts_of("linear", 3, 0.5), counts_of("ema", 3, 0.5)
        ((1.0, 2.0, 3.0), (0.25, 0.5, 1.0))
    """
    if kind == "ema":
        return tuple(decay**age for age in range(n - 1, -1, -1))
    return tuple(float(i) if kind == "linear" else 1.0 for i in range(1, n + 1))


@dataclass(frozen=True)
class Averaging:
    """Which snapshots make a mean, and with what weights.

    Attributes:
        n: snapshots in a mean, those of the evaluation itself included; 1 is no mean.
        spacing: how far apart they are: auto (follows the run, see `Window`), a number of steps as 50 or
            "50 steps", "2e6 tokens", or "10 minutes" of training. Minutes are of the clock: two runs, or one
            resumed, then average other steps.
        weights: of the snapshots, oldest to newest: uniform; linear, as 1 : 2 : ... : n; ema, as decay^age.
        decay: of ema, for each snapshot of age, above 0 and at most 1.
        where: snapshots live on disk, and survive the process, or in CPU memory.
        span: of auto: the share of the steps so far that the snapshots span at most, between 0 and 1.
        least: of auto: steps between snapshots, even where they then span more, up to `WIDE` of the steps so
            far: closer ones are too alike for their mean to gain much.

    Source:
        Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization" (uniform).

    Example:
        >>> Averaging(spacing="50 steps").apart
        Spacing(unit='steps', size=50.0)
    """

    n: int = 4
    spacing: str | int = "auto"
    weights: Weights = "uniform"
    decay: float = 0.5
    where: Where = "disk"
    span: float = SPAN
    least: int = LEAST

    def __post_init__(self) -> None:
        problems = []
        if type(self.n) is not int or self.n < 1:
            problems.append(f"n {self.n!r}: valid is a whole number from 1")
        for name, kinds in (("weights", Weights), ("where", Where)):
            if (got := getattr(self, name)) not in get_args(kinds):
                problems.append(f"{name} {got!r}: valid is {' or '.join(get_args(kinds))}")
        if not 0 < self.decay <= 1:
            problems.append(f"decay {self.decay!r}: valid is a number above 0, at most 1")
        if not 0 < self.span < 1:
            problems.append(f"span {self.span!r}: valid is a share between 0 and 1")
        if type(self.least) is not int or self.least < 1:
            problems.append(f"least {self.least!r}: valid is a whole number of steps from 1")
        if problems:
            raise UsageError(f"averaging: {'; '.join(problems)}")
        _ = self.apart

    @cached_property
    def apart(self) -> Spacing:
        """The spacing, read."""
        return Spacing.parse(self.spacing)

    @cached_property
    def share(self) -> Fraction:
        """The span as it is written, so that 0.12 of 25 is 3: exact, and the same on every machine."""
        return Fraction(str(self.span))
