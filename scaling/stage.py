"""A stage of training: an interval of compute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaling.errors import UsageError


@dataclass(frozen=True)
class Stage:
    """An interval of training compute in FLOPs, ends included.

    Example:
        >>> Stage.parse("1e19..1e21")
        Stage(low=1e+19, high=1e+21)
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.high) and 0 < self.low < self.high):
            raise UsageError(
                f"stage {self.low:g}..{self.high:g}: valid is LO..HI in FLOPs with 0 < LO < HI, as 1e19..1e21"
            )

    @classmethod
    def parse(cls, text: str) -> Stage:
        """Read `LO..HI`; a `UsageError` says what is valid."""
        low, dots, high = text.partition("..")
        try:
            if not dots or high.startswith("."):
                raise ValueError("not two numbers joined by two dots")
            return cls(float(low), float(high))
        except ValueError as error:
            raise UsageError(f"stage {text!r}: {error}; valid is LO..HI in FLOPs, as 1e19..1e21") from error

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"
