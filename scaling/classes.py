"""Early-signal, late-signal, saturated or noisy: what a task is good for, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from zlib import crc32

import numpy as np
import pandas as pd
from scipy import stats

from scaling.curves import Curve, CurveSet, fit_curves
from scaling.errors import StagewiseError, UsageError
from scaling.evidence import CLASSES, Class, TaskClass, task_class
from scaling.laws import Array
from scaling.scores import Omission, ScoreTable
from scaling.series import Points
from scaling.stage import Stage
from scaling.tasks import TaskInfo, task_info
from scaling.windows import DOUBLING, Windows, noise_at, windows_of

SURE = 0.6  # no class below this probability
FLATTENED = 0.2  # a plateau: the gain per doubling has fallen to this share of its peak inside the data


@dataclass(frozen=True)
class Settings:
    """What a classification was asked.

    Attributes:
        early_by: FLOPs by which a window must be open to count as early.
        stage: the compute interval in question, where one was given.
        asked_at: FLOPs before which a window must have closed to count as saturated: the lower end
            of the stage, or `early_by` where no stage is given.
        threshold: decision probability that makes a task informative.
        horizon: decades beyond the measured compute that count as credibly forecast.
        level: false discovery rate of the trend test.
        points: which checkpoints make a curve.
        replicates, seed: of the bootstrap.
    """

    early_by: float
    asked_at: float
    stage: tuple[float, float] | None = None
    threshold: float = 0.8
    horizon: float = 1.0
    level: float = 0.05
    points: Points = "auto"
    replicates: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Classification:
    """The classes of a table's tasks.

    Attributes:
        tasks: one entry per (task, metric, shots).
        settings: what was asked; printed with every result.
        curves: the fits behind it.
        omissions: what was left out.
    """

    tasks: tuple[TaskClass, ...]
    settings: Settings
    curves: CurveSet = field(repr=False)
    omissions: tuple[Omission, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per task; the class stands in the column `class`."""
        frame = pd.DataFrame([asdict(task) for task in self.tasks]).rename(columns={"klass": "class"})
        frame["shots"] = frame["shots"].astype("Int64")
        return frame

    def counts(self) -> dict[str, int]:
        """How many (task, metric, shots) fell into each class."""
        found = [task.klass for task in self.tasks]
        return {name: found.count(name) for name in (*CLASSES, "undetermined")}

    def plot(self, ax=None, **options):
        """All windows on one compute axis; see `scaling.plot.plot_windows`."""
        from scaling.plot import plot_windows

        return plot_windows(self, ax=ax, **options)

    def _repr_html_(self) -> str:
        return f"<p>{self.counts()}</p>" + self.to_frame().to_html(index=False)


def classify(
    table: ScoreTable,
    *,
    early_by: float | None = None,
    stage: Stage | str | None = None,
    threshold: float = 0.8,
    horizon: float = 1.0,
    level: float = 0.05,
    points: Points = "auto",
    replicates: int = 200,
    seed: int = 0,
    facts: Callable[[str], TaskInfo] = task_info,
    progress: Callable[[int, int], None] | None = None,
) -> Classification:
    """Sort every (task, metric, shots) of a table into a class.

    Asked in this order, for the estimate and again for every bootstrap draw of curve and noise:
    *saturated* when the scores reach within 3 standard errors of the ceiling, or when a window has
    closed on an identified plateau, before the compute in question and inside the data; *noisy*
    without a trend or without a window; *early-signal* when the window opens at or below `early_by`,
    else *late-signal*. The probability of a class is its share of draws; below 0.6 for all, with
    fewer than 6 clusters, or where only an upper bound of the noise swallows a real trend, the class
    is *undetermined*.

    Args:
        table: the scores.
        early_by: FLOPs; the upper end of `stage` where absent. One of the two is required.
        stage: the compute interval in question, a `Stage` or `"LO..HI"`.
        threshold: decision probability that makes a task informative, in (0.5, 1).
        horizon: decades beyond the data that count as credibly forecast.
        level: false discovery rate of the trend test over all tasks.
        points, replicates, seed, facts, progress: see `fit_curves`.

    Raises:
        UsageError: neither `early_by` nor `stage`, or a value outside its range.
        StagewiseError: the stage or bound lies outside all data, or nothing can be fitted.

    Example:
        >>> classify(table, stage="1e19..1e21").counts()     # doctest: +SKIP
    """
    if isinstance(stage, str):
        stage = Stage.parse(stage)
    if early_by is None and stage is None:
        raise UsageError("say which compute is early: early_by=FLOPS (--early-by) or stage=LO..HI (--stage)")
    for name, value, low, high in (
        ("threshold", threshold, 0.5, 1.0),
        ("level", level, 0.0, 1.0),
        ("horizon", horizon, -1e-9, 10.0),
    ):
        if not low < value < high:
            raise UsageError(f"{name}: got {value}, valid is between {max(low, 0):g} and {high:g}")
    bound = float(early_by) if early_by is not None else stage.high  # pyright: ignore[reportOptionalMemberAccess]
    if not (np.isfinite(bound) and bound > 0):
        raise UsageError(f"early_by: got {bound}, valid is a positive number of FLOPs")
    asked = stage.low if stage is not None else bound
    interval = None if stage is None else (stage.low, stage.high)
    settings = Settings(bound, asked, interval, threshold, horizon, level, points, replicates, seed)
    curves = fit_curves(
        table, points=points, replicates=replicates, seed=seed, facts=facts, progress=progress
    )
    _check_inside(curves, settings, stage)
    cut = _cut(curves, level)
    tasks = tuple(_classify_one(curve, settings, cut) for curve in curves)
    return Classification(tasks, settings, curves, curves.omissions)


def _check_inside(curves: CurveSet, settings: Settings, stage: Stage | None) -> None:
    low = 10 ** min(curve.span[0] for curve in curves)
    high = 10 ** max(curve.span[1] for curve in curves)
    reach = high * 10**settings.horizon
    if stage is not None and (stage.high < low or stage.low > reach):
        raise StagewiseError(
            f"stage {stage}: outside all data, which span {low:.2g}..{high:.2g} FLOPs "
            f"(credible to {reach:.2g}); choose a stage that overlaps them or add scores there"
        )
    if settings.early_by < low:
        raise StagewiseError(
            f"early bound {settings.early_by:.2g} FLOPs: below all data, which begin at {low:.2g}; "
            "choose a later bound or add scores of smaller models"
        )


def _cut(curves: CurveSet, level: float) -> float:
    """The raw p-value at which Benjamini-Hochberg draws its line, for use on single draws."""
    passed = sum(curve.trend_q <= level for curve in curves)
    tested = sum(np.isfinite(curve.trend.p) for curve in curves)
    return level * max(passed, 1) / max(tested, 1)


def _trending(curve: Curve, cut: float, level: float) -> np.ndarray:
    """For each row of the fit, whether the task improves with compute.

    The estimate is judged by the proper test. Where that shows a rise, a draw shows it too unless its own
    curve does not rise; where it does not, a draw must show one by a slope test of its own.
    """
    passed = np.zeros(len(curve.draws), dtype=bool)
    if not np.isfinite(curve.trend.p):
        return passed
    series = curve.series
    if curve.trend_q <= level:
        ends = curve.values(np.array(curve.span))
        rises = series.sign * (ends[:, 1] - ends[:, 0]) > 0
        return rises & (curve.trend.direction * series.sign > 0)
    index = series.cluster_index
    weights = curve.draws[:, index]
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    seen = (curve.draws > 0).sum(axis=1)
    dx = series.x - (weights @ series.x)[:, None] / total
    dy = series.sign * (series.y - (weights @ series.y)[:, None] / total)
    spread = np.maximum((weights * dx * dx).sum(axis=1), 1e-300)
    slope = (weights * dx * dy).sum(axis=1) / spread
    pull = (dx * (dy - slope[:, None] * dx)) @ (index[:, None] == np.arange(series.n_clusters)).astype(float)
    variance = (curve.draws * pull**2).sum(axis=1) * seen / np.maximum(seen - 1, 1)
    need = stats.t.isf(cut / 2, max(curve.trend.df, 1.0))
    # A draw of too few runs tests nothing.
    passed = (slope * spread > need * np.sqrt(variance)) & (seen > 2) & (slope > 0)
    passed[0] = False
    return passed


def _classify_one(curve: Curve, settings: Settings, cut: float) -> TaskClass:
    # A stream of its own for each task, so that their errors are not shared.
    rng = np.random.default_rng([settings.seed, crc32(str(curve.key).encode())])
    count = len(curve.draws)
    clusters = curve.series.n_clusters
    totals = np.full(count, curve.noise.total)
    drawn = slice(1 + clusters, count)
    if curve.noise.df > 0 and count > 1 + clusters:
        df = curve.noise.df
        totals[drawn] *= np.sqrt(df / rng.chisquare(df, size=count - 1 - clusters))
    windows = windows_of(curve, threshold=settings.threshold, horizon=settings.horizon, noise_draws=totals)
    trending = _trending(curve, cut, settings.level)
    # A plateau counts only above a rise that was shown: flat noise has plateaus everywhere.
    saturated = _at_ceiling(curve, settings) | (trending & _on_plateau(curve, settings, windows, totals))
    asleep = ~trending | np.isnan(windows.opens)
    early = windows.opens <= np.log10(settings.early_by) + 1e-9
    labels = np.select([saturated, asleep, early], [2, 3, 0], default=1)
    shares = (
        np.bincount(labels[drawn], minlength=4) / (count - 1 - clusters)
        if count > 1 + clusters
        else np.full(4, np.nan)
    )
    klass: Class = CLASSES[labels[0]]
    why = ""
    if not curve.identified:
        klass, why = "undetermined", f"only {clusters} independent runs"
    elif not np.isfinite(curve.trend.p):
        klass, why = "undetermined", "all runs at one compute"
    elif np.isfinite(shares).all():
        best = int(shares.argmax())
        klass = CLASSES[best] if shares[best] >= SURE else "undetermined"
        if klass == "undetermined":
            why = f"no class reaches {SURE:g}"
        elif best != labels[0] and (best > 1 or labels[0] > 1):
            # Early or late is a matter of degree; a window or none is not.
            klass, why = "undetermined", f"the draws say {CLASSES[best]}, the estimate {CLASSES[labels[0]]}"
    if klass == "noisy" and curve.noise.upper_bound and trending[0]:
        klass, why = "undetermined", "a real trend, swallowed only by an upper bound of the noise"
    return task_class(curve, settings, windows, klass, shares, why)


def _at_ceiling(curve: Curve, settings: Settings) -> np.ndarray:
    """Rows whose curve is within 3 standard errors of the ceiling by the compute in question."""
    series = curve.series
    items = np.nanmedian(series.n_items) if np.isfinite(series.n_items).any() else np.nan
    if series.metric.family != "proportion" or not np.isfinite(items):
        return np.zeros(len(curve.draws), dtype=bool)
    ceiling = 1.0 if series.info.ceiling is None else series.info.ceiling
    error = np.sqrt(max(ceiling * (1 - ceiling), 0.0099) / items)
    x = min(np.log10(settings.asked_at), curve.span[1])
    if x < curve.span[0]:
        return np.zeros(len(curve.draws), dtype=bool)
    return (curve.values(np.array([x]))[:, 0] >= ceiling - 3.0 * error) & (x <= _tops(curve) + DOUBLING)


def _tops(curve: Curve) -> Array:
    """The largest measured compute among the runs of each draw: it shows nothing beyond that."""
    return np.where(curve.draws[:, curve.series.cluster_index] > 0, curve.series.x, -np.inf).max(axis=1)


def _on_plateau(curve: Curve, settings: Settings, windows: Windows, totals: Array) -> np.ndarray:
    """Rows whose window closed before the compute in question, on a plateau seen inside the data."""
    asked, top = np.log10(settings.asked_at), curve.span[1]
    closed = (windows.closes < asked) & (windows.closes + DOUBLING <= _tops(curve))
    if not closed.any():
        return closed
    x = np.array([min(asked, top - DOUBLING)])
    here, there = curve.values(x), curve.values(x + DOUBLING)
    gain = curve.series.sign * (there - here)[:, 0]
    inside = windows.x[windows.x + DOUBLING <= top]
    steps = curve.series.sign * (curve.values(inside + DOUBLING) - curve.values(inside))
    flattened = gain <= FLATTENED * steps.max(axis=1)
    need = stats.norm.ppf(settings.threshold) * np.sqrt(2.0) * noise_at(curve, here[:, 0], totals)
    high = gain.copy()
    if curve.identified:
        # The estimate needs the upper bound of its gain below what a decision takes.
        doubt = curve.jackknife_se(gain)
        high[0] += stats.t.ppf(0.95, curve.series.n_clusters - 1) * doubt
    return closed & flattened & (high < need)
