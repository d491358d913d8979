"""In which range of compute does a task tell a better model from a worse one?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scaling.curves import Curve
from scaling.laws import Array
from scaling.noise import scale_of

DOUBLING = float(np.log10(2.0))
STEP = 0.02  # decades between the points at which a window is looked for


@dataclass(frozen=True)
class Windows:
    """Windows of one curve, one per row of its fit.

    Attributes:
        x: grid of log10 FLOPs, [n].
        probability: decision probability on the grid, [rows, n].
        opens, closes: log10 FLOPs, [rows]; NaN where there is no window. A window that is open at the
            first point of the grid `opens` there; one that is open at the last `closes` at +inf.
        clears: log10 FLOPs at which the curve clears chance, [rows]; NaN where it does not.
    """

    x: Array
    probability: Array
    opens: Array
    closes: Array
    clears: Array


def decision_probability(gain: Array, noise: Array, doubt: Array | float = 0.0) -> Array:
    """Probability that the run with more compute scores better.

    `DP = Phi(gain / sqrt(2 noise^2 + doubt^2))`: two runs, each with its own noise, on the same items.

    Args:
        gain: rise of the curve between the two, in the better direction.
        noise: standard deviation of one run's score (checkpoint + run; item noise is common to both).
        doubt: standard error of `gain`.

    Example:
        >>> import numpy as np
        >>> decision_probability(np.array([0.0, 0.02]), np.array([0.01])).round(3).tolist()
        [0.5, 0.921]
    """
    spread = np.sqrt(2.0 * np.asarray(noise) ** 2 + np.asarray(doubt) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.where(spread > 0, gain / spread, np.sign(gain) * np.inf)
    return stats.norm.cdf(np.where(np.asarray(gain) == 0, 0.0, score))


def noise_at(curve: Curve, values: Array, total: Array | float | None = None) -> Array:
    """Standard deviation of one run's score where the curve has `values`."""
    sigma = curve.noise.total if total is None else total
    return sigma * scale_of(curve.series.metric.family, values)


def grid(curve: Curve, horizon: float) -> Array:
    """Log10 FLOPs from the smallest measured compute to `horizon` decades beyond the largest."""
    low, high = curve.span
    return np.arange(low, high + horizon + STEP / 2, STEP)


def windows_of(
    curve: Curve,
    *,
    threshold: float = 0.8,
    horizon: float = 1.0,
    noise_draws: Array | None = None,
) -> Windows:
    """The window of every row of a curve's fit.

    Args:
        curve: the curve.
        threshold: decision probability that makes a task informative.
        horizon: decades beyond the largest measured compute to look at.
        noise_draws: noise of each row, [rows]; the estimate for all where absent.

    Returns:
        The windows. Row 0, the estimate, counts the doubt about the curve itself into its
        probability (leave-one-out standard error of the gain); the other rows are draws of the
        curve and do not.
    """
    x = grid(curve, horizon)
    here, there = curve.values(x), curve.values(x + DOUBLING)
    gain = curve.series.sign * (there - here)
    totals = np.full(len(here), curve.noise.total) if noise_draws is None else noise_draws
    noise = noise_at(curve, (here + there) / 2, totals[:, None])
    doubt = np.zeros_like(gain)
    if curve.identified:
        doubt[0] = curve.jackknife_se(gain)
    probability = decision_probability(gain, noise, doubt)
    informative = probability >= threshold
    rows = np.arange(len(informative))
    any_open = informative.any(axis=1)
    # The longest unbroken stretch: a broken power law may hold a second, shorter one.
    first, last = _longest(informative)
    opens = np.where(any_open, x[first], np.nan)
    closes = np.where(any_open, x[last], np.nan)
    closes = np.where(any_open & informative[rows, -1] & (last == len(x) - 1), np.inf, closes)
    return Windows(x, probability, opens, closes, _clears(curve, x, here))


def _longest(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of the longest run of True in each row (0, 0 where there is none)."""
    count = mask.shape[1]
    index = np.arange(count)
    start = np.where(mask & ~np.concatenate([np.zeros((len(mask), 1), bool), mask[:, :-1]], axis=1), index, 0)
    start = np.maximum.accumulate(start, axis=1)
    length = np.where(mask, index - start + 1, 0)
    last = length.argmax(axis=1)
    rows = np.arange(len(mask))
    return np.where(mask.any(axis=1), start[rows, last], 0), last


def chance_floor(curve: Curve) -> tuple[float, float] | None:
    """Level a model must exceed to be called better than guessing, and one model's standard error there.

    The majority-class rate where it is known, else chance; SE = sqrt(max(c (1 - c), 0.0099) / n).
    None where the level or the number of items is unknown, or the metric is no proportion.
    """
    info = curve.series.info
    level = info.chance if info.majority_rate is None else info.majority_rate
    items = np.nanmedian(curve.series.n_items) if np.isfinite(curve.series.n_items).any() else np.nan
    if curve.series.metric.family != "proportion" or level is None or not np.isfinite(items):
        return None
    return level, float(np.sqrt(max(level * (1 - level), 0.0099) / items))


def _clears(curve: Curve, x: Array, values: Array) -> Array:
    floor = chance_floor(curve)
    if floor is None:
        return np.full(len(values), np.nan)
    level, error = floor
    above = values >= level + 3.0 * error
    return np.where(above.any(axis=1), x[above.argmax(axis=1)], np.nan)
