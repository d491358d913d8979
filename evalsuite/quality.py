"""Does the way a suite is chosen hold up on models and benchmarks it has not seen?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from evalsuite.objective import Objective, balanced, moments
from evalsuite.thinning import FOLDS, Offer, choose, folds_of, item_noise, split
from scaling.errors import StagewiseError
from scaling.laws import Array

SPLITS = 10  # of the benchmarks into candidates and target
ASIDE = 1 / 3  # share of the benchmarks that are the target of a split
DRAWS = 100  # random suites of each split
NOISES = 8  # draws of item noise behind a score of fewer items
OURS, ALL, RANDOM, SINGLE, STANDARD = "suite", "all tasks", "random", "single best", "OLMES ten"


@dataclass(frozen=True)
class Quality:
    """Agreement of suites chosen on some models with held-out benchmarks on other models.

    Attributes:
        rows: one per way to choose: agreement (mean over splits), low, high (95%, resampling runs or
            recipes), cost (share of all tasks'), tasks (mean number). `random` is the mean over equally
            costly random suites; its low and high are their 5th and 95th percentile, as means over splits.
        difference: agreement of the suite less that of all tasks: estimate, low, high.
        above: share of the equally costly random suites that the suite beats, mean over splits.
        random_means: 5th and 95th percentile of what random choosing reaches on average over the splits: the
            bar for a way to choose, where the percentiles of `random` are those of single suites, luck
            with one target and few models included.
        kind: of the objective. splits: how many. groups: recipes or clusters of runs.
    """

    rows: pd.DataFrame
    difference: tuple[float, float, float]
    above: float
    random_means: tuple[float, float]
    kind: str
    splits: int
    groups: int
    records: pd.DataFrame = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per way to choose."""
        return self.rows

    def _repr_html_(self) -> str:
        return self.rows.to_html(index=False)


def assess(
    objective: Objective,
    offer: Offer,
    share: float,
    *,
    standard: Sequence[str] = (),
    beyond: float | None = None,
    splits: int = SPLITS,
    draws: int = DRAWS,
    resamples: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Quality:
    """Choose on some models, judge on others, against benchmarks that no choice could see.

    For every split a third of the benchmarks becomes the target and the rest the candidates; for every fold
    of the runs (or recipes) suites are chosen on the other folds, and their scores on the fold are compared
    with the target's mean there: Spearman's rank correlation over all folds for runs (what the curves leave
    of their scores), the share of pairs ordered alike for recipes. Item noise of a suite that asks fewer
    items is drawn from its closed form, which is too much for two models on the same items. Candidates
    without evidence have no part in it.

    Args:
        objective: the evidence. offer: costs of its candidates.
        share: budget, of the cost of all candidates of a split.
        standard: benchmarks of a suite to set beside it, such as the ten of OLMES.
        beyond: log10 FLOPs that points must exceed to be judged on ("at larger scale").

    Raises:
        StagewiseError: fewer than four benchmarks, fewer groups than folds, or no split to judge on.
    """
    rng = np.random.default_rng(seed)
    # A column of nothing would cost its tokens, and agree with nothing, without having been judged.
    objective, offer = objective.candidates(objective.told()), offer.of(objective.told())
    benchmarks = np.unique(objective.benchmarks)
    groups = np.unique(objective.groups)
    if len(benchmarks) < 4 or len(groups) < FOLDS:
        raise StagewiseError(
            f"quality of a suite: {len(benchmarks)} benchmark(s) and {len(groups)} run(s) or recipe(s); "
            f"4 and {FOLDS} are needed"
        )
    records: list[dict] = []
    judged: list[tuple[np.ndarray, dict[str, Array], Array, np.ndarray]] = []
    for number in range(splits):
        aside = rng.permutation(benchmarks)[: max(2, round(ASIDE * len(benchmarks)))]
        at = np.flatnonzero(~np.isin(objective.benchmarks, aside))
        goal = objective.against(aside)
        # What is chosen by must not hold what is judged by, not even its scores of other models.
        part = objective.candidates(at).against(np.setdiff1d(objective.target_benchmarks, aside))
        if not goal.target.shape[1] or not part.target.shape[1]:
            continue
        found = _split(part, goal.goal(), offer.of(at), share, standard, beyond, draws, rng)
        judged.append(found[:4])
        records += [{"split": number, **row} for row in found[4]]
        if progress:
            progress(number + 1, splits)
    if not records:
        raise StagewiseError(
            f"quality of a suite: none of {splits} splits has points to judge on and benchmarks to judge by; "
            "give scores of the same models on more benchmarks"
        )
    return _summary(objective, judged, pd.DataFrame(records), resamples, seed)


def _split(
    objective: Objective, goal: Array, offer: Offer, share: float, standard, beyond, draws: int, rng
):  # fmt: skip
    budget = share * offer.full
    count = len(objective.keys)
    fold = folds_of(objective.groups, FOLDS, int(rng.integers(1 << 30)))
    far = np.ones(len(goal), dtype=bool) if beyond is None else objective.x > beyond
    randoms = [_random(offer, budget, rng) for _ in range(draws)]
    scores: dict[str, Array] = {}
    sizes: dict[str, list[tuple[float, float]]] = {}
    held_rows = np.zeros(len(goal), dtype=bool)

    def judge(name: str, items: Array, held: np.ndarray) -> None:
        at = np.flatnonzero(items > 0)
        weights = balanced(objective.benchmarks[at])
        extra = item_noise(objective, offer, items)[at]
        values = objective.small[np.ix_(held, at)] @ weights
        noise = np.sqrt((weights**2) @ extra)
        drawn = values[None] + noise * rng.standard_normal((NOISES, len(values))) if noise > 0 else values
        scores.setdefault(name, np.full((NOISES, len(goal)), np.nan))[:, held] = drawn
        sizes.setdefault(name, []).append((len(at), offer.cost(items) / offer.full))

    listed = np.isin(objective.benchmarks, list(standard))
    for k in range(FOLDS):
        learn, held = split(objective, fold, k)
        held &= far
        if not held.any() or learn.sum() < 4:
            continue
        held_rows |= held
        known = objective.rows(learn)
        items, _ = choose(known, offer, budget)
        judge(OURS, items, held)
        judge(ALL, offer.items.astype(float), held)
        pull = moments(known, 0.0).pull
        judge(SINGLE, np.where(np.arange(count) == int(pull.argmax()), offer.items, 0.0), held)
        if listed.any():
            judge(STANDARD, np.where(listed, offer.items, 0.0), held)
        for i, items in enumerate(randoms):
            judge(f"{RANDOM} {i}", items, held)
    rows = []
    for name, values in scores.items():
        found = float(np.mean([agreement(objective.kind, v[held_rows], goal[held_rows]) for v in values]))
        tasks, cost = np.mean(sizes[name], axis=0)
        rows.append({"choice": name, "agreement": found, "tasks": tasks, "cost": cost})
    kept = {name: values for name, values in scores.items() if not name.startswith(RANDOM)}
    return held_rows, kept, goal, objective.groups, rows


def _random(offer: Offer, budget: float, rng) -> Array:
    """Random tasks, with all their items, as long as the budget holds."""
    cost = offer.items * offer.per_item
    items, spent = np.zeros(len(cost)), 0.0
    for i in rng.permutation(len(cost)):
        if spent + cost[i] <= budget:
            items[i], spent = offer.items[i], spent + cost[i]
    if not items.any():  # nothing fits: the cheapest, which costs more than the budget
        items[int(cost.argmin())] = offer.items[int(cost.argmin())]
    return items


def agreement(kind: str, score: Array, goal: Array, weights: Array | None = None) -> float:
    """Share of pairs ordered alike, or Spearman's correlation, of a suite with its target.

    Args:
        weights: how often each row counts.
    """
    w = np.ones(len(score)) if weights is None else weights
    if kind == "decision accuracy":
        sign = np.sign(score) * np.sign(goal)
        return float((w * (1 + sign) / 2).sum() / w.sum()) if w.sum() else float("nan")
    kept = w > 0
    a, b, w = rankdata(score[kept]), rankdata(goal[kept]), w[kept]
    if len(a) < 3:
        return float("nan")
    a, b = a - np.average(a, weights=w), b - np.average(b, weights=w)
    scale = np.sqrt((w * a * a).sum() * (w * b * b).sum())
    return float((w * a * b).sum() / scale) if scale > 0 else 0.0


def _summary(objective: Objective, judged, records: pd.DataFrame, resamples: int, seed: int) -> Quality:
    rng = np.random.default_rng(seed + 1)
    labels = np.unique(objective.groups)
    place = np.zeros(int(labels.max()) + 1, dtype=int)
    place[labels] = np.arange(len(labels))
    draws = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples).astype(float)
    names = [name for name in (OURS, ALL, STANDARD, SINGLE) if name in set(records["choice"])]
    resampled = {name: np.full((resamples, len(judged)), np.nan) for name in names}
    for s, (held, scores, goal, groups) in enumerate(judged):
        first, second = place[groups[held, 0]], place[groups[held, 1]]
        for d, draw in enumerate(draws):
            # A pair counts as often as both its recipes were drawn, a point as often as its cluster.
            weights = draw[first] * (draw[second] if objective.kind == "decision accuracy" else 1.0)
            for name in names:
                if name in scores:
                    value = agreement(objective.kind, scores[name][0, held], goal[held], weights)
                    resampled[name][d, s] = value
    spread = {name: np.nanmean(values, axis=1) for name, values in resampled.items()}
    estimate = {name: float(records.loc[records["choice"] == name, "agreement"].mean()) for name in names}
    rows = []
    for name in names:
        # One draw of item noise stands for all here; the interval is set around their mean.
        low, high = np.quantile(spread[name] - spread[name].mean(), [0.025, 0.975]) + estimate[name]
        mine = records[records["choice"] == name]
        rows.append(
            {"choice": name, "agreement": estimate[name], "low": low, "high": high,
             "tasks": mine["tasks"].mean(), "cost": mine["cost"].mean()}
        )  # fmt: skip
    drawn = records[records["choice"].str.startswith(RANDOM)]
    by_split = drawn.groupby("split")["agreement"]
    ours = records[records["choice"] == OURS].set_index("split")["agreement"]
    # A tie, which small worlds have, is half a win.
    above = float(np.mean([((values < ours[s]) + (values == ours[s]) / 2).mean() for s, values in by_split]))
    means = drawn.groupby("choice")["agreement"].mean()
    rows.insert(
        2,
        {"choice": RANDOM, "agreement": drawn["agreement"].mean(),
         "low": by_split.quantile(0.05).mean(), "high": by_split.quantile(0.95).mean(),
         "tasks": drawn["tasks"].mean(), "cost": drawn["cost"].mean()},
    )  # fmt: skip
    gap = spread[OURS] - spread[ALL]
    centre = estimate[OURS] - estimate[ALL]
    low, high = np.quantile(gap - gap.mean(), [0.025, 0.975]) + centre
    return Quality(
        pd.DataFrame(rows), (centre, float(low), float(high)), above,
        (float(means.quantile(0.05)), float(means.quantile(0.95))), objective.kind, len(judged),
        len(labels), records,
    )  # fmt: skip
