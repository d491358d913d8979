"""Shares ordered alike: closed forms, Kendall's tau, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scaling.agreement import decision_accuracy, intervals, share_alike
from scaling.errors import UsageError

LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def series(*values: float) -> pd.Series:
    return pd.Series(values, index=LETTERS[: len(values)], dtype=float)


def test_perfect_and_reversed_order() -> None:
    """Closed form: 1 and 0, and an interval that does not collapse on three pairs."""
    same = decision_accuracy(series(1, 2, 3), series(10, 20, 30))
    assert (same.share, same.pairs, same.ties, same.kendall) == (1.0, 3, 0, pytest.approx(1.0))
    assert same.low < 0.5 and same.high == 1.0
    turned = decision_accuracy(series(1, 2, 3), series(3, 2, 1))
    assert (turned.share, turned.low) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert turned.high == pytest.approx(1 - same.low)


def test_a_tie_counts_half_on_either_side() -> None:
    """Closed form: of three pairs one is tied small, one tied large, one alike: (1 + 1/2 + 1/2) / 3."""
    found = decision_accuracy(series(1, 1, 2), series(1, 2, 2))
    assert (found.alike, found.ties, found.pairs) == (1, 2, 3)
    assert found.share == pytest.approx(2 / 3)


def test_a_tolerance_is_for_each_side() -> None:
    """Closed form: differences of 1 are ties at tolerance 1, on the side that has it."""
    small, target = series(1, 2, 4), series(3, 2, 1)
    assert decision_accuracy(small, target, ties=(1.0, 0.0)).ties == 1
    assert decision_accuracy(small, target, ties=(0.0, 1.0)).ties == 2
    assert decision_accuracy(small, target, ties=3.0).share == 0.5
    with pytest.raises(UsageError, match="ties"):
        decision_accuracy(small, target, ties=-1.0)


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_the_share_is_kendalls_tau_without_ties(x, y) -> None:
    """Oracle: scipy.stats.kendalltau; share = (tau + 1) / 2."""
    found = decision_accuracy(series(*x), series(*y), resamples=10)
    assert found.share == pytest.approx((stats.kendalltau(x, y).statistic + 1) / 2)
    assert found.kendall == pytest.approx(stats.kendalltau(x, y).statistic)
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=9))
def test_monotone_transforms_change_nothing(points) -> None:
    """Property: the share and its interval depend on order alone."""
    x, y = np.array(points, dtype=float).T
    plain = decision_accuracy(series(*x), series(*y), resamples=50)
    bent = decision_accuracy(series(*np.exp(x / 5)), series(*(y**3)), resamples=50)
    for name in ("share", "low", "high", "ties", "pairs"):
        assert getattr(plain, name) == pytest.approx(getattr(bent, name), nan_ok=True)
    assert plain.low <= plain.share <= plain.high


def test_the_sides_change_places_freely() -> None:
    """Property of the definition: it is symmetric."""
    rng = np.random.default_rng(0)
    x, y = series(*rng.normal(size=8)), series(*rng.normal(size=8))
    one, two = decision_accuracy(x, y), decision_accuracy(y, x)
    assert (one.share, one.low, one.high) == pytest.approx((two.share, two.low, two.high))


def test_recipes_are_aligned_and_nan_is_dropped() -> None:
    """Planted: only a and c are on both sides with a score."""
    small = pd.Series({"c": 3.0, "b": np.nan, "a": 1.0})
    target = pd.Series({"a": 5.0, "b": 1.0, "c": 9.0, "d": 0.0})
    found = decision_accuracy(small, target)
    assert (found.pairs, found.recipes, found.share) == (1, 2, 1.0)


def test_given_pairs_alone_are_compared() -> None:
    """Closed form: of pairs (a, b) and (a, c) one is alike."""
    pairs = np.array([[0, 1], [0, 2]])
    found = decision_accuracy(series(1, 2, 3), series(1, 2, 0), pairs=pairs)
    assert (found.share, found.pairs, found.recipes) == (0.5, 2, 3)
    with pytest.raises(UsageError, match="paired with itself"):
        decision_accuracy(series(1, 2), series(1, 2), pairs=np.array([[1, 1]]))
    with pytest.raises(UsageError, match="positions up to 7"):
        decision_accuracy(series(1, 2), series(1, 2), pairs=np.array([[0, 7]]))


def test_no_claim_below_thirty_pairs() -> None:
    """Closed form: 8 recipes make 28 pairs, 9 make 36."""
    rng = np.random.default_rng(1)
    few = decision_accuracy(series(*rng.normal(size=8)), series(*rng.normal(size=8)))
    many = decision_accuracy(series(*rng.normal(size=9)), series(*rng.normal(size=9)))
    assert not few.claim and "no claim: 28 pairs, 30 needed" in str(few)
    assert many.claim and "no claim" not in str(many)
    assert few.to_frame()["claim"].tolist() == [False]


def test_no_pair_gives_no_figure() -> None:
    found = decision_accuracy(series(1.0), series(2.0))
    assert found.pairs == 0 and np.isnan([found.share, found.low, found.high, found.kendall]).all()


def test_weights_are_multiplicities() -> None:
    """Oracle: the share of the pairs written out as often as their weight says."""
    rng = np.random.default_rng(2)
    dx, dy = rng.normal(size=(20, 3)), rng.normal(size=20)
    weight = rng.integers(0, 4, size=(5, 20))
    found = share_alike(dx, dy, weight)
    for one, row in zip(weight, found, strict=True):
        assert row == pytest.approx(share_alike(dx.repeat(one, axis=0), dy.repeat(one)))


def test_a_difference_that_is_not_known_is_left_out() -> None:
    dx = np.array([[1.0, np.nan], [1.0, np.nan]])
    found = share_alike(dx, np.array([1.0, -1.0]))
    assert found[0] == 0.5 and np.isnan(found[1])


def test_many_columns_at_once_are_the_columns_one_by_one() -> None:
    """Oracle: the same function on one column; the last column lacks pairs."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(7, 4)), rng.normal(size=(7, 4))
    x[0, 3] = np.nan
    index = np.column_stack(np.triu_indices(7, 1))
    dx, dy = (side[index[:, 0]] - side[index[:, 1]] for side in (x, y))
    whole = np.array(intervals(dx, dy, index, resamples=200))
    for i in range(3):
        assert whole[:, i] == pytest.approx(np.array(intervals(dx[:, i], dy[:, i], index, resamples=200)))
    assert whole[0, 3] == pytest.approx(share_alike(dx[6:, 3], dy[6:, 3]))


@pytest.mark.parametrize(("rho", "recipes"), [(0.0, 8), (0.8, 6), (0.8, 20), (0.99, 6)])
def test_the_interval_covers_the_true_share(rho: float, recipes: int) -> None:
    """Oracle: for normal scores the share is 1/2 + arcsin(rho) / pi. 300 seeded draws, 95% asked.

    A percentile bootstrap covers 48% for six recipes at 0.99; this one may be too wide there, never narrow.
    """
    rng = np.random.default_rng(4)
    true, hits = 0.5 + np.arcsin(rho) / np.pi, 0
    for _ in range(300):
        x = rng.normal(size=recipes)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=recipes)
        index = np.column_stack(np.triu_indices(recipes, 1))
        dx, dy = x[index[:, 0]] - x[index[:, 1]], y[index[:, 0]] - y[index[:, 1]]
        _, low, high = intervals(dx, dy, index, resamples=200)
        hits += low <= true <= high
    assert hits / 300 >= 0.92
