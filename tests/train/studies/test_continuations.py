"""Tasks made of held-out text that is too short for them."""

from types import SimpleNamespace

import pytest

from scaling.errors import StagewiseError
from train.studies.continuations import write_continuations


@pytest.mark.parametrize("length", [0, 10, 71])
def test_too_short_for_one_passage(length, tmp_path):
    """A passage is 48 + 24 tokens long; nothing is read, and the message is that of too few passages."""
    prepared = SimpleNamespace(tokenizer=None, tokens=lambda split: {"code": range(length)})
    with pytest.raises(StagewiseError, match="held-out text of code: 0 passages of 72 tokens, 8 are wanted"):
        write_continuations(prepared, tmp_path / "tasks", 8)  # pyright: ignore[reportArgumentType]
