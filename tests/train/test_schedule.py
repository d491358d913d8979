"""The learning rate: closed forms at every step, and what holds for any schedule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UsageError
from train.schedule import Schedule


def rates(schedule: Schedule) -> np.ndarray:
    return np.array([schedule.at(step) for step in range(schedule.steps)])


@st.composite
def schedules(draw) -> Schedule:
    steps = draw(st.integers(1, 60))
    warmup = draw(st.integers(0, steps))
    kind: Any = draw(st.sampled_from(["wsd", "cosine", "constant"]))
    return Schedule(
        kind, draw(st.floats(1e-5, 1.0)), steps, warmup, draw(st.integers(0, steps - warmup)),
        draw(st.floats(0, 1)),
    )  # fmt: skip


@given(schedules())
def test_what_holds_for_any(schedule):
    found = rates(schedule)
    low, peak = schedule.floor * schedule.peak, schedule.peak
    least = min(low, peak / max(1, schedule.warmup))
    assert (found <= peak * (1 + 1e-15)).all() and (found >= least * (1 - 1e-12)).all()
    up, down = np.diff(found[: schedule.warmup]), np.diff(found[schedule.warmup :])
    assert (up > 0).all() and (down <= 0).all()
    if schedule.warmup:
        assert math.isclose(found[schedule.warmup - 1], peak)
        assert math.isclose(found[0], peak / schedule.warmup)
    # After the end it is what it was at the end.
    assert schedule.at(schedule.steps) == schedule.at(schedule.steps + 1000) == found[-1]
    falls = schedule.decay if schedule.kind == "wsd" else schedule.steps - schedule.warmup
    if schedule.kind != "constant" and falls and schedule.warmup < schedule.steps:
        assert found[-1] == pytest.approx(low, rel=1e-9, abs=1e-15)


@given(schedules())
def test_no_step_jumps(schedule):
    """Oracle: the steepest slope of each form."""
    if schedule.kind == "wsd":
        slope = 1 / max(1, schedule.decay)
    else:
        slope = math.pi / 2 / max(1, schedule.steps - 1 - schedule.warmup)
    found = rates(schedule)[schedule.warmup :] / schedule.peak
    assert (np.abs(np.diff(found)) <= slope * (1 - schedule.floor) + 1e-9).all()


def test_warmup_stable_decay_in_numbers():
    """Oracle: by hand. Four steps up, five flat, four down to a tenth."""
    found = rates(Schedule("wsd", peak=8.0, steps=12, warmup=4, decay=4, floor=0.1))
    assert found.tolist() == pytest.approx([2, 4, 6, 8, 8, 8, 8, 8, 6.2, 4.4, 2.6, 0.8])


def test_cosine_is_that_of_torch():
    """Oracle: torch.optim.lr_scheduler.CosineAnnealingLR over the steps after the warmup."""
    schedule = Schedule("cosine", peak=0.5, steps=40, warmup=7, floor=0.2)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=0.5)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=32, eta_min=0.1)
    for step in range(7, 40):
        assert schedule.at(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        theirs.step()


def test_decay_is_that_of_torch():
    """Oracle: torch.optim.lr_scheduler.LinearLR; the step before the first of the fall has the peak."""
    schedule = Schedule("wsd", peak=0.5, steps=40, warmup=7, decay=10, floor=0.2)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=0.5)
    theirs = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.2, total_iters=10)
    for step in range(29, 40):
        assert schedule.at(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimiser.step()
        theirs.step()


@pytest.mark.parametrize("kind", ["wsd", "cosine", "constant"])
def test_the_shortest_runs(kind):
    assert Schedule(kind, peak=1.0, steps=1, warmup=1).at(0) == 1.0
    assert Schedule(kind, peak=1.0, steps=5, warmup=5).at(4) == 1.0
    assert Schedule("wsd", peak=1.0, steps=1, decay=1).at(0) == 0.0
    assert rates(Schedule("wsd", peak=1.0, steps=4, decay=4)).tolist() == [0.75, 0.5, 0.25, 0.0]


def test_a_longer_run_is_the_same_before_the_decay():
    """What makes a flat part worth having: any point of it can be annealed."""
    short, long = (Schedule("wsd", 1.0, steps, warmup=5, decay=10) for steps in (50, 90))
    assert rates(short)[:40].tolist() == rates(long)[:40].tolist()
    assert rates(short)[40:].tolist() == rates(long)[80:].tolist()


@pytest.mark.parametrize(
    "told", [{"steps": 0}, {"peak": 0.0}, {"peak": -1.0}, {"floor": 1.1}, {"floor": -0.1}, {"warmup": -1},
             {"decay": -1}],
)  # fmt: skip
def test_numbers_out_of_range(told):
    with pytest.raises(UsageError, match="valid are steps from 1, a peak above 0, a floor of 0 to 1"):
        Schedule(**({"kind": "wsd", "peak": 1.0, "steps": 10} | told))


def test_more_warmup_and_decay_than_steps():
    with pytest.raises(UsageError, match="8 steps of warmup and 3 of decay in a run of 10; shorten them"):
        Schedule("wsd", 1.0, 10, warmup=8, decay=3)
    Schedule("cosine", 1.0, 10, warmup=8, decay=3)  # which has no decay
