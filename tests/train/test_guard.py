"""Steps that are skipped: against a robust z-score written anew, and over a checkpoint."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from scaling.errors import StagewiseError
from train.config import RunConfig
from train.guard import Guard

numbers = st.one_of(st.floats(0.5, 4.0), st.sampled_from([math.nan, math.inf, 50.0]))


def checked(losses: list[float], spike: float, window: int) -> int:
    """Hold a guard against the oracle, step by step; how many were skipped."""
    guard = Guard(spike=spike, window=window, stop_after=0)
    seen: list[float] = []
    skipped = 0
    for step, loss in enumerate(losses):
        last = seen[-window:]
        bad = not math.isfinite(loss)
        if not bad and spike and len(last) >= 20:
            bad = loss > np.median(last) + spike * 1.4826 * median_abs_deviation(last)
        assert bool(guard.judge(step, loss, 1.0)) == bool(bad)
        skipped += bool(bad)
        if math.isfinite(loss):
            seen.append(loss)
    assert guard.skipped == skipped
    return skipped


@settings(max_examples=100)
@given(losses=st.lists(numbers, max_size=60), spike=st.sampled_from([0.0, 3.0]), window=st.integers(20, 40))
def test_what_is_skipped(losses, spike, window):
    """Oracle: scipy's median absolute deviation, as a standard deviation, over the finite losses before."""
    checked(losses, spike, window)


@pytest.mark.parametrize("window", [20, 33, 128])
def test_what_is_skipped_in_a_long_run(window):
    """Oracle: as above; a low limit, so that the ends of the window matter."""
    chance = np.random.default_rng(window)
    losses = 3 + 0.05 * chance.standard_t(3, 400)
    assert 40 < checked(losses.tolist(), 1.0, window) < 200


@settings(max_examples=60)
@given(losses=st.lists(numbers, min_size=1, max_size=60), at=st.integers(0, 60))
def test_a_checkpoint_changes_nothing(losses, at):
    """Oracle: the guard that was never cut off; its state goes through JSON."""
    whole, part = (Guard(spike=3.0, stop_after=0) for _ in range(2))
    for step, loss in enumerate(losses):
        if step == at:
            told = json.loads(json.dumps(part.state, allow_nan=False))
            part = Guard(spike=3.0, stop_after=0)
            part.restore(told)
        assert whole.judge(step, loss, 1.0) == part.judge(step, loss, 1.0)
    assert whole.state == part.state and whole == part


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(value):
    guard = Guard()
    assert guard.judge(1, value, 1.0) == f"loss is {value}"
    assert guard.judge(2, 1.0, value) == f"norm of the gradient is {value}"
    assert guard.judge(3, 1.0, 1.0) == "" and (guard.skipped, guard.in_row) == (2, 0)


def test_a_jump_is_told_with_its_limit():
    """Oracle: by hand. Median 3, MAD 1, limit 3 + 2 * 1.4826."""
    guard = Guard(spike=2.0)
    for step in range(20):
        assert guard.judge(step, float(1 + step % 5), 1.0) == ""
    assert guard.judge(20, 5.9, 1.0) == ""
    assert guard.judge(21, 9.0, 1.0).startswith("loss 9 jumped above ")
    guard = Guard(spike=2.0)
    for step in range(20):
        guard.judge(step, float(1 + step % 5), 1.0)
    assert guard.judge(20, 6.0, 1.0) == "loss 6 jumped above 5.965"


def test_a_fall_is_no_jump():
    guard = Guard(spike=3.0)
    assert not any(guard.judge(step, 10.0 / (1 + step), 1.0) for step in range(100))


def test_a_level_that_stays_is_believed():
    """Skipped losses join the window: after half of it they are what is usual."""
    guard = Guard(spike=5.0, window=40, stop_after=0)
    chance = np.random.default_rng(0)
    for step in range(40):
        guard.judge(step, 1.0 + 0.01 * chance.standard_normal(), 1.0)
    told = [guard.judge(step, 2.0 + 0.01 * chance.standard_normal(), 1.0) for step in range(40)]
    assert all(told[:10]) and not any(told[21:])


def test_other_text_starts_anew():
    guard = Guard(spike=10.0)
    for step, loss in enumerate(np.random.default_rng(0).uniform(0.9, 1.1, 30)):
        assert not guard.judge(step, loss, 1.0)
    assert guard.judge(30, 5.0, 1.0)
    guard.forget()
    assert not any(guard.judge(step, 5.0 + step, 1.0) for step in range(20))
    assert guard.skipped == 1


def test_too_many_in_a_row_end_the_run():
    guard = Guard(stop_after=3)
    for step in (1, 2):
        assert guard.judge(step, math.nan, 1.0)
    assert guard.judge(3, 1.0, 1.0) == ""
    for step in (4, 5):
        assert guard.judge(step, math.nan, 1.0)
    with pytest.raises(
        StagewiseError, match=r"step 6: loss is nan; 3 steps in a row were skipped, the run ends"
    ):
        guard.judge(6, math.nan, 1.0)
    assert (guard.skipped, guard.in_row) == (5, 3)


def test_the_remedy_names_settings_that_there_are():
    """Oracle: the config itself."""
    with pytest.raises(StagewiseError) as caught:
        Guard(stop_after=1).judge(6, math.nan, 1.0)
    config = RunConfig(steps=1)
    named = re.findall(r"\b(\w+)\.(\w+)\b", str(caught.value))
    assert len(named) >= 2
    for section, key in named:
        assert hasattr(getattr(config, section), key), f"{section}.{key}"
