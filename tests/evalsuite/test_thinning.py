"""Choosing under a budget: what is kept, what goes first, and how near the best it comes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.objective import Objective, balanced, moments
from evalsuite.thinning import FEWEST, FOLDS, STRENGTHS, Offer, choose, folds_of, split, thin
from scaling.laws import Array
from tests.evalsuite.world import offer, one_factor

WORLD = one_factor(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]), sampling=0.2)
KNOWN = moments(WORLD, 0.3)
sizes = st.lists(st.integers(1, 20_000), min_size=8, max_size=8)
costs = st.lists(st.floats(1.0, 1000.0), min_size=8, max_size=8)


def log_agreement(objective: Objective, known, given: Offer, items: Array) -> float:
    """ln r of a suite as `thin` states it, written from its formula."""
    on = items > 0
    if not on.any():
        return -np.inf
    w = np.zeros(len(items))
    w[on] = balanced(objective.benchmarks[on])
    extra = np.where(on, objective.sampling * (given.items / np.where(on, items, 1.0) - 1.0), 0.0)
    return float(np.log(w @ known.pull) - 0.5 * np.log(w @ known.rho @ w + (w**2) @ extra))


@settings(max_examples=60)
@given(sizes, costs, st.floats(0.01, 1.0), st.booleans())
def test_the_budget_is_kept(items, per_item, share: float, whole: bool) -> None:
    """Property: no suite costs more than its budget, and no task is asked more items than it has."""
    given_ = offer(items, per_item, whole=whole)
    found = thin(WORLD, KNOWN, given_, share * given_.full)
    assert given_.cost(found) <= share * given_.full * (1 + 1e-6)
    assert ((found >= 0) & (found <= given_.items)).all() and (found == found.round()).all()
    least = given_.items if whole else np.minimum(given_.items, FEWEST)
    assert (found[found > 0] >= least[found > 0]).all()
    # Something is asked wherever something fits.
    assert found.any() == bool((least * given_.per_item <= share * given_.full).any())


@settings(max_examples=30)
@given(sizes, costs, st.floats(0.001, 1.0), st.sets(st.integers(0, 7), min_size=1), st.booleans())
def test_what_must_stay_is_never_touched(items, per_item, share, kept, whole) -> None:
    """Property: kept tasks keep all their items, and what is left of the budget binds the others."""
    given_ = offer(items, per_item, kept=kept, whole=whole)
    found = thin(WORLD, KNOWN, given_, share * given_.full)
    at = sorted(kept)
    assert (found[at] == given_.items[at]).all()
    assert given_.cost(found) <= max(share * given_.full, given_.of(np.array(at)).full) * (1 + 1e-6)


def test_a_large_budget_changes_nothing_and_a_tiny_one_leaves_nothing() -> None:
    given_ = offer([100] * 8, 10.0)
    assert (thin(WORLD, KNOWN, given_, given_.full) == given_.items).all()
    assert not thin(WORLD, KNOWN, given_, 900.0).any()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
def test_whole_asks_all_or_nothing(share: float) -> None:
    given_ = offer([100, 900, 5000, 400, 10_000, 70, 2500, 1200], [50, 10, 30, 70, 5, 200, 20, 90])
    found = thin(WORLD, KNOWN, given_, share * given_.full)
    assert np.isin(found, [0.0, *given_.items]).all() and ((found == 0) | (found == given_.items)).all()


def test_part_of_the_items_is_asked_unless_whole_says_otherwise() -> None:
    given_ = offer([4000] * 8, 10.0, whole=False)
    part = thin(WORLD, KNOWN, given_, 0.3 * given_.full)
    assert ((part > 0) & (part < given_.items)).any()


def test_a_task_too_large_for_the_budget_does_not_push_out_what_fits() -> None:
    """Planted: two tasks say something and cost 20 budgets each, two say nearly nothing and fit."""
    world = one_factor(np.array([0.9, 0.9, 0.05, 0.05]))
    given_ = offer([1000, 1000, 100, 100], [100.0, 100.0, 25.0, 25.0])
    found = thin(world, moments(world, 0.0), given_, 5000.0)
    assert found[:2].tolist() == [0, 0] and found[2:].any()


def twins(seed: int = 0) -> Objective:
    """Six like tasks, of which 1 and 2 are one column and both parts of one benchmark."""
    found = one_factor(np.full(6, 0.6), benchmarks=["a", "t", "t", "b", "c", "d"], seed=seed)
    values = found.small.copy()
    values[:, 2] = values[:, 1]
    return replace(found, small=values, target=values)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strength", [0.0, *STRENGTHS])
def test_of_two_tasks_that_say_the_same_one_goes_first(seed: int, strength: float) -> None:
    """Planted: two identical columns of one benchmark; room for five tasks of six, at one price. Without
    shrinkage dropping one of them changes nothing at all."""
    world = twins(seed)
    given_ = offer([100] * 6, 1.0)
    found = thin(world, moments(world, strength), given_, 500.0)
    assert (found == 0).sum() == 1 and found[[1, 2]].min() == 0
    if strength == 0.0:
        every = log_agreement(world, moments(world, 0.0), given_, given_.items)
        assert log_agreement(world, moments(world, 0.0), given_, found) == pytest.approx(every)


@pytest.mark.parametrize("seed", range(5))
def test_noise_goes_before_signal_at_one_price(seed: int) -> None:
    """Planted: three of eight tasks share nothing with the others; five fit."""
    load = np.array([0.7, 0.0, 0.7, 0.7, 0.0, 0.7, 0.0, 0.7])
    world = one_factor(load, seed=seed)
    for strength in (0.0, 0.3, 0.6):
        found = thin(world, moments(world, strength), offer([100] * 8, 1.0), 500.0)
        assert ((found > 0) == (load > 0)).all()


@pytest.mark.parametrize("seed", range(12))
def test_no_subset_is_much_better(seed: int) -> None:
    """Oracle: all 63 subsets of six tasks. Ours is within 0.05 of the best log agreement (5% of r)."""
    ours, best = against_all_subsets(seed)
    assert best - 0.05 <= ours <= best + 1e-9


def test_the_best_subset_is_often_found() -> None:
    """Oracle: all subsets, in twelve worlds."""
    gaps = [best - ours for ours, best in map(against_all_subsets, range(12))]
    assert np.mean(np.array(gaps) < 1e-9) >= 0.5


def against_all_subsets(seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    world = one_factor(rng.uniform(0.2, 0.9, 6), seed=seed)
    given_ = offer(rng.integers(50, 2000, 6), rng.uniform(10, 200, 6))
    budget, known = 0.4 * given_.full, moments(world, 0.3)
    subsets = [np.array(bits) * given_.items for bits in product([0.0, 1.0], repeat=6)]
    best = max(log_agreement(world, known, given_, one) for one in subsets if given_.cost(one) <= budget)
    return log_agreement(world, known, given_, thin(world, known, given_, budget)), best


def test_items_shrink_before_variety_is_lost_where_items_are_plenty() -> None:
    """Planted: item noise is a ten-thousandth of the variance, so an eighth of the items will do."""
    world = one_factor(np.full(8, 0.5), sampling=1e-4)
    given_ = offer([8000] * 8, 10.0, whole=False)
    found = thin(world, moments(world, 0.3), given_, 0.2 * given_.full)
    assert (found > 0).all() and (found < 8000).all()
    noisy = one_factor(np.full(8, 0.5), sampling=0.9)
    lost = thin(noisy, moments(noisy, 0.3), given_, 0.2 * given_.full)
    assert (lost > 0).sum() < 8


def test_what_is_left_over_is_spent() -> None:
    """Planted: dropping the task of 600 tokens leaves 400 unspent, enough for the one of 300 again."""
    world = one_factor(np.full(4, 0.7))
    given_ = offer([600, 300, 200, 100], 1.0)
    found = thin(world, moments(world, 0.9), given_, 600.0)
    assert given_.cost(found) == 600.0 and found.tolist() == [0, 300, 200, 100]


@settings(max_examples=20)
@given(st.permutations(range(8)), st.booleans(), st.sampled_from([0.2, 0.5]))
def test_the_order_of_candidates_has_no_part_in_it(order, whole, share) -> None:
    """Property: candidates in another order get the same items."""
    at = np.array(order)
    given_ = offer(
        [100, 900, 5000, 400, 10_000, 70, 2500, 1200], [50, 10, 30, 70, 5, 200, 20, 90], whole=whole
    )
    moved = WORLD.candidates(at)
    found = thin(WORLD, KNOWN, given_, share * given_.full)
    assert thin(moved, moments(moved, 0.3), given_.of(at), share * given_.full).tolist() == found[at].tolist()
    assert thin(WORLD, KNOWN, given_, share * given_.full).tolist() == found.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_strength_is_one_that_was_tried_and_the_same_again(seed: int) -> None:
    given_ = offer([1000] * 8, 10.0, whole=False)
    items, strength = choose(WORLD, given_, 0.3 * given_.full, seed=seed)
    assert strength in STRENGTHS
    again, same = choose(WORLD, given_, 0.3 * given_.full, seed=seed)
    assert (again == items).all() and same == strength
    assert (items == thin(WORLD, moments(WORLD, strength), given_, 0.3 * given_.full)).all()


def test_few_groups_take_the_strongest_shrinkage() -> None:
    """Planted: two groups of two points; no fold can be learned from."""
    world = one_factor(np.full(5, 0.5), rows=4, groups=2)
    assert choose(world, offer([100] * 5, 1.0), 250.0)[1] == STRENGTHS[-1]


def test_groups_stay_whole_and_folds_are_even() -> None:
    """Property: every group in one fold; no row to learn from shares a group with the held-out fold."""
    groups = np.random.default_rng(0).integers(0, 23, (200, 2))
    fold = folds_of(groups, FOLDS, 3)
    counts = np.bincount(fold[np.unique(groups)], minlength=FOLDS)
    assert np.ptp(counts) <= 1
    world = replace(one_factor(np.full(3, 0.5), rows=200), groups=groups)
    for k in range(FOLDS):
        learn, held = split(world, fold, k)
        assert not (learn & held).any() and (learn | held).all()
        assert not (fold[groups[learn]] == k).any()
