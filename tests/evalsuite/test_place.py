"""A moment of a run."""

from __future__ import annotations

import pytest

from evalsuite.place import Place
from scaling.errors import UsageError


def test_what_is_not_known_is_none():
    assert Place(3) == Place(3, tokens=None, seconds=None, lr=None)


@pytest.mark.parametrize("step", [-1, 1.0, True, "3", None])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(UsageError, match="valid is a whole number from 0"):
        Place(step)
