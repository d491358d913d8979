"""Which law a curve follows, within which bounds, and how much each point weighs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.box import Box
from scaling.fit import fit_batch
from scaling.laws import Array, BrokenPower, Gompertz, Power, Shape, Sigmoid
from scaling.noise import scale_of
from scaling.series import Series

STRONG = 6.0  # a BIC difference called strong evidence (Kass and Raftery 1995)
HUBER = 1.345  # residuals beyond this many SDs count less: 95% efficiency on normal data


@dataclass(frozen=True)
class Plan:
    """Law, bounds and weights of one series.

    Attributes:
        shape: the law. low, high: bounds of its linear pair, as `scaling.box.Box` states them.
        weights: of the points, [n]. tau: spread beyond sampling error, in units of `scale_of`.
        free_floor: the floor is fitted although chance is known.
        bic: of each law tried.
    """

    shape: Shape
    low: tuple[float, float]
    high: tuple[float, float]
    weights: Array
    tau: float
    free_floor: bool
    bic: dict[str, float]


def _bic(sse: Array, runs: int, parameters: int | Array) -> Array:
    """BIC with as many observations as runs: checkpoints of one run are no independent evidence."""
    return runs * np.log(np.maximum(sse, 1e-300)) + parameters * np.log(runs)


def _bic_of_constant(y: Array, weights: Array, runs: int) -> Array:
    mean = (weights * y).sum(axis=1) / weights.sum(axis=1)
    return _bic((weights * (y - mean[:, None]) ** 2).sum(axis=1), runs, 1)


def plan_proportions(series: list[Series], x: Array, y: Array) -> list[Plan]:
    """Plans for proportions that share their points.

    A sigmoid from chance stands unless a floor of its own or a Gompertz curve has a BIC better by
    `STRONG`. Weights are 1/(p (1-p) (1/n + tau^2)) at the fitted level p.

    Args:
        series: what to plan for. x: their log10 FLOPs, [n]. y: their scores, [T, n].
    """
    n, runs = len(x), len(np.unique(series[0].run))
    chance = np.array([np.nan if one.info.chance is None else one.info.chance for one in series])
    ceiling = np.array([1.0 if one.info.ceiling is None else one.info.ceiling for one in series])
    items = np.stack([one.n_items for one in series])
    # A score above the stated ceiling shows that the ceiling is wrong, not the score.
    ceiling = np.maximum(ceiling, y.max(axis=1))
    known = np.isfinite(chance)
    free = Box.of(len(y), (0.0, 1.0), (0.0, ceiling))
    fixed = Box.of(len(y), (np.where(known, chance, 0.0), np.where(known, chance, 1.0)), (0.0, ceiling))
    # Where items are unknown the sampling part is unknown too: tau alone.
    sampling = np.where(np.isfinite(items), 1.0 / items, 0.0)
    weights = np.ones_like(y)
    for _ in range(3):
        fitted = fit_batch(Sigmoid(), x, y, weights, fixed).predict(x)
        scale2 = scale_of("proportion", fitted) ** 2
        tau2 = _tau2((y - fitted) ** 2 / scale2, sampling, n - 3)
        weights = 1.0 / (scale2 * (sampling + np.maximum(tau2, 1e-8)[:, None]))
    options = [
        (Sigmoid(), fixed, False),
        (Sigmoid(), free, True),
        (Gompertz(), fixed, False),
        (Gompertz(), free, True),
    ]
    # A floor of its own costs a parameter; where chance is unknown both boxes are the same.
    spent = [3 + (loose | ~known) for _, _, loose in options]
    bics = np.stack(
        [
            _bic(fit_batch(shape, x, y, weights, box).sse, runs, parameters)
            for (shape, box, _), parameters in zip(options, spent, strict=True)
        ]
    )
    # The symmetric curve from chance stands unless another is strongly better.
    handicap = np.where(np.arange(4) == 0, 0.0, STRONG if runs >= 8 else np.inf)
    pick = (bics + handicap[:, None]).argmin(axis=0)
    bic_flat = _bic_of_constant(y, weights, runs)
    out = []
    for i, best in enumerate(pick):
        shape, box, loose = options[best]
        bic = {
            "sigmoid": float(bics[:2, i].min()), "gompertz": float(bics[2:, i].min()),
            "constant": float(bic_flat[i]),
        }  # fmt: skip
        out.append(
            Plan(
                shape,
                tuple(box.low[i]),
                tuple(box.high[i]),
                weights[i],
                float(np.sqrt(tau2[i])),
                bool(loose and known[i]),
                bic,
            )
        )
    return out


def _tau2(squares: Array, sampling: Array, df: int) -> Array:
    """Extra variance tau^2 that makes `sum r^2 / (s^2 + tau^2)` equal its degrees of freedom.

    Paule and Mandel 1982, by bisection on all rows at once. Zero where sampling error suffices.
    """
    df = max(df, 1)
    low = np.zeros(len(squares))
    high = squares.sum(axis=1) / df + 1e-12
    for _ in range(50):
        middle = (low + high) / 2
        excess = (squares / np.maximum(sampling + middle[:, None], 1e-300)).sum(axis=1) > df
        low, high = np.where(excess, middle, low), np.where(excess, high, middle)
    return (low + high) / 2


def plan_losses(series: list[Series], x: Array, y: Array) -> list[Plan]:
    """Plans for bits and losses that share their points.

    A power law with offset unless a broken one has a BIC better by `STRONG`. Weights are 1/level^2,
    times Huber's down-weighting of outliers (IRLS). Arguments as for `plan_proportions`.
    """
    n, runs = len(x), len(np.unique(series[0].run))
    box = Box.of(len(y), (0.0, np.inf), (-np.inf, np.inf))
    shapes: list[Shape] = [Power(centre=float(np.mean(x)))]
    if runs >= 8:
        shapes.append(BrokenPower())
    results = []
    # A loss of zero must not own the fit: nothing weighs more than a hundredth of the median would.
    smallest = np.maximum(0.01 * np.median(y, axis=1, keepdims=True), 1e-12)
    for shape in shapes:
        weights = 1.0 / np.maximum(y, smallest) ** 2
        huber = np.ones_like(y)
        for _ in range(4):
            fit = fit_batch(shape, x, y, weights * huber, box)
            fitted = fit.predict(x)
            weights = 1.0 / np.maximum(fitted, smallest) ** 2
            residual = np.abs((y - fitted) / np.maximum(fitted, smallest))
            scale = np.maximum(1.4826 * np.median(residual, axis=1, keepdims=True), 1e-9)
            huber = np.minimum(1.0, HUBER * scale / np.maximum(residual, 1e-300))
        results.append((weights * huber, (weights * huber * (y - fitted) ** 2).sum(axis=1), residual))
    bics = [_bic(sse, runs, 3 + i) for i, (_, sse, _) in enumerate(results)]
    flat = _bic_of_constant(y, results[0][0], runs)
    out = []
    for i in range(len(y)):
        pick = 1 if len(shapes) > 1 and bics[0][i] - bics[1][i] > STRONG else 0
        bic = {shape.name: float(bics[j][i]) for j, shape in enumerate(shapes)} | {"constant": float(flat[i])}
        spread = float(np.sqrt((results[pick][2][i] ** 2).sum() / max(n - 3 - pick, 1)))
        out.append(
            Plan(shapes[pick], (0.0, -np.inf), (np.inf, np.inf), results[pick][0][i], spread, False, bic)
        )
    return out
