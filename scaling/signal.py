"""What a task says about recipes: spread over noise, and the criteria of FineTasks, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.metrics import metric_info
from scaling.noise import LAST, checkpoint_noise
from scaling.scores import Omission, ScoreTable
from scaling.series import with_runs
from scaling.tasks import TaskInfo, task_info

MIN_STEPS = 3  # checkpoints of a run below which its order in training says nothing
_NAMED = ("family", "variant", "model")
_KEY = ["task", "metric", "shots"]
_WHY = {
    "spread": "no two recipes of like compute and size",
    "noise": "no run with checkpoints enough",
    "snr": "spread or noise not measurable",
    "monotonicity": f"no run with {MIN_STEPS} steps and a score that moves",
    "non_randomness": "no known baseline",
    "finetasks_snr": "no repeats that differ in seed alone",
    "ordering_consistency": "no two recipes of one size scored at two common steps",
}


@dataclass(frozen=True)
class Signal:
    """The signal of every task of a table.

    Attributes:
        rows: one row per (task, metric, shots), see `recipe_signal`.
        omissions: which figure could not be measured, why, and for how many tasks.
    """

    rows: pd.DataFrame
    omissions: tuple[Omission, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per (task, metric, shots)."""
        return self.rows.copy()

    def _repr_html_(self) -> str:
        return self.rows.to_html(index=False)


def recipe_signal(
    table: ScoreTable,
    *,
    by: Sequence[str] = ("family", "variant"),
    like: float = 1.5,
    match: float | None = 2.0,
    last: int = LAST,
    after: float = 0.5,
    facts: Callable[[str], TaskInfo] = task_info,
) -> Signal:
    """How far each task tells recipes apart, in several senses.

    - `spread`: SD between recipes of like compute, in units of the score: final checkpoints whose compute
      lies within a factor `like` (and size within `match`), around the mean of such a group and a common
      slope in log compute; repeats are averaged first. `noise`: SD between the last checkpoints of a run
      (`scaling.noise.checkpoint_noise`). `snr` = spread / noise.
    - `monotonicity`: Spearman's correlation of step and score, +1 where it only improves, mean over runs.
    - `non_randomness`: the best score of all runs minus that of a guesser (0 where answers are free).
      Proportions alone have one.
    - `finetasks_snr`: mean final score of all runs over the SD between seeds at one step, averaged over
      steps. This is level over noise: it grows with the score itself and is **not comparable** with `snr`.
    - `ordering_consistency`: Kendall's tau-a of the recipes' order at two consecutive steps, averaged over
      steps after the share `after` of training. Recipes of one size; FineTasks begins at 15B of 30B tokens.

    The last four are the criteria of FineTasks, whose runs differ in data alone; its thresholds (monotonicity
    0.5, SNR 20) hold for such runs.

    Args:
        table: the scores. by: what makes a recipe, beside its source.
        like: factor of compute. match: factor of size; None does not ask.
        last: checkpoints of a run that its noise is read from. after: share of the steps left out, in [0, 1).
        facts: where chance comes from.

    Returns:
        Those columns and `n_runs`, `n_recipes`, `n_checkpoints`; NaN where a figure is not measurable, with
        the reason counted in `omissions`.

    Source: Kydlicek et al. 2024, "FineTasks", Hugging Face; SNR as spread over checkpoint noise: Heineman et
    al. 2025, arXiv 2508.13144.

    Example:
        >>> recipe_signal(table).to_frame().sort_values("snr")     # doctest: +SKIP
    """
    unknown = [name for name in by if name not in _NAMED]
    if unknown or not by:
        raise UsageError(f"by: got {tuple(by)}, valid are some of {', '.join(_NAMED)}")
    if not 0 <= after < 1:
        raise UsageError(f"after: got {after}, valid is at least 0 and below 1")
    for name, value in (("like", like), ("match", match)):
        if value is not None and not 1 <= value < np.inf:
            raise UsageError(f"{name}: got {value}, valid is a factor of at least 1")
    frame = with_runs(table.frame)
    fitted = {name: metric_info(name).fitted for name in frame["metric"].unique()}
    lost = int((~frame["metric"].map(fitted).astype(bool)).sum())
    frame = frame[frame["metric"].map(fitted).astype(bool)]
    if frame.empty:
        raise StagewiseError("no score of a metric with a direction; give accuracies, bits or losses")
    frame = frame.assign(shots=frame["shots"].fillna(-1).astype(int))
    frame["recipe"] = frame.groupby(["source", *by], dropna=False, sort=True).ngroup()
    frame["size"] = frame["params"].map(lambda value: float(f"{value:.3g}"))
    groups = frame.groupby(_KEY, sort=True)
    columns = {
        "spread": _spread(frame, like, match),
        "noise": _noise(table, last),
        "monotonicity": _monotonicity(frame),
        "non_randomness": _non_randomness(groups["score"].max(), facts),
        "finetasks_snr": _level_over_noise(frame),
        "ordering_consistency": _ordering(frame, after),
    }
    counts = pd.DataFrame(
        {
            "n_runs": groups["run"].nunique(),
            "n_recipes": groups["recipe"].nunique(),
            "n_checkpoints": groups.size(),
        }
    )
    rows = pd.DataFrame(columns, index=counts.index)
    noise = rows["noise"].where(rows["noise"] > 0)
    rows.insert(2, "snr", rows["spread"] / noise)
    rows = rows.join(counts).reset_index()
    rows["shots"] = rows["shots"].astype("Int64").where(rows["shots"] >= 0)
    omissions = [Omission(why, name, int(rows[name].isna().sum())) for name, why in _WHY.items()]
    omissions.append(Omission("metric without a direction or a law", "scores", lost))
    return Signal(rows, tuple(one for one in omissions if one.count))


def like_groups(value: Array, factor: float | None) -> np.ndarray:
    """A label for each value, so that those of one label lie within a factor of the smallest of them.

    NaN values share a label; so do all where `factor` is None.

    Example:
        >>> like_groups(np.array([4.0, 1.0, 1.4, 2.0]), 1.5).tolist()
        [2, 0, 0, 1]
    """
    label = np.zeros(len(value), dtype=int)
    if factor is None:
        return label
    start, current = -np.inf, -1
    for i in np.argsort(value, kind="stable"):
        if np.isnan(value[i]):
            label[i] = -1
            continue
        if value[i] > start * factor * (1 + 1e-9) or current < 0:
            start, current = value[i], current + 1
        label[i] = current
    return label


def _spread(frame: pd.DataFrame, like: float, match: float | None) -> pd.Series:
    """SD between recipes of like compute and size, pooled over the groups of each series."""
    final = frame[frame["final"] & (frame["flops"] > 0)]
    # The groups are of runs, so that every series compares the same ones.
    runs = final.drop_duplicates(["source", "run"])[["source", "run", "flops", "params"]]
    runs = runs.assign(compute=like_groups(runs["flops"].to_numpy(dtype=float), like))
    for _, at in runs.groupby(["source", "compute"]).indices.items():
        runs.loc[runs.index[at], "size_group"] = like_groups(runs["params"].to_numpy(dtype=float)[at], match)
    runs["group"] = runs.groupby(["source", "compute", "size_group"]).ngroup() if len(runs) else 0
    final = final.merge(runs[["run", "group"]], on="run")
    final = final.assign(x=np.log10(final["flops"].to_numpy(dtype=float)))
    mean = final.groupby([*_KEY, "group", "recipe"])[["x", "score"]].mean()
    inside = mean - mean.groupby([*_KEY, "group"]).transform("mean")
    parts = pd.DataFrame(
        {"xx": inside["x"] ** 2, "xy": inside["x"] * inside["score"], "yy": inside["score"] ** 2, "n": 1}
    )
    size = parts.groupby([*_KEY, "group"])["n"].sum()
    sums = parts.groupby(_KEY).sum()
    df = (size - 1).groupby(_KEY).sum()
    # Runs of one compute to the letter have no slope to remove.
    sloped = (sums["xx"] > 1e-6) & (df > 1)
    left = sums["yy"] - (sums["xy"] ** 2 / sums["xx"].where(sloped)).fillna(0.0)
    df = df - sloped
    return np.sqrt(left.clip(lower=0.0) / df.where(df > 0))


def _noise(table: ScoreTable, last: int) -> pd.Series:
    book = checkpoint_noise(table, last=last)
    index = pd.MultiIndex.from_tuples(
        [(key[0], key[1], -1 if pd.isna(key[2]) else int(key[2])) for key in book.index], names=_KEY
    )
    return pd.Series(np.sqrt(book["variance"].to_numpy(dtype=float)), index=index)


def _signs(metrics: pd.Index) -> Array:
    return np.array([-1.0 if metric_info(name).higher_is_better is False else 1.0 for name in metrics])


def _monotonicity(frame: pd.DataFrame) -> pd.Series:
    """Mean over runs of Spearman's correlation between step and score."""
    # A row without a step is the finished model: the last one.
    frame = frame.assign(at=frame["step"].astype("Float64").fillna(np.inf).to_numpy(dtype=float))
    groups = [*_KEY, "run"]
    ranks = frame.groupby(groups)[["at", "score"]].rank()
    dev = ranks - ranks.groupby([frame[name] for name in groups]).transform("mean")
    parts = pd.DataFrame(
        {"xx": dev["at"] ** 2, "xy": dev["at"] * dev["score"], "yy": dev["score"] ** 2, "n": 1}
    )
    sums = parts.groupby([frame[name] for name in groups]).sum()
    product = sums["xx"] * sums["yy"]
    rho = (sums["xy"] / np.sqrt(product.where(product > 0)))[sums["n"] >= MIN_STEPS]
    mean = rho.groupby(_KEY).mean()
    return mean * _signs(mean.index.get_level_values("metric"))


def _non_randomness(best: pd.Series, facts: Callable[[str], TaskInfo]) -> pd.Series:
    """Best score minus that of a guesser."""
    floor = []
    for task, metric, _ in best.index:
        info = facts(task)
        known = 0.0 if info.chance is None and info.format == "generation" else info.chance
        plain = metric_info(metric).family == "proportion"
        floor.append(np.nan if known is None or not plain else known)
    return best - np.array(floor, dtype=float)


def _level_over_noise(frame: pd.DataFrame) -> pd.Series:
    """Mean final score over the SD between seeds at one step, averaged over steps."""
    level = frame[frame["final"]].groupby(_KEY)["score"].mean()
    seeded = frame[frame["seed"].notna()].assign(compute=lambda rows: rows["flops"].round(-10))
    repeats = [*_KEY, "recipe", "size", "step", "compute"]
    by_seed = seeded.groupby([*repeats, "seed"], dropna=False)["score"].mean()
    sd = by_seed.groupby(level=repeats, dropna=False).std(ddof=1).dropna()
    average = sd.groupby(level=_KEY).mean()
    return level / average.where(average > 0)


def _ordering(frame: pd.DataFrame, after: float) -> pd.Series:
    """Kendall's tau-a between the orders of recipes at consecutive steps, averaged."""
    stepped = frame[frame["step"].notna()]
    mean = (
        stepped.groupby([*_KEY, "source", "size", "step", "recipe"], dropna=False)["score"]
        .mean()
        .reset_index()
    )
    found: dict[tuple, list[Array]] = {}
    step, recipe, score = (mean[name].to_numpy(dtype=float) for name in ("step", "recipe", "score"))
    for named, at in mean.groupby([*_KEY, "source", "size"], dropna=False).indices.items():
        steps, row = np.unique(step[at], return_inverse=True)
        recipes, column = np.unique(recipe[at], return_inverse=True)
        y = np.full((len(steps), len(recipes)), np.nan)
        y[row, column] = score[at]
        shared = (~np.isnan(y)).sum(axis=1) >= 2
        if shared.sum() < 2:
            continue
        # Training ends, for an order, with the last step that two recipes reached.
        y = y[shared & (steps >= after * steps[shared].max())]
        first, second = np.triu_indices(len(recipes), 1)
        order = np.sign(y[:, first] - y[:, second])
        product = order[1:] * order[:-1]
        known = ~np.isnan(product)
        counted = known.any(axis=1)
        if counted.any():
            tau = np.where(known, product, 0.0).sum(axis=1)[counted] / known.sum(axis=1)[counted]
            found.setdefault(named[:3], []).append(tau)  # pyright: ignore[reportIndexIssue]
    index = pd.MultiIndex.from_frame(pd.DataFrame(list(found), columns=_KEY))
    return pd.Series([float(np.concatenate(one).mean()) for one in found.values()], index=index, dtype=float)
