"""Oracles: the closed form of stratified sampling, scipy's constrained minimiser, drawn samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from evalsuite.allocation import FEWEST, allocate, standard_error
from scaling.errors import UsageError


def test_neyman_without_bounds() -> None:
    """Closed form: n_t = w_t s_t / sqrt(c_t) * sum_t w_t s_t sqrt(c_t) / SE^2, from unlimited items."""
    weights, spread, cost = np.array([0.5, 0.3, 0.2]), np.array([0.5, 0.4, 0.3]), np.array([10.0, 40.0, 90.0])
    items = np.full(3, 1e12)
    expected = weights * spread / np.sqrt(cost) * (weights * spread * np.sqrt(cost)).sum() / 0.003**2
    assert allocate(weights, spread, cost, items, 0.003) == pytest.approx(np.ceil(expected), abs=1)


def test_no_cheaper_allocation_exists() -> None:
    """Oracle: scipy SLSQP over the continuous problem with the same bounds."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(5))
    spread, cost = rng.uniform(0.2, 0.6, 5), rng.uniform(50, 900, 5)
    items = np.array([300.0, 1000.0, 1500.0, 9000.0, 500.0])
    ours = allocate(weights, spread, cost, items, 0.008)
    found = minimize(
        lambda n: (n * cost).sum() / 1e4, np.full(5, 250.0), bounds=[(FEWEST, total) for total in items],
        constraints={"type": "ineq", "fun": lambda n: 1 - standard_error(weights, spread, n, items) / 0.008},
        method="SLSQP", options={"maxiter": 500},
    )  # fmt: skip
    assert found.success
    assert (ours * cost).sum() == pytest.approx(found.fun * 1e4, rel=0.01)


def test_the_error_is_what_drawn_subsets_show() -> None:
    """Oracle: 4000 suites of drawn items, against the score on all items."""
    rng = np.random.default_rng(1)
    answers = [rng.random(400) < 0.4, rng.random(900) < 0.7]
    weights, items = np.array([0.6, 0.4]), np.array([400.0, 900.0])
    spread = np.array([one.std(ddof=1) for one in answers])
    asked = allocate(weights, spread, np.ones(2), items, 0.02)
    whole = sum(w * one.mean() for w, one in zip(weights, answers, strict=True))
    drawn = [
        sum(
            w * rng.choice(one, int(n), replace=False).mean()
            for w, one, n in zip(weights, answers, asked, strict=True)
        )
        - whole
        for _ in range(4000)
    ]
    assert np.std(drawn) == pytest.approx(standard_error(weights, spread, asked, items), rel=0.05)
    assert np.std(drawn) < 0.021


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 8),
    se=st.floats(1e-4, 0.3, allow_nan=False),
)
def test_the_error_is_kept_within_the_bounds(seed: int, count: int, se: float) -> None:
    rng = np.random.default_rng(seed)
    weights, spread = rng.dirichlet(np.ones(count)), rng.uniform(0.01, 1.0, count)
    cost, items = rng.uniform(1, 1e4, count), np.round(rng.uniform(5, 2e4, count))
    asked = allocate(weights, spread, cost, items, se)
    assert (asked >= np.minimum(FEWEST, items)).all() and (asked <= items).all()
    assert standard_error(weights, spread, asked, items) <= se * (1 + 1e-6)


@pytest.mark.parametrize("se", [0.0, -1.0, float("nan"), float("inf")])
def test_an_error_that_is_none_is_refused(se: float) -> None:
    one = np.ones(1)
    with pytest.raises(UsageError, match="valid is a positive number"):
        allocate(one, one, one, 100 * one, se)


def test_a_task_whose_items_all_agree_needs_the_fewest() -> None:
    """Closed form: without spread a task has no error, so the other one is alone."""
    one = np.ones(2)
    asked = allocate(one / 2, np.array([0.0, 0.5]), one, np.array([1e12, 1e12]), 0.01)
    assert asked.tolist() == [FEWEST, 625.0]
