"""One forecast from several methods, weighted by how well each would have foretold the runs at hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scaling.curves import cluster_draws
from scaling.laws import Array
from scaling.methods import methods_for, point_weights, power, ratio_exponent, sigmoid
from scaling.metrics import metric_info
from scaling.panel import Panel
from scaling.trend import MIN_CLUSTERS

# Frozen on Pythia before any other source was looked at; `python -m tests.study forecast` prints the rest.
CUTS = (0.35, 0.5, 0.65, 0.8)  # quantiles of the finished runs' compute at which the past is cut
OWN = 0.7  # how much a task's own past errors count against those of all tasks together
SHARPNESS = 2.0  # weights fall with this power of the mean squared error
MIN_TRAIN = 4  # runs below a cut that a fit needs


@dataclass(frozen=True)
class Blend:
    """Forecasts of T tasks at m targets.

    Attributes:
        panel: the points they rest on.
        x, ratio: log10 FLOPs and log10(D/N) of the targets, [m].
        methods: names, M of them. members: the forecast of each, [T, M, m]; NaN where it does not apply.
        weights: of the methods, [T, M]. past: root mean squared error of each in the back-tests at smaller
            scale that the weights follow from, [T, M]; NaN where there were none.
        value: the weighted mean, [T, m]. low, high: interval of a new run's score, [T, m]; NaN where it is
            not identified.
        se: standard error behind the interval, [T, m]. noise: its part between runs, [T].
        exponent: of D/N in effective compute; 0 where compute alone counts.
    """

    panel: Panel
    x: Array
    ratio: Array
    methods: tuple[str, ...]
    members: Array
    weights: Array
    past: Array
    value: Array
    low: Array
    high: Array
    se: Array
    noise: Array
    exponent: float


def split_runs(panel: Panel, below: np.ndarray) -> tuple[Panel, Panel]:
    """The points of the runs to learn from, and the last points of the others.

    Args:
        below: whether a point's run is learned from, [n].
    """
    return panel.at(below), panel.at(~below & panel.final)


def blend(panel: Panel, x: Array, ratio: Array, *, level: float = 0.95, only: int | None = None) -> Blend:
    """Forecast every task of a panel, or one of them.

    Weights: with the past cut at several computes, each method forecasts the finished runs above the cut
    from the runs below; a method weighs (mean squared error)^-SHARPNESS, the task's own error counting
    OWN and that of all tasks of the panel the rest, as a geometric mean. The targets have no part in it.

    Interval: t quantile times the root of three variances: the leave-one-cluster-out variance of the
    members (CV3, weighted mean), their disagreement about what comes (mean square around the blend, all
    laws alike: what foretold the past best may still be wrong about a bend ahead), and the variance
    between runs of like compute. "Not identified" below `MIN_CLUSTERS` clusters, where it would be wider
    than all that the task has shown so far, where the target lies farther beyond the data than the
    finished runs lie apart, and where a proportion is still accelerating: a bend that nobody has seen can
    lie anywhere.

    Args:
        panel: the points. x, ratio: of the targets, [m]; ratio NaN where unknown.
        level: of the interval.
        only: position of the task to forecast; the others still have their say in the weights.
    """
    x, ratio = np.asarray(x, dtype=float), np.asarray(ratio, dtype=float)
    exponent = ratio_exponent(panel) if np.isfinite(ratio).all() else 0.0
    clusters, index = panel.clusters
    draws = cluster_draws(clusters, 0, 0)
    weights = draws[:, index] * point_weights(panel)
    known = methods_for(panel)
    names = tuple(known)
    errors = past_errors(panel, names)
    if only is None:
        rows = _rows(panel, exponent, weights, x, ratio)
        shares = method_weights(errors, np.all(np.isfinite(rows[:, :, 0]), axis=2), names)
    else:
        usable = np.all(np.isfinite(_rows(panel, exponent, weights[:1], x, ratio)[:, :, 0]), axis=2)
        shares = method_weights(errors, usable, names)[[only]]
        errors = None if errors is None else errors[[only]]
        panel = panel.tasks(only)
        rows = _rows(panel, exponent, weights, x, ratio)
    members = rows[:, :, 0]  # [T, M, m]
    mixed = np.where(np.isfinite(rows), rows, 0.0)
    value = np.einsum("tm,tmk->tk", shares, mixed[:, :, 0])
    # A run left out can leave a method without an answer; the estimate stands in for it.
    around = np.where(np.isfinite(rows[:, :, 1:]), rows[:, :, 1:] - members[:, :, None], 0.0)
    jackknife = (clusters - 1) / clusters * (np.nan_to_num(around) ** 2).sum(axis=2)
    laws = np.array([name != "level" for name in names])
    apart = (members[:, laws] - value[:, None]) ** 2
    disagreement = np.nanmean(apart, axis=1) if laws.any() else np.zeros_like(value)
    noise = _between_runs(panel, exponent)
    se = np.sqrt(np.einsum("tm,tmk->tk", shares, jackknife) + disagreement + noise[:, None] ** 2)
    half = stats.t.ppf(0.5 + level / 2, max(clusters - 1, 1)) * se
    info = metric_info(panel.keys[0].metric)
    low, high = np.clip(value - half, info.low, info.high), np.clip(value + half, info.low, info.high)
    shown = np.ptp(panel.y, axis=1)[:, None]
    bends = _still_accelerating(panel, exponent, weights, x, ratio)
    # Runs that differ little among themselves cannot say what sets larger ones apart.
    ends = panel.x[panel.final]
    far = x - panel.x.max() > (np.ptp(ends) if len(ends) else 0.0)
    unknown = (high - low > shown) | bends | far | (clusters < MIN_CLUSTERS)
    low, high = np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)
    past = np.full((len(panel.y), len(names)), np.nan)
    if errors is not None:
        some = np.isfinite(errors).any(axis=2)
        past[some] = np.sqrt(np.nanmean(errors[some] ** 2, axis=1))
    return Blend(panel, x, ratio, names, members, shares, past, value, low, high, se, noise, exponent)


def _rows(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """What every method says under every resampling, [T, M, R, m]."""
    methods = methods_for(panel).values()
    return np.stack([method(panel, exponent, weights, x, ratio) for method in methods], axis=1)


def _still_accelerating(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> np.ndarray:
    """Whether the sigmoid may rise more up to the target than it rose over the same distance before, [T, m].

    A fall counts as well: what gets worse with scale, below chance, is known to turn (Wei et al. 2022,
    "Inverse scaling can become U-shaped"). One resampling in ten that says so is enough: near the bend a
    single fit falls on either side of it.
    """
    ahead = np.maximum(x - panel.x.max(), 0.0)
    if panel.family != "proportion" or not ahead.any():
        return np.zeros((len(panel.y), len(x)), dtype=bool)
    top = np.full_like(ahead, panel.x.max())
    at = np.concatenate([top - ahead, top, top + ahead])
    before, here, there = np.split(sigmoid(panel, exponent, weights, at, np.tile(ratio, 3)), 3, axis=2)
    bends = (there - here > here - before) | (there < here)
    return (np.mean(bends, axis=1) > 0.1) & (ahead > 0)


def past_errors(panel: Panel, names: tuple[str, ...]) -> Array | None:
    """Errors of every method on the finished runs above several cuts of the past, [T, M, targets].

    None where no cut leaves enough runs below it.
    """
    known = methods_for(panel)
    finals = panel.x[panel.final]
    if not len(finals):
        return None
    found = []
    for cut in np.unique(np.quantile(finals, CUTS, method="lower")):
        train, held = split_runs(panel, panel.ends <= cut + 1e-9)
        if len(np.unique(train.run)) < MIN_TRAIN or len(train.x) < 6 or not len(held.x):
            continue
        usable = np.isfinite(held.ratio).all()
        exponent = ratio_exponent(train) if usable else 0.0
        weights = point_weights(train)[None]
        predicted = [known[name](train, exponent, weights, held.x, held.ratio)[:, 0] for name in names]
        found.append(np.stack(predicted, axis=1) - held.y[:, None])
    return np.concatenate(found, axis=2) if found else None


def method_weights(errors: Array | None, usable: np.ndarray, names: tuple[str, ...]) -> Array:
    """Weights of the methods, [T, M]; rows sum to one where any method is usable, else to zero.

    Args:
        errors: of the past, [T, M, targets], or None. Without past errors all laws weigh alike.
        usable: whether a method has a forecast for the target, [T, M].
    """
    laws = usable & np.array([name != "level" for name in names])
    plain = _shares(np.where(laws.any(axis=1, keepdims=True), laws, usable).astype(float))
    if errors is None:
        return plain
    # Past errors of a method that could not answer are missing; it can still have an answer now.
    count = np.isfinite(errors).sum(axis=2)
    square = np.where(count > 0, np.nansum(errors**2, axis=2) / np.maximum(count, 1), np.nan)
    usable = usable & np.isfinite(square)
    square = np.where(usable, np.maximum(square, 1e-12), np.nan)
    own = np.log(square) - np.log(_mean(square, axis=1))[:, None]
    together = _mean(own, axis=0)[None]
    weights = np.where(usable, np.exp(-SHARPNESS * (OWN * own + (1 - OWN) * np.nan_to_num(together))), 0.0)
    weights = np.nan_to_num(weights)
    return np.where(weights.any(axis=1, keepdims=True), _shares(weights), plain)


def _shares(weights: Array) -> Array:
    """Rows divided by their sums; rows of zeros stay."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def _mean(values: Array, axis: int) -> Array:
    """Mean of the finite entries; NaN where there are none."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(known.any(axis=axis), total / np.maximum(known.sum(axis=axis), 1), np.nan)


def _between_runs(panel: Panel, exponent: float) -> Array:
    """Spread between runs around the curve, [T]: what a new run's score adds to the curve's own doubt."""
    fit = sigmoid if panel.family == "proportion" else power
    weights = point_weights(panel)
    fitted = fit(panel, exponent, weights[None], panel.x, panel.ratio)[:, 0]
    runs, index = np.unique(panel.run, return_inverse=True)
    member = (index[:, None] == np.arange(len(runs))) * weights[:, None]
    mean = ((panel.y - fitted) @ member) / member.sum(axis=0)
    # Runs far below the frontier say little about the spread there.
    share = member.sum(axis=0) / np.bincount(index)
    share = share / share.max()
    kept = share.sum() ** 2 / (share**2).sum()  # effective number of runs
    df = max(kept - 3.0, 1.0)  # the curve spent three parameters
    return np.sqrt((share * mean**2).sum(axis=1) / share.sum() * kept / df)
