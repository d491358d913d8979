"""Which questions of a benchmark speak early and which late: a curve, a noise and a window per item."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from scaling.box import Box
from scaling.errors import StagewiseError, UsageError
from scaling.fit import BatchFit, fit_batch
from scaling.items import ItemScores
from scaling.laws import Array, Sigmoid
from scaling.noise import LAST, MIN_CHECKPOINTS
from scaling.plan import HUBER
from scaling.series import MIN_POINTS
from scaling.windows import DOUBLING, decision_probability

STEP = 0.05  # decades between the points at which information is stated
STEEPEST = 4.0  # per decade: one item is too noisy to show a steeper fall, and errs less held out so
ROUNDS = 3  # of down-weighting outliers
EDGE = 0.05


@dataclass(frozen=True)
class ItemWindows:
    """Curve, noise, information and window of each item of one benchmark.

    Attributes:
        task, metric: of the benchmark. ids: of the items, [items]. sign: +1 where higher is better.
        threshold: decision probability that makes a single item informative.
        span: log10 FLOPs between which all but `EDGE` of the checkpoints at either end lie: the last few
            may belong to one run, and a curve can fall there by chance.
        fit: one sigmoid per item, in row order.
        wobble: what a straight line leaves of each stretch of checkpoints of a run, [items, r]. df: its
            degrees of freedom.
        noise: standard deviation of one checkpoint's score, [items].
        x: grid of log10 FLOPs, [n].
        information: gain per doubling over noise, [items, n]; negative where an item gets worse.
        improvement: of the curve over the whole span, in the better direction, [items].
        centre: log10 FLOPs at which half of that has happened, [items]; NaN where the improvement is not
            enough to tell the two ends of the span apart with probability `threshold`.
        opens, closes: log10 FLOPs between which the decision probability of the item alone reaches
            `threshold`, [items]; NaN where it never does; a window still open at the end closes at +inf.
    """

    task: str
    metric: str
    ids: np.ndarray = field(repr=False)
    sign: float
    threshold: float
    span: tuple[float, float]
    fit: BatchFit = field(repr=False)
    wobble: Array = field(repr=False)
    df: int
    noise: Array = field(repr=False)
    x: Array = field(repr=False)
    information: Array = field(repr=False)
    improvement: Array = field(repr=False)
    centre: Array = field(repr=False)
    opens: Array = field(repr=False)
    closes: Array = field(repr=False)

    def gain(self, flops_low: float, flops_high: float) -> Array:
        """Mean gain per doubling of compute of each item within an interval of training FLOPs, [items].

        `(f(high) - f(low)) * log10(2) / (high - low)` in the better direction; the interval is cut to
        the measured span.

        Raises:
            UsageError: the interval is empty, or holds nothing that was measured.
        """
        if not 0 < flops_low < flops_high:
            raise UsageError(f"compute interval: got {flops_low:g}..{flops_high:g}, valid is 0 < LOW < HIGH")
        low, high = max(np.log10(flops_low), self.span[0]), min(np.log10(flops_high), self.span[1])
        if not low < high:
            raise UsageError(
                f"compute interval: {flops_low:g}..{flops_high:g} lies outside what was measured, "
                f"{10 ** self.span[0]:.3g}..{10 ** self.span[1]:.3g} FLOPs; choose one that overlaps it"
            )
        ends = self.fit.predict(np.array([low, high]))
        return self.sign * (ends[:, 1] - ends[:, 0]) * DOUBLING / (high - low)

    def to_frame(self) -> pd.DataFrame:
        """One row per item; compute in FLOPs."""
        best = self.information.argmax(axis=1)
        return pd.DataFrame(
            {
                "task": self.task, "metric": self.metric, "item": self.ids,
                "centre": 10.0**self.centre, "opens": 10.0**self.opens, "closes": 10.0**self.closes,
                "improvement": self.improvement, "noise": self.noise,
                "most_information": self.information.max(axis=1), "most_at": 10.0 ** self.x[best],
            }
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.to_frame().head(20).to_html(index=False)


@dataclass(frozen=True)
class ItemHalves:
    """The items of a benchmark that speak early and those that speak late.

    Attributes:
        task: the benchmark. ids: of all items, [items]. at: log10 FLOPs at which they are parted.
        early, late: indices of items whose centre lies below, or at and above `at`.
        neither: indices of items that did not measurably improve.
    """

    task: str
    ids: np.ndarray = field(repr=False)
    at: float
    early: np.ndarray = field(repr=False)
    late: np.ndarray = field(repr=False)
    neither: np.ndarray = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per item: its half."""
        half = np.full(len(self.ids), "neither", dtype=object)
        half[self.early], half[self.late] = "early", "late"
        return pd.DataFrame({"task": self.task, "item": self.ids, "half": half})

    def _repr_html_(self) -> str:
        return self.to_frame().head(20).to_html(index=False)


def item_windows(items: ItemScores, threshold: float = 0.8, *, last: int = LAST) -> ItemWindows:
    """The curve, the noise and the window of every item.

    Curve: a sigmoid over log10 FLOPs from one level of the item's scores to another, in the direction
    the scores take, with Huber's down-weighting of outliers. Of constant, straight line, power law,
    broken power law and sigmoid, this one has the lowest error on models held out (see `STEEPEST`).

    Noise: runs are cut from their end into stretches of `last` checkpoints; the squares that a straight
    line in log10 compute leaves of each stretch are pooled over n - 2 degrees of freedom each.

    Information at x: `(f(x + log10 2) - f(x)) / noise`, and decision probability
    `Phi(information / sqrt 2)`, as for whole benchmarks. The doubt about a single curve is not counted.

    Args:
        items: the scores.
        threshold: decision probability that opens a window, above 0.5 and below 1.
        last: checkpoints in a stretch; shorter ones than `MIN_CHECKPOINTS` say nothing about noise.

    Returns:
        The windows. One item is a weak measurement, so many have none; `centre` and `information` are
        there for all that improve.

    Raises:
        StagewiseError: too few checkpoints for curves or for noise.

    Example:
        >>> windows = item_windows(items)                        # doctest: +SKIP
        >>> windows.to_frame().sort_values("centre").head()      # doctest: +SKIP
    """
    if not 0.5 < threshold < 1:
        raise UsageError(f"threshold: got {threshold}, valid is above 0.5 and below 1")
    if last < MIN_CHECKPOINTS:
        raise UsageError(f"last: got {last}, valid is {MIN_CHECKPOINTS} or more")
    x = items.x
    span = float(np.quantile(x, EDGE)), float(np.quantile(x, 1.0 - EDGE))
    computes, width = len(np.unique(x)), span[1] - span[0]
    if computes < MIN_POINTS or width <= DOUBLING:
        raise StagewiseError(
            f"item scores of {items.task}: {computes} computes over {width:.2f} decades; "
            f"curves need {MIN_POINTS} over more than {DOUBLING:.2f}: give more checkpoints"
        )
    y = np.ascontiguousarray(items.scores.T, dtype=float)
    wobble, df = _wobble(items, x, y, last)
    noise = np.sqrt((wobble**2).sum(axis=1) / df)
    fit = _fit(x, y)
    grid = np.arange(span[0], span[1] - DOUBLING + 1e-9, STEP)
    gain = items.sign * (fit.predict(grid + DOUBLING) - fit.predict(grid))
    # An item that never moves has neither gain nor noise, and tells nothing.
    tiny = 1e-9 * np.maximum(np.abs(y).max(axis=1), 1e-9)
    gain[np.abs(gain) <= tiny[:, None]] = 0.0
    information = gain / np.maximum(noise, tiny)[:, None]
    improvement = items.sign * np.diff(fit.predict(np.array(span)), axis=1)[:, 0]
    enough = stats.norm.ppf(threshold) * np.sqrt(2.0) * np.maximum(noise, tiny)
    opens, closes = _open_between(decision_probability(information, np.ones(1)) >= threshold, grid)
    return ItemWindows(
        task=items.task, metric=items.metric, ids=items.ids, sign=items.sign, threshold=threshold, span=span,
        fit=fit, wobble=wobble, df=df, noise=noise, x=grid, information=information, improvement=improvement,
        centre=np.where(improvement >= enough, _halfway(fit, span), np.nan), opens=opens, closes=closes,
    )  # fmt: skip


def early_late(windows: ItemWindows, *, at: float | None = None) -> ItemHalves:
    """Part a benchmark into items that say most below a compute and items that say most above it.

    An item's noise is one figure, so it carries more of its information below `at` exactly where half of
    its improvement has happened by then: where its centre lies below.

    Args:
        windows: of the items.
        at: training FLOPs; by default the median centre, which makes equal halves.

    Raises:
        StagewiseError: no item improved.
        UsageError: `at` is not positive.
    """
    moving = np.isfinite(windows.centre)
    if not moving.any():
        raise StagewiseError(
            f"item scores of {windows.task}: no item improves by what its noise asks; "
            "give more compute or lower the threshold"
        )
    if at is not None and not at > 0:
        raise UsageError(f"at: got {at}, valid is a positive number of FLOPs")
    cut = float(np.median(windows.centre[moving])) if at is None else float(np.log10(at))
    below = windows.centre < cut
    early, late, neither = (np.flatnonzero(part) for part in (moving & below, moving & ~below, ~moving))
    return ItemHalves(windows.task, windows.ids, cut, early, late, neither)


def _fit(x: Array, y: Array) -> BatchFit:
    """A sigmoid per item, its ends at most half the range of the scores beyond them; outliers count less."""
    shape = Sigmoid(max_steepness=STEEPEST)
    beyond = np.ptp(y, axis=1) / 2
    ends = y.min(axis=1) - beyond, y.max(axis=1) + beyond
    box = Box.of(len(y), ends, ends)
    weights = np.ones_like(y)
    for _ in range(ROUNDS):
        fit = fit_batch(shape, x, y, weights, box, candidates=1, tolerance=1e-4, iterations=20)
        residual = np.abs(y - fit.predict(x))
        scale = np.maximum(1.4826 * np.median(residual, axis=1, keepdims=True), 1e-9)
        weights = np.minimum(1.0, HUBER * scale / np.maximum(residual, 1e-300))
    return fit


def _wobble(items: ItemScores, x: Array, y: Array, last: int) -> tuple[Array, int]:
    """Residuals of straight lines over stretches of each run, [items, r], and their degrees of freedom."""
    parts, df = [], 0
    for model in np.unique(items.model):
        rows = np.flatnonzero(items.model == model)
        rows = rows[np.argsort(x[rows], kind="stable")]
        while len(rows) >= MIN_CHECKPOINTS:
            stretch, rows = rows[-last:], rows[:-last]
            line = np.linalg.qr(np.column_stack([np.ones(len(stretch)), x[stretch] - x[stretch].mean()]))[0]
            values = y[:, stretch]
            parts.append(values - (values @ line) @ line.T)
            df += len(stretch) - 2
    if not parts:
        raise StagewiseError(
            f"item scores of {items.task}: no model has {MIN_CHECKPOINTS} checkpoints, so noise is unknown; "
            "give more checkpoints of each run"
        )
    return np.concatenate(parts, axis=1), df


def _halfway(fit: BatchFit, span: tuple[float, float]) -> Array:
    """log10 FLOPs at which each sigmoid has done half of its way over the span, in closed form."""
    middle, steepness = fit.parameters[:, 0], fit.parameters[:, 1]
    half = fit.shape.phi(fit.theta, np.array(span)).mean(axis=1)
    with np.errstate(divide="ignore"):
        found = middle + (np.log(half) - np.log1p(-half)) / steepness
    return np.clip(found, *span)


def _open_between(informative: np.ndarray, grid: Array) -> tuple[Array, Array]:
    """First and last grid point where True; a sigmoid's gain has one peak, so all between are True."""
    found = informative.any(axis=1)
    opens = np.where(found, grid[informative.argmax(axis=1)], np.nan)
    closes = np.where(found, grid[len(grid) - 1 - informative[:, ::-1].argmax(axis=1)], np.nan)
    return opens, np.where(informative[:, -1], np.inf, closes)
