"""What a series is expected to show next, by its own past."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from evalsuite.answers import Answers
from evalsuite.capabilities import named
from evalsuite.sequential import EXPONENTS, PAST, covariance, law, spline
from scaling.forecasts import Forecast
from scaling.laws import Array
from scaling.series import Key
from scaling.tasks import task_info

LEVEL = 0.95
BENDS = (0.0, 3.0)  # departures from a law, as `evalsuite.sequential.Null` has them
_TINY = 1e-12
FEWEST = 3  # points that two parameters and a spread need


@dataclass(frozen=True)
class Expectation:
    """What was expected at m places.

    Attributes:
        value: the score, [m]. low, high: interval of what an evaluation there shows, [m]. trend: gain per
            doubling of compute, [m]. NaN where fewer than 3 points stand before.
    """

    value: Array
    low: Array
    high: Array
    trend: Array


def expected(
    x: Array, y: Array, at: Array, upto: ArrayLike, *, variance: Array | None = None,
    at_variance: Array | None = None, level: float = LEVEL,
) -> Expectation:  # fmt: skip
    """Predict a series at some places, each from the points before it.

    Growth is taken to follow `b0 + b1 h_a(x)`, `h_a = (1 - exp(-a x)) / a` (a power law of compute with
    exponent a, its logarithm at 0), with departures that are an integrated Brownian motion in x (a smoothing
    spline). Exponent and size of the departures are those of highest restricted likelihood on the last `PAST`
    points; given these, the interval is Student's t with n - 2 degrees of freedom, which is wide while the
    past is short.

    Args:
        x: ln(compute), ascending, [n]. y: the series, [n].
        at: places to predict, [m]. upto: how many points stand before each, [m].
        variance, at_variance: of the noise of each point and place, against the usual, [n] and [m].
        level: of the interval.

    Source:
        Wahba 1978, J. R. Statist. Soc. B 40:364 (spline as prior); Harville 1974, Biometrika 61:383.

    Example:
        >>> x = np.arange(5.0)
        >>> expected(x, 2.0 * x, np.array([5.0]), np.array([5])).value.round(6)
        array([10.])
    """
    x, y, at = (np.asarray(one, dtype=float) for one in (x, y, at))
    before = np.asarray(upto, dtype=np.int64)
    blank = np.full(len(at), np.nan)
    value, low, high, trend = blank, blank.copy(), blank.copy(), blank.copy()
    use = np.flatnonzero(before >= FEWEST)
    if not len(use):
        return Expectation(value, low, high, trend)
    variance = np.ones(len(x)) if variance is None else np.asarray(variance, dtype=float)
    extra = np.ones(len(at)) if at_variance is None else np.asarray(at_variance, dtype=float)
    before = before[use]
    place = before[:, None] - PAST + np.arange(PAST)  # [m, p], the newest last
    there = place >= 0
    index = np.maximum(place, 0)
    origin, level_of = x[np.maximum(before - PAST, 0)], y[before - 1]
    z = np.where(there, x[index] - origin[:, None], 0.0)
    new = at[use] - origin
    target = np.where(there, y[index] - level_of[:, None], 0.0)
    noise = np.where(there, variance[index], 1.0)
    scale = _smallest(y)
    best = np.full(len(use), -np.inf)
    df = np.maximum(np.minimum(before, PAST) - 2.0, 1.0)
    laws = np.stack([law(z, a) for a in EXPONENTS], axis=2) * there[:, :, None]
    ahead = np.stack([law(new, a) for a in EXPONENTS], axis=1)
    steepness = np.stack([np.exp(-a * new) for a in EXPONENTS], axis=1) * np.log(2.0)
    for bend in BENDS:
        lower = np.linalg.cholesky(covariance(z, noise, there, bend))
        across = bend**2 * spline(z, new[:, None]) * there
        columns = [there[..., None].astype(float), target[..., None], across[..., None], laws]
        white = np.linalg.solve(lower, np.concatenate(columns, axis=2))
        one, t, k, h = white[..., :1], white[..., 1:2], white[..., 2:3], white[..., 3:]
        # Least squares on a constant and one law, for all laws side by side, [m, j].
        ones = (one * one).sum(axis=1)
        middle = (one * h).sum(axis=1) / ones
        h = h - one * middle[:, None]
        hh = np.maximum((h * h).sum(axis=1), _TINY)
        constant, b1 = (one * t).sum(axis=1) / ones, (h * t).sum(axis=1) / hh
        rest = t - one * constant[:, None] - h * b1[:, None]
        left = (rest**2).sum(axis=1) + scale
        logdet = 2.0 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)[:, None]
        # The unit of b1 differs between laws and is left out.
        fit = -0.5 * (logdet + np.log(ones)) - df[:, None] / 2.0 * np.log(left)
        pull, lean = 1.0 - (one * k).sum(axis=1), ahead - middle - (h * k).sum(axis=1)
        own = (extra[use] + bend**2 * new**3 / 3.0)[:, None] - (k**2).sum(axis=1)
        sd = np.sqrt(left / df[:, None] * np.maximum(own + pull**2 / ones + lean**2 / hh, 0.0))
        mean = constant + b1 * (ahead - middle) + (k * rest).sum(axis=1) + level_of[:, None]
        half = stdtrit(df, 0.5 + level / 2.0)[:, None] * sd
        law_of = fit.argmax(axis=1)[:, None]
        top = np.take_along_axis(fit, law_of, axis=1)[:, 0]
        better, best = top > best, np.maximum(top, best)
        made = (mean, mean - half, mean + half, b1 * steepness)
        for out, values in zip((value, low, high, trend), made, strict=True):
            out[use] = np.where(better, np.take_along_axis(values, law_of, axis=1)[:, 0], out[use])
    return Expectation(value, low, high, trend)


Band = Callable[[Array], tuple[Array, Array, Array]]  # compute -> value, low, high


def from_forecasts(forecasts: Iterable[Forecast], series: pd.DataFrame) -> dict[str, Band]:
    """Forecasts of tasks as those of capabilities, for `evalsuite.alarms.watch`.

    The weighted mean over the tasks, on the scale of the headline; between the targets of a forecast a line
    in ln(FLOPs), beyond them NaN. The ends of the interval are averaged too, as if all tasks were off
    the same way: errors of forecasts are shared, so that they do not shrink by the number of tasks.

    Args:
        forecasts: of `scaling.forecasts`, at two or more targets over the run. series: as
            `Evaluations.series` gives it, for tasks and weights.

    Returns:
        A function of FLOPs by capability, for those whose every task has a forecast.
    """
    known = {one.key: one for one in forecasts}
    found: dict[str, Band] = {}
    for name, rows in series.assign(name=named(series)).groupby("name", sort=True):
        tasks = rows.drop_duplicates(["task", "metric", "shots"])
        keys = [Key.of(*row) for row in tasks[["task", "metric", "shots"]].itertuples(index=False)]
        if all(key in known for key in keys):
            weight = tasks["weight"].to_numpy(dtype=float)
            found[str(name)] = partial(_band, [known[key] for key in keys], weight / weight.sum())
    return found


def _band(forecasts: list[Forecast], weight: Array, flops: Array) -> tuple[Array, Array, Array]:
    parts = np.zeros((3, len(flops)))
    for one, w in zip(forecasts, weight, strict=True):
        chance = task_info(one.key.task).chance or 0.0
        order = np.argsort(one.flops)
        ends = []
        for values in (one.value, one.low, one.high):
            scaled = [_scaled(one.key.metric, float(value), chance) for value in values[order]]
            ends.append(np.interp(np.log(flops), np.log(one.flops[order]), scaled, np.nan, np.nan))
        # Fewer bits are a higher score.
        value, low, high = ends[0], np.minimum(ends[1], ends[2]), np.maximum(ends[1], ends[2])
        parts += w * np.stack([value, low, high])
    return parts[0], parts[1], parts[2]


def _scaled(metric: str, score: float, chance: float) -> float:
    made = Answers.of_score(metric, score, 1, chance)
    return np.nan if made is None else made.value


def _smallest(y: Array) -> float:
    """A sum of squares that rounding alone could make."""
    return _TINY * (1.0 + float(np.abs(y).max(initial=0.0))) ** 2
