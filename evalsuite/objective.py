"""What a suite is chosen for: that it orders models as the tasks outside it do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from scaling.agreement import PAIRS_NEEDED
from scaling.curves import Curve
from scaling.decisions import task_means
from scaling.errors import StagewiseError
from scaling.laws import Array
from scaling.noise import scale_of
from scaling.recipes import like_pairs, pair_differences, recipes_of
from scaling.scores import ScoreTable
from scaling.series import MIN_FAMILIES, Key
from scaling.tasks import TaskInfo, benchmark_of, task_info

Kind = Literal["decision accuracy", "latent agreement"]
FEWEST_ROWS = 4
KNOWN = 0.5  # share of the tasks a row must hold to count
MOST_SAMPLING = 0.95  # of a column's variance: some of it is always more than item noise
# Standard deviation between items of the difference of two models' loss, as a share of the mean loss:
# median of nine benchmarks (0.09 to 0.5), from `python -m tests.study items-needed`.
ITEM_SPREAD = 0.25
BETWEEN = 0.02  # correlation that tasks are taken to have at least, on average


@dataclass(frozen=True)
class Objective:
    """Rows of evidence on which tasks agree with which.

    A row is a pair of recipes (the difference of their small runs, and of their large runs) or, where
    there are too few pairs, a point (what a run's scores leave of the curves, which is what remains to
    tell models of like compute apart). Columns have mean square one; what is missing is 0, no evidence.

    Attributes:
        kind: which of the two.
        keys: the candidates, K of them. benchmarks: of each, [K].
        small: [rows, K]. target: scores at the target, [rows, U]; their benchmarks, [U].
        groups: what is left out together: both recipes of a pair, or the cluster of a point, [rows, 2].
        x: log10 FLOPs of a point, [rows]; NaN for pairs.
        sampling: share of a column's variance that is noise of its items, [K].
        pairs: how many recipe pairs there were, whether used or not.
    """

    kind: Kind
    keys: tuple[Key, ...]
    benchmarks: np.ndarray
    small: Array
    target: Array
    target_benchmarks: np.ndarray
    groups: np.ndarray
    x: Array
    sampling: Array
    pairs: int

    def rows(self, mask: np.ndarray) -> Objective:
        """Some of the rows, as they are."""
        return replace(
            self, small=self.small[mask], target=self.target[mask], groups=self.groups[mask], x=self.x[mask]
        )

    def candidates(self, index: np.ndarray) -> Objective:
        """Some of the candidates, by position."""
        return replace(
            self, keys=tuple(self.keys[i] for i in index), benchmarks=self.benchmarks[index],
            small=self.small[:, index], sampling=self.sampling[index],
        )  # fmt: skip

    def against(self, benchmarks: Iterable[str]) -> Objective:
        """Only these benchmarks at the target."""
        kept = np.isin(self.target_benchmarks, list(benchmarks))
        return replace(self, target=self.target[:, kept], target_benchmarks=self.target_benchmarks[kept])

    def told(self) -> np.ndarray:
        """Candidates there is any evidence on, by position: some may share no row with most others."""
        return np.flatnonzero(self.small.any(axis=0))

    def goal(self) -> Array:
        """Mean over the benchmarks of the target, each counted once, [rows]."""
        return self.target @ balanced(self.target_benchmarks)


@dataclass(frozen=True)
class Moments:
    """All that a choice needs to know of an objective.

    Attributes:
        rho: correlation of the candidates, [K, K].
        pull: mean correlation of each with the benchmarks of the target other than its own, [K].
        spread: mean correlation between benchmarks of the target.
    """

    rho: Array
    pull: Array
    spread: float


def moments(objective: Objective, shrink: float) -> Moments:
    """Correlations, drawn towards one that all tasks share.

    With dozens of models and dozens of tasks, sample correlations are mostly noise, and a choice that
    believes them picks lucky tasks. The target of the shrinkage is the mean correlation (Ledoit and Wolf
    2003), not zero: tasks of language models agree.

    Args:
        shrink: 0 takes the sample as it is, 1 takes all tasks for alike.
    """
    small, target = _scaled(objective.small), _scaled(objective.target)
    rho = small.T @ small / max(len(small), 1)
    count = len(rho)
    common = (rho.sum() - np.trace(rho)) / (count * (count - 1)) if count > 1 else 0.0
    common = max(float(common), BETWEEN)
    rho = (1 - shrink) * rho + shrink * common
    np.fill_diagonal(rho, 1.0)
    names, place = np.unique(objective.target_benchmarks, return_inverse=True)
    member = (place[:, None] == np.arange(len(names))).astype(float)
    member /= member.sum(axis=0)
    means = target @ member  # [rows, benchmarks]
    cross = small.T @ means / max(len(small), 1)
    other = (objective.benchmarks[:, None] != names[None]).astype(float)
    pull = (cross * other).sum(axis=1) / np.maximum(other.sum(axis=1), 1.0)
    pull = (1 - shrink) * pull + shrink * max(float(pull.mean()), BETWEEN)
    between = means.T @ means / max(len(small), 1)
    apart = len(names) * (len(names) - 1)
    spread = (between.sum() - np.trace(between)) / apart if apart else 1.0
    return Moments(rho, pull, max(float(spread), BETWEEN))


def balanced(benchmarks: np.ndarray) -> Array:
    """Weights that sum to one, equal for benchmarks and for the parts of each (MMLU's subjects)."""
    if not len(benchmarks):
        return np.zeros(0)
    _, place, count = np.unique(benchmarks, return_inverse=True, return_counts=True)
    return 1.0 / count[place] / len(count)


def _scaled(values: Array) -> Array:
    size = np.sqrt((values**2).mean(axis=0)) if len(values) else np.ones(values.shape[1])
    return values / np.where(size > 0, size, 1.0)


def from_curves(curves: Sequence[Curve]) -> Objective:
    """Latent agreement: residuals of every point around the curves of the candidates.

    Where sources scored different tasks, the block of points and candidates that holds most scores counts,
    each of its points with at least half of its candidates; the other candidates are columns of zeros (see
    `Objective.told`).

    Raises:
        StagewiseError: no four points hold half of any three candidates.
    """
    columns, sampling = {}, []
    families = {name for curve in curves for name in curve.series.family}
    for i, curve in enumerate(curves):
        series = curve.series
        scale = scale_of(series.metric.family, curve.values(series.x)[0])
        residual = series.sign * (series.y - curve.values(series.x)[0]) / scale
        # One labelling for all curves: alone, each takes families or runs by how many families it has.
        label = series.family if len(families) >= MIN_FAMILIES else series.cluster
        index = pd.MultiIndex.from_arrays([series.run, series.x.round(9), label], names=["run", "x", "group"])
        column = pd.Series(residual, index=index)
        columns[i] = column[~column.index.duplicated()]
        items = series.n_items[np.isfinite(series.n_items)]
        share = MOST_SAMPLING
        if len(items) and residual.var() > 0:
            # In units of the binomial spread the variance of one item is one.
            one = 1.0 if series.metric.family == "proportion" else ITEM_SPREAD**2
            share = min(one / float(np.median(items)) / residual.var(), MOST_SAMPLING)
        sampling.append(share)
    frame = pd.concat(columns, axis=1).sort_index() if columns else pd.DataFrame()
    inside, told = _block(frame.notna().to_numpy())
    if inside.sum() < FEWEST_ROWS:
        raise StagewiseError(
            f"latent agreement: {inside.sum()} point(s) hold half of any three candidates, {FEWEST_ROWS} are "
            "needed; give scores of the same models on the same tasks"
        )
    frame = frame[inside]
    values = np.where(told, frame.to_numpy(dtype=float), np.nan)
    known = np.isfinite(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    values = np.where(known, values - mean, 0.0)
    values = _scaled(values)
    group = np.unique(frame.index.get_level_values("group"), return_inverse=True)[1]
    keys = tuple(curve.key for curve in curves)
    names = np.array([benchmark_of(key.task) for key in keys])
    x = frame.index.get_level_values("x").to_numpy(dtype=float)
    return Objective(
        "latent agreement", keys, names, values, values, names, np.column_stack([group, group]), x,
        np.array(sampling), 0,
    )  # fmt: skip


def _block(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and candidates of the block that holds most scores, as masks.

    Candidates enter by how often they were scored; for each number of them the points with at least `KNOWN`
    of these are taken, and the number that gives most scores wins.
    """
    order = np.argsort(-known.sum(axis=0), kind="stable")
    rows, chosen, most = np.zeros(len(known), dtype=bool), np.zeros(known.shape[1], dtype=bool), 0
    for count in range(min(3, known.shape[1]), known.shape[1] + 1):
        part = known[:, order[:count]]
        full = part.mean(axis=1) >= KNOWN if count else rows
        if full.sum() >= FEWEST_ROWS and part[full].sum() >= most:
            rows, most = full, int(part[full].sum())
            chosen = np.isin(np.arange(known.shape[1]), order[:count])
    return rows, chosen


def from_recipes(
    table: ScoreTable,
    keys: Sequence[Key],
    small: tuple[float, float],
    target: tuple[float, float],
    *,
    sampling: Array,
    facts: Callable[[str], TaskInfo] = task_info,
) -> Objective | None:
    """Decision accuracy: differences of recipes between small runs, and between large ones.

    None with fewer than 30 pairs: so few cannot choose among dozens of tasks.
    """
    try:
        runs, large = (recipes_of(table, scale, facts=facts) for scale in (small, target))
    except StagewiseError:  # no run at one of the scales
        return None
    pairs = like_pairs(runs, large)
    if len(pairs) < PAIRS_NEEDED:
        return None
    place = {key: i for i, key in enumerate(runs.keys)}
    if any(key not in place for key in keys):
        return None
    differences = np.nan_to_num(pair_differences(runs, pairs)[:, [place[key] for key in keys]])
    large = large.of(pairs.recipes)
    tasks, scores = task_means(large, metrics={key.metric for key in keys}, recipes=np.unique(pairs.index))
    if not tasks:
        return None
    goal = np.nan_to_num(scores[pairs.index[:, 0]] - scores[pairs.index[:, 1]])
    names = np.array([benchmark_of(key.task) for key in keys])
    return Objective(
        "decision accuracy", tuple(keys), names, _scaled(differences), _scaled(goal),
        np.array([benchmark_of(task) for task in tasks]), pairs.index, np.full(len(pairs), np.nan), sampling,
        len(pairs),
    )  # fmt: skip
