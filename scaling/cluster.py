"""Which tasks say the same thing: clusters of tasks that rank models of like compute alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from scaling.curves import CurveSet
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.series import Key

MIN_SHARED = 8  # points two tasks must share before their correlation counts
SPLIT = 4  # tasks of one format that may be divided further
APART = 2.0  # lowest height at which answer formats are joined: the largest sqrt(2 (1 - rho))


@dataclass(frozen=True)
class Clusters:
    """Clusters of (task, metric, shots).

    Attributes:
        keys: what was clustered, in the order of the matrices.
        formats: answer format of each key; no cluster holds two.
        rho: rank correlation of residuals around the curves, [n, n]; 0 where too few points are shared.
        linkage: Ward linkage as scipy states it, [n - 1, 4].
        labels: cluster of each key, numbered from 1 in order of their first key.
        stability: for each answer format and number of clusters within it (columns format, k, score)
            the mean adjusted Rand index between the clusters of all runs and those of resampled runs.
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
    the points two tasks share; distance sqrt(2 (1 - rho)); Ward linkage within each answer format, and
    the formats joined above, so that no cluster mixes them.

    Args:
        curves: fitted curves; at least two.
        count: number of clusters over all formats. Where absent, each format of at least `SPLIT` tasks
            is cut on its own into the two or more clusters that are most stable when whole runs are
            resampled (mean adjusted Rand index; the smaller number on a tie).
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
    fewest, most = len(set(formats)), len(keys)
    if count is not None and not fewest <= count <= most:
        raise UsageError(f"count: got {count}, valid is {fewest} (answer formats) to {most} (tasks)")
    ranks, runs = _residual_ranks(curves)
    rho = _correlation(ranks, np.ones(len(ranks)))
    tree = _joined_tree(rho, formats)
    stability = pd.DataFrame({"format": [], "k": [], "score": []})
    if count is not None:
        raw = fcluster(tree, count, criterion="maxclust")
        criterion = f"{count} clusters, as asked"
    else:
        raw, stability, criterion = _cut_by_format(ranks, runs, formats, resamples, seed)
    order: dict[int, int] = {}
    labels = {key: order.setdefault(int(label), len(order) + 1) for key, label in zip(keys, raw, strict=True)}
    return Clusters(keys, formats, rho, tree, labels, stability, criterion)


def _cut_by_format(
    ranks: Array, runs: np.ndarray, formats: tuple[str, ...], resamples: int, seed: int
) -> tuple[np.ndarray, pd.DataFrame, str]:
    """Labels, stability and the criterion in words, each answer format cut on its own."""
    raw = np.zeros(len(formats), dtype=int)
    tables, words = [], []
    for name in sorted(set(formats)):
        members = np.flatnonzero(np.asarray(formats) == name)
        part = ranks[:, members]
        table = pd.DataFrame()
        if len(members) >= SPLIT:
            tree = _tree(_correlation(part, np.ones(len(part))))
            table = _stability(part, runs, tree, resamples, seed)
        if table.empty:
            raw[members] = raw.max() + 1
            words.append(f"{name} 1 ({len(members)} task(s), too few to divide)")
            continue
        best = table.sort_values(["score", "k"], ascending=[False, True]).iloc[0]
        raw[members] = raw.max() + fcluster(tree, int(best["k"]), criterion="maxclust")
        tables.append(table.assign(format=name)[["format", "k", "score"]])
        words.append(f"{name} {int(best['k'])} (mean adjusted Rand index {best['score']:.2f})")
    stability = (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"format": [], "k": [], "score": []})
    )
    total = len(np.unique(raw))
    return raw, stability, f"{total} clusters, most stable under resampled runs: " + ", ".join(words)


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


def _tree(rho: Array) -> Array:
    distance = np.sqrt(np.maximum(2.0 * (1.0 - rho), 0.0))
    np.fill_diagonal(distance, 0.0)
    return linkage(squareform(distance, checks=False), method="ward")


def _joined_tree(rho: Array, formats: tuple[str, ...]) -> Array:
    """Ward trees of each answer format, joined above the highest merge of any of them.

    One tree over all tasks would not do: Ward's merges of large clusters outgrow any fixed distance
    between formats.
    """
    count = len(formats)
    merges: list[list[float]] = []  # node numbers as scipy counts them, refer to `count + position` later
    tops: list[tuple[float, float]] = []  # node and size of each format's tree
    for name in sorted(set(formats)):
        members = np.flatnonzero(np.asarray(formats) == name)
        if len(members) == 1:
            tops.append((float(members[0]), 1.0))
            continue
        part = _tree(rho[np.ix_(members, members)])
        offset = count + len(merges)
        for left, right, height, size in part:
            ids = [members[int(i)] if i < len(members) else offset + i - len(members) for i in (left, right)]
            merges.append([float(min(ids)), float(max(ids)), float(height), float(size)])
        tops.append((float(count + len(merges) - 1), float(len(members))))
    # scipy wants heights in ascending order; reorder and renumber.
    order = np.argsort([merge[2] for merge in merges], kind="stable")
    renumber = {count + int(old): float(count + new) for new, old in enumerate(order)}

    def moved(node: float) -> float:
        return renumber.get(int(node), node)

    sorted_merges = [[*sorted(map(moved, merges[old][:2])), *merges[old][2:]] for old in order.tolist()]
    height = max([merge[2] for merge in merges], default=0.0)
    node, size = moved(tops[0][0]), tops[0][1]
    for other, more in tops[1:]:
        height, size = max(height, APART) + 0.1, size + more
        sorted_merges.append([*sorted((node, moved(other))), height, size])
        node = float(count + len(sorted_merges) - 1)
    return np.array(sorted_merges)


def _stability(ranks: Array, runs: np.ndarray, tree: Array, resamples: int, seed: int) -> pd.DataFrame:
    """Mean adjusted Rand index per number of clusters, from two to half as many as there are tasks."""
    numbers = range(2, max(2, min(20, (len(tree) + 1) // 2)) + 1)
    labels, index = np.unique(runs, return_inverse=True)
    if len(labels) < 4:
        return pd.DataFrame()
    rng = np.random.default_rng([seed, len(labels)])
    whole = {k: fcluster(tree, k, criterion="maxclust") for k in numbers}
    scores = np.zeros((resamples, len(numbers)))
    for b in range(resamples):
        draw = rng.multinomial(len(labels), np.full(len(labels), 1.0 / len(labels))).astype(float)
        other = _tree(_correlation(ranks, draw[index]))
        for j, k in enumerate(numbers):
            scores[b, j] = adjusted_rand(whole[k], fcluster(other, k, criterion="maxclust"))
    return pd.DataFrame({"k": list(numbers), "score": scores.mean(axis=0)})


def adjusted_rand(labels: np.ndarray, others: np.ndarray) -> float:
    """Adjusted Rand index of two divisions: 1 for the same one, about 0 for unrelated ones.

    (together in both - expected) / (mean of together in each - expected), in pairs of things. Written out,
    since the checks of arguments in `sklearn.metrics.adjusted_rand_score` took a third of building a suite.

    Args:
        labels: cluster of each thing, integers from 1, [n], n >= 2. others: the same of the other division.

    Source:
        Hubert and Arabie, Comparing partitions, Journal of Classification 2 (1985).

    Example:
        >>> adjusted_rand(np.array([1, 1, 2, 2]), np.array([2, 2, 1, 1]))
        1.0
    """
    width = int(others.max()) + 1
    counts = np.bincount(labels * width + others, minlength=(int(labels.max()) + 1) * width).reshape(
        -1, width
    )
    both, one, other, total = (
        float((n * (n - 1)).sum()) / 2
        for n in (counts, counts.sum(axis=1), counts.sum(axis=0), np.array(len(labels)))
    )
    expected, most = one * other / total, (one + other) / 2
    return (both - expected) / (most - expected) if most > expected else 1.0
