"""Text to ids. Oracle: lm-eval's own HFLM, asked the same pairs, and the tokenizer itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.encoding import Encoder
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.modules import Bytes
from tests.evalsuite.tiny import END, tiny_tokenizer

TEXTS = [
    ("The cat sat on the", " mat"),
    ("The cat sat on the ", "mat"),
    ("The cat sat on the \n\t ", "mat"),
    ("Question: What?\nAnswer:", " blue\n"),
    ("", " mat"),
    ("", "mat"),
    ("", f"{END}mat"),
    ("", END + END),
    (f"{END}The cat", " sat"),
    (f"{END}", " sat"),
    ("The cat" + END, "sat"),
    ("caf", "é"),  # a letter of two bytes, so of two ids
    ("thumb \U0001f44d", "\U0001f3fd up"),  # a sign and what changes its colour
    ("e", "\u0301"),  # an accent on the letter before it
    ("日本", "語です"),
    ("a\u00a0", "b"),  # a blank that is not ASCII is stripped too
    ("def f():\n    return", " 1"),
    ("the keys in the draw", "er"),  # a token reaches across the border
]


class Pairs:
    """HFLM with nothing of its construction but a tokenizer; what it would score is kept."""

    def __new__(cls, tokenizer, add_bos=None):
        from lm_eval.models.huggingface import HFLM

        class Bare(HFLM):
            def __init__(self) -> None:
                self.tokenizer, self.add_bos_token = tokenizer, add_bos
                self.custom_prefix_token_id, self.backend, self.enable_thinking = None, "causal", False

            def _loglikelihood_tokens(self, requests, **_):  # type: ignore[override]
                return [(before, scored) for _, before, scored in requests]

        return Bare()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def adding():
    """A tokenizer that puts its first token before every text."""
    from tokenizers.processors import TemplateProcessing

    made = tiny_tokenizer()
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, made.bos_token_id)]
    )
    return made


def same_as_lm_eval(tokenizer, texts, add_bos=None) -> None:
    asked = [SimpleNamespace(args=pair) for pair in texts]
    expected = Pairs(tokenizer, add_bos).loglikelihood(asked, disable_tqdm=True)
    found = Encoder(tokenizer, add_bos=add_bos).pairs(texts)
    for pair, (before, scored), (a, b) in zip(texts, found, expected, strict=True):
        assert (before.tolist(), scored.tolist()) == (list(a), list(b)), pair
        assert before.dtype == scored.dtype == np.int32


@pytest.mark.parametrize("add_bos", [None, True, False])
@pytest.mark.parametrize("which", ["tokenizer", "adding"])
def test_the_same_ids_as_lm_eval(which, add_bos, request):
    same_as_lm_eval(request.getfixturevalue(which), TEXTS, add_bos)


letters = st.text(st.sampled_from("ab the\n é語\U0001f44d\u0301"), max_size=8)


@settings(max_examples=100)
@given(st.lists(st.tuples(letters, letters.filter(str.strip)), min_size=1, max_size=6))
def test_any_text_gives_the_same_ids_as_lm_eval(texts):
    # lm-eval stops at a context of nothing but blanks.
    same_as_lm_eval(tiny_tokenizer(), [(a if a.strip() else "", b) for a, b in texts])


def test_a_context_of_blanks_is_an_empty_one(tokenizer):
    """Oracle: by hand, the rule of the empty context after the blanks have moved."""
    (before, scored), (other, same) = Encoder(tokenizer).pairs([("  \n", "mat"), ("", "  \nmat")])
    assert before.tolist() == other.tolist() == [tokenizer.bos_token_id]
    assert scored.tolist() == same.tolist() == tokenizer.encode("  \nmat")


def test_the_order_and_the_number_of_texts_change_nothing(tokenizer):
    """Equal texts are encoded once, and thousands in parts."""
    texts = TEXTS * 400  # more than are handed to a tokenizer at once
    found = Encoder(tokenizer).pairs(texts)
    assert len(found) == len(texts)
    once = Encoder(tokenizer).pairs(TEXTS)
    for i, (before, scored) in enumerate(found):
        np.testing.assert_array_equal(before, once[i % len(TEXTS)][0])
        np.testing.assert_array_equal(scored, once[i % len(TEXTS)][1])


def test_three_kinds_of_tokenizer_agree(tokenizer):
    rust = tokenizer.backend_tokenizer
    plain = SimpleNamespace(encode=tokenizer.encode, bos_token_id=tokenizer.bos_token_id)
    kept = [pair for pair in TEXTS if END not in pair[0] + pair[1]]
    expected = Encoder(tokenizer).pairs(kept)
    for other in (rust, plain):
        for (a, b), (before, scored) in zip(expected, Encoder(other).pairs(kept), strict=True):
            assert (a.tolist(), b.tolist()) == (before.tolist(), scored.tolist())
    assert Encoder(rust).prefix_token == Encoder(plain).prefix_token == tokenizer.bos_token_id


def test_the_first_token_is_where_it_is_looked_for():
    assert Encoder(Bytes()).prefix_token == 256
    assert Encoder(Bytes(), prefix_token=3).prefix_token == 3
    end = SimpleNamespace(encode=list, bos_token_id=None, eos_token_id=0)
    assert Encoder(end).prefix_token == 0  # an id of zero is one


def test_what_is_no_tokenizer_is_told():
    with pytest.raises(UsageError, match="tokenizer: got int, which has no `encode`"):
        Encoder(3)
    with pytest.raises(StagewiseError, match=r"neither a beginning nor an end(.|\n)*prefix_token="):
        Encoder(SimpleNamespace(encode=list))


def test_a_context_that_the_tokenizer_drops_is_an_empty_one():
    """Some normalisers leave nothing of a zero-width space. Oracle: the same answer without context."""

    class Drops(Bytes):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("\u200b", ""))

    (before, scored), (other, same) = Encoder(Drops()).pairs([("\u200b", "yes"), ("", "yes")])
    assert before.tolist() == other.tolist() == [256]
    assert scored.tolist() == same.tolist() == list(b"yes")
