"""The points several tasks share, with what helps to forecast them: size, data, surprise at the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from scaling.laws import Array
from scaling.metrics import metric_info
from scaling.scores import Omission, ScoreTable
from scaling.series import RUN, Key, Series, grouped, series_of
from scaling.tasks import TaskInfo, task_info

BIN = 0.05  # decades of compute within which the checkpoints of a run are averaged
MATCHED = 0.9  # share of a task's points at which a surprise must be known to be its bridge
CUBIC = 3  # degree of the curve in log loss that tells how much of a score a text explains


@dataclass(frozen=True)
class Panel:
    """Scores of T tasks of one metric family at n points.

    Attributes:
        keys: the tasks, T of them. family: of their metric.
        x: log10 FLOPs, [n], ascending. ratio: log10(D/N), NaN where unknown, [n].
        run, cluster: label of each point's run, and of what is resampled as a whole, [n].
        final: whether a point is its run's last checkpoint, [n].
        y: scores, [T, n].
        floor: chance, [T]; NaN where unknown. ceiling: highest score possible, [T].
        bits: surprise at the right answer at the same points (bits per byte of the same task where it was
            scored, else a loss on text that goes with it best), [T, n]; NaN rows where there is none.
        bridge: what `bits` is of, T names; "" where there is none.
    """

    keys: tuple[Key, ...]
    family: str
    x: Array
    ratio: Array
    run: np.ndarray
    cluster: np.ndarray
    final: np.ndarray
    y: Array
    floor: Array
    ceiling: Array
    bits: Array
    bridge: tuple[str, ...]

    @property
    def clusters(self) -> tuple[int, np.ndarray]:
        """How many clusters, and each point's position among them, [n]."""
        labels, index = np.unique(self.cluster, return_inverse=True)
        return len(labels), index

    @property
    def ends(self) -> Array:
        """Log10 FLOPs of the last point of each point's run, [n]."""
        return pd.Series(self.x).groupby(self.run).transform("max").to_numpy()

    def at(self, mask: np.ndarray) -> Panel:
        """The points for which `mask` [n] is true."""
        return replace(
            self, x=self.x[mask], ratio=self.ratio[mask], run=self.run[mask], cluster=self.cluster[mask],
            final=self.final[mask], y=self.y[:, mask], bits=self.bits[:, mask],
        )  # fmt: skip

    def tasks(self, index) -> Panel:
        """Some of the tasks, by position."""
        index = np.atleast_1d(np.asarray(index))
        return replace(
            self, keys=tuple(self.keys[i] for i in index), y=self.y[index], floor=self.floor[index],
            ceiling=self.ceiling[index], bits=self.bits[index], bridge=tuple(self.bridge[i] for i in index),
        )  # fmt: skip

    @property
    def size_and_data(self) -> bool:
        """Whether finished runs tell the effects of model size and of training data apart."""
        ratio = self.ratio[self.final]
        x = self.x[self.final]
        # Checkpoints need theirs as well: the laws in size and data are fitted to all points.
        if len(x) < 6 or not np.isfinite(self.ratio).all():
            return False
        design = np.column_stack([np.ones_like(x), x - x.mean(), ratio - ratio.mean()])
        # A spread of a factor two in D/N that compute does not explain.
        left = design[:, 2] - design[:, :2] @ np.linalg.lstsq(design[:, :2], design[:, 2], rcond=None)[0]
        return bool(left.std() > np.log10(2.0) / 2)


def panels_of(
    table: ScoreTable,
    *,
    facts: Callable[[str], TaskInfo] = task_info,
    learned: np.ndarray | None = None,
) -> tuple[list[Panel], list[Omission]]:
    """Every (task, metric, shots) of a table that has a law, in panels of tasks with the same points.

    All checkpoints count, those of a run within `BIN` decades as their mean: hundreds of checkpoints
    of one run say little more than dozens. A run's last checkpoint stays a point of its own.

    Args:
        table: the scores. facts: where chance and ceiling come from.
        learned: runs (as `with_runs` labels those of the table) that the choice of `bits` looks at; all where
            None. A back-test names those below its cut, or the scores it is to foretell would have a say.

    Returns:
        The panels, in order of their first task, and what was left out.
    """
    series, omissions = series_of(thinned(table), points="all", facts=facts)
    surprise = _Surprise(one for one in series if one.metric.family != "proportion")
    panels = []
    for some in _same_points(series):
        first = some[0]
        use = np.ones(len(first.x), dtype=bool) if learned is None else np.isin(first.run, learned)
        found = [surprise.of(one, use) for one in some]
        chance = [np.nan if one.info.chance is None else one.info.chance for one in some]
        tops = [1.0 if one.info.ceiling is None else one.info.ceiling for one in some]
        panels.append(
            Panel(
                keys=tuple(one.key for one in some), family=first.metric.family, x=first.x,
                ratio=first.log_ratio, run=first.run, cluster=first.cluster, final=first.final,
                y=np.stack([one.y for one in some]), floor=np.array(chance), ceiling=np.array(tops),
                bits=np.stack([values for values, _ in found]), bridge=tuple(name for _, name in found),
            )
        )  # fmt: skip
    return panels, omissions


def _same_points(series: list[Series]) -> Iterator[list[Series]]:
    """Series that share their points: the same compute, and the same runs behind it."""
    for members in grouped(series):
        # Two sources, or two variants of one family, can hold runs of equal compute.
        parts: dict[tuple[bytes, ...], list[Series]] = {}
        for one in (series[i] for i in members):
            same = one.run.tobytes(), one.final.tobytes(), one.log_ratio.tobytes()
            parts.setdefault(same, []).append(one)
        yield from parts.values()


def thinned(table: ScoreTable) -> ScoreTable:
    """Checkpoints of a run within `BIN` decades of compute as their mean, its last one untouched."""
    frame = table.frame
    step = frame["step"].astype("Float64").fillna(np.inf).to_numpy(dtype=float)
    last = pd.Series(step).groupby([frame[name] for name in RUN], dropna=False).transform("max").to_numpy()
    loose = np.isfinite(step) & (step < last) & (frame["flops"] > 0).fillna(False).to_numpy(dtype=bool)
    # What has no law is left out later, and counted row by row.
    lawful = {name: metric_info(name).fitted for name in frame["metric"].unique()}
    loose &= frame["metric"].map(lawful).to_numpy(dtype=bool)
    if not loose.any():
        return table
    part = frame[loose]
    cell = np.floor(np.log10(part["flops"]) / BIN)
    groups = part.groupby([*RUN, "task", "metric", "shots", cell.rename("cell")], dropna=False, sort=True)
    mean = groups.mean(numeric_only=True)
    # The mean of logs keeps a power law a power law.
    mean["flops"] = 10.0 ** np.log10(part["flops"]).groupby(groups.ngroup().to_numpy()).mean().to_numpy()
    rest = groups[["family", "n_items"]].first()
    out = mean.drop(columns=[c for c in ("n_items", "seed", "shots") if c in mean]).join(rest).reset_index()
    out["step"] = out["step"].round().astype("Int64")
    out["stderr"] = np.nan
    whole = pd.concat([out[frame.columns], frame[~loose]], ignore_index=True)
    return ScoreTable(whole.astype(frame.dtypes.to_dict()), table.omissions)


class _Surprise:
    """Bits per byte and losses by point, to be found again for the scores they belong to."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._own: dict[str, list[tuple[Series, pd.Series]]] = {}
        self._text: list[tuple[Series, pd.Series]] = []
        for one in series:
            index = _points(one)
            values = pd.Series(one.y, index=index)
            values = values[~values.index.duplicated()]
            if one.metric.family == "bits":
                self._own.setdefault(one.key.task, []).append((one, values))
            else:
                self._text.append((one, values))

    def of(self, series: Series, use: np.ndarray) -> tuple[Array, str]:
        """The surprise that goes with a proportion, [n], and its name, chosen at the points `use` [n]."""
        none = np.full(len(series.x), np.nan), ""
        if series.metric.family != "proportion" or not use.any():
            return none
        index = _points(series)
        # The same shots first, then the fewest.
        own = sorted(
            self._own.get(series.key.task, []),
            key=lambda pair: (pair[0].key.shots != series.key.shots, str(pair[0].key)),
        )
        for one, values in own:
            found = values.reindex(index).to_numpy(dtype=float)
            if np.isfinite(found[use]).mean() >= MATCHED:
                return found, str(one.key)
        best = none
        closest = np.inf
        for one, values in self._text:
            found = values.reindex(index).to_numpy(dtype=float)
            known = np.isfinite(found) & use
            if known.sum() < MATCHED * use.sum() or (found[known] <= 0).any():
                continue
            if len(np.unique(found[known])) <= CUBIC:
                continue
            # Of several texts the one whose loss leaves least of the score unexplained.
            fit = np.polynomial.Polynomial.fit(np.log(found[known]), series.y[known], CUBIC)
            left = float(((series.y[known] - fit(np.log(found[known]))) ** 2).mean())
            if left < closest:
                closest, best = left, (found, str(one.key))
        return best


def _points(series: Series) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([series.run, series.x.round(6)], names=["run", "x"])
