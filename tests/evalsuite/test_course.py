"""Changes along a run. Oracle: the steps at which they were put in."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.course import Course


def kinds(course: Course, steps, **told) -> list[tuple[int, str]]:
    found = []
    for step in steps:
        now = {name: value(step) for name, value in told.items()}
        found += [(one["step"], one["kind"]) for one in course.notice(step, **now)]
    return found


def test_phase_and_rate():
    def lr(step: int) -> float:
        return 0.01 * min(step, 10, max(0, 110 - step)) / 10

    found = kinds(Course(), range(1, 105), phase=lambda step: int(step > 50), lr=lr)
    assert found == [(11, "rate"), (51, "phase"), (101, "rate")]


def test_a_spike_is_told_once():
    draw = np.random.default_rng(0)
    losses = 3.0 + 0.01 * draw.standard_normal(300)
    losses[100:110] += 1.0
    losses[200] = math.nan
    found = kinds(Course(), range(300), loss=lambda step: float(losses[step]))
    assert found == [(100, "spike"), (200, "spike")]


def test_a_new_mixture_is_no_spike():
    found = kinds(Course(), range(200), loss=lambda s: 3.0 if s < 100 else 5.0, phase=lambda s: s >= 100)
    assert found == [(100, "phase")]


@given(st.integers(1, 119), st.integers(0, 2**31))
def test_taken_up_it_says_the_same(cut, seed):
    """Through JSON, at any step."""
    losses = 3 + 0.05 * np.random.default_rng(seed).standard_t(1.5, 120)
    told = {
        "loss": lambda s: float(losses[s]),
        "phase": lambda s: s // 50,
        "lr": lambda s: 1.0 - (s > 60) * s / 500,
    }
    whole = kinds(Course(), range(120), **told)
    course = Course()
    first = kinds(course, range(cut), **told)
    again = Course.of(json.loads(json.dumps(course.state)))
    assert first + kinds(again, range(cut, 120), **told) == whole


def test_nothing_told():
    assert kinds(Course(), range(10)) == []
