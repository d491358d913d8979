"""Does a decision probability of 0.9 order nine real pairs of runs in ten?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.box import Box
from scaling.curves import Curve
from scaling.errors import StagewiseError, UsageError
from scaling.fit import fit_batch
from scaling.windows import decision_probability, noise_at

BANDS = (0.0, 0.5, 0.65, 0.8, 0.95, 1.0)


@dataclass(frozen=True)
class Calibration:
    """How often real pairs of runs were ordered as their decision probability says.

    Attributes:
        pairs: one row per pair and task: task, metric, shots, run_low, run_high (the one with more
            compute), ratio (of compute), probability, won (1; 0.5 for a tie; 0).
        bands: per band of probability: pairs, mean probability, share ordered right and its 95%
            interval from resampling runs and tasks together.
    """

    pairs: pd.DataFrame = field(repr=False)
    bands: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """The table by band."""
        return self.bands

    def _repr_html_(self) -> str:
        return self.bands.to_html(index=False)


def calibrate(
    curves: Iterable[Curve],
    *,
    ratio: tuple[float, float] = (1.5, 2.8),
    match: float | None = 4.0,
    bands: tuple[float, ...] = BANDS,
    resamples: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Check decision probabilities on pairs of finished runs about a factor two apart in compute.

    For every pair of runs of one family the curve is fitted again without either of them, so that no
    score helps to predict its own order.

    Args:
        curves: fitted curves of one table (runs are numbered per table).
        ratio: which ratios of compute make a pair.
        match: the two runs' tokens per parameter differ by at most this factor (None: by any), since
            noise is measured with the effect of that ratio removed. Unknown ratios count as alike.
        bands: edges of the bands of probability.
        resamples, seed: of the intervals.

    Raises:
        StagewiseError: there is no such pair.
        UsageError: a ratio that is no increasing pair above 1.

    Example:
        >>> calibrate(fit_curves(table)).to_frame()      # doctest: +SKIP
    """
    if not 1 < ratio[0] < ratio[1]:
        raise UsageError(f"ratio: got {ratio}, valid is (LOW, HIGH) with 1 < LOW < HIGH")
    frames = [frame for curve in curves if (frame := _pairs(curve, ratio, match)) is not None]
    if not frames:
        raise StagewiseError(
            f"calibration: no two finished runs of one family are {ratio[0]:g} to {ratio[1]:g} times apart "
            "in compute; give more runs or a wider ratio"
        )
    pairs = pd.concat(frames, ignore_index=True)
    return Calibration(pairs, _banded(pairs, bands, resamples, seed))


def _pairs(curve: Curve, ratio: tuple[float, float], match: float | None) -> pd.DataFrame | None:
    series = curve.series
    where = np.flatnonzero(series.final)
    first, second = (where[index] for index in np.triu_indices(len(where), 1))
    step = series.x[second] - series.x[first]  # x ascends, so it is not negative
    alike = (series.family[first] == series.family[second]) & (series.run[first] != series.run[second])
    chosen = alike & (step >= np.log10(ratio[0])) & (step <= np.log10(ratio[1]))
    if match is not None:
        chosen &= ~(np.abs(series.log_ratio[first] - series.log_ratio[second]) > np.log10(match))
    first, second = first[chosen], second[chosen]
    if not len(first) or len(where) < 8 or not np.isfinite(curve.noise.total):
        return None
    # One fit per pair: a weight of zero leaves every point of both runs out.
    out = (series.run == series.run[first][:, None]) | (series.run == series.run[second][:, None])
    weights = np.where(out, 0.0, curve.weights)
    low, high = (np.tile(edge, (len(first), 1)) for edge in curve.bounds)
    fit = fit_batch(curve.fit.shape, series.x, series.y[None], weights, Box(low, high))
    rows = np.arange(len(first))
    values = fit.predict(series.x)
    here, there = values[rows, first], values[rows, second]
    doubt = np.zeros(len(first))
    if curve.identified:
        every = curve.values(series.x)
        doubt = curve.jackknife_se(every[:, second] - every[:, first])
    probability = decision_probability(
        series.sign * (there - here), noise_at(curve, (here + there) / 2), doubt
    )
    observed = series.sign * (series.y[second] - series.y[first])
    return pd.DataFrame(
        {
            "task": series.key.task, "metric": series.key.metric, "shots": series.key.shots,
            "run_low": series.run[first], "run_high": series.run[second],
            "ratio": 10.0 ** (series.x[second] - series.x[first]),
            "probability": probability, "won": np.where(observed > 0, 1.0, np.where(observed == 0, 0.5, 0.0)),
        }
    )  # fmt: skip


def _banded(pairs: pd.DataFrame, edges: tuple[float, ...], resamples: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    runs, run_index = np.unique(pairs[["run_low", "run_high"]].to_numpy(), return_inverse=True)
    run_index = run_index.reshape(-1, 2)
    task_index = pairs.groupby(["task", "metric", "shots"], dropna=False).ngroup().to_numpy()
    draws_run = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=resamples)
    tasks = task_index.max() + 1
    draws_task = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples)
    band = np.digitize(pairs["probability"], edges[1:-1])
    inside = (pairs["probability"] >= edges[0]).to_numpy()
    won = pairs["won"].to_numpy()
    rows = []
    for b in range(len(edges) - 1):
        use = np.flatnonzero((band == b) & inside)
        row = {"from": edges[b], "to": edges[b + 1], "pairs": len(use)}
        if len(use):
            weights = (
                draws_run[:, run_index[use, 0]]
                * draws_run[:, run_index[use, 1]]
                * draws_task[:, task_index[use]]
            ).astype(float)
            total = weights.sum(axis=1)
            shares = (weights @ won[use])[total > 0] / total[total > 0]
            low, high = np.quantile(shares, [0.025, 0.975]) if len(shares) else (np.nan, np.nan)
            row |= {
                "mean_probability": float(pairs["probability"].iloc[use].mean()),
                "ordered_right": float(won[use].mean()), "low": float(low), "high": float(high),
            }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)
