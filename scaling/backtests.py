"""How far off would the forecasts have been? Fit below a cut, predict the runs above it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from scaling.baselines import BASELINES
from scaling.blend import blend, split_runs
from scaling.errors import StagewiseError, UsageError
from scaling.forecasts import pieces_of
from scaling.panel import Panel, panels_of
from scaling.parallel import parallel_map
from scaling.scores import Omission, ScoreTable
from scaling.series import MIN_POINTS, with_runs
from scaling.tasks import TaskInfo, task_info

OURS = "forecast"
By = Literal["family", "variant", "source"]


@dataclass(frozen=True)
class Backtest:
    """Forecasts of runs that are already known.

    Attributes:
        rows: one per group, task, metric, shots (-1 where unknown), target run and method: model, flops,
            beyond (times the largest compute learned from), predicted, observed, error (points where the
            metric is a proportion, else units of the metric), relative (error over the observed score), and
            for `forecast` low, high.
        cut: what was learned from, in words. omissions: what was left out.
    """

    rows: pd.DataFrame = field(repr=False)
    cut: str
    omissions: tuple[Omission, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """All rows."""
        return self.rows

    def by_task(self) -> pd.DataFrame:
        """Mean absolute error per task (over groups and target runs), one column per method."""
        names = ["task", "metric", "shots"]
        table = self.rows.pivot_table(index=names, columns="method", values="error")
        first = [name for name in (OURS, *BASELINES) if name in table]
        return table[first + [name for name in table if name not in first]].reset_index()

    def summary(self, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
        """One row per metric family and method: mean, median, largest error, and what the forecast gains.

        `relative` is the mean error over the observed score.

        `gain` is the mean error of the method less that of the forecast on the same targets, with its 95%
        interval from resampling tasks; `failed` counts targets a method gave no number for (they count in
        no mean). `covered` is the share of identified intervals that hold the observed score.
        """
        wide = self._wide()
        rng = np.random.default_rng(seed)
        out = []
        for family, part in wide.groupby("family", sort=True):
            tasks, index = np.unique(part["task"].to_numpy(dtype=str), return_inverse=True)
            draws = rng.multinomial(len(tasks), np.full(len(tasks), 1 / len(tasks)), size=resamples)
            for name in [OURS, *(c for c in self.rows["method"].unique() if c != OURS)]:
                error = part[name].to_numpy(dtype=float)
                known = np.isfinite(error)
                row = {"family": family, "method": name, "targets": int(known.sum())}
                row["failed"] = int((~known).sum())
                if not known.any():
                    # A baseline that failed is told; a method that does not apply to the metric is not.
                    out += [row] if name in BASELINES else []
                    continue
                observed = np.abs(part["observed"].to_numpy(dtype=float))
                points = 100.0 if family == "proportion" else 1.0
                share = (error / points)[known & (observed > 0)] / observed[known & (observed > 0)]
                row |= {
                    "mean": error[known].mean(), "median": float(np.median(error[known])),
                    "largest": error[known].max(), "relative": share.mean() if len(share) else np.nan,
                }  # fmt: skip
                if name == OURS:
                    low, high = part["low"].to_numpy(dtype=float), part["high"].to_numpy(dtype=float)
                    told = np.isfinite(low)
                    inside = (low <= part["observed"]) & (part["observed"] <= high)
                    row["identified"] = told.mean()
                    row["covered"] = inside[told].mean() if told.any() else np.nan
                else:
                    gain = (error - part[OURS].to_numpy(dtype=float))[known]
                    weight = draws[:, index[known]]
                    total = weight.sum(axis=1)
                    means = (weight @ gain)[total > 0] / total[total > 0]
                    row["gain"] = gain.mean()
                    row["gain_low"], row["gain_high"] = np.quantile(means, [0.025, 0.975])
                out.append(row)
        return pd.DataFrame(out)

    def _wide(self) -> pd.DataFrame:
        names = ["family", "group", "task", "metric", "shots", "run"]
        wide = self.rows.set_index([*names, "method"])["error"].unstack("method").reset_index()
        ours = self.rows[self.rows["method"] == OURS][[*names, "observed", "low", "high"]]
        return wide.merge(ours, on=names)

    def plot(self, ax=None):
        """Observed against forecast scores with their intervals; see `scaling.plot`."""
        from scaling.plot import plot_backtest

        return plot_backtest(self, ax=ax)

    def _repr_html_(self) -> str:
        return f"<p>{self.cut}</p>" + self.summary().to_html(index=False)


def backtest(
    table: ScoreTable,
    *,
    cut_flops: float | None = None,
    cut_params: float | None = None,
    target_params: tuple[float, float] | None = None,
    by: By | None = None,
    level: float = 0.95,
    jobs: int | None = None,
    facts: Callable[[str], TaskInfo] = task_info,
    progress: Callable[[int, int], None] | None = None,
) -> Backtest:
    """Forecast the finished runs above a cut from the runs below it, by our method and by plain ones.

    A run lies below the cut with all its checkpoints: its last one has at most `cut_flops` FLOPs, or its
    model at most `cut_params` parameters. Baselines: the last value carried forward, a straight line in
    log compute, an isotonic fit, and scipy's curve_fit of the sigmoid from a heuristic start.

    Args:
        table: the scores.
        cut_flops, cut_params: exactly one of them.
        target_params: only runs above the cut whose models are this large, ends included.
        by: forecast each family, variant or source from its own runs alone; all runs are pooled otherwise.
        level: of the intervals. jobs, progress: see `scaling.parallel.parallel_map`.
        facts: where chance and ceiling come from.

    Raises:
        UsageError: no cut or two, a value outside its range.
        StagewiseError: no runs below or above the cut.

    Example:
        >>> backtest(table, cut_params=1.5e9).summary()      # doctest: +SKIP
    """
    if (cut_flops is None) == (cut_params is None):
        raise UsageError("cut: give cut_flops (--cut) or cut_params (--cut-params), one of them")
    value = cut_flops if cut_flops is not None else cut_params
    if not (value is not None and 0 < value < np.inf):
        raise UsageError(f"cut: got {value}, valid is a positive number")
    if by is not None and by not in ("family", "variant", "source"):
        raise UsageError(f"by: got {by!r}, valid are family, variant, source")
    column = "flops" if cut_flops is not None else "params"
    what = f"{value:.3g} {'FLOPs' if cut_flops is not None else 'parameters'}"
    if not 0 < level < 1:
        raise UsageError(f"level: got {level}, valid is between 0 and 1")
    if target_params is not None and not 0 < target_params[0] <= target_params[1]:
        raise UsageError(f"target_params: got {target_params}, valid is (smallest, largest), both positive")
    whole = table.frame
    # A run of unknown size lies on neither side.
    placed = (whole["flops"] > 0) & (whole[column] > 0)
    omissions: list[Omission] = []
    if not placed.all():
        unknown = "no known compute" if column == "flops" else "no known compute or parameters"
        omissions.append(Omission(unknown, "back-test", int((~placed).sum())))
    frame = whole[placed]
    below = _below(frame, column, value)
    above = with_runs(frame)["final"].to_numpy(dtype=bool) & ~below
    if target_params is not None:
        above &= frame["params"].between(*target_params).to_numpy(dtype=bool)
    runs = with_runs(frame)["run"]
    low, high = runs[below].nunique(), runs[above].nunique()
    if not low or not high:
        raise StagewiseError(
            f"back-test: {low} run(s) up to {what}, {high} above it; choose a cut with runs on both sides"
        )
    kept = ScoreTable(frame[below | above].reset_index(drop=True), table.omissions)
    groups = {"all": kept}
    if by is not None:
        names = kept.frame[by].fillna("")
        groups = {str(name): kept.where(names == name, f"another {by}") for name in sorted(names.unique())}
    work: list[tuple[str, Panel, np.ndarray]] = []
    models: dict[tuple[str, int], str] = {}
    for name, part in groups.items():
        runs = with_runs(part.frame)
        models |= {(name, run): model for run, model in zip(runs["run"], runs["model"], strict=True)}
        learned = runs["run"][_below(part.frame, column, value)].unique()
        panels, left_out = panels_of(part, facts=facts, learned=learned)
        omissions += left_out
        for piece in pieces_of(panels):
            mask = np.isin(piece.run, learned)
            if (
                len(np.unique(piece.run[mask])) >= 2
                and mask.sum() >= MIN_POINTS
                and (~mask & piece.final).any()
            ):
                work.append((name, piece, mask))
            else:
                reason = "too few runs on one side of the cut"
                omissions.append(Omission(reason, f"back-test of {name}", len(piece.keys)))
    if not work:
        raise StagewiseError(f"back-test: no task has runs on both sides of {what}; choose another cut")
    found = parallel_map(partial(_tested, level=level), work, jobs=jobs, progress=progress)
    rows = pd.concat(found, ignore_index=True)
    named = [models[at] for at in zip(rows["group"], rows["run"], strict=True)]
    rows.insert(list(rows.columns).index("run"), "model", named)
    cut = f"learned from {low} run(s) up to {what}, {high} above it"
    return Backtest(rows, cut, (*table.omissions, *omissions))


def _below(frame: pd.DataFrame, column: str, value: float) -> np.ndarray:
    """Whether each row's run lies below the cut with all its checkpoints."""
    runs = with_runs(frame)
    return (runs.groupby("run")[column].transform("max") <= value).to_numpy(dtype=bool)


def _tested(work: tuple[str, Panel, np.ndarray], *, level: float) -> pd.DataFrame:
    group, panel, below = work
    train, held = split_runs(panel, below)
    made = blend(train, held.x, held.ratio, level=level)
    predicted = {OURS: made.value}
    predicted |= {name: baseline(train, held.x) for name, baseline in BASELINES.items()}
    predicted |= {f"method: {name}": made.members[:, i] for i, name in enumerate(made.methods)}
    points = 100.0 if panel.family == "proportion" else 1.0
    rows = []
    tasks, targets = held.y.shape
    at = {
        "group": group,
        "family": panel.family,
        "task": np.repeat([key.task for key in panel.keys], targets),
        "metric": np.repeat([key.metric for key in panel.keys], targets),
        "shots": np.repeat([-1 if key.shots is None else key.shots for key in panel.keys], targets),
        "run": np.tile(held.run, tasks),
        "flops": np.tile(10.0**held.x, tasks),
        "beyond": np.tile(10.0 ** (held.x - train.x.max()), tasks),
        "observed": held.y.ravel(),
    }
    for name, values in predicted.items():
        error = np.abs(values - held.y)
        ends = {"low": made.low.ravel(), "high": made.high.ravel()} if name == OURS else {}
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(held.y != 0, error / np.abs(held.y), np.nan)
        rows.append(
            pd.DataFrame(
                at
                | {"method": name, "predicted": values.ravel(), "error": points * error.ravel(),
                   "relative": relative.ravel()}
                | ends
            )
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True)
