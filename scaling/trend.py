"""Does the score move with compute at all? A slope test that survives few, correlated runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from scaling.laws import Array, Sigmoid

MIN_CLUSTERS = 6
PERMUTATIONS = 1999


@dataclass(frozen=True)
class Trend:
    """A cluster-robust test of the slope of score on log10 compute.

    Attributes:
        slope: score per decade.
        se: CR2 standard error.
        df: Satterthwaite degrees of freedom.
        p: two-sided p-value; NaN with fewer than `MIN_CLUSTERS` clusters ("not identified").
        clusters: how many independent runs (or families) carry the test.
        direction: +1 where the score rises with compute, -1 where it falls, by the contrast that shows
            it best.
    """

    slope: float
    se: float
    df: float
    p: float
    clusters: int
    direction: float


def trend_test(x: Array, y: Array, cluster: np.ndarray, *, min_clusters: int = MIN_CLUSTERS) -> Trend:
    """Test whether y moves with x when points of one cluster are correlated.

    Random-intercept GLS for the estimate (so that a run's own rise counts although runs differ in
    level), CR2 residual adjustment and Satterthwaite degrees of freedom for the test, which stays
    close to its nominal size with a dozen clusters even where the working model is wrong.

    Args:
        x: log10 FLOPs, [n]. y: scores, [n]. cluster: label of each point's run, [n].
        min_clusters: below this many the p-value is NaN.

    Returns:
        The test.

    Source:
        Bell and McCaffrey 2002; Imbens and Kolesar 2016; Pustejovsky and Tipton 2018.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(0, 3, 12)
        >>> round(trend_test(x, 2 * x, np.arange(12)).slope, 6)
        2.0
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    labels, index = np.unique(np.asarray(cluster), return_inverse=True)
    count = len(labels)
    if len(x) < 3 or np.ptp(x) == 0 or count < 2:
        return Trend(float("nan"), float("nan"), float("nan"), float("nan"), count, 0.0)
    sizes = np.bincount(index).astype(float)
    shrink = _between_share(x, y, index, sizes)
    design = np.column_stack([np.ones_like(x), x])
    # Quasi-demeaning turns the random-intercept model into ordinary least squares.
    factor = shrink[index]
    means = np.stack([np.bincount(index, column) / sizes for column in (*design.T, y)])
    z = design - factor[:, None] * means[:2, index].T
    target = y - factor * means[2, index]
    bread = np.linalg.pinv(z.T @ z)
    beta = bread @ (z.T @ target)
    residual = target - z @ beta
    # influence of each adjusted residual on the slope, cluster by cluster
    pull = z @ bread[:, 1]
    adjusted = np.empty((count, len(x)))  # row g: A_g' applied to the pull of cluster g, in place
    adjusted[:] = 0.0
    for g in range(count):
        members = np.flatnonzero(index == g)
        block = np.eye(len(members)) - z[members] @ bread @ z[members].T
        values, vectors = np.linalg.eigh(block)
        inverse_root = np.where(values > 1e-10, 1.0 / np.sqrt(np.maximum(values, 1e-10)), 0.0)
        adjusted[g, members] = vectors @ (inverse_root * (vectors.T @ pull[members]))
    variance = float(((adjusted @ residual) ** 2).sum())
    # Under the working model residuals are (I - H) e, so the variance estimate is a quadratic form
    # whose first two moments give the degrees of freedom.
    projected = adjusted - (adjusted @ z) @ bread @ z.T
    gram = projected @ projected.T
    df = float(np.trace(gram) ** 2 / max((gram**2).sum(), 1e-300))
    se = np.sqrt(variance)
    slope = float(beta[1])
    if count < min_clusters:
        p = float("nan")
    elif se < 1e-12 * max(1.0, abs(slope)):
        p = 1.0 if abs(slope) < 1e-12 else 0.0
    else:
        p = float(2.0 * stats.t.sf(abs(slope) / se, df))
    return Trend(slope, float(se), df, p, count, float(np.sign(slope)))


def any_trend(x: Array, y: Array, cluster: np.ndarray, *, min_clusters: int = MIN_CLUSTERS) -> Trend:
    """Test whether y moves with x, in a straight line or in any other monotone way.

    A straight line has little power against a task that wakes up at the end of the range, or one that
    rises at its start and then stands still. Beside `trend_test` stands therefore a permutation test
    of the runs' mean scores against every sigmoid of a grid, exact where runs without a trend are
    exchangeable; the two p-values make one by the Cauchy combination, which holds its size although
    they are correlated.

    Returns:
        The test of the straight line with the combined p-value and the direction of the clearer test.

    Source:
        Westfall and Young 1993 (maximum statistic); Liu and Xie 2020 (combination).

    Example:
        >>> x = np.linspace(0, 3, 12)
        >>> any_trend(x, np.where(x > 2.5, 0.1, 0.0), np.arange(12)).direction
        1.0
    """
    line = trend_test(x, y, cluster, min_clusters=min_clusters)
    if np.isnan(line.p):
        return line
    _, index = np.unique(np.asarray(cluster), return_inverse=True)
    sizes = np.bincount(index)
    p, direction = _shape_test(np.bincount(index, x) / sizes, np.bincount(index, y) / sizes)
    combined = _cauchy(np.array([line.p, p]))
    return replace(line, p=combined, direction=line.direction if line.p <= p else direction)


def _shape_test(x: Array, y: Array) -> tuple[float, float]:
    """P-value and direction of the sigmoid shape that y correlates with best, against permuted y."""
    shape = Sigmoid()
    phi = shape.phi(np.concatenate(shape.grid(x)), x)
    phi = phi - phi.mean(axis=1, keepdims=True)
    size = np.sqrt((phi**2).sum(axis=1, keepdims=True))
    phi = (phi / np.maximum(size, 1e-12))[size[:, 0] > 1e-6]
    centred = y - y.mean()
    found = phi @ centred
    best = int(np.abs(found).argmax())
    # Seeded by the number of clusters alone: the same data always get the same p-value.
    rng = np.random.default_rng(len(y))
    permuted = rng.permuted(np.tile(centred, (PERMUTATIONS, 1)), axis=1)
    as_far = (np.abs(permuted @ phi.T).max(axis=1) >= abs(found[best]) * (1 - 1e-9)).sum()
    return float((1 + as_far) / (1 + PERMUTATIONS)), float(np.sign(found[best]))


def _cauchy(p: Array) -> float:
    """Cauchy combination of p-values."""
    small = np.clip(p, 1e-300, 1.0 - 1e-12)
    # The tangent loses all digits for small p, where it tends to 1 / (pi p).
    heavy = np.where(small < 1e-8, 1.0 / (np.pi * small), np.tan(np.pi * (0.5 - small)))
    return float(stats.cauchy.sf(heavy.mean()))


def _between_share(x, y, index, sizes) -> Array:
    """Quasi-demeaning factor of each cluster: 1 - sqrt(within / (within + size * between))."""
    count = len(sizes)
    if count == len(x):
        return np.zeros(count)
    mean_x, mean_y = np.bincount(index, x) / sizes, np.bincount(index, y) / sizes
    inner_x, inner_y = x - mean_x[index], y - mean_y[index]
    spread = (inner_x**2).sum()
    slope = (inner_x * inner_y).sum() / spread if spread > 0 else 0.0
    within = ((inner_y - slope * inner_x) ** 2).sum() / max(len(x) - count - 1, 1)
    design = np.column_stack([np.ones(count), mean_x])
    left = mean_y - design @ np.linalg.lstsq(design, mean_y, rcond=None)[0]
    between = max((left**2).sum() / max(count - 2, 1) - within / np.mean(sizes), 0.0)
    share = 1.0 - np.sqrt(within / np.maximum(within + sizes * between, 1e-300))
    # Short of one: checkpoints that agree exactly must not erase what the runs say between them.
    return np.minimum(share, 0.99)


def adjust(p: Array) -> Array:
    """Benjamini-Hochberg adjusted p-values over the finite entries; NaN stays NaN.

    Example:
        >>> import numpy as np
        >>> adjust(np.array([0.01, np.nan, 0.04])).round(3).tolist()
        [0.02, nan, 0.04]
    """
    p = np.asarray(p, dtype=float)
    out = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        out[known] = multipletests(p[known], method="fdr_bh")[1]
    return out
