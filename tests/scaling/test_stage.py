"""A stage is LO..HI in FLOPs, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UsageError
from scaling.stage import Stage


@given(low=st.floats(1e3, 1e30), factor=st.floats(1.001, 1e6))
def test_what_is_written_is_read(low, factor):
    # Oracle: repr of a float reads back as the same float.
    high = low * factor
    assert Stage.parse(f"{low!r}..{high!r}") == Stage(low, high)


@pytest.mark.parametrize(
    "text",
    [
        "", "..", "1e19", "1e19..", "..1e21", "1e21..1e19", "1e19..1e19", "-1e19..1e21", "0..1e21",
        "1e19..inf", "nan..1e21", "1e19..nan", "small..large", "1e19-1e21", "1e19...1e21", "1e19..1e20..1e21",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_valid(text):
    with pytest.raises(UsageError, match=r"LO\.\.HI.*1e19\.\.1e21") as caught:
        Stage.parse(text)
    assert caught.value.exit_code == 2


def test_a_stage_prints_as_it_is_written():
    assert str(Stage(1e19, 3e21)) == "1e+19..3e+21"
