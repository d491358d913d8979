"""Which suites run. Oracle: the rules, stated by hand for each case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.programme import Programme
from evalsuite.rotation import Rotation

EARLY, MID, LATE = (
    Programme(name, low, high, ())
    for name, low, high in (("early", 1e18, 1e20), ("mid", 5e19, 1e21), ("late", 1e22, 1e23))
)


@pytest.mark.parametrize(
    ("flops", "ran", "wanted"),
    [
        (1e17, [], ("early",)),  # below all stages: the first
        (1e18, [], ("early",)),
        (6e19, [{"early"}], ("early", "mid")),  # stages overlap
        (2e20, [{"early"}], ("early", "mid")),  # the old one goes on until both have run together twice
        (2e20, [{"early"}, {"early", "mid"}], ("early", "mid")),
        (2e20, [{"early", "mid"}, {"early", "mid"}], ("mid",)),
        (2e20, [], ("mid",)),  # what never ran needs no joining
        (5e21, [{"mid"}], ("mid",)),  # in a gap: the last that has begun
        (1e22, [{"mid"}], ("mid", "late")),
        (1e25, [{"late"}], ("late",)),  # above all stages
    ],
)
def test_cases(flops, ran, wanted):
    assert Rotation((EARLY, MID, LATE)).active(flops, ran) == wanted


def test_outside_is_said():
    rotation = Rotation((EARLY, MID, LATE))
    assert rotation.outside(6e19) == "" == rotation.outside(None)
    assert "5e+21 FLOPs are in none of the stages" in rotation.outside(5e21)


def test_one_suite_needs_no_compute():
    assert Rotation((EARLY,)).active(None, []) == ("early",)


@given(
    st.lists(st.tuples(st.floats(1e10, 1e25), st.floats(1.5, 1e4)), min_size=1, max_size=4),
    st.lists(st.floats(1e9, 1e26), min_size=1, max_size=20),
    st.integers(0, 3),
)
def test_along_a_run(stages, places, overlap):
    """Something always runs; every switch overlaps; a suite whose stage holds the run is never left out."""
    programmes = tuple(
        Programme(f"s{i}", low, low * width, ()) for i, (low, width) in enumerate(sorted(stages))
    )
    rotation, ran = Rotation(programmes, overlap), []
    for flops in sorted(places):
        names = rotation.active(flops, ran)
        assert names
        assert {one.name for one in programmes if one.low <= flops < one.high} <= set(names)
        if ran and overlap and len(programmes) > 1:
            assert set(names) & set(ran[-1]), "the series would break"
        ran.append(set(names))
