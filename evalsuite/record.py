"""Findings about a suite, written down for its file."""

from __future__ import annotations

from typing import Any

import numpy as np

from evalsuite.economy import Economy, ObjectiveName, scales_of
from evalsuite.findings import BudgetLine, Choice, DecisionLine, QualityLine, StabilityLine
from evalsuite.select import Selection
from evalsuite.stability import Stability
from scaling.decisions import decide
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable
from scaling.stage import Stage


def budget_line(economy: Economy, objective: ObjectiveName) -> BudgetLine:
    """What a suite costs."""
    return BudgetLine(
        objective=objective, budget=None if economy.budget is None else str(economy.budget),
        tokens=max(round(economy.cost), 1), full=max(round(economy.full), 1), error=economy.error,
        **economy.basis,
        shrinkage=economy.shrinkage,
    )  # fmt: skip


def quality_line(economy: Economy, objective: ObjectiveName) -> QualityLine | None:
    """How choosing like this holds up; None for suites that weigh by cluster."""
    if objective != "decision-accuracy":
        return None
    found = economy.quality
    measure = economy.objective.kind if economy.objective else "latent agreement"
    if found is None:
        return QualityLine(
            measure=measure, choices=(), against_all=None, above=None, random_mean_high=None, splits=0,
            groups=0, note=economy.unmeasured,
        )  # fmt: skip
    choices = tuple(
        Choice(
            choice=row["choice"], agreement=row["agreement"], low=max(row["low"], -1.0),
            high=min(row["high"], 1.0), tasks=row["tasks"], cost=min(row["cost"], 1.0),
        )
        for row in found.rows.to_dict("records")
    )  # fmt: skip
    gap, low, high = (float(np.clip(value, -1, 1)) for value in found.difference)
    return QualityLine(
        measure=measure, choices=choices, against_all=(gap, low, high),
        above=found.above, random_mean_high=found.random_means[1], splits=found.splits, groups=found.groups,
        note="",
    )  # fmt: skip


def decision_line(selection: Selection, table: ScoreTable, stage: Stage, seed: int) -> DecisionLine:
    """How often runs in the stage order recipes as runs above it do, under the suite's weights."""
    weights = {one.key: one.weight for one in selection.decisions if one.verdict == "kept" and one.weight}
    blank: dict[str, Any] = {
        "share": None, "low": None, "high": None, "all_tasks": None, "random": None, "pairs": 0,
        "recipes": 0, "refused": 0, "claim": False,
    }  # fmt: skip
    small, target = scales_of(stage)
    try:
        found = decide(table, small=small, target=target, suite=weights, seed=seed)
    except StagewiseError as error:
        return DecisionLine(**blank, note=" ".join(str(error).split()))
    rows = found.rows.set_index("kind")["rest"]
    whole = found.suite
    if whole is None or not whole.pairs:
        refused = ", ".join(f"{count} {why}" for why, count in found.pairs.reasons().items())
        note = "no pair of recipes can be compared" + (f": {refused}" if refused else "")
        return DecisionLine(**dict(blank, refused=len(found.pairs.refused)), note=note)

    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return DecisionLine(
        share=known(whole.share), low=known(whole.low), high=known(whole.high),
        all_tasks=known(float(rows["all"])), random=known(float(rows["random"])), pairs=whole.pairs,
        recipes=whole.recipes, refused=len(found.pairs.refused), claim=whole.claim,
        note="" if whole.claim else "no claim: 30 pairs needed",
    )  # fmt: skip


def stability_line(found: Stability) -> StabilityLine:
    """Classes and places without each family."""
    lost = found.families[found.families["note"] != ""]
    note = f"{len(lost)} families could not be left out" if len(lost) else ""
    if not found.measured:
        return StabilityLine(
            families=0, changed=None, worst=None, worst_changed=None, unstable=None, places=None,
            note=note or "fewer than two families",
        )  # fmt: skip
    worst, share = found.worst
    told = found.families[found.families["note"] == ""]
    moves = told[["joined", "left"]].map(lambda names: len(names.split(", ")) if names else 0).sum(axis=1)
    return StabilityLine(
        families=found.measured, changed=found.mean, worst=worst, worst_changed=share,
        unstable=found.unstable, places=float(moves.mean()), note=note,
    )  # fmt: skip
