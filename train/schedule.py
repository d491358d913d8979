"""The learning rate of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scaling.errors import UsageError

Kind = Literal["wsd", "cosine", "constant"]


@dataclass(frozen=True)
class Schedule:
    """A learning rate as a pure function of the step.

    `wsd` (warmup, stable, decay) holds the peak and falls over the last steps, so that a run can be branched
    from anywhere in the flat part; `cosine` falls from the warmup on; `constant` never does.

    Attributes:
        kind: which. peak: the highest rate. steps: of the run. warmup: steps up to the peak, linear.
        decay: steps of the fall at the end, for `wsd`: linear, the last step the lowest.
        floor: where the fall ends, as a share of the peak.

    Source:
        Hu et al. 2024, "MiniCPM" (wsd); Loshchilov & Hutter 2017 (cosine).

    Example:
        >>> schedule = Schedule("wsd", peak=1.0, steps=100, warmup=10, decay=20, floor=0.0)
        >>> [schedule.at(step) for step in (0, 9, 79, 89, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
    """

    kind: Kind
    peak: float
    steps: int
    warmup: int = 0
    decay: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.peak <= 0 or not 0 <= self.floor <= 1 or min(self.warmup, self.decay) < 0:
            raise UsageError(
                f"schedule: steps {self.steps}, peak {self.peak}, floor {self.floor}, warmup {self.warmup}, "
                f"decay {self.decay}; valid are steps from 1, a peak above 0, a floor of 0 to 1, warmup and "
                "decay from 0"
            )
        if self.warmup + (self.decay if self.kind == "wsd" else 0) > self.steps:
            raise UsageError(
                f"schedule: {self.warmup} steps of warmup and {self.decay} of decay in a run of "
                f"{self.steps}; shorten them, or train longer"
            )

    def at(self, step: int) -> float:
        """The rate of step 0, 1, ...; after the last step that of the last."""
        step = min(step, self.steps - 1)
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        left = max(0, self.steps - 1 - step)
        if self.kind == "wsd" and left < self.decay:
            return self.peak * (self.floor + (1 - self.floor) * left / self.decay)
        if self.kind == "cosine":
            span = max(1, self.steps - 1 - self.warmup)
            done = (span - min(span, left)) / span
            return self.peak * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)
        return self.peak
