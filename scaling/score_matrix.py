"""Scores as a matrix of runs by tasks, in units that can be compared: the input of a factor model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import expit

from scaling.errors import StagewiseError, UsageError
from scaling.facts.tables import rows as fact_rows
from scaling.laws import Array
from scaling.metrics import MetricInfo, metric_info
from scaling.scores import Omission, ScoreTable
from scaling.series import MIN_FINAL_RUNS, Key, Points

Scale = Literal["logit", "plain"]
SCALES = ("logit", "plain")
RUN = ("model", "variant", "seed")  # one model that two sources scored is still one run
SOFT = 0.02  # keeps the logit of a score of 0 or 1 finite, and of a score near them quiet


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of runs on tasks, larger is better everywhere, NaN where a run was not scored.

    Attributes:
        values: [runs, tasks], a column per (task, metric, shots), named in words.
        keys: of the columns of `values`, in their order.
        runs: a row per row of `values`: what names the run, `family`, `log10_flops` (NaN where unknown).
        by: the columns of `runs` that name a run.
        points: "final" or "all": which checkpoints of a run are rows.
        scale: of proportions.
        omissions: what was left out.
    """

    values: pd.DataFrame
    keys: tuple[Key, ...]
    runs: pd.DataFrame
    by: tuple[str, ...]
    points: Points
    scale: Scale
    omissions: tuple[Omission, ...]

    def to_frame(self) -> pd.DataFrame:
        """What names each run, beside its values."""
        return pd.concat([self.runs, self.values], axis=1)

    def _repr_html_(self) -> str:
        n, p = self.values.shape
        known = self.values.notna().to_numpy().mean()
        head = f"<p>{n} runs by {p} tasks, {known:.0%} of the cells known, scale {self.scale}</p>"
        return head + self.to_frame().head(10).to_html(index=False)


@cache
def _benchmarks() -> dict[str, str]:
    return {row["task"]: row["benchmark"] for row in fact_rows("tasks.csv")}


def suite_of(task: str) -> str:
    """The suite a task belongs to: the first word of its benchmark's name, in lower case.

    Splits, subjects and relatives of a benchmark share it (ARC-Challenge and ARC-Easy, all MMLU
    subjects). It errs on the side of calling tasks related, so that leaving out what is related to a
    task leaves nothing of it behind. A task that `scaling/facts/tasks.csv` lacks goes by its own name.

    Example:
        >>> suite_of("arc_easy"), suite_of("never_heard_of_it")
        ('arc', 'never')
    """
    words = re.findall(r"[^\W_]+", _benchmarks().get(task) or task)
    return words[0].lower() if words else task


def to_comparable(score, metric: MetricInfo, scale: Scale = "logit") -> Array:
    """Scores in comparable units, larger is better.

    Proportions: `logit` is log((y + 0.02) / (1 - y + 0.02)), which straightens the ends of a sigmoid;
    `plain` is y itself. Chance is not taken off: it changes `plain` by no more than a unit, and a logit
    above chance blows up the noise of every task that guesses. Bits and losses: the negative logarithm.
    """
    y = np.asarray(score, dtype=float)
    if metric.family != "proportion":
        return -np.log(np.maximum(y, 1e-9))
    return y if scale == "plain" else np.log((y + SOFT) / (1.0 - y + SOFT))


def from_comparable(value, metric: MetricInfo, scale: Scale = "logit") -> Array:
    """The inverse of `to_comparable`: scores, within the metric's range."""
    z = np.asarray(value, dtype=float)
    if metric.family != "proportion":
        return np.exp(-z)
    if scale == "logit":
        z = expit(z) * (1.0 + 2.0 * SOFT) - SOFT
    return np.clip(z, metric.low, metric.high)


def run_rows(
    frame: pd.DataFrame, by: tuple[str, ...], points: Points
) -> tuple[pd.DataFrame, list[str], Points]:
    """The rows of the wanted checkpoints, the columns that name one, and which points they are."""
    step = frame["step"].astype("Float64").fillna(np.inf).to_numpy(dtype=float)
    run = frame.groupby(list(by), dropna=False, sort=True, observed=True).ngroup().to_numpy()
    final = step == pd.Series(step).groupby(run).transform("max").to_numpy()
    chosen = points
    if points == "auto":
        enough = len(np.unique(run[final])) >= MIN_FINAL_RUNS or bool(final.all())
        chosen = "final" if enough else "all"
    if chosen == "final":
        return frame[final], list(by), chosen
    return frame, [*by, "step"], chosen


def cells(frame: pd.DataFrame, names: list[str], scale: Scale) -> tuple[pd.DataFrame, dict, pd.DataFrame]:
    """Values [runs, tasks], the key of each column, and what is known of each run, of score rows."""
    row = frame.groupby(names, dropna=False, sort=True, observed=True)
    runs = row.agg(family=("family", "first"), flops=("flops", "median")).reset_index()
    runs["log10_flops"] = np.log10(runs.pop("flops"))
    number = row.ngroup()
    columns, keys = {}, {}
    for (task, metric, shots), part in frame.groupby(["task", "metric", "shots"], dropna=False, sort=True):
        key = Key.of(task, metric, shots)
        value = pd.Series(to_comparable(part["score"], metric_info(key.metric), scale))
        columns[str(key)], keys[str(key)] = value.groupby(number[part.index].to_numpy()).mean(), key
    return pd.DataFrame(columns, dtype=float).reindex(runs.index), keys, runs


def score_matrix(
    table: ScoreTable,
    *,
    points: Points = "auto",
    scale: Scale = "logit",
    exclude: Iterable[str] = (),
    by: tuple[str, ...] = RUN,
    min_runs: int = 8,
    min_tasks: int = 3,
) -> ScoreMatrix:
    """Turn a table into a matrix of runs by tasks.

    Repeats of one cell (two sources) are averaged. Tasks whose score never moves carry nothing and are
    left out, as are tasks with few runs and runs with few tasks, in turn until none is left.

    Args:
        table: the scores. Rows without compute stay: their runs help to place the tasks.
        points: `final`, `all` or `auto`, as `scaling.series.series_of` has them.
        scale: of proportions; see `to_comparable`.
        exclude: tasks that are left out together with everything of their suite (see `suite_of`).
        by: columns that name a run; leave `variant` out where it names a file rather than a recipe.
        min_runs: fewest runs of a task. min_tasks: fewest tasks of a run.

    Raises:
        StagewiseError: too little is left. UsageError: an unknown scale, points or task to exclude.

    Example:
        >>> score_matrix(table, exclude=["piqa"]).values.shape       # doctest: +SKIP
    """
    if scale not in SCALES:
        raise UsageError(f"scale: got {scale!r}, valid are {', '.join(SCALES)}")
    if points not in ("auto", "final", "all"):
        raise UsageError(f"points: got {points!r}, valid are auto, final, all")
    if not by or not set(by) <= set(table.frame.columns) or "model" not in by:
        raise UsageError(f"by: got {by!r}, valid are columns of the table, `model` among them")
    frame, omissions = table.frame, []
    suites = {task: suite_of(task) for task in frame["task"].unique()}
    left_out = {exclude} if isinstance(exclude, str) else set(exclude)
    if unknown := sorted(left_out - set(suites)):
        raise UsageError(f"exclude: the table has no task {', '.join(unknown)}; it has {_some(suites)}")

    def keep(mask: pd.Series, why: str) -> None:
        nonlocal frame
        lost = int((~mask).sum())
        if lost:
            omissions.append(Omission(why, "matrix", lost))
            frame = frame[mask.to_numpy(dtype=bool)]

    related = {suites[task] for task in left_out}
    keep(~frame["task"].map(suites).isin(related), "excluded task, or one of its suite")
    usable = {name: metric_info(name).fitted for name in frame["metric"].unique()}
    keep(frame["metric"].map(usable).astype(bool), "metric without a law")
    keep(~(frame["flops"] == 0), "zero compute (step 0)")
    if frame.empty:
        raise StagewiseError("score matrix: no score is left; give a table with more tasks, or exclude fewer")
    chosen, names, points = run_rows(frame, tuple(by), points)
    if len(chosen) < len(frame):
        omissions.append(Omission("not a run's last checkpoint", "matrix", len(frame) - len(chosen)))
    values, keys, runs = cells(chosen, names, scale)
    values = _dense(values, min_runs, min_tasks, omissions)
    if values.shape[0] < min_runs or values.shape[1] < min_tasks:
        raise StagewiseError(
            f"score matrix: {values.shape[0]} run(s) by {values.shape[1]} task(s) are left, valid is "
            f"{min_runs} by {min_tasks} or more; give more scores or lower min_runs and min_tasks"
        )
    runs = runs.loc[values.index].reset_index(drop=True)
    found = tuple(keys[name] for name in values.columns)
    by = tuple(names)
    return ScoreMatrix(values.reset_index(drop=True), found, runs, by, points, scale, tuple(omissions))


def _dense(values: pd.DataFrame, min_runs: int, min_tasks: int, omissions: list[Omission]) -> pd.DataFrame:
    """Without tasks of too few runs and runs of too few tasks."""
    start = values
    while True:
        spread = values.std(ddof=0).fillna(0.0)
        tasks = (values.notna().sum() >= min_runs) & (spread > 1e-9)
        values = values.loc[:, tasks]
        runs = values.notna().sum(axis=1) >= min_tasks
        values = values[runs]
        if tasks.all() and runs.all():
            break
    for lost, why in (
        (start.shape[1] - values.shape[1], f"task with fewer than {min_runs} runs, or one score for all"),
        (start.shape[0] - values.shape[0], f"run with fewer than {min_tasks} tasks"),
    ):
        if lost:
            omissions.append(Omission(why, "matrix", lost))
    return values


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
