"""Score-versus-compute curves for every series of a table, with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats

from scaling.box import Box
from scaling.errors import StagewiseError, UsageError
from scaling.fit import BatchFit, fit_batch
from scaling.laws import Array, BrokenPower, Sigmoid
from scaling.noise import Noise, NoiseBook
from scaling.plan import plan_losses, plan_proportions
from scaling.scores import Omission, ScoreTable
from scaling.series import Key, Points, Series, grouped, series_of
from scaling.tasks import TaskInfo, task_info
from scaling.trend import MIN_CLUSTERS, Trend, adjust, any_trend

BLOCK = 6_000_000  # numbers of one [rows, points] weight block: about 48 MB


@dataclass(frozen=True)
class Curve:
    """One fitted curve.

    Attributes:
        series: the points.
        fit: rows in this order: the estimate; one per cluster left out; one per bootstrap draw.
        draws: cluster multiplicities behind each row of `fit`, [rows, clusters].
        weights: of the points in the estimate, [n].
        tau: spread beyond sampling error, as a standard deviation in units of `scaling.noise.scale_of`.
        trend: slope test; `trend_q` its Benjamini-Hochberg adjusted p-value over the table.
        noise: what a score moves when nothing was learned.
        bounds: lowest and highest value of each linear coefficient, as `scaling.box.Box` states them.
        free_floor: the lower end was fitted although chance is known, since the scores contradict it.
        bic: of each law tried, the constant included; lower is better.
    """

    series: Series
    fit: BatchFit
    draws: Array = field(repr=False)
    weights: Array = field(repr=False)
    tau: float
    trend: Trend
    trend_q: float
    noise: Noise
    bounds: tuple[tuple[float, float], tuple[float, float]]
    free_floor: bool
    bic: dict[str, float]

    @property
    def key(self) -> Key:
        return self.series.key

    @property
    def law(self) -> str:
        return self.fit.shape.name

    @property
    def identified(self) -> bool:
        """Whether there are clusters enough for intervals at all."""
        return self.series.n_clusters >= MIN_CLUSTERS

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest measured log10 FLOPs."""
        return float(self.series.x[0]), float(self.series.x[-1])

    def values(self, x: Array) -> Array:
        """All rows of the fit at x (log10 FLOPs), [rows, n]."""
        return self.fit.predict(x)

    def predict(self, flops) -> Array:
        """The estimated curve at training FLOPs."""
        return self.fit.rows(slice(0, 1)).predict(np.log10(np.atleast_1d(flops)))[0]

    def jackknife_se(self, estimates: Array) -> Array:
        """Leave-one-cluster-out standard error (CV3) of statistics computed row by row.

        Args:
            estimates: [rows, ...], the statistic for each row of `fit`.
        """
        count = self.series.n_clusters
        around = estimates[1 : 1 + count] - estimates[0]
        return np.sqrt((count - 1) / count * (around**2).sum(axis=0))

    def interval(self, flops, level: float = 0.95) -> tuple[Array, Array]:
        """Cluster-t interval of the curve: estimate -+ t * jackknife SE over the G clusters.

        The degrees of freedom lie midway between G - 1 and the Satterthwaite figure under pure run
        effects: few runs carry a curve at the end of its range, yet the jackknife errs on the wide side.
        NaN ("not identified") below `MIN_CLUSTERS` clusters. Clipped to the metric's range.

        Source:
            MacKinnon, Nielsen and Webb 2023 (CV3 with few clusters).
        """
        x = np.log10(np.atleast_1d(np.asarray(flops, dtype=float)))
        rows = self.values(x)
        if not self.identified:
            empty = np.full(len(x), np.nan)
            return empty, empty.copy()
        df = (self.series.n_clusters - 1 + self._carried_by(x)) / 2
        half = stats.t.ppf(0.5 + level / 2, df) * self.jackknife_se(rows)
        low, high = self.series.metric.low, self.series.metric.high
        return np.clip(rows[0] - half, low, high), np.clip(rows[0] + half, low, high)

    def _carried_by(self, x: Array) -> Array:
        """Effective number of clusters behind the curve at x: (sum h^2)^2 / sum h^4, h their influences."""
        estimate = self.fit.rows(slice(0, 1))
        jacobian = estimate.jacobian(self.series.x)[0]
        bread = np.linalg.pinv((jacobian * self.weights) @ jacobian.T, rcond=1e-10, hermitian=True)
        influence = (estimate.jacobian(x)[0].T @ bread @ jacobian) * self.weights
        members = self.series.cluster[:, None] == np.unique(self.series.cluster)
        square = (influence @ members.astype(float)) ** 2
        total = (square**2).sum(axis=1)
        return np.where(total > 0, square.sum(axis=1) ** 2 / np.where(total > 0, total, 1.0), 1.0)

    def parameters(self, level: float = 0.95) -> pd.DataFrame:
        """Value, interval and status of each parameter.

        A parameter the data do not pin down is named "not identified" and has no interval: the upper
        end of a curve nobody has reached, a midpoint outside the data, a steepness at its cap.
        """
        rows = self.fit.parameters
        names = self.fit.shape.parameters
        half = stats.t.ppf(0.5 + level / 2, max(self.series.n_clusters - 1, 1)) * self.jackknife_se(rows)
        known = [self.identified and share >= 0.95 for share in self._support()]
        frame = pd.DataFrame({"parameter": names, "value": rows[0]})
        frame["low"] = np.where(known, rows[0] - half, np.nan)
        frame["high"] = np.where(known, rows[0] + half, np.nan)
        frame["status"] = np.where(known, "identified", "not identified")
        return frame.set_index("parameter")

    def _support(self) -> list[float]:
        """For each parameter the share of rows in which the data reach what it describes."""
        rows = self.fit.parameters
        low, high = self.span
        first = rows[:, 0]
        if isinstance(self.fit.shape, Sigmoid):
            m, k = rows[:, 0], rows[:, 1]
            ninety = m + np.log(9.0) / k  # 90% of the way up
            ten = m - np.log(9.0) / k
            reached = (ninety <= high) & self.fit.free[:, 1]
            floor_known = self.fit.free[:, 0] & (ten >= low)
            fixed = not self.free_floor and not self.fit.free[:, 0].any()
            inside = (m >= low) & (m <= high)
            return [
                float(np.mean(inside)),
                float(np.mean(inside & (k < 0.999 * self.fit.shape.max_steepness))),
                1.0 if fixed else float(np.mean(floor_known)),
                float(np.mean(reached)),
            ]
        exponent = rows[:, -3]
        # The asymptote counts as seen when nine tenths of the fall lie inside the data.
        fallen = 1.0 - 10.0 ** (-exponent * (high - low))
        seen = float(np.mean((fallen >= 0.9) & self.fit.free[:, 0]))
        amplitude = float(np.mean(np.abs(rows[:, -1]) > 0))
        if isinstance(self.fit.shape, BrokenPower):
            inside = (first > low + 0.05) & (first < high - 0.05)
            return [float(np.mean(inside)), amplitude, seen, amplitude]
        return [amplitude, seen, amplitude]

    def plot(self, ax=None, **options):
        """Draw points, curve and band; see `scaling.plot.plot_curve`."""
        from scaling.plot import plot_curve

        return plot_curve(self, ax=ax, **options)


@dataclass(frozen=True)
class CurveSet:
    """The curves of a table.

    Attributes:
        curves: in order of (task, metric, shots).
        omissions: rows and series that were not fitted, and why.
        replicates: bootstrap draws per curve.
    """

    curves: tuple[Curve, ...]
    omissions: tuple[Omission, ...]
    replicates: int

    def __len__(self) -> int:
        return len(self.curves)

    def __iter__(self) -> Iterator[Curve]:
        return iter(self.curves)

    def __getitem__(self, task: str | tuple) -> Curve:
        """The curve of a task (or of a (task, metric, shots) where a task has several)."""
        wanted = (task,) if isinstance(task, str) else tuple(task)
        found = [curve for curve in self.curves if tuple(curve.key)[: len(wanted)] == wanted]
        if len(found) == 1:
            return found[0]
        if not found:
            names = ", ".join(sorted({curve.key.task for curve in self.curves})[:12])
            raise KeyError(f"no curve for {task!r}; there are curves for {names} ...")
        raise KeyError(f"{task!r} has {len(found)} curves: {', '.join(str(c.key) for c in found)}")

    def to_frame(self) -> pd.DataFrame:
        """One row per curve: law, parameters with their status, trend, noise."""
        rows = []
        for curve in self.curves:
            row = {
                **curve.key._asdict(),
                "law": curve.law,
                "points": curve.series.points,
                "n_points": len(curve.series.x),
                "n_clusters": curve.series.n_clusters,
                "slope": curve.trend.slope,
                "trend_p": curve.trend.p,
                "trend_q": curve.trend_q,
                "tau": curve.tau,
                "noise": curve.noise.total,
            }
            for name, item in curve.parameters().iterrows():
                row[str(name)] = item["value"]
                row[f"{name}_status"] = item["status"]
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def fit_curves(
    table: ScoreTable,
    *,
    points: Points = "auto",
    replicates: int = 200,
    seed: int = 0,
    last: int = 10,
    facts: Callable[[str], TaskInfo] = task_info,
    progress: Callable[[int, int], None] | None = None,
) -> CurveSet:
    """Fit a curve to every (task, metric, shots) of a table.

    Proportions get a sigmoid whose floor is chance where chance is known, or a Gompertz curve where BIC
    asks for it strongly; bits and losses a power law with offset, or a broken one likewise. Weights are
    1/(p (1-p) (1/n + tau^2)) for proportions (sampling variance plus a spread that, like it, shrinks
    near the floor) and 1/level^2 with Huber's down-weighting for bits and losses. Whole clusters (runs,
    or families where there are several) are left out one by one for intervals and resampled for the
    bootstrap, all in one batch with the estimate.

    Args:
        table: the scores.
        points: which checkpoints make a curve; see `scaling.series.series_of`.
        replicates: bootstrap draws.
        seed: of the draws; the same for all curves, so that curves of the same runs share them.
        last: checkpoints at the end of a run that its noise is read from.
        facts: where chance, ceiling and item counts come from.
        progress: called with (curves done, curves).

    Returns:
        The curves.

    Raises:
        StagewiseError: when nothing in the table can be fitted; the message says what was left out.

    Example:
        >>> curves = fit_curves(table)                       # doctest: +SKIP
        >>> curves["piqa", "acc", 0].predict(1e21)           # doctest: +SKIP
    """
    if replicates < 0:
        raise UsageError(f"replicates: got {replicates}, valid is 0 or more")
    series, omissions = series_of(table, points=points, facts=facts)
    if not series:
        reasons = "; ".join(f"{o.count} row(s): {o.what}" for o in omissions[:6]) or "the table is empty"
        raise StagewiseError(f"no series can be fitted: {reasons}")
    book = NoiseBook(table, last=last)
    curves: list[Curve | None] = [None] * len(series)
    done = 0
    for members in grouped(series):
        for chosen in _blocks(members, series, replicates):
            fitted = _fit_group([series[i] for i in chosen], replicates, seed, book)
            for i, curve in zip(chosen, fitted, strict=True):
                curves[i] = curve
            done += len(chosen)
            if progress:
                progress(done, len(series))
    complete = [curve for curve in curves if curve is not None]
    adjusted = adjust(np.array([curve.trend.p for curve in complete]))
    complete = [replace(curve, trend_q=float(q)) for curve, q in zip(complete, adjusted, strict=True)]
    return CurveSet(tuple(complete), (*table.omissions, *omissions), replicates)


def _blocks(members: list[int], series: list[Series], replicates: int) -> Iterator[list[int]]:
    """Cut a group so that one batch of weights stays within `BLOCK` numbers."""
    one = series[members[0]]
    size = max(1, BLOCK // ((1 + one.n_clusters + replicates) * len(one.x)))
    for start in range(0, len(members), size):
        yield members[start : start + size]


def cluster_draws(clusters: int, replicates: int, seed: int) -> Array:
    """Multiplicity of each cluster in each row of a fit: all once; each left out; bootstrap draws."""
    rng = np.random.default_rng([seed, clusters])
    return np.concatenate(
        [
            np.ones((1, clusters)),
            1.0 - np.eye(clusters),
            rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=replicates).astype(float),
        ]
    )


def _fit_group(series: list[Series], replicates: int, seed: int, book: NoiseBook) -> list[Curve]:
    x = series[0].x
    y = np.stack([one.y for one in series])
    index = series[0].cluster_index
    draws = cluster_draws(series[0].n_clusters, replicates, seed)
    if series[0].metric.family == "proportion":
        plan = plan_proportions(series, x, y)
    else:
        plan = plan_losses(series, x, y)
    rows_each = len(draws)
    curves: list[Curve | None] = [None] * len(series)
    for shape in {choice.shape for choice in plan}:
        chosen = [i for i, choice in enumerate(plan) if choice.shape == shape]
        base = np.stack([plan[i].weights for i in chosen])
        weights = (base[:, None, :] * draws[None, :, index]).reshape(-1, len(x))
        box = Box(
            np.repeat([plan[i].low for i in chosen], rows_each, axis=0),
            np.repeat([plan[i].high for i in chosen], rows_each, axis=0),
        )
        fit = fit_batch(shape, x, np.repeat(y[chosen], rows_each, axis=0), weights, box)
        for j, i in enumerate(chosen):
            rows = fit.rows(slice(j * rows_each, (j + 1) * rows_each))
            used = rows.theta.shape[1] + sum(a != b for a, b in zip(plan[i].low, plan[i].high, strict=True))
            curves[i] = Curve(
                series=series[i],
                fit=rows,
                draws=draws,
                weights=plan[i].weights,
                tau=plan[i].tau,
                trend=any_trend(x, y[i], series[i].cluster),
                trend_q=float("nan"),
                noise=book.of(series[i], rows.predict(x)[0], used),
                bounds=(plan[i].low, plan[i].high),
                free_floor=plan[i].free_floor,
                bic=plan[i].bic,
            )
    return [curve for curve in curves if curve is not None]
