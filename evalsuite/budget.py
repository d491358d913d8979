"""The share of training time that evaluation may take, and what is left out so that it takes no more."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ration:
    """What an evaluation may cost.

    Attributes:
        share: of the items of each task, 1, 1/2, 1/4 ... stride: run every so many-th evaluation, 1, 2, 4 ...
        seconds: it is expected to take.
    """

    share: float
    stride: int
    seconds: float


@dataclass
class Budget:
    """The account of a run: training time against the hook's own.

    The cost of an evaluation is predicted as `fixed + per_token * tokens read`: at first by a few items of
    one task, then as measured. It is thinned until it fits
    `share * (training time between evaluations)`: items by halves, then evaluations by halves. And none
    begins that would bring the sum of all above `share * (training time so far)`.

    Attributes:
        share: of training time; None for no limit.
        training, spent: seconds so far. per_token: seconds per token read. fixed: seconds of an evaluation
            that do not depend on its items.

    Example:
        >>> account = Budget(0.02, training=100.0, per_token=1e-4)
        >>> account.ration(full=40_000, least=0.1, between=100.0)
        Ration(share=0.5, stride=1, seconds=2.0)
    """

    share: float | None
    training: float = 0.0
    spent: float = 0.0
    per_token: float | None = None
    fixed: float = 0.0
    _last: Ration | None = field(default=None, repr=False)
    _costs: dict[int, float] = field(default_factory=dict, repr=False)  # seconds by tokens read
    _since: float | None = field(default=None, repr=False)

    @property
    def known(self) -> bool:
        """Whether there is something to predict by, or no need to."""
        return self.share is None or self.per_token is not None

    def train(self, seconds: float) -> None:
        """Count training."""
        self.training += seconds

    def probed(self, fixed: float, per_token: float) -> None:
        """Learn from some items that were scored for a try."""
        if fixed or per_token:
            self.fixed, self.per_token = fixed, per_token

    def begin(self) -> None:
        """The hook's own time runs."""
        self._since = time.perf_counter()

    def end(self) -> float:
        """It no longer does; the moment."""
        now = time.perf_counter()
        if self._since is not None:
            self.spent += now - self._since
            self._since = None
        return now

    def measured(self, seconds: float, tokens: int, ration: Ration) -> None:
        """Learn from an evaluation.

        Args:
            seconds: it took, all in all. tokens: it read. ration: it was given.
        """
        self._last = ration
        if not tokens:  # tasks of lm-eval alone: what they read is not known
            self.per_token, self.fixed = 0.0, seconds
            return
        self._costs.pop(tokens, None)
        self._costs[tokens] = seconds  # the newest last
        sizes, costs = np.array(list(self._costs))[-2:], np.array(list(self._costs.values()))[-2:]
        slope = float(np.diff(costs)[0] / np.diff(sizes)[0]) if len(sizes) > 1 else -1.0
        if 0 < slope * tokens <= seconds:
            self.per_token, self.fixed = slope, seconds - slope * tokens
        else:
            self.per_token, self.fixed = seconds / tokens, 0.0

    def ration(self, full: int, least: float, between: float) -> Ration:
        """What the next evaluation may cost.

        Args:
            full: tokens of all items. least: smallest share of them that is worth reading.
            between: seconds of training from one evaluation to the next.
        """
        if self.share is None:
            return Ration(1.0, 1, self.predicted(full))
        allowed = self.share * between
        kept = self._last
        if kept is not None:
            # What fits well enough stays: series are best of the same items.
            each = self.predicted(full * kept.share)
            cost = each / kept.stride
            if 0.4 * allowed <= cost <= allowed or (cost < allowed and kept.share == kept.stride == 1):
                return Ration(kept.share, kept.stride, each)
        share = 1.0
        while share / 2 >= least and self.predicted(full * share) > allowed:
            share /= 2
        cost = self.predicted(full * share)
        stride = 1 if cost <= allowed else 2 ** math.ceil(math.log2(cost / max(allowed, 1e-6 * cost)))
        return Ration(share, stride, cost)

    @property
    def state(self) -> dict[str, float | None]:
        """What `restore` goes on from, as JSON has it."""
        last = self._last or Ration(0.0, 0, 0.0)
        return {
            "training": self.training, "spent": self.spent, "per_token": self.per_token, "fixed": self.fixed,
            "share": last.share, "stride": last.stride, "predicted": last.seconds,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """As it was when `state` was taken."""
        self.training, self.spent = state["training"], state["spent"]
        self.per_token, self.fixed = state["per_token"], state["fixed"]
        if state["stride"]:
            self._last = Ration(state["share"], state["stride"], state["predicted"])

    def affords(self, seconds: float = 0.0) -> bool:
        """Whether there is time for so much more now."""
        if self.share is None:
            return True
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.spent + running + seconds <= self.share * self.training

    def predicted(self, tokens: float) -> float:
        """Seconds of an evaluation that reads so many tokens."""
        return self.fixed + (self.per_token or 0.0) * tokens
