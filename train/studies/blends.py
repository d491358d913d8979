"""Which means of snapshots the study of averaging compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalsuite.averaging import Averaging, Weights
from evalsuite.mean import weights_of
from evalsuite.place import Place
from evalsuite.window import Window

COUNTS = (2, 4, 8, 16)
SPANS = (0.02, 0.05, 0.08, 0.12, 0.2, 0.4)
HALF_LIVES = (0.01, 0.02, 0.04, 0.08)
_OFF = 0.25  # a span further from the one that is meant is another one
_LEAST = 1e-3  # share of a running mean's weight that is let go


@dataclass(frozen=True)
class Blend:
    """Weights to measure: a mean of snapshots, or one alone.

    Attributes:
        kind: raw; default (what a hook with its defaults averages); member (of the default); mean; running
            (an exponential mean over all snapshots so far); later, later default (as raw and default, at the
            end of the tokens that the anneal has read); annealed.
        shares: step of a snapshot -> its weight; they add up to one. Empty of an annealed branch.
        n: snapshots; of a member its age in them, 0 of a running mean.
        span: from the oldest to the newest, as a share of the steps so far, as it was meant; of a running
            mean its half-life; 0 where it was not chosen.
        weights: uniform, linear or ema.
    """

    kind: str
    shares: Mapping[int, float] = field(repr=False)
    n: int = 1
    span: float = 0.0
    weights: str = "uniform"


def blends(
    point: int, after: int, grid: int, every: int, *, counts: Sequence[int] = COUNTS,
    spans: Sequence[float] = SPANS, half_lives: Sequence[float] = HALF_LIVES,
) -> list[Blend]:  # fmt: skip
    """All that is measured at a point of a run, where snapshots lie `grid` steps apart.

    A span is made of whole steps of the grid; one that the grid cannot give to within a quarter, or only as
    it gives a shorter one, is left out.

    Args:
        point: steps so far, on the grid. after: steps that the anneal takes.
        every: steps between evaluations of the hook, on the grid.
        counts, spans, half_lives: to sweep; of the default's count also linear and ema weights.

    Example:
        >>> [sorted(one.shares) for one in blends(432, 66, 3, 72) if one.kind == "default"]
        [[405, 414, 423, 432]]
    """
    usual = Averaging()

    def default(step: int) -> list[int]:
        there = [Place(one) for one in range(grid, step + 1, grid)]
        return list(Window(usual, every).members(step, there))

    members = default(point)
    found = [
        Blend("raw", {point: 1.0}),
        Blend("default", _weighted(members, usual), len(members)),
        *(Blend("member", {step: 1.0}, age) for age, step in enumerate(members[-2::-1], 1)),
    ]
    for n in counts:
        last = 0
        for span in sorted(spans):
            gap = grid * round(span * point / (n - 1) / grid)
            if gap == last or abs(gap * (n - 1) / (span * point) - 1) > _OFF:
                continue
            last = gap
            steps = [point - i * gap for i in reversed(range(n))]
            kinds: tuple[Weights, ...] = ("uniform", "linear", "ema") if n == usual.n else ("uniform",)
            for kind in kinds:
                found.append(Blend("mean", _weighted(steps, Averaging(n, weights=kind)), n, span, kind))
    for half_life in half_lives:
        decay = 0.5 ** (grid / (half_life * point))
        n, left = 0, 1.0
        while left > _LEAST and point - grid * n > 0:
            n, left = n + 1, left * decay
        steps = [point - grid * i for i in reversed(range(n))]
        shares = _weighted(steps, Averaging(n, weights="ema", decay=decay))
        found.append(Blend("running", shares, 0, half_life, "ema"))
    found.append(Blend("later", {point + after: 1.0}))
    members = default(point + after)
    return [*found, Blend("later default", _weighted(members, usual), len(members)), Blend("annealed", {})]


def _weighted(steps: Sequence[int], averaging: Averaging) -> dict[int, float]:
    return dict(zip(steps, weights_of(averaging, len(steps)), strict=True))
