"""Tokenizers. Oracle: UTF-8 itself, `tokenizers`' own training, transformers and lm-eval's rules."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.tokenizer import END, MIN_SIZE, Tokenizer, _letters, byte_tokenizer, train_tokenizer

pytest.importorskip("tokenizers")

WORDS = [
    "the cat sat on the mat", "def add(a, b):\n    return a + b", "12 + 30 = 42", "naïve café, 日本語",
    f"a text may say {END} and go on", "  two blanks,\ttabs\n\n and lines ", "can't won't we'll",
]  # fmt: skip
TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]
MADE = {"bytes": byte_tokenizer(), "trained": train_tokenizer(TEXTS, 320)}

both = pytest.mark.parametrize("made", MADE.values(), ids=MADE)
# Whole letters of every kind; what is special written out; and what a text is likely to hold.
texts = st.lists(st.text() | st.sampled_from([END, END[:6], "<|", *WORDS, "\x00", "\r\n", "\U0001f44d"])).map(
    "".join
)


@both
@given(text=texts)
def test_no_text_is_lost_and_none_gives_the_end(made, text):
    """Oracle: UTF-8. The ids of a text stand for its bytes, one after the other."""
    (ids,) = made.encode([text])
    assert made.decode(ids) == text
    assert ids.dtype == np.int32 and made.bytes[ids].sum() == len(text.encode())
    assert made.eos not in ids
    assert (made.bytes[ids] > 0).all()


@given(text=texts)
def test_a_byte_is_its_id(text):
    """Oracle: `str.encode`, and the library asked for the same."""
    made = MADE["bytes"]
    assert made.encode([text])[0].tolist() == list(text.encode())
    assert made.encode_batch([text])[0].ids == list(text.encode())
    assert (made.size, made.eos) == (257, 256)


@both
def test_bytes_per_id(made):
    """Oracle: each id decoded alone, where it is whole letters."""
    assert made.bytes.shape == (made.size,) and made.bytes.dtype == np.int32
    assert made.bytes[made.eos] == 0 and (np.delete(made.bytes, made.eos) > 0).all()
    for i in range(made.size):
        alone = made.decode([i])
        if i != made.eos and "\ufffd" not in alone:
            assert len(alone.encode()) == made.bytes[i]
    assert made.decode([104, made.eos]) == made.decode([104]) + END


def test_digits_are_tokens_of_their_own():
    made = train_tokenizer(["1234 1234 1234 the the"] * 9, 260)
    assert len(made.encode(["1234"])[0]) == 4 and len(made.encode([" the"])[0]) == 1


@both
def test_transformers_loads_the_same(made, tmp_path):
    """Oracle: AutoTokenizer, alone and beside a model's config."""
    transformers = pytest.importorskip("transformers")
    made.save(tmp_path)
    for kind in (None, "llama", "qwen3"):
        if kind:
            told = json.dumps({"model_type": kind, "vocab_size": made.size})
            (tmp_path / "config.json").write_text(told, encoding="utf-8")
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs(TEXTS)["input_ids"] == [ids.tolist() for ids in made.encode(TEXTS)]
        for ids in [*made.encode(TEXTS), [made.eos, 104, 105], [228, 104]]:
            assert theirs.decode(ids) == made.decode(ids)
        assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (made.eos, made.eos, None)
        assert len(theirs) == made.size


@both
def test_evaluation_takes_it(made, tmp_path):
    """Oracle: the encoder of evaluation over transformers' tokenizer of the saved folder."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from evalsuite.encoding import Encoder
    from evalsuite.loading import tokenizer_digest

    made.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pairs = [("The cat sat", " down"), ("", " mat"), (f"{END}a", " b"), ("a ", "b"), ("12", "34"), ("", END)]
    for (a, b), (c, d) in zip(Encoder(made).pairs(pairs), Encoder(theirs).pairs(pairs), strict=True):
        assert (a.tolist(), b.tolist()) == (c.tolist(), d.tolist())
    assert Encoder(made).prefix_token == made.eos
    assert tokenizer_digest(made) == tokenizer_digest(theirs)


@both
def test_a_saved_one_is_read_back_byte_for_byte(made, tmp_path):
    made.save(tmp_path / "one")
    for where in (tmp_path / "one", tmp_path / "one" / "tokenizer.json"):
        again = Tokenizer.read(where)
        assert (again.text, again.digest, again.size, again.eos) == (
            made.text,
            made.digest,
            made.size,
            made.eos,
        )
    content = (tmp_path / "one" / "tokenizer.json").read_bytes()
    assert made.digest == hashlib.sha256(content).hexdigest()


@both
def test_a_copy_in_another_process_reads_special_text_alike(made):
    again = pickle.loads(pickle.dumps(made))
    assert again.encode(TEXTS)[4].tolist() == made.encode(TEXTS)[4].tolist()
    assert again.eos not in np.concatenate(again.encode(TEXTS))


def test_training_gives_the_same_bytes_whatever_the_order():
    """Many ties: every pair of letters is as frequent as another."""
    ties = ["".join(a + b for a in "abcdefgh" for b in row) for row in ("xyz", "zyx", "uvw", "wvu")] * 2
    for some in (TEXTS, ties):
        first = train_tokenizer(some, 300).text
        for order in (some, some[::-1], sorted(some), iter(some)):
            assert train_tokenizer(order, 300).text == first


def test_a_vocabulary_larger_than_the_text_supports():
    with pytest.warns(RuntimeWarning, match=r"asked for 5,000 ids, 32 letters of text support 2\d\d"):
        made = train_tokenizer(["low lower lowest"] * 2, 5000)
    assert MIN_SIZE < made.size < 300 and made.bytes.shape == (made.size,)
    assert made.decode(made.encode(["slow"])[0]) == "slow"


def test_merges_make_text_shorter():
    assert len(MADE["trained"].encode(["the cat sat on the mat"])[0]) < 14
    assert MADE["trained"].size == 320


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ([], "got 0 without a letter"),
        (["", ""], "got 2 without a letter"),
        (["a", 7], "text 1: got int, valid is str"),
        (["a\ud800b"], r"text 0: letter 1 is U\+D800"),
        ("one text", "got one str"),
    ],
)
def test_text_that_nothing_can_be_learned_from(bad, told):
    with pytest.raises(DataError, match=told):
        train_tokenizer(bad, 300)


@pytest.mark.parametrize("size", [256, 0, -1, 300.0, True, "300"])
def test_sizes_that_are_none(size):
    with pytest.raises(DataError, match="valid is a whole number from 257"):
        train_tokenizer(TEXTS, size)


@both
def test_texts_and_ids_that_are_none(made):
    for bad, told in ((["a", None], "text 1: got NoneType"), (["a\udc80"], r"text 0: letter 1 is U\+DC80")):
        with pytest.raises(DataError, match=told):
            made.encode(bad)
    with pytest.raises(DataError, match="got one str"):
        made.encode("text")
    for bad in (-1, made.size):
        with pytest.raises(DataError, match=rf"got {bad} at place 1, valid is 0..{made.size - 1}"):
            made.decode([0, bad])
    assert made.encode([]) == [] and made.decode([]) == "" and made.encode([""])[0].tolist() == []


def test_files_that_are_no_tokenizer(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer.read(tmp_path)
    for content, told in (
        (b"\xff", "not UTF-8"),
        (b"{", "not a tokenizer"),
        (b'{"a": 1}', "not a tokenizer"),
    ):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(DataError, match=told):
            Tokenizer.read(tmp_path)


def changed(**changes) -> str:
    told = copy.deepcopy(json.loads(MADE["trained"].text))
    for key, value in changes.items():
        told[key] = value
    return json.dumps(told)


def test_a_tokenizer_that_may_change_text_is_refused():
    told = json.loads(MADE["trained"].text)
    fewer = copy.deepcopy(told["model"])
    fewer["vocab"] = {letter: i for i, letter in enumerate(_letters()[1:])}
    fewer["merges"] = []
    steps = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    other = [{**told["added_tokens"][0], "content": "</s>"}]
    for text, why in (
        (changed(normalizer={"type": "NFC"}), r"normaliser \(NFC\)"),
        (changed(pre_tokenizer=steps), "puts a blank"),
        (changed(pre_tokenizer={"type": "Whitespace"}), "not a byte-level BPE"),
        (changed(decoder=None), "decoder is not byte-level"),
        (changed(model=fewer), "no token for 1 of the 256 bytes"),
        (changed(added_tokens=other), r"no special token <\|endoftext\|>"),
        (changed(added_tokens=[{**told["added_tokens"][0], "special": False}]), "no special token"),
    ):
        with pytest.raises(DataError, match=why):
            Tokenizer(text)


def test_an_added_token_that_is_text_has_the_bytes_of_its_text():
    """Oracle: UTF-8."""
    told = json.loads(MADE["bytes"].text)
    extra = {**told["added_tokens"][0], "id": 257, "content": "<é>", "special": False}
    made = Tokenizer(json.dumps({**told, "added_tokens": [*told["added_tokens"], extra]}))
    (ids,) = made.encode([f"a<é>{END}"])
    assert 257 in ids and made.eos not in ids
    assert made.bytes[257] == 4 and made.bytes[ids].sum() == len(f"a<é>{END}".encode())
