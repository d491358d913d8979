"""Which candidates make the suite of a stage, which are held out, and why the others are not in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evalsuite.candidates import Candidate
from evalsuite.cost import Cost
from evalsuite.settings import Override, Settings
from scaling.cluster import cluster_tasks
from scaling.curves import CurveSet
from scaling.errors import StagewiseError
from scaling.series import Key

Verdict = Literal["kept", "held-out", "dropped"]


@dataclass(frozen=True)
class Decision:
    """What became of a candidate.

    Attributes:
        reason: why, in words with figures.
        cluster, weight: None outside the suite; a held-out task has a cluster and no weight.
        runner_up: of a task in the suite, the next best metric and shots that qualified.
        asked, cost: of a scored task, the items to ask and what they cost; None until the suite's economy
            is known.
        named: the items themselves, where per-item results chose them.
    """

    candidate: Candidate
    verdict: Verdict
    reason: str
    cluster: int | None = None
    weight: float | None = None
    runner_up: Candidate | None = None
    asked: int | None = None
    cost: Cost | None = None
    named: tuple[str, ...] | None = None

    @property
    def key(self) -> Key:
        return self.candidate.key


@dataclass(frozen=True)
class Selection:
    """Every candidate's decision, in the order given, and how clusters were cut."""

    decisions: tuple[Decision, ...]
    criterion: str


def select(
    candidates: Sequence[Candidate],
    curves: CurveSet,
    settings: Settings,
    *,
    held_out: bool = True,
    seed: int = 0,
) -> Selection:
    """Decide on every candidate.

    1. A candidate qualifies when its class is early-signal or late-signal (of probability 0.6 or more)
       and it is informative on at least `settings.coverage` of the stage. An override may keep or drop it.
    2. Of a task only the best candidate stays (see `Candidate.preference`): one metric, one number of shots.
       Of a benchmark's splits (test, validation) only the one with most items stays, so that no split
       of a held-out benchmark is scored.
    3. What stays is clustered by how alike it ranks models; every cluster weighs the same, and so does
       every task inside one.
    4. In each cluster of `settings.min_cluster` tasks or more, the task most like the others (highest mean
       rank correlation with them) is held out: what the suite says should hold there, or the suite
       was tuned to its own tasks. On a tie the less informative one, then by name. A task that an
       override keeps is never held out, no cluster is left empty, and nothing is held out of a cluster
       whose tasks have nothing in common.

    Raises:
        StagewiseError: an override that fits no candidate or two, or no candidate that qualifies.
    """
    overrides = _matched(candidates, settings.overrides)
    decided: dict[Key, Decision] = {}
    qualified: dict[str, list[Candidate]] = {}
    for one in candidates:
        reason = _against(one, overrides.get(one.key, []), settings)
        if reason:
            decided[one.key] = Decision(one, "dropped", reason)
        else:
            qualified.setdefault(one.key.task, []).append(one)
    forced = {key: item for key, items in overrides.items() for item in items if item.action == "keep"}
    tests: dict[str, list[Candidate]] = {}
    seconds: dict[Key, Candidate | None] = {}
    for options in qualified.values():
        named = [one for one in options if one.key in forced]
        if len(named) > 1:
            keys = ", ".join(str(one.key) for one in named)
            raise StagewiseError(f"overrides: {keys} are both to be kept; a suite holds one metric per task")
        best = named[0] if named else min(options, key=lambda one: one.preference)
        tests.setdefault(best.test, []).append(best)
        rest = [one for one in options if one is not best]
        seconds[best.key] = min(rest, key=lambda one: one.preference, default=None)
        for one in options:
            if one is not best:
                decided[one.key] = Decision(one, "dropped", _second(one, best, bool(named)))
    chosen = []
    for splits in tests.values():
        named = [one for one in splits if one.key in forced]
        stay = named or [min(splits, key=lambda one: (-(one.items or 0), one.preference, one.key.task))]
        chosen += stay
        for one in splits:
            if one not in stay:
                items = "" if stay[0].items is None or one.items is None else f" of {stay[0].items} items"
                reason = f"one split per benchmark: {stay[0].key.task}{items} stays ({one.test})"
                decided[one.key] = Decision(one, "dropped", reason)
    chosen.sort(key=lambda one: one.key.task)
    if not chosen:
        raise StagewiseError(_nothing(decided.values()))
    labels, rho, criterion = _clusters(chosen, curves, settings, seed)
    for item in (item for items in overrides.values() for item in items if item.action == "cluster"):
        _join(item, chosen, labels)
    labels = _renumbered(chosen, labels)
    members = {c: [one for one in chosen if labels[one.key] == c] for c in sorted(set(labels.values()))}
    for cluster, group in members.items():
        aside = _typical(group, rho, forced) if held_out and len(group) >= settings.min_cluster else None
        kept = [one for one in group if aside is None or one is not aside[0]]
        for one in kept:
            reason = f"override: {forced[one.key].reason}" if one.key in forced else _for(one)
            decided[one.key] = Decision(
                one, "kept", reason, cluster, 1.0 / (len(members) * len(kept)), seconds[one.key]
            )
        if aside:
            one, mean = aside
            others = f"the {len(kept)} other task(s) of its cluster"  # a budget may number it anew
            reason = f"most like {others}: mean rank correlation {mean:.2f}"
            decided[one.key] = Decision(one, "held-out", reason, cluster, None, seconds[one.key])
    return Selection(tuple(decided[one.key] for one in candidates), criterion)


def _matched(candidates: Sequence[Candidate], overrides: Sequence[Override]) -> dict[Key, list[Override]]:
    """Overrides by the candidate each one means."""
    found: dict[Key, list[Override]] = {}
    for item in overrides:
        same = [one.key for one in candidates if (one.key.task, one.key.metric) == (item.task, item.metric)]
        hits = [key for key in same if item.shots is None or key.shots == item.shots]
        named = (
            f"override of {item.task} ({item.metric}{'' if item.shots is None else f', {item.shots}-shot'})"
        )
        if not hits:
            near = [str(one.key) for one in candidates if one.key.task == item.task]
            known = (
                f"valid for this task are {', '.join(near)}" if near else "no scores of a task of this name"
            )
            raise StagewiseError(
                f"{named}: fits no candidate; {known}; correct or remove it in the settings file"
            )
        if len(hits) > 1:
            raise StagewiseError(
                f"{named}: fits {', '.join(map(str, hits))}; give shots in the settings file"
            )
        found.setdefault(hits[0], []).append(item)
        actions = {other.action for other in found[hits[0]]}
        if {"keep", "drop"} <= actions or {"drop", "cluster"} <= actions:
            raise StagewiseError(f"{named}: both {' and '.join(sorted(actions))}; leave one of them")
    return found


def _against(one: Candidate, overrides: Sequence[Override], settings: Settings) -> str:
    """Why a candidate does not qualify; empty when it does."""
    for item in overrides:
        if item.action == "drop":
            return f"override: {item.reason}"
    if one.klass is None or one.curve is None:
        if any(item.action == "keep" for item in overrides):
            raise StagewiseError(f"override of {one.key}: cannot be kept: {one.unfit}")
        return one.unfit
    if any(item.action == "keep" for item in overrides):
        return ""
    if one.curve.series.metric.family == "loss":
        return "a loss on held-out text: followed in training, no benchmark that `run` could score"
    if one.klass.klass not in ("early-signal", "late-signal"):
        return _class_reason(one, settings)
    if one.covers < settings.coverage:
        return (
            f"informative (DP >= {settings.threshold:g}) on {one.covers:.0%} of the stage, "
            f"{settings.coverage:.0%} needed"
            + ("" if one.measured >= 0.995 else f"; its data cover {one.measured:.0%} of the stage")
        )
    return ""


def _class_reason(one: Candidate, settings: Settings) -> str:
    klass = one.klass
    assert klass is not None
    shares = {
        "early-signal": klass.p_early_signal, "late-signal": klass.p_late_signal,
        "saturated": klass.p_saturated, "noisy": klass.p_noisy,
    }  # fmt: skip
    if klass.klass == "undetermined":
        told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if share > 0)
        return f"undetermined: {klass.evidence.partition(';')[0]} ({told or 'nothing resampled'})"
    told = f"{klass.klass} (p {shares[klass.klass]:.2f})"
    if klass.klass == "saturated":
        return f"{told}: " + (f"closed at {one.closes:.2g} FLOPs" if one.closes else "at its ceiling")
    if klass.trend_q > settings.level:
        return f"{told}: no trend shown (q {klass.trend_q:.2g})"
    gain = f"gain {klass.gain_per_doubling:.1g} per doubling where the stage begins"
    return f"{told}: {gain}, against noise {klass.noise:.1g} of one run"


def _for(one: Candidate) -> str:
    assert one.klass is not None
    p = max(one.klass.p_early_signal, one.klass.p_late_signal)
    forecast = "" if one.measured >= 0.5 else f"; {1 - one.measured:.0%} of the stage is beyond its data"
    covers = f"informative on {one.covers:.0%} of the stage"
    return f"{one.klass.klass} (p {p:.2f}), DP {one.dp:.2f}, {covers}{forecast}"


def _second(one: Candidate, best: Candidate, forced: bool) -> str:
    name = best.key.metric + ("" if best.key.shots is None else f", {best.key.shots}-shot")
    if forced:
        return f"one metric per task, and an override keeps {name}"
    if one.preference[0] == best.preference[0]:
        return (
            f"one metric per task: {name} says as much here (DP {best.dp:.2f} each) and comes first in order"
        )
    return f"one metric per task: {name} says more here (DP {best.dp:.2f} against {one.dp:.2f})"


def _nothing(decisions) -> str:
    counts: dict[str, int] = {}
    for item in decisions:
        klass = item.candidate.klass.klass if item.candidate.klass else "not fitted"
        counts[klass] = counts.get(klass, 0) + 1
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    best = max(decisions, key=lambda item: (item.candidate.covers, item.key))
    return (
        f"no task qualifies for this stage: of {sum(counts.values())} candidates {told}; the nearest is "
        f"{best.key}: {best.reason}. Choose a stage nearer the data, or add scores there"
    )


def _clusters(chosen: list[Candidate], curves: CurveSet, settings: Settings, seed: int):
    if len(chosen) == 1:
        return {chosen[0].key: 1}, {(chosen[0].key, chosen[0].key): 1.0}, "1 cluster: one task"
    fits = tuple(one.curve for one in chosen if one.curve is not None)
    found = cluster_tasks(replace(curves, curves=fits), count=settings.clusters, seed=seed)
    rho = {(a, b): float(found.rho[i, j]) for i, a in enumerate(found.keys) for j, b in enumerate(found.keys)}
    return dict(found.labels), rho, found.criterion


def _join(item: Override, chosen: list[Candidate], labels: dict[Key, int]) -> None:
    own = [one.key for one in chosen if one.key.task == item.task and one.key.metric == item.metric]
    other = [one.key for one in chosen if one.key.task == item.like]
    for name, hits in ((item.task, own), (item.like, other)):
        if not hits:
            names = ", ".join(one.key.task for one in chosen)
            raise StagewiseError(
                f"override: {item.task} cannot join the cluster of {item.like}: {name} is not in the suite"
                f"{' in this metric' if name == item.task else ''}; there are {names}"
            )
    labels[own[0]] = labels[other[0]]


def _renumbered(chosen: list[Candidate], labels: dict[Key, int]) -> dict[Key, int]:
    """Clusters numbered from 1 in order of their first task, so that numbers follow from members alone."""
    order: dict[int, int] = {}
    return {one.key: order.setdefault(labels[one.key], len(order) + 1) for one in chosen}


def _typical(group: list[Candidate], rho: dict, forced: dict) -> tuple[Candidate, float] | None:
    """The task most like the others of its cluster, and its mean rank correlation with them.

    None where there is no such task: all are kept by override, or the cluster is one by its format
    alone and its tasks have nothing in common.
    """
    means = {
        one.key: float(np.mean([rho[one.key, other.key] for other in group if other is not one]))
        for one in group
    }
    free = [one for one in group if one.key not in forced]
    free = [one for one in free if means[one.key] > 0]
    if not free:
        return None
    best = min(free, key=lambda one: (-round(means[one.key], 6), round(one.dp, 6), one.key.task))
    return best, means[best.key]
