"""What a score table says about tasks: windows, classes, clusters and a suite, as data and as a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.build import MIN_REPLICATES, build, computed_by
from evalsuite.report_series import curve_data, series_rows
from evalsuite.report_windows import ORDER, Picture, windows_picture
from evalsuite.settings import Settings, find_stage
from evalsuite.suite import Suite
from scaling.classes import Classification, classify
from scaling.cluster import Clusters, cluster_tasks
from scaling.errors import StagewiseError, UsageError
from scaling.files import replacing
from scaling.metrics import known_metrics, metric_info
from scaling.report import classes_json, clusters_json, settings_line
from scaling.scores import ScoreTable
from scaling.series import Key
from scaling.stage import Stage

_USED = ("threshold", "coverage", "horizon", "level", "points", "clusters")  # of a suite's settings


@dataclass(frozen=True)
class ScoreReport:
    """A score table as a page.

    Attributes:
        name: heading of the page. table: all scores that were read. shown: those behind the page.
        classification: classes and curves of `shown`. clusters: of tasks, each by its best metric; None
            where there are too few to compare. suite: of the stage; None where none can be built, for the
            reason in `unbuilt`. built: the suite was built for this page, not read from a file.
        command: what writes the page again.

    Example:
        >>> ScoreReport.of(table, stage="1e19..1e21").write("report.html")       # doctest: +SKIP
    """

    name: str
    table: ScoreTable
    shown: ScoreTable
    classification: Classification
    clusters: Clusters | None
    suite: Suite | None
    unbuilt: str = ""
    built: bool = True
    command: str = ""

    @classmethod
    def of(
        cls,
        table: ScoreTable,
        *,
        stage: Stage | str | None = None,
        suite: Suite | None = None,
        settings: Settings | None = None,
        metrics: Sequence[str] | None = None,
        name: str = "scores",
        command: str = "",
        replicates: int = 200,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> ScoreReport:
        """Classify, cluster, and build the suite where none is given.

        Args:
            table: the scores.
            stage: a compute interval or the name of one; that of `suite`, else the middle third of the
                measured compute (on a log scale) where absent.
            suite: shown as it is. settings: of the build; those that `suite` was built by where absent.
            metrics: to show; where absent, of each task `bpb` and its first accuracy in the order of
                `scaling/facts/metrics.csv`, by which classes are told apart on a tie.
            name, command: for the page.
            replicates, seed: of the bootstrap. progress: called with (curves done, curves).

        Raises:
            UsageError: a stage that is none, a value outside its range.
            StagewiseError: none of the metrics, nothing that can be fitted.
        """
        if replicates < MIN_REPLICATES:
            raise UsageError(f"replicates: got {replicates}, valid is {MIN_REPLICATES} or more")
        settings = settings or (_settings_of(suite) if suite else Settings())
        shown = _chosen(table, metrics)
        if isinstance(stage, str):
            stage = find_stage(stage, settings)[1]
        early_by = None
        if stage is None and suite is not None:
            stage, early_by = Stage(suite.stage.low, suite.stage.high), suite.early_by
        stage = stage or middle_third(shown)
        unbuilt, built = "", suite is None
        found = None
        if built:
            try:
                made = build(
                    shown, stage, settings=settings, replicates=replicates, seed=seed, progress=progress
                )
                found, suite = made.classification, made.suite
            except UsageError:
                raise
            except StagewiseError as error:
                unbuilt = str(error)
        if found is None:
            found = classify(
                shown, stage=stage, early_by=early_by, threshold=settings.threshold,
                horizon=settings.horizon, level=settings.level, points=settings.points,
                replicates=replicates, seed=seed, progress=progress,
            )  # fmt: skip
        return cls(name, table, shown, found, _clustered(found, seed), suite, unbuilt, built, command)

    @classmethod
    def showing(
        cls,
        table: ScoreTable,
        shown: ScoreTable,
        found: Classification,
        suite: Suite,
        *,
        name: str,
        command: str,
    ) -> ScoreReport:
        """The page of a classification and a suite that are there already.

        Args:
            table, shown, name, command: as the attributes. found: classes of `shown`. suite: built from them.
        """
        clusters = _clustered(found, found.settings.seed)
        return cls(name, table, shown, found, clusters, suite, built=False, command=command)

    @cached_property
    def series(self) -> list[dict[str, Any]]:
        """One row per (task, metric, shots): `evalsuite.report_series.series_rows`."""
        return series_rows(self.classification, self.suite)

    @cached_property
    def curves(self) -> dict[str, Any]:
        """What the page draws curves from: `evalsuite.report_series.curve_data`."""
        return curve_data(self.classification, self.shown)

    def picture(self, at: float | None = None) -> Picture:
        """The windows; `at` marks the compute of a run."""
        return windows_picture(self.classification, at)

    @cached_property
    def groups(self) -> list[dict[str, Any]]:
        """Clusters of two and more tasks, the largest first: name, format, rho (mean within), members."""
        if self.clusters is None:
            return []
        labels = np.array([self.clusters.labels[key] for key in self.clusters.keys])
        klass = {one.key: one.klass for one in self.classification.tasks}
        found = []
        for label in np.unique(labels):
            where = np.flatnonzero(labels == label)
            if len(where) < 2:
                continue
            part = self.clusters.rho[np.ix_(where, where)]
            keys = [self.clusters.keys[i] for i in where]
            found.append(
                {
                    "format": self.clusters.formats[where[0]], "members": [(key, klass[key]) for key in keys],
                    "rho": float((part.sum() - len(where)) / (len(where) * (len(where) - 1))),
                }
            )  # fmt: skip
        return sorted(found, key=lambda one: (-len(one["members"]), one["members"][0][0].task))

    @cached_property
    def alone(self) -> list[str]:
        """Tasks that no other task is like."""
        if self.clusters is None:
            return []
        inside = {key for one in self.groups for key, _ in one["members"]}
        return [key.task for key in self.clusters.keys if key not in inside]

    @property
    def provenance(self) -> dict[str, Any]:
        """Scores, settings, versions and the command."""
        return {
            "scores": self.table.digest, "rows": len(self.table),
            "sources": sorted(self.table.frame["source"].astype(str).unique()),
            "metrics": sorted({one.metric for one in self.classification.tasks}),
            "settings": settings_line(self.classification.settings),
            "suite": self.suite.digest if self.suite else None, "built": self.built,
            "seed": self.classification.settings.seed, "versions": computed_by(), "command": self.command,
        }  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """One row per (task, metric, shots), as `Classification.to_frame`."""
        return self.classification.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """Everything on the page but the curves, as plain data."""
        settings = {"seed": self.classification.settings.seed}
        clusters = None if self.clusters is None else clusters_json(self.clusters, settings, ())
        return {
            "name": self.name, "classes": classes_json(self.classification), "clusters": clusters,
            "suite": None if self.suite is None else self.suite.model_dump(mode="json", by_alias=True),
            "unbuilt": self.unbuilt, "omissions": [asdict(one) for one in self.table.omissions],
            "provenance": self.provenance,
        }  # fmt: skip

    def html(self) -> str:
        """The page; the same scores give the same text."""
        from evalsuite.report_page import page

        return page(scores=self)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        with replacing(path) as part:
            part.write_text(self.html(), encoding="utf-8")

    def _repr_html_(self) -> str:
        return self.classification._repr_html_()


def middle_third(table: ScoreTable) -> Stage:
    """The middle third of the measured compute, on a log scale and in two digits.

    Raises:
        StagewiseError: all scores are at one compute, or at none.
    """
    flops = table.frame["flops"]
    x = np.log10(flops[flops > 0].to_numpy(dtype=float))
    if not len(x) or x.max() - x.min() < 0.1:
        raise StagewiseError(
            "scores: not of several computes, so that they have no stage; give scores of models of several "
            "sizes, with known FLOPs"
        )
    low, high = x.min(), x.max()
    return Stage(*(float(f"{10 ** (low + (high - low) * share):.2g}") for share in (1 / 3, 2 / 3)))


def _chosen(table: ScoreTable, metrics: Sequence[str] | None) -> ScoreTable:
    """The rows of these metrics; of each task bpb and its first accuracy, where there are none."""
    frame = table.frame
    if metrics is not None:
        kept = table.where(frame["metric"].isin(list(metrics)), "another metric than asked for (--metric)")
    else:
        order = {
            name: i for i, name in enumerate(known_metrics()) if metric_info(name).family == "proportion"
        }
        rank = frame["metric"].map(order)
        best = rank.groupby([frame["task"], frame["shots"]], dropna=False).transform("min")
        kept = table.where(
            (frame["metric"] == "bpb") | (rank.notna() & (rank == best)),
            "a metric that is not shown (name it with --metric)",
        )
    if not len(kept):
        names = ", ".join(sorted(frame["metric"].astype(str).unique())[:12])
        asked = ", ".join(metrics) if metrics is not None else "bpb and accuracy"
        raise StagewiseError(f"metrics: no scores of {asked}; valid is --metric with some of {names}")
    return kept


def _settings_of(suite: Suite) -> Settings:
    """What a suite was built by, as far as its file says it."""
    used: Mapping[str, Any] = suite.provenance.settings
    return Settings.model_validate({name: used[name] for name in _USED if used.get(name) is not None})


def _clustered(found: Classification, seed: int) -> Clusters | None:
    """Clusters of the tasks that a window speaks for, each by its best metric."""
    best: dict[tuple[str, int | None], tuple[tuple, Key]] = {}
    for one in found.tasks:
        if one.klass in ("noisy", "undetermined"):
            continue
        rank = (ORDER.index(one.klass), one.opens if one.opens == one.opens else np.inf, one.metric)
        place = (one.task, one.shots)
        if place not in best or rank < best[place][0]:
            best[place] = (rank, one.key)
    keys = {key for _, key in best.values()}
    chosen = tuple(curve for curve in found.curves if curve.key in keys)
    if len(chosen) < 2:
        return None
    return cluster_tasks(replace(found.curves, curves=chosen), seed=seed)
