"""How much a score moves when nothing was learned: between checkpoints, between repeats, between items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scaling.laws import Array
from scaling.metrics import metric_info
from scaling.scores import ScoreTable
from scaling.series import Key, Series, with_runs

LAST = 10  # checkpoints at the end of a run that its noise is read from
MIN_CHECKPOINTS = 5
MIN_REPEATS = 2  # degrees of freedom below which repeats say nothing
Kind = Literal[
    "checkpoint and repeats", "checkpoint and residual", "residual", "checkpoint", "repeats", "none"
]


@dataclass(frozen=True)
class Noise:
    """Noise of one series, as standard deviations.

    Every figure is a multiple of the metric's own scale at the level in question (see `scale_of`): the
    score itself for bits and losses, the binomial spread sqrt(p (1 - p)) for proportions, since noise
    shrinks where a score nears its floor.

    Attributes:
        checkpoint: of the last checkpoints of a run around their local trend, averaged as variance over runs.
        repeats: of final scores between repeats of one recipe (holds checkpoint noise too).
        residual: spread of finished runs around the curve; family, data variant and log(D/N) removed.
        sampling: of one score over draws of the items.
        total: of one run's score when compared with another run on the same items: item noise is
            common to both and left out.
        df: degrees of freedom behind `total`.
        kind: which parts `total` is made of.
        upper_bound: `total` leans on `residual`, which also holds what the curve misses.
    """

    checkpoint: float
    repeats: float
    residual: float
    sampling: float
    total: float
    df: float
    kind: Kind
    upper_bound: bool


def scale_of(family: str, level: ArrayLike) -> Array:
    """The size that noise is stated in at a score level.

    |y| for bits and losses; sqrt(max(p (1 - p), 0.0099)) for proportions, so that a constant noise
    is a constant intra-class correlation (beta-binomial).

    Args:
        family: of the metric. level: scores, any shape.
    """
    level = np.asarray(level, dtype=float)
    if family == "proportion":
        return np.sqrt(np.maximum(level * (1.0 - level), 0.0099))
    return np.maximum(np.abs(level), 1e-12)


def checkpoint_noise(table: ScoreTable, *, last: int = LAST) -> pd.DataFrame:
    """Noise between the last checkpoints of each run, detrended run by run.

    For each run: residual variance of its last `last` checkpoints around a straight line in log10
    compute, divided by (n - 2) for the line's two parameters; then the mean over runs weighted by
    those degrees of freedom. Runs with fewer than `MIN_CHECKPOINTS` checkpoints are left out.

    Args:
        table: the scores. last: how many checkpoints count as the end of a run.

    Returns:
        A frame indexed by task, metric, shots with the columns `variance` (in units of the score),
        `scaled` (in units of `scale_of` at the run's mean), `df`, `runs`.

    Example:
        >>> checkpoint_noise(table, last=8)      # doctest: +SKIP
    """
    return _checkpoint_noise(with_runs(table.frame), last)


def _checkpoint_noise(frame: pd.DataFrame, last: int) -> pd.DataFrame:
    names = ["task", "metric", "shots"]
    frame = frame[(frame["flops"] > 0).fillna(False)]
    frame = frame.assign(shots=frame["shots"].astype("Int64").fillna(-1))
    frame = frame.sort_values([*names, "run", "flops"], kind="stable")
    groups = [*names, "run"]
    frame = frame.groupby(groups, observed=True).tail(last)
    x = pd.Series(np.log10(frame["flops"].to_numpy()), index=frame.index)
    by = [frame[name] for name in groups]
    dx = x - x.groupby(by).transform("mean")
    mean = frame["score"].groupby(by).transform("mean")
    dy = frame["score"] - mean
    parts = pd.DataFrame({"xx": dx * dx, "xy": dx * dy, "yy": dy * dy, "n": 1, "mean": mean})
    sums = parts.groupby(by).sum()
    count = sums["n"]
    sums["mean"] /= count
    spread = sums["xx"].where(sums["xx"] > 0)
    left = (sums["yy"] - (sums["xy"] ** 2 / spread).fillna(0.0)).clip(lower=0.0)
    sums["left"], sums["df"] = left, count - 2
    return _averaged(sums[count >= MIN_CHECKPOINTS], "runs")


def _averaged(sums: pd.DataFrame, counted: str) -> pd.DataFrame:
    """Mean variance per series from sums of squares `left`, weighted by their degrees of freedom."""
    names = ["task", "metric", "shots"]
    proportion = sums.index.get_level_values("metric").map(
        lambda name: metric_info(name).family == "proportion"
    )
    level = sums["mean"].to_numpy(dtype=float)
    scale = np.where(
        np.asarray(proportion, dtype=bool), scale_of("proportion", level), scale_of("bits", level)
    )
    sums = sums.assign(scaled=sums["left"] / scale**2)
    out = sums.groupby(level=names)[["left", "scaled", "df"]].sum()
    out[counted] = sums.groupby(level=names).size()
    out["variance"] = out["left"] / out["df"]
    out["scaled"] /= out["df"]
    out.index = pd.MultiIndex.from_tuples([_key(index) for index in out.index], names=names)
    return out[["variance", "scaled", "df", counted]]


def repeat_noise(table: ScoreTable) -> pd.DataFrame:
    """Noise between repeats: final scores of runs alike in all but the seed.

    Repeats share source, family, params, tokens, flops and variant and differ in seed.

    Returns:
        A frame like that of `checkpoint_noise`, with `groups` (of repeats) for `runs`.
    """
    return _repeat_noise(with_runs(table.frame))


def _repeat_noise(frame: pd.DataFrame) -> pd.DataFrame:
    names = ["task", "metric", "shots"]
    # Compute stands for the recipe where size and data are not told.
    recipe = ["source", "family", "params", "tokens", "flops", "variant"]
    frame = frame[frame["final"] & frame["seed"].notna() & frame["flops"].notna()]
    frame = frame.assign(shots=frame["shots"].astype("Int64").fillna(-1))
    score = frame.groupby([*names, *recipe], dropna=False, observed=True)["score"]
    sums = pd.DataFrame({"var": score.var(ddof=1), "df": score.count() - 1, "mean": score.mean()})
    sums = sums[sums["df"] > 0]
    sums["left"] = sums["var"] * sums["df"]
    return _averaged(sums, "groups")


def _key(index: tuple) -> Key:
    task, metric, shots = index
    return Key.of(task, metric, None if shots < 0 else shots)


def _by_key(noise: pd.DataFrame) -> dict[Key, tuple[float, float]]:
    """Variance, as a multiple of the scale, and degrees of freedom of each series."""
    rows = zip(noise.index, noise["scaled"].tolist(), noise["df"].tolist(), strict=True)
    return {Key.of(*index): (scaled, df) for index, scaled, df in rows}


class NoiseBook:
    """Checkpoint and repeat noise of every series of a table, measured once."""

    def __init__(self, table: ScoreTable, *, last: int = LAST) -> None:
        frame = with_runs(table.frame)
        self._checkpoint = _by_key(_checkpoint_noise(frame, last))
        self._repeats = _by_key(_repeat_noise(frame))

    def of(self, series: Series, fitted: Array, parameters: int) -> Noise:
        """The noise of one series.

        Args:
            series: its points. fitted: curve values at them, [n].
            parameters: how many parameters the curve spent.
        """
        scale = scale_of(series.metric.family, fitted)
        checkpoint, checkpoint_df = self._checkpoint.get(series.key, (np.nan, 0.0))
        repeats, repeats_df = self._repeats.get(series.key, (np.nan, 0.0))
        if repeats_df < MIN_REPEATS:
            repeats = np.nan
        residual, residual_df = _residual(series, (series.y - fitted) / scale, parameters)
        sampling = np.nan
        if series.metric.family == "proportion" and np.isfinite(series.n_items).any():
            sampling = 1.0 / np.sqrt(np.nanmedian(series.n_items))
        # Repeats and finished runs both hold checkpoint noise, so the larger of two is taken, not the sum.
        if np.isfinite(repeats):
            total, df, kind, bound = np.fmax(checkpoint, repeats), repeats_df, "repeats", False
            if np.isfinite(checkpoint):
                df = repeats_df if repeats >= checkpoint else checkpoint_df
                kind = "checkpoint and repeats"
        elif np.isfinite(residual):
            total, df, kind, bound = np.fmax(checkpoint, residual), residual_df, "residual", True
            if np.isfinite(checkpoint):
                kind, bound = "checkpoint and residual", bool(residual > checkpoint)
                df = residual_df if bound else checkpoint_df
        elif np.isfinite(checkpoint):
            total, df, kind, bound = checkpoint, checkpoint_df, "checkpoint", False
        else:
            total, df, kind, bound = np.nan, 0.0, "none", True
        root = [float(np.sqrt(v)) for v in (checkpoint, repeats, residual)]
        return Noise(*root, float(sampling), float(np.sqrt(total)), float(df), kind, bound)  # pyright: ignore


def _residual(series: Series, residual: Array, parameters: int) -> tuple[float, float]:
    """Variance of final points around the curve after family, data variant and log(D/N), and its df."""
    use = series.final if series.final.sum() >= MIN_CHECKPOINTS else np.zeros_like(series.final)
    if not use.any():
        return np.nan, 0.0
    left = residual[use]
    columns = [np.ones(len(left))]
    ratio = series.log_ratio[use]
    if np.isfinite(ratio).all() and np.ptp(ratio) > 0.1:
        columns.append(ratio - ratio.mean())
    for labels in (series.family[use], series.variant[use]):
        names, index = np.unique(labels, return_inverse=True)
        if 1 < len(names) <= len(left) // 6:
            columns += [(index == i).astype(float) for i in range(1, len(names))]
    design = np.column_stack(columns)
    left = left - design @ np.linalg.lstsq(design, left, rcond=None)[0]
    # The curve spent its parameters; the design's constant is among them.
    df = len(left) - max(parameters, 1) - (np.linalg.matrix_rank(design) - 1)
    return (float((left**2).sum() / df), float(df)) if df >= 2 else (np.nan, 0.0)
