"""Evidence of a fall: exact where that can be computed, bounded where it is simulated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from evalsuite import sequential
from evalsuite.sequential import CORRELATION, FEWEST, FIRST, NULLS, Null, fall_evidence, law

X = np.log(np.arange(1.0, 21.0))


def noise(rng: np.random.Generator, count: int, n: int, correlation: float = CORRELATION) -> np.ndarray:
    """Autoregressive, of variance 1."""
    made = rng.standard_normal((count, n))
    for i in range(1, n):
        made[:, i] = correlation * made[:, i - 1] + np.sqrt(1 - correlation**2) * made[:, i]
    return made


@pytest.mark.parametrize(
    ("q", "ff", "left", "df", "size"), [(3.0, 2.0, 9.0, 7.0, 2.0), (1.5, 0.7, 4.0, 4.0, 4.0)]
)
def test_the_ratio_is_just_below_that_of_the_two_likelihoods(q, ff, left, df, size):
    """Oracle: numerical integration over the noise and the half-normal size of the fall."""

    def likelihood(u: float, d: float) -> float:  # u = 1 / s under 1/s ds, up to a constant
        return u ** (df - 1) * np.exp(-(u**2 * left - 2 * u * d * q + d**2 * ff) / 2)

    def fall(d: float, u: float) -> float:
        return likelihood(u, d) * 2 * np.exp(-((d / size) ** 2) / 2) / (size * np.sqrt(2 * np.pi))

    over = integrate.dblquad(fall, 0, 12, 0, 10 * size)[0]
    under = integrate.quad(lambda u: likelihood(u, 0.0), 0, 12)[0]
    arrays = (np.full((1, 1), value) for value in (q, ff, left, df, 0.0))
    found = float(np.exp(sequential._ratio(*arrays, size))[0, 0])
    assert 0.85 * over / under < found <= over / under * (1 + 1e-6)


def test_a_rise_is_no_evidence():
    one = np.ones((1, 1))
    assert sequential._ratio(-one, one, 4 * one, 5 * one, 0 * one, 2.0)[0, 0] == -np.inf


@pytest.mark.parametrize("staying", [True, False])
def test_expectation_is_at_most_one_under_the_null(monkeypatch, staying):
    """Oracle: a test martingale's; one exponent, noise correlated as assumed, any b0, b1 and s."""
    monkeypatch.setattr(sequential, "EXPONENTS", (0.5,))
    rng = np.random.default_rng(0)
    y = 3.0 + (0.0 if staying else 0.4) * law(X, 0.5) + 0.02 * noise(rng, 2000, len(X))
    e = np.exp(fall_evidence(X, y, nulls=(Null(staying, (0.0,), 1.0),)).log_e)
    mean, error = e.mean(axis=0), e.std(axis=0) / np.sqrt(len(e))
    assert (mean <= 1.0 + 3.0 * error).all()
    assert mean[FIRST + FEWEST :].min() > 0.02  # and no trivial bound


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_evidence_reaches_1_over_r_at_most_with_chance_r(slope, exponent):
    """Oracle: Ville's inequality, at r = 5%."""
    rng = np.random.default_rng(1)
    y = slope * law(X, exponent) + 0.01 * noise(rng, 400, len(X))
    share = (fall_evidence(X, y).log_e.max(axis=1) >= np.log(20)).mean()
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("seed", range(10))
def test_a_planted_loss_is_found_where_it_is(seed):
    rng = np.random.default_rng(seed)
    y = 0.2 * law(X, 0.25) + 0.01 * rng.standard_normal(len(X))
    before = fall_evidence(X, y)
    assert before.log_e.max() < np.log(20)
    y[12:] -= 0.15
    found = fall_evidence(X, y)
    assert found.log_e[0, 13] > np.log(100)
    assert found.since[0, 13] == 12
    assert found.log_e[0, 12] < np.log(20)  # one bad point is none


def test_growth_that_stops_is_found_where_it_was_far_above_the_noise():
    rng = np.random.default_rng(0)
    x = np.log(np.arange(4.0, 28.0))
    y = np.minimum(x, x[12]) * 0.5 + 0.003 * rng.standard_normal(len(x))
    found = fall_evidence(x, y)
    assert found.log_e.max() > np.log(100)


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_unit_and_origin_do_not_matter(shift, scale, seed):
    y = np.random.default_rng(seed).standard_normal(14)
    y[9:] -= 4
    a, b = fall_evidence(X[:14], y), fall_evidence(X[:14], shift + scale * y)
    np.testing.assert_allclose(a.log_e, b.log_e, rtol=1e-6, atol=1e-6)
    assert (a.since == b.since).all()


@given(n=st.integers(0, 40), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_what_comes_later_changes_nothing(n, seed):
    rng = np.random.default_rng(seed)
    x, y = np.log(np.arange(1.0, 41.0)), rng.standard_normal((2, 40)).cumsum(axis=1)
    whole, part = fall_evidence(x, y), fall_evidence(x[:n], y[:, :n])
    np.testing.assert_allclose(part.log_e, whole.log_e[:, :n], rtol=1e-9)
    assert (part.since == whole.since[:, :n]).all()


def test_series_side_by_side_are_as_each_alone():
    y = np.random.default_rng(0).standard_normal((3, 20))
    floor = np.full((3, 20), 0.5)
    together = fall_evidence(X, y, floor=floor)
    for i in range(3):
        np.testing.assert_allclose(fall_evidence(X, y[i], floor=0.5).log_e[0], together.log_e[i], rtol=1e-9)


@pytest.mark.parametrize("n", [0, 1, 2, FIRST + FEWEST - 1])
def test_few_points_are_no_evidence(n):
    found = fall_evidence(X[:n], np.zeros(n))
    assert (found.log_e == -np.inf).all()
    assert (found.since == -1).all()


def test_a_constant_series_is_quiet_and_the_items_keep_it_from_crying_wolf():
    y = np.ones(20)
    assert fall_evidence(X, y).log_e.max() < 0
    y[14:] -= 0.01  # one answer of 100
    assert fall_evidence(X, y).log_e.max() > np.log(1000)
    assert fall_evidence(X, y, floor=0.01).log_e.max() < np.log(20)


def test_points_with_more_noise_count_less():
    y = 0.1 * X + 0.01 * np.random.default_rng(0).standard_normal(20)
    y[12:15] -= 0.1
    variance = np.ones(20)
    variance[12:15] = 16.0  # asked a sixteenth of the items
    assert fall_evidence(X, y, variance=variance).log_e.max() < fall_evidence(X, y).log_e.max() - 2


def test_the_weights_sum_to_one():
    assert sum(null.weight for null in NULLS) == pytest.approx(1.0)
    assert 0.999 < np.exp(sequential._prior(100_000)).sum() < 1.0
