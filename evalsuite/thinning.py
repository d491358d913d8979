"""Which tasks to keep, and how many items of each, when evaluation may cost so much and no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evalsuite.objective import Moments, Objective, balanced, moments
from scaling.laws import Array

FEWEST = 50  # items a task keeps at least
STRENGTHS = (0.3, 0.6, 0.9)  # of the shrinkage, tried by cross-validation
FOLDS = 5
SMALLEST = 1e-4  # gain in log agreement that is worth a further step


@dataclass(frozen=True)
class Offer:
    """What the candidates cost.

    Attributes:
        items: of each, [K]. per_item: tokens of one item, [K].
        kept: candidates that must stay with all their items, [K].
        whole: a task is scored with all its items or not at all.
        cluster: of each, [K]; tasks of one cluster rank models alike. None where that is not known.
    """

    items: Array
    per_item: Array
    kept: np.ndarray
    whole: bool = False
    cluster: np.ndarray | None = None

    @property
    def full(self) -> float:
        """Tokens of everything."""
        return float((self.items * self.per_item).sum())

    def of(self, index: np.ndarray) -> Offer:
        """Some of the candidates, by position."""
        cluster = None if self.cluster is None else self.cluster[index]
        return Offer(self.items[index], self.per_item[index], self.kept[index], self.whole, cluster)

    def cost(self, items: Array) -> float:
        """Tokens of so many items of each."""
        return float((items * self.per_item).sum())


def thin(objective: Objective, known: Moments, offer: Offer, budget: float) -> Array:
    """Items of each candidate under a budget, [K]; 0 drops it.

    A suite's score is the mean over its benchmarks; its correlation with the benchmarks outside is

        r = sum_t w_t pull_t / sqrt(spread * (w' rho w + sum_t w_t^2 s_t (N_t / n_t - 1)))

    with s_t the share of sampling noise at all N_t items and n_t the items asked. Starting from everything,
    the step that costs least of log r per token saved is taken until the budget is met: dropping a task, or
    halving its items (to `FEWEST` at least). Going backwards keeps variety that a forward choice,
    which believes each early gain, never gets to. Where clusters are known and items may be asked in
    part, redundant tasks go first: the last task of a cluster stays while another cluster has two. What the
    last big step saved too much is spent again.

    Args:
        known: of the objective. budget: tokens.
    """
    # What does not fit alone is in no suite; left in, it could be the last one standing.
    fewest = offer.items if offer.whole else np.minimum(offer.items, FEWEST)
    room = budget - offer.of(np.flatnonzero(offer.kept)).full
    on = offer.kept | (fewest * offer.per_item <= room * (1 + 1e-9))
    items = np.where(on, offer.items, 0.0)
    noise = objective.sampling
    while offer.cost(items) > budget * (1 + 1e-9):
        at = np.flatnonzero(on)
        free = ~offer.kept[at]
        # Row 0 is the suite as it is; row 1 + i the suite without task at[i].
        there = np.vstack([np.ones(len(at)), 1.0 - np.eye(len(at))])
        weights = _balanced_rows(there, objective.benchmarks[at])
        rho = known.rho[np.ix_(at, at)]
        extra = item_noise(objective, offer, items)[at]
        pull = weights @ known.pull[at]
        spread = ((weights @ rho) * weights).sum(axis=1) + (weights**2) @ extra
        value = _log_agreement(pull, spread)
        cost = items[at] * offer.per_item[at]
        steps = []
        loose = free & _redundant(offer, at)
        if len(at) > 1 and loose.any():
            loss = np.where(loose, (value[0] - value[1:]) / cost, np.inf)
            steps.append((float(loss.min()), at[int(loss.argmin())], 0.0))
        if not offer.whole:
            fewer = np.maximum(items[at] / 2, np.minimum(FEWEST, items[at]))
            can = free & (fewer < items[at])
            if can.any():
                more = weights[0] ** 2 * noise[at] * (offer.items[at] / fewer - offer.items[at] / items[at])
                drop = value[0] - _log_agreement(np.full(len(at), pull[0]), spread[0] + more)
                saved = np.where(can, (items[at] - fewer) * offer.per_item[at], 1.0)
                loss = np.where(can, drop / saved, np.inf)
                best = int(loss.argmin())
                steps.append((float(loss[best]), at[best], float(np.floor(fewer[best]))))
        if not steps:
            break
        _, task, left = min(steps)
        items[task] = left
        on[task] = left > 0
    return _refilled(objective, known, offer, budget, items)


def _redundant(offer: Offer, at: np.ndarray) -> np.ndarray:
    """Which of the tasks `at` share a cluster with another one; all where none does."""
    if offer.cluster is None or offer.whole:
        return np.ones(len(at), dtype=bool)
    _, place, count = np.unique(offer.cluster[at], return_inverse=True, return_counts=True)
    shared = count[place] > 1
    return shared if (shared & ~offer.kept[at]).any() else np.ones(len(at), dtype=bool)


def _refilled(objective: Objective, known: Moments, offer: Offer, budget: float, items: Array) -> Array:
    """Spend what the last big step left over: more items of a task, or a dropped task again."""
    items = items.copy()
    each = np.eye(len(items), dtype=bool)
    while True:
        room = (budget - offer.cost(items)) / offer.per_item
        size = np.array(
            [_more(*pair, left, offer.whole) for *pair, left in zip(items, offer.items, room, strict=True)]
        )
        can = np.flatnonzero(size > items)
        if not len(can):
            return items
        # Row 0 is the suite as it is; row 1 + i the suite with the next step of task can[i].
        trial = np.vstack([items, np.where(each[can], size[can, None], items)])
        weights = _balanced_rows((trial > 0).astype(float), objective.benchmarks)
        extra = item_noise(objective, offer, trial)
        spread = ((weights @ known.rho) * weights).sum(axis=1) + (weights**2 * extra).sum(axis=1)
        value = _log_agreement(weights @ known.pull, spread)
        best = int(value[1:].argmax())
        if value[1 + best] <= value[0] + SMALLEST:
            return items
        items = trial[1 + best]


def _more(now: float, total: float, room: float, whole: bool) -> float:
    """How many items a task could have next with room for so many more; `now` where none."""
    if whole or now >= total:
        return total if now < total and total - now <= room else now
    if now > 0:
        size = 2 * now if total - 2 * now >= FEWEST else total
        return size if size - now <= room else now
    size = total
    while size > room and size / 2 >= FEWEST:
        size = float(np.floor(size / 2))
    return size if size <= room else now


def _log_agreement(pull: Array, spread: Array) -> Array:
    return np.log(np.maximum(pull, 1e-9)) - 0.5 * np.log(np.maximum(spread, 1e-12))


def _balanced_rows(there: Array, benchmarks: np.ndarray) -> Array:
    """`balanced` for many suites at once: weights of the tasks that each row of `there` [r, k] holds."""
    alike = (benchmarks[:, None] == benchmarks[None, :]).astype(float)
    weights = there / np.maximum(there @ alike, 1.0)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)


def item_noise(objective: Objective, offer: Offer, items: Array) -> Array:
    """Variance that asking `items` [..., K] instead of all adds to each column, `s_t (N_t / n_t - 1)`."""
    return objective.sampling * np.maximum(offer.items / np.maximum(items, 1.0) - 1.0, 0.0)


def folds_of(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which fold each group label belongs to, for labels 0..max; groups stay whole."""
    labels = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(labels))
    fold = np.zeros(int(labels.max()) + 1, dtype=int)
    fold[labels[order]] = np.arange(len(labels)) % count
    return fold


def split(objective: Objective, fold: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from (no group of theirs in fold k) and rows held out (one or both), as masks."""
    inside = fold[objective.groups] == k
    return ~inside.any(axis=1), inside.any(axis=1)


def choose(objective: Objective, offer: Offer, budget: float, *, seed: int = 0) -> tuple[Array, float]:
    """`thin` with the strength of the shrinkage set by cross-validation over recipes or runs.

    Of `STRENGTHS` the strongest whose held-out agreement is within one standard error of the best (Breiman
    et al. 1984), so that doubt keeps variety.

    Returns:
        Items of each candidate, [K], and the strength.
    """
    fold = folds_of(objective.groups, FOLDS, seed)
    found = np.full((len(STRENGTHS), FOLDS), np.nan)
    for k in range(FOLDS):
        learn, held = split(objective, fold, k)
        if learn.sum() < 4 or held.sum() < 2:
            continue
        test = moments(objective.rows(held), 0.0)
        for i, strength in enumerate(STRENGTHS):
            items = thin(objective, moments(objective.rows(learn), strength), offer, budget)
            found[i, k] = _agreement(objective, test, offer, items)
    known = np.isfinite(found).all(axis=0)
    strength = STRENGTHS[-1]
    if known.sum() >= 2:
        mean = found[:, known].mean(axis=1)
        best = int(mean.argmax())
        error = found[best, known].std(ddof=1) / np.sqrt(known.sum())
        strength = max(s for s, value in zip(STRENGTHS, mean, strict=True) if value >= mean[best] - error)
    return thin(objective, moments(objective, strength), offer, budget), strength


def _agreement(objective: Objective, known: Moments, offer: Offer, items: Array) -> float:
    """Correlation of a suite with what is outside it, as `thin` states it."""
    at = np.flatnonzero(items > 0)
    if not len(at):
        return 0.0
    weights = balanced(objective.benchmarks[at])
    extra = item_noise(objective, offer, items)[at]
    spread = weights @ known.rho[np.ix_(at, at)] @ weights + (weights**2) @ extra
    return float(weights @ known.pull[at] / np.sqrt(max(spread, 1e-12) * known.spread))
