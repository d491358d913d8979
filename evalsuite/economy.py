"""A selection made to fit a budget: which tasks stay, with how many items, and what each weighs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from evalsuite.allocation import allocate, standard_error
from evalsuite.cost import Cost, cost_of
from evalsuite.objective import ITEM_SPREAD, Objective, balanced, from_curves, from_recipes
from evalsuite.quality import Quality, assess
from evalsuite.select import Decision, Selection
from evalsuite.settings import Entry
from evalsuite.thinning import FEWEST, Offer, choose
from scaling.errors import StagewiseError, UsageError
from scaling.item_sizes import ItemSize
from scaling.item_subsets import choose_items
from scaling.items import ItemScores
from scaling.metrics import metric_info
from scaling.scores import ScoreTable
from scaling.stage import Stage
from scaling.tasks import benchmark_of, task_info

ObjectiveName = Literal["clusters", "decision-accuracy"]
# The ten tasks of OLMES (Gu et al. 2024, arXiv:2406.08446), as scaling/facts/tasks.csv names benchmarks.
OLMES = (
    "ARC-Challenge", "ARC-Easy", "BoolQ", "CommonsenseQA", "HellaSwag", "MMLU", "OpenBookQA", "PIQA",
    "SIQA", "Winogrande",
)  # fmt: skip
LARGEST = 1e30  # no run has this many FLOPs: the open end of "larger than the stage"


class Budget(Entry):
    """What one model may cost: a share of all that qualifies, or tokens.

    Example:
        >>> Budget.parse("20%").share
        0.2
    """

    share: Annotated[float, Field(gt=0, le=1)] | None = None
    tokens: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `20%` or a number of tokens such as `5e6`; a `UsageError` says what is valid."""
        try:
            if text.strip().endswith("%"):
                share = float(text.strip()[:-1]) / 100.0
                if not 0 < share <= 1:
                    raise ValueError("not above 0 and at most 100")
                return cls(share=share)
            tokens = float(text)
            if not 100 < tokens < LARGEST:  # nobody evaluates on so few; a share was meant
                raise ValueError(f"no number of tokens; {text.strip()}% is a share")
            return cls(tokens=tokens)
        except ValueError as error:
            raise UsageError(
                f"budget {text!r}: {error}; valid is a share of the full cost, as 20%, or tokens, as 5e6"
            ) from error

    def of(self, full: float) -> float:
        """Tokens, where everything costs `full`."""
        return self.share * full if self.share is not None else float(self.tokens or full)

    def __str__(self) -> str:
        return f"{100 * self.share:g}%" if self.share is not None else f"{self.tokens:.12g}"


@dataclass(frozen=True)
class Economy:
    """What a budget did.

    Attributes:
        objective: what tasks were chosen for; None where all weigh by their cluster alone.
        budget: as asked; None where there was none.
        full, cost: tokens of all candidates, and of the suite.
        error: standard error of the suite's score on the items asked against all items of its tasks.
        basis: how many costs are measured, from facts, assumed.
        quality: of choosing like this, cross-validated; None where it cannot be measured, for the reason
            in `unmeasured`.
        shrinkage: strength of the shrinkage that cross-validation chose; None without a choice.
    """

    objective: Objective | None
    budget: Budget | None
    full: float
    cost: float
    error: float
    basis: Mapping[str, int]
    quality: Quality | None
    unmeasured: str
    shrinkage: float | None


def economise(
    selection: Selection,
    table: ScoreTable,
    stage: Stage,
    *,
    objective: ObjectiveName,
    budget: Budget | None,
    whole: bool = False,
    measured: Mapping[str, ItemSize] | None = None,
    items: Sequence[ItemScores] = (),
    se: float | None = None,
    forced: Collection[tuple[str, str]] = (),
    seed: int = 0,
    progress=None,
) -> tuple[Selection, Economy]:
    """Put costs to a selection, and cut it down to a budget.

    With `decision-accuracy` the scored tasks are those that keep the suite in agreement with the benchmarks
    outside it for the fewest tokens (see `evalsuite.thinning.thin`), each benchmark weighing the same. The
    evidence are pairs of recipes with runs in the stage and above it where there are 30 or more, else what
    the curves leave of the models' scores.

    Args:
        selection: what qualified, by `evalsuite.select.select`.
        table: the scores. stage: of the suite.
        whole: never ask part of a task's items.
        measured: sizes of the items at hand.
        items: per-item results: of a benchmark asked in part, the items with most information in the stage
            are named.
        se: ask no more items than keep the standard error of the suite's score (against all items of its
            tasks) under this, in comparable units: the chance-corrected share right, the relative loss.
        forced: task and metric of what an override keeps, with all its items.
        seed: of the folds.
        progress: called with (splits done, splits) while the quality is measured.

    Raises:
        StagewiseError: a budget that no task fits, or per-item results that do not fit their task.
    """
    if se is not None and whole:
        raise UsageError("se: asks part of the items; drop it or --whole")
    kept = [item for item in selection.decisions if item.verdict == "kept"]
    costs = [cost_of(one.key, task_info(one.key.task), one.candidate.items, measured) for one in kept]
    offer = Offer(
        np.array([cost.items for cost in costs], dtype=float),
        np.array([cost.per_item for cost in costs]),
        np.array([(one.key.task, one.key.metric) in forced for one in kept], dtype=bool),
        whole,
        np.array([one.cluster or 0 for one in kept]),
    )
    basis = {name: sum(cost.basis == name for cost in costs) for name in ("measured", "facts", "assumed")}
    found, quality, unmeasured, strength = None, None, "", None
    asked = offer.items.astype(int)
    silent = np.zeros(0, dtype=int)
    if objective == "decision-accuracy":
        found = _objective(kept, table, stage)
        if budget is not None and budget.of(offer.full) < offer.full:
            if found is None:
                raise StagewiseError("budget: too few points hold these tasks; give scores of more models")
            # A task scored on other models than the rest says nothing about agreeing with it.
            told = np.union1d(found.told(), np.flatnonzero(offer.kept))
            chosen, strength = choose(
                found.candidates(told), offer.of(told), budget.of(offer.full), seed=seed
            )
            asked = np.zeros(len(kept), dtype=int)
            asked[told] = chosen.astype(int)
            silent = np.setdiff1d(np.arange(len(kept)), told)
            if not asked.any():
                fewest = offer.items if whole else np.minimum(offer.items, FEWEST)
                raise StagewiseError(
                    f"budget {budget}: {budget.of(offer.full):,.0f} tokens are less than any task costs; the "
                    f"cheapest takes {(fewest * offer.per_item).min():,.0f}"
                    f"{'' if whole else f' (at up to {FEWEST} items)'}; give as much"
                )
        if found is None:
            unmeasured = "too few points hold half of the tasks"
        else:
            share = 1.0 if budget is None else min(budget.of(offer.full) / offer.full, 1.0)
            try:
                quality = assess(found, offer, share, standard=OLMES, seed=seed, progress=progress)
            except StagewiseError as error:
                unmeasured = str(error)
    weights = _weights(kept, asked, objective)
    spread = np.array([_item_spread(one, stage, items) for one in kept])
    if se is not None:
        on = (asked > 0) & ~offer.kept
        asked[on] = np.minimum(
            allocate(weights[on], spread[on], offer.per_item[on], offer.items[on], se), asked[on]
        )
    on = asked > 0
    error = float(standard_error(weights[on], spread[on], asked[on], offer.items[on]))
    decided = _decided(selection, kept, costs, asked, weights, set(silent.tolist()), budget, items, stage)
    cost = offer.cost(asked)
    economy = Economy(found, budget, offer.full, cost, error, basis, quality, unmeasured, strength)
    return Selection(decided, selection.criterion), economy


def _objective(kept: Sequence[Decision], table: ScoreTable, stage: Stage) -> Objective | None:
    curves = [one.candidate.curve for one in kept if one.candidate.curve is not None]
    try:
        latent = from_curves(curves)
    except StagewiseError:
        return None
    keys = [one.key for one in kept]
    return from_recipes(table, keys, *scales_of(stage), sampling=latent.sampling) or latent


def scales_of(stage: Stage) -> tuple[tuple[float, float], tuple[float, float]]:
    """Compute of the runs that decide, inside the stage, and of those decided about, above it."""
    return (stage.low, stage.high), (stage.high * (1 + 1e-9), LARGEST)


def _weights(kept: list[Decision], asked: np.ndarray, objective: ObjectiveName) -> np.ndarray:
    """Weight of each kept task, [K]; 0 for one that the budget drops."""
    if objective == "clusters":
        return np.array([one.weight or 0.0 for one in kept])
    weights = np.zeros(len(kept))
    scored = np.flatnonzero(asked > 0)
    weights[scored] = balanced(np.array([benchmark_of(kept[i].key.task) for i in scored]))
    return weights


def _item_spread(one: Decision, stage: Stage, items: Sequence[ItemScores]) -> float:
    """Standard deviation of one item's score in comparable units, where the stage's middle lies."""
    curve = one.candidate.curve
    share = metric_info(one.key.metric).family == "proportion"
    unit = 1.0 - (task_info(one.key.task).chance or 0.0)
    for scores in items:
        if scores.task == one.key.task and scores.metric == one.key.metric:
            # Between two models on the same items only the difference varies; this is one model's.
            spread = float(scores.scores.std(axis=1).mean())
            return spread / (unit if share else max(float(scores.scores.mean()), 1e-9))
    if curve is None or not share:
        return ITEM_SPREAD
    x = np.clip(np.log10(np.sqrt(stage.low * stage.high)), *curve.span)
    level = float(np.clip(curve.values(np.array([x]))[0, 0], 0.0, 1.0))
    return float(np.sqrt(max(level * (1 - level), 0.0099))) / unit


def _decided(
    selection: Selection, kept: list[Decision], costs: list[Cost], asked: np.ndarray, weights: np.ndarray,
    silent: set[int], budget: Budget | None, items: Sequence[ItemScores], stage: Stage,
) -> tuple[Decision, ...]:  # fmt: skip
    place = {one.key: i for i, one in enumerate(kept)}
    alive = {kept[i].cluster for i in np.flatnonzero(asked > 0)}
    out = []
    for one in selection.decisions:
        if one.verdict == "kept":
            i = place[one.key]
            if not asked[i]:
                reason = f"over the budget of {budget}: adds least for its {costs[i].tokens:,} tokens"
                if i in silent:
                    reason = f"within a budget only what can be compared: scored on other models ({budget})"
                out.append(Decision(one.candidate, "dropped", reason))
                continue
            one = replace(one, asked=int(asked[i]), cost=replace(costs[i], items=int(asked[i])))
            one = replace(one, weight=float(weights[i]))
            if asked[i] < costs[i].items:
                one = replace(one, named=_named(one, costs[i].items, items, stage))
        elif one.verdict == "held-out" and one.cluster not in alive:
            reason = f"held out of a cluster of which the budget of {budget} leaves no task"
            one = Decision(one.candidate, "dropped", reason)
        out.append(one)
    return _renumbered(out)


def _renumbered(decisions: list[Decision]) -> tuple[Decision, ...]:
    """Clusters numbered from 1 again, in their old order."""
    left = sorted({one.cluster for one in decisions if one.cluster is not None})
    number = {old: new for new, old in enumerate(left, 1)}
    return tuple(
        one if one.cluster is None else replace(one, cluster=number[one.cluster]) for one in decisions
    )


def _named(one: Decision, total: int, items: Sequence[ItemScores], stage: Stage) -> tuple[str, ...] | None:
    """The items to ask, where their results are at hand, in order of the benchmark."""
    for scores in items:
        if scores.task != one.key.task:
            continue
        if scores.n_items != total:
            raise StagewiseError(
                f"items of {scores.task}: results of {scores.n_items:,} items, the scores are of {total:,}; "
                "give per-item results of the same split"
            )
        low, high = max(stage.low, scores.flops.min()), min(stage.high, scores.flops.max())
        if one.asked is None or not low < high:  # no results inside the stage: nothing to choose by
            return None
        found = choose_items(scores, low, high, one.asked)
        return tuple(str(scores.ids[i]) for i in sorted(found.index))
    return None
