"""Sizes of vocabularies as they are told."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.errors import UsageError
from train.vocabulary import BYTES, check_vocabularies, label_of, parse_vocabulary


def test_sizes_are_read_as_the_field_writes_them():
    assert parse_vocabulary("512,2k,8k,32k, bytes") == (512, 2048, 8192, 32768, BYTES)
    assert parse_vocabulary("257, 50257,128K") == (257, 50257, 131072)
    assert [label_of(one) for one in (512, 2048, 32768, 50257, BYTES)] == ["512", "2k", "32k", "50257", BYTES]


@pytest.mark.parametrize("text", ["", "2m", "1.5k", "-512", "k", "512;2k", "512,,2k", "256", "2k,2048", "²k"])
def test_other_sizes_are_refused(text: str):
    with pytest.raises(UsageError, match=r"vocabulary: .*(valid|tell each once)"):
        parse_vocabulary(text)


@pytest.mark.parametrize("asked", [[], [True], [300.0], ["2k"], [300, 300], [256]])
def test_what_is_no_size_is_refused(asked: list):
    with pytest.raises(UsageError, match="vocabulary: "):
        check_vocabularies(asked)


def test_numbers_of_numpy_become_plain_ones():
    found = check_vocabularies([np.int64(300), BYTES])
    assert found == (300, BYTES) and type(found[0]) is int
