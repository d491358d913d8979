"""From scores to the suite of a stage, with the audit of everything that could have been in it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

from evalsuite.candidates import candidates_of
from evalsuite.select import Decision, Selection, select
from evalsuite.settings import Settings, find_stage
from evalsuite.suite import (
    Cluster,
    Dropped,
    HeldOut,
    Provenance,
    RunnerUp,
    ScoreDigest,
    StageRange,
    Suite,
    Task,
)
from scaling.classes import Classification, classify
from scaling.errors import UsageError
from scaling.scores import ScoreTable
from scaling.stage import Stage

MIN_REPLICATES = 20  # below this a class probability is a rumour
_COMPUTED_BY = ("numpy", "scipy", "pandas", "scikit-learn")
_FIGURES = (  # of a class, as the audit lists them
    "opens", "opens_low", "opens_high", "clears_chance", "opens_before_data", "extrapolated", "direction",
    "gain_per_doubling", "noise", "noise_kind", "noise_is_upper_bound", "snr", "trend_q", "law", "points",
    "n_points", "n_runs", "evidence",
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A suite with all that it was made from.

    Attributes:
        suite: what is written to the file.
        audit: one row per candidate (task, metric, shots): `decision` (kept, held-out, dropped), `reason`
            and the figures.
        classification: classes, curves and omissions behind it.
    """

    suite: Suite
    audit: pd.DataFrame
    classification: Classification = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """The audit."""
        return self.audit

    def _repr_html_(self) -> str:
        return self.audit.to_html(index=False)


def build(
    table: ScoreTable,
    stage: Stage | str,
    *,
    early_by: float | None = None,
    settings: Settings | None = None,
    held_out: bool = True,
    seed: int = 0,
    replicates: int = 200,
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Build the suite of a stage. The same input gives the same suite, byte for byte in its file.

    Args:
        table: the scores.
        stage: a compute interval, a `Stage` or `"LO..HI"`, or the name of one.
        early_by: FLOPs by which a window must be open to count as early; the stage's upper end where absent.
        settings: thresholds and overrides; the defaults where absent.
        held_out: keep one task per cluster aside.
        seed, replicates: of the bootstrap.
        progress: called with (curves done, curves).

    Returns:
        The suite, the audit and the classification. How tasks are chosen: `evalsuite.select.select`.

    Raises:
        UsageError: a stage that is none, a value outside its range.
        StagewiseError: a stage outside all data, or in which no task qualifies; an override that
            fits nothing.

    Example:
        >>> built = build(table, "1e19..1e21")                # doctest: +SKIP
        >>> built.suite.write("suites/mid.yaml", "evalsuite build ...")      # doctest: +SKIP
    """
    settings = settings or Settings()
    name, interval = find_stage(stage, settings) if isinstance(stage, str) else (None, stage)
    if replicates < MIN_REPLICATES:
        raise UsageError(f"replicates: got {replicates}, valid is {MIN_REPLICATES} or more")
    classification = classify(
        table,
        early_by=early_by,
        stage=interval,
        threshold=settings.threshold,
        horizon=settings.horizon,
        level=settings.level,
        points=settings.points,
        replicates=replicates,
        seed=seed,
        progress=progress,
    )
    candidates = candidates_of(table, classification, interval)
    selection = select(candidates, classification.curves, settings, held_out=held_out, seed=seed)
    used = {
        "clusters": settings.clusters, "coverage": settings.coverage, "held_out": held_out,
        "horizon": settings.horizon, "level": settings.level, "min_cluster": settings.min_cluster,
        "points": settings.points, "replicates": replicates, "seed": seed, "threshold": settings.threshold,
    }  # fmt: skip
    suite = Suite(
        format=1,
        stage=StageRange(name=name, low=interval.low, high=interval.high),
        early_by=classification.settings.early_by,
        criterion=selection.criterion,
        clusters=_clusters(selection),
        tasks=tuple(_task(item) for item in _ordered(selection, "kept")),
        held_out=tuple(_held_out(item) for item in _ordered(selection, "held-out")),
        dropped=_dropped(selection),
        provenance=Provenance(
            scores=_digest("all", table),
            sources=_sources(table),
            settings=used,
            overrides=settings.overrides,
            versions=versions(),
        ),
    )
    return Built(suite, _audit(selection), classification)


def versions() -> dict[str, str]:
    """What a suite was computed by; patch levels of Python have no part in it."""
    found = {}
    for package in ("stagewise", *_COMPUTED_BY):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a checkout that was never installed
            found[package] = "not installed"
    return {**found, "python": ".".join(platform.python_version_tuple()[:2])}


def _ordered(selection: Selection, verdict: str) -> list[Decision]:
    chosen = [item for item in selection.decisions if item.verdict == verdict]
    return sorted(chosen, key=lambda item: (item.cluster or 0, item.key.task))


def _clusters(selection: Selection) -> tuple[Cluster, ...]:
    kept = _ordered(selection, "kept")
    numbers = sorted({item.cluster for item in kept if item.cluster is not None})
    out = []
    for number in numbers:
        # Only an override puts two formats into one cluster.
        formats = {
            (item.candidate.curve.series.info.format if item.candidate.curve else None) or "unknown"
            for item in selection.decisions
            if item.cluster == number
        }
        out.append(Cluster(cluster=number, format=" + ".join(sorted(formats)), weight=1.0 / len(numbers)))
    return tuple(out)


def _task(item: Decision) -> Task:
    evidence = item.candidate.evidence
    assert evidence is not None and item.cluster is not None and item.weight is not None
    return Task(
        **item.key._asdict(), cluster=item.cluster, weight=item.weight, items=item.candidate.items,
        reason=item.reason, evidence=evidence, runner_up=_runner_up(item),
    )  # fmt: skip


def _held_out(item: Decision) -> HeldOut:
    evidence = item.candidate.evidence
    assert evidence is not None and item.cluster is not None
    return HeldOut(
        **item.key._asdict(), cluster=item.cluster, items=item.candidate.items, reason=item.reason,
        evidence=evidence, runner_up=_runner_up(item),
    )  # fmt: skip


def _runner_up(item: Decision) -> RunnerUp | None:
    other = item.runner_up
    if other is None:
        return None
    return RunnerUp(
        metric=other.key.metric, shots=other.key.shots, dp=other.dp if other.dp == other.dp else None
    )


def _dropped(selection: Selection) -> tuple[Dropped, ...]:
    """Each task without a place, by the candidate that came nearest."""
    placed = {item.key.task for item in selection.decisions if item.verdict != "dropped"}
    best: dict[str, Decision] = {}
    for item in selection.decisions:
        task = item.key.task
        if task not in placed and (task not in best or _nearness(item) < _nearness(best[task])):
            best[task] = item
    return tuple(
        Dropped(**item.key._asdict(), reason=item.reason, evidence=item.candidate.evidence)
        for _, item in sorted(best.items())
    )


def _nearness(item: Decision) -> tuple:
    one = item.candidate
    return (one.klass is None, -round(one.covers, 2), *one.preference)


def _digest(source: str, table: ScoreTable) -> ScoreDigest:
    return ScoreDigest(
        source=source, rows=len(table), models=table.frame["model"].nunique(), digest=table.digest
    )


def _sources(table: ScoreTable) -> tuple[ScoreDigest, ...]:
    names = table.frame["source"]
    return tuple(
        _digest(str(name), table.where(names == name, "another source")) for name in sorted(names.unique())
    )


def _audit(selection: Selection) -> pd.DataFrame:
    rows = []
    for item in selection.decisions:
        one, klass, p = item.candidate, item.candidate.klass, item.candidate.p
        row = {
            **item.key._asdict(), "decision": item.verdict, "reason": item.reason, "cluster": item.cluster,
            "weight": item.weight, "class": klass.klass if klass else None,
            **({f"p_{name}": value for name, value in p.model_dump().items()} if p else {}),
            "dp": one.dp, "covers": one.covers, "measured": one.measured, "closes": one.closes,
        }  # fmt: skip
        if klass:
            row |= {name: getattr(klass, name) for name in _FIGURES}
        rows.append(row)
    frame = pd.DataFrame(rows)
    for name in ("shots", "cluster", "n_points", "n_runs"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    return frame
