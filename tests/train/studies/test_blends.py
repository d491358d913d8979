"""Which means are compared: each what it says, on the grid, none twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.averaging import Averaging
from evalsuite.place import Place
from evalsuite.window import Window
from train.studies.blends import COUNTS, HALF_LIVES, SPANS, blends


@given(grid=st.integers(1, 7), point=st.integers(40, 900), after=st.integers(1, 90))
@settings(max_examples=40)
def test_a_blend_is_what_it_says(grid: int, point: int, after: int):
    """Weights add up to one, the newest snapshot is that of the point, all lie on the grid and in the run."""
    step = point * grid
    found = blends(step, after * grid, grid, 8 * grid)
    assert [one.kind for one in found].count("annealed") == 1
    keys = [(one.kind, one.n, one.span, one.weights) for one in found]
    assert len(set(keys)) == len(keys)
    means = [(one.n, one.weights, tuple(one.shares)) for one in found if one.kind == "mean"]
    assert len(set(means)) == len(means)
    for one in found:
        if one.kind == "annealed":
            assert not one.shares
            continue
        steps = list(one.shares)
        assert sum(one.shares.values()) == pytest.approx(1.0, abs=1e-12)
        assert steps == sorted(steps) and steps[0] >= grid and not any(each % grid for each in steps)
        if one.kind != "member":
            assert steps[-1] == (step + after * grid if one.kind.startswith("later") else step)
        if one.kind == "mean":
            assert len(steps) == one.n
            assert (steps[-1] - steps[0]) / step == pytest.approx(one.span, rel=0.25 + 1e-9)


def test_the_default_is_that_of_the_hook():
    """Oracle: `evalsuite.window.Window` with the defaults of `Averaging`."""
    found = {one.kind: one for one in blends(432, 66, 3, 72) if one.kind in ("default", "later default")}
    taken = [Place(step) for step in range(3, 500, 3)]
    window = Window(Averaging(), 72)
    assert tuple(found["default"].shares) == window.members(432, taken)
    assert tuple(found["later default"].shares) == window.members(498, taken)
    assert set(found["default"].shares.values()) == {0.25}


def test_all_that_was_asked_for_is_there_on_a_fine_grid():
    found = [one for one in blends(60_000, 9_000, 1, 3_000)]
    swept = {(one.n, one.span) for one in found if one.kind == "mean"}
    assert swept == {(n, span) for n in COUNTS for span in SPANS}
    assert {one.weights for one in found if one.kind == "mean" and one.n == 4} == {"uniform", "linear", "ema"}
    assert [one.span for one in found if one.kind == "running"] == list(HALF_LIVES)
    linear = next(one for one in found if one.kind == "mean" and one.weights == "linear")
    assert list(linear.shares.values()) == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_a_running_mean_has_its_half_life():
    """A snapshot that is older by the half-life weighs half as much."""
    one = next(one for one in blends(1000, 150, 5, 50) if one.kind == "running" and one.span == 0.04)
    assert one.shares[1000] == pytest.approx(2 * one.shares[960])
