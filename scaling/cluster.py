"""Which tasks say the same thing: clusters of tasks that rank models of like compute alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score

from scaling.curves import CurveSet
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.series import Key

MIN_SHARED = 8  # points two tasks must share before their correlation counts
APART = 4.0  # distance between answer formats: beyond the largest sqrt(2 (1 - rho)) = 2


@dataclass(frozen=True)
class Clusters:
    """Clusters of (task, metric, shots).

    Attributes:
        keys: what was clustered, in the order of the matrices.
        formats: answer format of each key; no cluster holds two.
        rho: rank correlation of residuals around the curves, [n, n]; 0 where too few points are shared.
        linkage: Ward linkage as scipy states it, [n - 1, 4].
        labels: cluster of each key, numbered from 1 in order of their first key.
        stability: for each number of clusters the mean adjusted Rand index between the clusters of
            all runs and those of resampled runs.
        criterion: how the cut was chosen, in words.
    """

    keys: tuple[Key, ...]
    formats: tuple[str, ...]
    rho: Array = field(repr=False)
    linkage: Array = field(repr=False)
    labels: dict[Key, int]
    stability: pd.DataFrame
    criterion: str

    def to_frame(self) -> pd.DataFrame:
        """One row per key: task, metric, shots, format, cluster."""
        frame = pd.DataFrame(self.keys, columns=["task", "metric", "shots"])
        frame["shots"] = frame["shots"].astype("Int64")
        frame["format"] = self.formats
        frame["cluster"] = [self.labels[key] for key in self.keys]
        return frame

    def plot(self, axes=None):
        """Dendrogram and correlation heat map; see `scaling.plot.plot_clusters`."""
        from scaling.plot import plot_clusters

        return plot_clusters(self, axes=axes)

    def _repr_html_(self) -> str:
        return f"<p>{self.criterion}</p>" + self.to_frame().to_html(index=False)


def cluster_tasks(
    curves: CurveSet, *, count: int | None = None, resamples: int = 100, seed: int = 0
) -> Clusters:
    """Cluster tasks by how alike they rank models of like compute.

    Spearman correlation of the residuals around the curves (raw ranks mostly measure compute), over
    the points two tasks share; distance sqrt(2 (1 - rho)); Ward linkage, in which tasks of different
    answer formats lie farther apart than any two of one format, so that no cluster mixes them.

    Args:
        curves: fitted curves; at least two.
        count: number of clusters; where absent, the one whose clusters are most stable when whole
            runs are resampled (mean adjusted Rand index; the smaller number on a tie).
        resamples: how often runs are resampled.
        seed: of the resampling.

    Raises:
        StagewiseError: fewer than two curves.
        UsageError: a count that the tasks do not allow.

    Example:
        >>> cluster_tasks(fit_curves(table)).to_frame()      # doctest: +SKIP
    """
    if len(curves) < 2:
        raise StagewiseError(f"clusters: got {len(curves)} curve(s), two or more are needed")
    keys = tuple(curve.key for curve in curves)
    formats = tuple(curve.series.info.format or "unknown" for curve in curves)
    apart = np.asarray(formats)[:, None] != np.asarray(formats)[None, :]
    fewest, most = len(set(formats)), len(keys)
    if count is not None and not fewest <= count <= most:
        raise UsageError(f"count: got {count}, valid is {fewest} (answer formats) to {most} (tasks)")
    ranks, runs = _residual_ranks(curves)
    rho = _correlation(ranks, np.ones(len(ranks)))
    tree = _tree(rho, apart)
    stability = _stability(ranks, runs, tree, apart, resamples, seed)
    if count is not None:
        chosen, criterion = count, f"{count} clusters, as asked"
    elif stability.empty:
        chosen, criterion = fewest, f"{fewest} cluster(s): too few tasks to choose"
    else:
        best = stability.sort_values(["score", "k"], ascending=[False, True]).iloc[0]
        chosen = int(best["k"])
        criterion = (
            f"{chosen} clusters: most stable of {int(stability['k'].min())}..{int(stability['k'].max())} "
            f"when runs are resampled (mean adjusted Rand index {best['score']:.2f})"
        )
    raw = fcluster(tree, chosen, criterion="maxclust")
    order: dict[int, int] = {}
    labels = {key: order.setdefault(int(label), len(order) + 1) for key, label in zip(keys, raw, strict=True)}
    return Clusters(keys, formats, rho, tree, labels, stability, criterion)


def _residual_ranks(curves: CurveSet) -> tuple[Array, np.ndarray]:
    """Ranks of residuals, better is higher, [points, tasks] with NaN where absent; the run of each point."""
    columns = {}
    for i, curve in enumerate(curves):
        series = curve.series
        residual = series.sign * (series.y - curve.values(series.x)[0])
        index = pd.MultiIndex.from_arrays([series.run, series.x.round(9)], names=["run", "x"])
        column = pd.Series(rankdata(residual), index=index)
        # Repeats of one point (two rows of like compute in one run) count once.
        columns[i] = column[~column.index.duplicated()]
    frame = pd.concat(columns, axis=1).sort_index()
    return frame.to_numpy(dtype=float), frame.index.get_level_values("run").to_numpy()


def _correlation(ranks: Array, weights: Array) -> Array:
    """Weighted correlation of every pair of columns over the rows that both have."""
    known = np.isfinite(ranks)
    filled = np.where(known, ranks, 0.0)
    mask = known.astype(float)
    w = weights[:, None]
    n = (mask * w).T @ mask
    sums = (filled * w).T @ mask  # [i, j]: of column i over rows shared with j
    squares = (filled**2 * w).T @ mask
    cross = (filled * w).T @ filled
    shared = np.where(n > 0, n, 1.0)
    covariance = cross - sums * sums.T / shared
    variance = np.maximum(squares - sums**2 / shared, 0.0)
    scale = np.sqrt(variance * variance.T)
    rho = np.where((scale > 0) & (n >= MIN_SHARED), covariance / np.where(scale > 0, scale, 1.0), 0.0)
    rho = np.clip((rho + rho.T) / 2, -1.0, 1.0)
    np.fill_diagonal(rho, 1.0)
    return rho


def _tree(rho: Array, apart: np.ndarray) -> Array:
    distance = np.sqrt(np.maximum(2.0 * (1.0 - rho), 0.0))
    distance = np.where(apart, APART, distance)
    np.fill_diagonal(distance, 0.0)
    return linkage(squareform(distance, checks=False), method="ward")


def _stability(
    ranks: Array, runs: np.ndarray, tree: Array, apart: np.ndarray, resamples: int, seed: int
) -> pd.DataFrame:
    """Mean adjusted Rand index per number of clusters."""
    most = min(len(tree), 20, max(2, (len(tree) + 1) // 2))
    fewest = max(2, len(np.unique(apart, axis=0)))
    numbers = range(fewest, max(most, fewest) + 1)
    labels, index = np.unique(runs, return_inverse=True)
    if len(labels) < 4 or len(tree) < 3 or fewest > len(tree):
        return pd.DataFrame({"k": [], "score": []})
    rng = np.random.default_rng([seed, len(labels)])
    whole = {k: fcluster(tree, k, criterion="maxclust") for k in numbers}
    scores = np.zeros((resamples, len(numbers)))
    for b in range(resamples):
        draw = rng.multinomial(len(labels), np.full(len(labels), 1.0 / len(labels))).astype(float)
        other = _tree(_correlation(ranks, draw[index]), apart)
        for j, k in enumerate(numbers):
            scores[b, j] = adjusted_rand_score(whole[k], fcluster(other, k, criterion="maxclust"))
    return pd.DataFrame({"k": list(numbers), "score": scores.mean(axis=0)})
