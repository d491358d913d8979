"""Everything that could be in a suite, with its figures on the stage in question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from evalsuite.evidence import Chances, Evidence
from scaling.classes import Classification, TaskClass
from scaling.curves import Curve
from scaling.facts.tables import rows
from scaling.metrics import known_metrics, metric_info
from scaling.scores import ScoreTable
from scaling.series import MIN_POINTS, Key
from scaling.stage import Stage
from scaling.windows import windows_of

CELLS = 200  # the stage is cut into so many equal pieces of log compute


@dataclass(frozen=True)
class Candidate:
    """One (task, metric, shots) of a score table.

    Attributes:
        klass, curve: its class and fit; None where nothing could be fitted, for the reason in `unfit`.
        dp: decision probability, mean over the part of the stage the data speak for; NaN where none.
        covers: share of the stage on which the decision probability reaches the threshold. What lies
            below the data or beyond the credible forecast counts as not covered.
        measured: share of the stage inside the task's own data.
        items: questions behind a score, the median where it varies; None where unknown.
        test: benchmark and answer format: splits of one benchmark (test, validation) are one test.
    """

    key: Key
    klass: TaskClass | None
    curve: Curve | None
    dp: float
    covers: float
    measured: float
    items: int | None
    test: str
    unfit: str = ""

    @property
    def p(self) -> Chances | None:
        """Probability of each class; None where nothing was resampled."""
        one = self.klass
        if one is None or not np.isfinite(one.p_early_signal):
            return None
        return Chances(
            early=one.p_early_signal, late=one.p_late_signal, saturated=one.p_saturated, noisy=one.p_noisy
        )

    @property
    def closes(self) -> float | None:
        """FLOPs at which the window closes; None where the data do not show it."""
        if self.klass is None or self.curve is None:
            return None
        seen = self.klass.closes <= 10.0 ** self.curve.span[1]
        return self.klass.closes if seen else None

    @property
    def evidence(self) -> Evidence | None:
        """The figures as they stand in a suite."""
        one = self.klass
        if one is None:
            return None
        figures = {
            "class": one.klass, "p": self.p, "opens": _known(one.opens), "closes": self.closes,
            "before_data": one.opens_before_data, "dp": _known(self.dp), "covers": self.covers,
            "measured": self.measured, "gain": _known(one.gain_per_doubling), "noise": _known(one.noise),
            "runs": one.n_runs,
        }  # fmt: skip
        return Evidence.model_validate(figures)

    @property
    def preference(self) -> tuple:
        """Sort key among candidates of one task, the best first.

        The higher decision probability over the stage wins; on a tie (the same percent) the metric that
        `scaling/facts/metrics.csv` lists first, accuracy before probability before bits, and fewer shots.
        """
        names = known_metrics()
        rank = names.index(self.key.metric) if self.key.metric in names else len(names)
        dp = self.dp if np.isfinite(self.dp) else -1.0
        return (-round(dp, 2), rank, -1 if self.key.shots is None else self.key.shots, self.key.metric)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@cache
def _tests() -> dict[str, str]:
    """Which benchmark and answer format a task is a split of, by `scaling/facts/tasks.csv`."""
    return {row["task"]: f"{row['benchmark']}, {row['format']}" for row in rows("tasks.csv")}


def candidates_of(table: ScoreTable, classification: Classification, stage: Stage) -> list[Candidate]:
    """Every (task, metric, shots) of a table, in that order, whether a curve was fitted to it or not."""
    settings = classification.settings
    classes = {one.key: one for one in classification.tasks}
    curves = {curve.key: curve for curve in classification.curves}
    found = []
    groups = table.frame.groupby(["task", "metric", "shots"], dropna=False, sort=True)
    for named, scores in groups:
        task, metric, shots = named  # pyright: ignore[reportGeneralTypeIssues]
        key = Key.of(task, metric, shots)
        if key in classes:
            found.append(_fitted(classes[key], curves[key], stage, settings.threshold, settings.horizon))
            continue
        with_compute = int((scores["flops"] > 0).sum())
        if not metric_info(key.metric).fitted:
            unfit = "a metric without a law: kept in tables, never fitted"
        elif not with_compute:
            unfit = "no score with known compute"
        else:
            unfit = f"{with_compute} score(s) with compute, too few points for a curve ({MIN_POINTS} needed)"
        found.append(
            Candidate(key, None, None, np.nan, 0.0, 0.0, None, _tests().get(key.task, key.task), unfit)
        )
    return found


def _fitted(one: TaskClass, curve: Curve, stage: Stage, threshold: float, horizon: float) -> Candidate:
    # Row 0 is the estimate and the next ones its doubt; bootstrap draws have no part in its probability.
    rows = slice(0, 1 + curve.series.n_clusters)
    windows = windows_of(
        replace(curve, fit=curve.fit.rows(rows), draws=curve.draws[rows]),
        threshold=threshold,
        horizon=horizon,
    )
    edges = np.linspace(np.log10(stage.low), np.log10(stage.high), CELLS + 1)
    x = (edges[1:] + edges[:-1]) / 2
    dp = np.interp(x, windows.x, windows.probability[0], left=np.nan, right=np.nan)
    low, high = curve.span
    items = curve.series.n_items[np.isfinite(curve.series.n_items)]
    return Candidate(
        key=one.key,
        klass=one,
        curve=curve,
        dp=float(np.nanmean(dp)) if np.isfinite(dp).any() else float("nan"),
        covers=float(np.mean(dp >= threshold)),  # NaN is not
        measured=float(np.mean((x >= low) & (x <= high))),
        items=round(float(np.median(items))) if len(items) else None,
        test=_tests().get(one.task, one.task),
    )
