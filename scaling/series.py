"""The points of one curve: one task, metric and number of shots over many runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from scaling.laws import Array
from scaling.metrics import MetricInfo, metric_info
from scaling.scores import Omission, ScoreTable
from scaling.tasks import TaskInfo, task_info

Points = Literal["auto", "final", "all"]
MIN_FINAL_RUNS = 8  # fewer finished runs than this cannot carry a curve of three or four parameters
MIN_POINTS = 4
MIN_FAMILIES = 6  # so many families, and whole families are resampled rather than runs
# A column with no value groups with itself: repeats without a seed are one run.
RUN = ("source", "model", "variant", "seed")


class Key(NamedTuple):
    """What a curve, a noise figure and a class belong to."""

    task: str
    metric: str
    shots: int | None

    @classmethod
    def of(cls, task: object, metric: object, shots: object) -> Key:
        """The key of a group of score rows, whose shots may be NA."""
        return cls(str(task), str(metric), None if pd.isna(shots) else int(shots))  # pyright: ignore

    def __str__(self) -> str:
        shots = "" if self.shots is None else f", {self.shots}-shot"
        return f"{self.task} ({self.metric}{shots})"


@dataclass(frozen=True)
class Series:
    """The points of one curve, ready to be fitted.

    Attributes:
        key: task, metric, shots.
        info, metric: facts about the task and the metric.
        x: log10 FLOPs, [n], ascending. y: scores, [n].
        run: label of each point's run, [n]. cluster: label of what is resampled as a whole, [n].
        final: whether a point is its run's last checkpoint, [n].
        n_items: items behind each score, NaN where unknown, [n].
        log_ratio: log10(D/N), NaN where unknown, [n].
        family: of each point's model, [n]. variant: data mixture or the like, "" where none, [n].
        points: "final" or "all": which points of each run are here.
    """

    key: Key
    info: TaskInfo
    metric: MetricInfo
    x: Array
    y: Array
    run: np.ndarray
    cluster: np.ndarray
    final: np.ndarray
    n_items: Array
    log_ratio: Array
    family: np.ndarray
    variant: np.ndarray
    points: str

    @property
    def n_clusters(self) -> int:
        return len(np.unique(self.cluster))

    @property
    def cluster_index(self) -> np.ndarray:
        """Position of each point's cluster among the sorted labels, [n]: a column of cluster draws."""
        return np.unique(self.cluster, return_inverse=True)[1]

    @property
    def sign(self) -> float:
        """+1 where higher is better, -1 where lower is."""
        return -1.0 if self.metric.higher_is_better is False else 1.0


def with_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `run` (an integer per run) and `final` (the run's last checkpoint) to score rows.

    A run's last checkpoint is its row without a step (a finished model) or its highest step, taken
    over all tasks of the run, so that a task that was not scored at the end has no final point.
    """
    frame = frame.copy()
    frame["run"] = frame.groupby(list(RUN), dropna=False, sort=True, observed=True).ngroup()
    step = frame["step"].astype("Float64").fillna(np.inf).to_numpy(dtype=float)
    last = pd.Series(step).groupby(frame["run"].to_numpy()).transform("max")
    frame["final"] = step == last.to_numpy()
    return frame


def series_of(
    table: ScoreTable,
    *,
    points: Points = "auto",
    facts: Callable[[str], TaskInfo] = task_info,
) -> tuple[list[Series], list[Omission]]:
    """Split a table into series, one per (task, metric, shots) of a fitted metric family.

    Rows without compute or at zero compute, metrics of family `other`, and series with fewer than
    `MIN_POINTS` points are left out, and counted.

    Args:
        table: the scores.
        points: `final`: the last checkpoint of each run; `all`: every checkpoint; `auto`: final where
            at least `MIN_FINAL_RUNS` runs have one, else all. An undecayed checkpoint sits below a
            finished model of the same compute, so the two should not be mixed without need.
        facts: where chance, ceiling and items come from.

    Returns:
        The series in order of key, and what was left out.
    """
    frame = with_runs(table.frame)
    omissions: list[Omission] = []

    def keep(mask: pd.Series, why: str) -> None:
        nonlocal frame
        lost = int((~mask).sum())
        if lost:
            omissions.append(Omission(why, "curves", lost))
            frame = frame[mask.to_numpy(dtype=bool)]

    fitted = {name: metric_info(name).fitted for name in frame["metric"].unique()}
    keep(frame["metric"].map(fitted).astype(bool), "metric without a law")
    keep(frame["flops"].notna(), "no known compute")
    keep(frame["flops"] > 0, "zero compute (step 0)")
    # One model that two sources scored is still one run. Families are numbered apart from runs.
    frame["one_run"] = frame.groupby(["model", "variant", "seed"], dropna=False, sort=True).ngroup()
    frame["one_family"] = frame.groupby("family", sort=True).ngroup()
    found = []
    for (task, metric, shots), rows in frame.groupby(["task", "metric", "shots"], dropna=False, sort=True):
        key = Key.of(task, metric, shots)
        series = _series(key, rows, points, facts(key.task))
        if len(series.x) < MIN_POINTS:
            omissions.append(Omission(f"{len(series.x)} point(s), {MIN_POINTS} needed", str(key), len(rows)))
        else:
            found.append(series)
    return found, omissions


def _series(key: Key, rows: pd.DataFrame, points: Points, info: TaskInfo) -> Series:
    chosen = points
    if points == "auto":
        finals = rows.loc[rows["final"], "run"].nunique()
        enough = finals >= MIN_FINAL_RUNS or len(rows) == finals
        chosen = "final" if enough else "all"
    if chosen == "final":
        rows = rows[rows["final"]]
    rows = rows.sort_values(["flops", "run"], kind="stable")
    items = rows["n_items"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    if info.n_items:
        items = np.where(np.isnan(items), float(info.n_items), items)
    return Series(
        key=key,
        info=info,
        metric=metric_info(key.metric),
        x=np.log10(rows["flops"].to_numpy(dtype=float)),
        y=rows["score"].to_numpy(dtype=float),
        run=rows["run"].to_numpy(),
        # Families where this curve has several, whatever else the table holds.
        cluster=rows["one_family" if rows["family"].nunique() >= MIN_FAMILIES else "one_run"].to_numpy(),
        final=rows["final"].to_numpy(dtype=bool),
        n_items=np.asarray(items, dtype=np.float64),
        log_ratio=np.log10((rows["tokens"] / rows["params"]).to_numpy(dtype=float)),
        family=rows["family"].to_numpy(dtype=object).astype(str),
        variant=rows["variant"].fillna("").to_numpy(dtype=object).astype(str),
        points=chosen,
    )


def grouped(series: list[Series]) -> Iterator[list[int]]:
    """Indices of series that share their points (x and clusters), so that one batch fits them all."""
    groups: dict[tuple, list[int]] = {}
    for i, one in enumerate(series):
        groups.setdefault((one.x.tobytes(), one.cluster.tobytes(), one.metric.family), []).append(i)
    yield from groups.values()
