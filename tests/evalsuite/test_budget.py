"""The account of time. Oracle: the rules, and a simulated run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.budget import Budget, Ration


def test_predicts_from_a_try_until_it_has_measured():
    account = Budget(0.1)
    assert not account.known and Budget(None).known
    account.probed(0.0, 0.0)  # nothing could be asked
    assert not account.known
    account.probed(0.5, 0.01)
    assert account.known and account.predicted(600) == pytest.approx(6.5)
    account.measured(4.0, 400, Ration(1.0, 1, 1.0))
    assert account.predicted(300) == pytest.approx(3.0)


def test_two_sizes_tell_what_does_not_depend_on_items():
    account = Budget(0.1)
    account.measured(2.0 + 0.01 * 800, 800, Ration(1.0, 1, 1.0))
    account.measured(2.0 + 0.01 * 100, 100, Ration(0.125, 1, 1.0))
    assert (account.fixed, account.per_token) == pytest.approx((2.0, 0.01))
    account.measured(12.0, 100, Ration(0.125, 1, 1.0))  # slower for fewer: no line
    assert (account.fixed, account.per_token) == pytest.approx((0.0, 0.12))


@pytest.mark.parametrize(
    ("between", "wanted"),
    [
        (1000.0, Ration(1.0, 1, 10.0)),
        (600.0, Ration(1.0, 1, 10.0)),
        (400.0, Ration(0.5, 1, 5.0)),
        (100.0, Ration(0.125, 1, 1.25)),
        (50.0, Ration(0.125, 2, 1.25)),  # no fewer items: evaluations by halves
        (1.0, Ration(0.125, 64, 1.25)),
    ],
)
def test_items_by_halves_then_evaluations(between, wanted):
    account = Budget(0.02, per_token=0.01)
    assert account.ration(full=1000, least=0.1, between=between) == wanted


def test_what_fits_stays():
    account = Budget(0.02, per_token=0.01)
    first = account.ration(1000, 0.1, between=300.0)
    assert first.share == 0.5
    account.measured(5.0, 500, first)
    assert account.ration(1000, 0.1, between=400.0).share == 0.5  # 8 s would nearly do for all, but not quite
    assert account.ration(1000, 0.1, between=1000.0).share == 1.0
    assert account.ration(1000, 0.1, between=240.0).share == 0.25


def test_without_a_limit():
    account = Budget(None, per_token=1.0)
    assert account.ration(1000, 0.1, 0.0) == Ration(1.0, 1, 1000.0)
    assert account.affords(1e9)


def test_the_clock_of_a_call_counts_at_once():
    account = Budget(0.5, training=0.0)
    account.begin()
    assert not account.affords()
    account.end()
    assert account.spent > 0
    account.train(1e6)
    assert account.affords(1e5) and not account.affords(6e5)


@given(
    share=st.floats(0.01, 0.3), step=st.floats(0.01, 10.0), cost=st.floats(1e-5, 1e-2),
    fixed=st.floats(0.0, 20.0), noise=st.integers(0, 2**31), full=st.integers(100, 10_000),
)  # fmt: skip
def test_a_run_stays_within_its_budget(share, step, cost, fixed, noise, full):
    """However long evaluations take: at most one of them, the first, is not known beforehand."""
    account, every, worst = Budget(share), 10, 0.0
    for i in range(1, 400):
        account.train(step)
        if i % every:
            continue
        if not account.known:
            account.probed(fixed, cost)
        ration = account.ration(full, 0.1, every * step)
        if (i // every) % ration.stride or not account.affords(ration.seconds):
            continue
        wobble = 1.0 + 0.1 * ((noise * i) % 7 - 3) / 3
        seconds = wobble * (fixed + cost * full * ration.share)
        account.spent += seconds
        account.measured(seconds, round(full * ration.share), ration)
        worst = max(worst, seconds)
    # Never more than one evaluation above what is allowed, which the next ones pay back.
    assert account.spent <= share * account.training + worst
