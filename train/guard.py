"""Steps that would do harm: a loss that is not a number, a loss that jumps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling.errors import StagewiseError

_LEAST = 20  # losses seen before a jump can be told from a start


@dataclass
class Guard:
    """Says of each step whether its update is to be made.

    A step is skipped when its loss or the norm of its gradient is not finite, or when its loss is above
    median + spike 1.4826 MAD of the last losses (a robust z-score). A skipped loss joins them, so that a
    level that stays is believed after a while. Where the mixture changes the past says nothing, and is
    forgotten.

    Attributes:
        spike: in robust standard deviations; 0 for never. window: losses that are looked back on.
        stop_after: so many skipped in a row end the run.
        skipped, in_row: steps skipped, in all and since the last that was not.

    Example:
        >>> guard = Guard(spike=0)
        >>> guard.judge(1, 2.0, 1.0), guard.judge(2, float("nan"), 1.0)
        ('', 'loss is nan')
    """

    spike: float = 0.0
    window: int = 128
    stop_after: int = 20
    skipped: int = 0
    in_row: int = 0
    _losses: deque[float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._losses = deque(maxlen=self.window)

    def judge(self, step: int, loss: float, norm: float) -> str:
        """Why a step is skipped, in words; empty where it is made.

        Raises:
            StagewiseError: too many in a row.
        """
        why = self._why(loss, norm)
        if math.isfinite(loss):
            self._losses.append(loss)
        if not why:
            self.in_row = 0
            return ""
        self.skipped += 1
        self.in_row += 1
        if self.stop_after and self.in_row >= self.stop_after:
            raise StagewiseError(
                f"step {step}: {why}; {self.in_row} steps in a row were skipped, the run ends. The last "
                "checkpoint stands: lower optim.lr or raise schedule.warmup, or look at the data of these "
                "steps"
            )
        return why

    def _why(self, loss: float, norm: float) -> str:
        for name, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                return f"{name} is {value}"
        if self.spike and len(self._losses) >= _LEAST:
            seen = np.array(self._losses)
            middle = float(np.median(seen))
            limit = middle + self.spike * 1.4826 * float(np.median(np.abs(seen - middle)))
            if loss > limit:
                return f"loss {loss:.4g} jumped above {limit:.4g}"
        return ""

    def forget(self) -> None:
        """Forget the losses: what comes now is other text."""
        self._losses.clear()

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"skipped": self.skipped, "in_row": self.in_row, "losses": list(self._losses)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.skipped, self.in_row = int(state["skipped"]), int(state["in_row"])
        self._losses = deque(state["losses"], maxlen=self.window)
