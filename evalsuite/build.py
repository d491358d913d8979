"""From scores to the suite of a stage, with the audit of everything that could have been in it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from evalsuite.audit import audit_of
from evalsuite.candidates import Candidate, candidates_of
from evalsuite.economy import Budget, Economy, ObjectiveName, economise
from evalsuite.record import budget_line, decision_line, quality_line, stability_line
from evalsuite.select import Decision, Selection, select
from evalsuite.settings import Settings, find_stage
from evalsuite.stability import Stability, leave_families_out
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
from scaling.item_sizes import ItemSize
from scaling.items import ItemScores
from scaling.scores import ScoreTable
from scaling.stage import Stage
from scaling.versions import versions

MIN_REPLICATES = 20  # below this a class probability is a rumour
_COMPUTED_BY = ("stagewise", "numpy", "scipy", "pandas", "scikit-learn")


@dataclass(frozen=True)
class Built:
    """A suite with all that it was made from.

    Attributes:
        suite: what is written to the file.
        audit: one row per candidate (task, metric, shots): `decision` (kept, held-out, dropped), `reason`
            and the figures.
        classification: classes, curves and omissions behind it.
        economy: costs, and how choosing like this holds up. stability: without each family; None where that
            was not asked for.
    """

    suite: Suite
    audit: pd.DataFrame
    classification: Classification = field(repr=False)
    economy: Economy = field(repr=False)
    stability: Stability | None = field(default=None, repr=False)

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
    objective: ObjectiveName | None = None,
    budget: Budget | str | None = None,
    whole: bool = False,
    measured: Mapping[str, ItemSize] | None = None,
    items: Sequence[ItemScores] = (),
    se: float | None = None,
    at_hand: Mapping[str, int] | None = None,
    stability: bool = False,
    seed: int = 0,
    replicates: int = 200,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Build the suite of a stage. The same input gives the same suite, byte for byte in its file.

    Every suite states what it costs and, where recipes have runs in the stage and above it, how often the
    small ones are ordered as the large ones.

    Args:
        table: the scores.
        stage: a compute interval, a `Stage` or `"LO..HI"`, or the name of one.
        early_by: FLOPs by which a window must be open to count as early; the stage's upper end where absent.
        settings: thresholds and overrides; the defaults where absent.
        held_out: keep one task per cluster aside.
        objective: `clusters` (each cluster weighs the same) or `decision-accuracy` (tasks, items and weights
            that keep the suite in agreement with what is outside it; see `evalsuite.economy.economise`);
            the latter where a budget is given, else the former.
        budget: `20%` of the cost of all that qualifies, or tokens per model.
        whole: under a budget, ask all items of a task or none.
        measured: sizes of items at hand (`evalsuite.cost.measure_items`); the facts table where absent.
        se: ask no more items than keep the standard error of the suite's score under this.
        at_hand: how many items of each task there are to ask, where that is fewer than the scores are of.
        items: per-item results, which choose the items of a task that is asked in part.
        stability: classify and select again without each family.
        seed, replicates: of the bootstrap. jobs: workers for the stability.
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
    limit = Budget.parse(budget) if isinstance(budget, str) else budget
    aim: ObjectiveName = objective or ("decision-accuracy" if limit else "clusters")
    if limit is not None and aim == "clusters":
        raise UsageError("budget: goes with the objective decision-accuracy; drop one of the two")
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
    candidates = [_capped(one, at_hand or {}) for one in candidates_of(table, classification, interval)]
    qualified = select(candidates, classification.curves, settings, held_out=held_out, seed=seed)
    selection, economy = economise(
        qualified, table, interval, objective=aim, budget=limit, whole=whole, measured=measured, items=items,
        se=se, seed=seed,
        forced={(one.task, one.metric) for one in settings.overrides if one.action == "keep"},
    )  # fmt: skip
    steady = None
    if stability:
        steady = leave_families_out(
            table, classification, qualified, interval, settings, held_out=held_out, jobs=jobs
        )
    used = {
        "budget": None if limit is None else str(limit), "clusters": settings.clusters,
        "coverage": settings.coverage, "held_out": held_out, "horizon": settings.horizon,
        "level": settings.level, "min_cluster": settings.min_cluster, "objective": aim,
        "points": settings.points, "replicates": replicates, "se": se, "seed": seed,
        "threshold": settings.threshold, "whole": whole,
        **({} if settings.note is None else {"note": settings.note}),
    }  # fmt: skip
    suite = Suite(
        format=1,
        stage=StageRange(name=name, low=interval.low, high=interval.high),
        early_by=classification.settings.early_by,
        criterion=selection.criterion,
        budget=budget_line(economy, aim),
        quality=quality_line(economy, aim),
        decisions=decision_line(selection, table, interval, seed),
        stability=None if steady is None else stability_line(steady),
        clusters=_clusters(selection),
        tasks=tuple(_task(item) for item in _ordered(selection, "kept")),
        held_out=tuple(_held_out(item) for item in _ordered(selection, "held-out")),
        dropped=_dropped(selection),
        provenance=Provenance(
            scores=_digest("all", table),
            sources=_sources(table),
            settings=used,
            overrides=settings.overrides,
            versions=computed_by(),
        ),
    )
    return Built(suite, audit_of(selection), classification, economy, steady)


def computed_by() -> dict[str, str]:
    """What a suite was computed by; patch levels of Python have no part in it."""
    return {**versions(_COMPUTED_BY), "python": ".".join(platform.python_version_tuple()[:2])}


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
        weight = sum(item.weight or 0.0 for item in kept if item.cluster == number)
        out.append(Cluster(cluster=number, format=" + ".join(sorted(formats)), weight=weight))
    return tuple(out)


def _capped(one: Candidate, at_hand: Mapping[str, int]) -> Candidate:
    """A candidate of which no more items are asked than there are."""
    count = at_hand.get(one.key.task)
    return one if count is None else replace(one, items=min(one.items or count, count))


def _task(item: Decision) -> Task:
    evidence = item.candidate.evidence
    assert evidence is not None and item.cluster is not None and item.weight is not None
    total = item.candidate.items or (item.cost.items if item.cost else None)
    part = item.asked is not None and total is not None and item.asked < total
    return Task(
        **item.key._asdict(), cluster=item.cluster, weight=item.weight,
        items=item.asked if part else item.candidate.items, of=total if part else None,
        cost=max(item.cost.tokens, 1) if item.cost else None, basis=item.cost.basis if item.cost else None,
        item_ids=item.named, reason=item.reason, evidence=evidence, runner_up=_runner_up(item),
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
