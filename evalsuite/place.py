"""A moment of a run."""

from __future__ import annotations

from dataclasses import dataclass

from scaling.errors import UsageError


@dataclass(frozen=True)
class Place:
    """Where in a run a snapshot was taken.

    Attributes:
        step: optimiser steps done. tokens: trained on so far. seconds: of training so far.
        lr: the learning rate of the step. What is not known is None.

    Example:
        >>> Place(1200, tokens=2.5e6).step
        1200
    """

    step: int
    tokens: float | None = None
    seconds: float | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        if type(self.step) is not int or self.step < 0:
            raise UsageError(f"step {self.step!r}: valid is a whole number from 0, the optimiser steps done")
