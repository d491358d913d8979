"""What changes along a run, from what the trainer tells: mixture phase, learning rate, loss."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_RECENT = 64  # losses that say what is usual
_SPIKE = 8.0  # robust standard deviations
_QUIET = 25  # steps after a spike in which no other is told


@dataclass
class Course:
    """Keeps what is needed to tell that something changed.

    Example:
        >>> course = Course()
        >>> course.notice(1, phase=0), course.notice(2, phase=1)
        ([], [{'step': 2, 'kind': 'phase', 'phase': 1}])
    """

    _phase: Any = None
    _rate: float | None = None
    _trend: int | None = None
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _spiked: int = -_QUIET

    @property
    def state(self) -> dict[str, Any]:
        """What `Course.of` goes on from, as JSON has it."""
        return {
            "phase": self._phase, "rate": self._rate, "trend": self._trend, "losses": list(self._losses),
            "spiked": self._spiked,
        }  # fmt: skip

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Course:
        """As it was when `state` was taken."""
        losses = deque(state["losses"], maxlen=_RECENT)
        return cls(state["phase"], state["rate"], state["trend"], losses, state["spiked"])

    def notice(
        self, step: int, *, phase: Any = None, lr: float | None = None, loss: float | None = None
    ) -> list[dict[str, Any]]:
        """The events of a step: `phase`, `rate` (begins to rise, fall, or stay), `spike`.

        Args:
            step: just done. phase: of the mixture, any plain value. lr: learning rate. loss: of the step.
        """
        found: list[dict[str, Any]] = []
        if phase is not None:
            if self._phase is not None and phase != self._phase:
                found.append({"step": step, "kind": "phase", "phase": phase})
                self._losses.clear()  # of other text
            self._phase = phase
        if lr is not None:
            if self._rate is not None:
                trend = 0 if math.isclose(lr, self._rate, rel_tol=1e-9) else (1 if lr > self._rate else -1)
                if self._trend is not None and trend != self._trend:
                    found.append({"step": step, "kind": "rate", "before": self._rate, "after": lr})
                self._trend = trend
            self._rate = lr
        if loss is not None and (spike := self._spike(step, loss)):
            found.append(spike)
        return found

    def _spike(self, step: int, loss: float) -> dict[str, Any] | None:
        usual, told = None, None
        if len(self._losses) >= _RECENT // 4:
            recent = np.array(self._losses)
            usual = float(np.median(recent))
            spread = 1.4826 * float(np.median(np.abs(recent - usual)))
            high = not math.isfinite(loss) or loss > usual + _SPIKE * max(spread, 1e-3 * abs(usual))
            if high and step - self._spiked >= _QUIET:
                self._spiked = step
                told = {"step": step, "kind": "spike", "loss": loss if math.isfinite(loss) else str(loss)}
                told["usual"] = usual
        if math.isfinite(loss):
            self._losses.append(loss)
        return told
