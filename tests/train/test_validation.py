"""Bits per byte against a count token by token over the text of the documents."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from data.errors import DataError
from data.shards import ShardWriter, Tokens
from data.tokenizer import Tokenizer, byte_tokenizer, train_tokenizer
from tests.train.test_model import CONFIG, stirred
from train.distributed import World
from train.mtp import TrainedModel
from train.validation import Loss, Validation

TEXTS = {
    "prose": ["the cat sat on the mat", "", "the hat", "ä ö ü €", "the cat and the hat sat"],
    "code": ["for i in it: it(i)", "if it: it"],
}
CONTEXT = 8


@pytest.fixture(scope="module", params=["bytes", "merges"])
def tokenizer(request) -> Tokenizer:
    if request.param == "bytes":
        return byte_tokenizer()
    return train_tokenizer(["the cat the hat the mat ä ö ü €", "for it in it: if it(i)"] * 9, 270)


def written(folder: Path, tokenizer: Tokenizer, texts: dict[str, list[str]]) -> dict[str, Tokens]:
    for name, documents in texts.items():
        with ShardWriter(folder, name, tokenizer.size, eos=tokenizer.eos, shard=20) as writer:
            for ids in tokenizer.encode(documents):
                writer.add(ids)
    return {name: Tokens.open(folder, name) for name in texts}


def model(tokenizer: Tokenizer, depth: int = 0) -> TrainedModel:
    config = replace(CONFIG, vocab_size=tokenizer.size, context_length=CONTEXT)
    return stirred(TrainedModel(config, depth, tokenizer.eos)).double()


def brute(net: Any, tokenizer: Tokenizer, documents: list[str], most: int) -> tuple[float, int, int]:
    """The oracle: bits, tokens and bytes of text. Each token but the first, up to `most`, is read after those
    of its window alone; ends of documents are left out."""
    stream: list[int] = []
    for ids in tokenizer.encode(documents):
        stream += [*ids.tolist(), tokenizer.eos]
    bits, tokens, size = 0.0, 0, 0
    for place in range(1, min(len(stream), most + 1)):
        if stream[place] == tokenizer.eos:
            continue
        start = (place - 1) // CONTEXT * CONTEXT
        with torch.no_grad():
            logits = net(torch.tensor([stream[start:place]])).logits[0, -1]
        bits -= float(logits.log_softmax(0)[stream[place]]) / math.log(2)
        tokens += 1
        size += int(tokenizer.bytes[stream[place]])
    return bits, tokens, size


@pytest.mark.parametrize("most", [1, 7, 8, 9, 33, 10_000])
@pytest.mark.parametrize("rows", [1, 3])
def test_bits_per_byte(tmp_path, tokenizer, most, rows):
    """Oracle: token by token."""
    net = model(tokenizer)
    held = written(tmp_path, tokenizer, TEXTS)
    found = Validation(held, tokenizer, CONTEXT, rows, most).run(net)
    assert list(found) == ["code", "prose"]
    for name, loss in found.items():
        bits, tokens, size = brute(net, tokenizer, TEXTS[name], most)
        assert (loss.tokens, loss.bytes) == (tokens, size)
        assert loss.bits == pytest.approx(bits, rel=1e-9)
        assert loss.bpb == pytest.approx(bits / size) and loss.nats == pytest.approx(
            bits * math.log(2) / tokens
        )


def test_the_bytes_are_those_of_the_text(tmp_path, tokenizer):
    """Oracle: UTF-8 of the documents, less that of the first token of the domain, which is not predicted."""
    held = written(tmp_path, tokenizer, TEXTS)
    found = Validation(held, tokenizer, CONTEXT, 2, 10_000).run(model(tokenizer))
    for name, documents in TEXTS.items():
        first = tokenizer.encode(documents)[0][0]
        whole = sum(len(text.encode("utf-8")) for text in documents)
        assert found[name].bytes == whole - tokenizer.bytes[first]


def test_a_model_that_knows_nothing(tmp_path):
    """Oracle: log2 of 257 ids for each byte."""
    net = model(byte_tokenizer())
    with torch.no_grad():
        net.model.norm.weight.zero_()
    held = written(tmp_path, byte_tokenizer(), TEXTS)
    for loss in Validation(held, byte_tokenizer(), CONTEXT, 2, 10_000).run(net).values():
        assert loss.bpb == pytest.approx(math.log2(257)) and loss.nats == pytest.approx(math.log(257))


@settings(max_examples=50)
@given(length=st.integers(2, 60), context=st.integers(1, 20), rows=st.integers(1, 5), most=st.integers(1, 70))
def test_each_token_is_predicted_once(length, context, rows, most):
    """Oracle: the stream itself. Rows keep to the context, batches to their rows."""

    class Stream:
        def __len__(self) -> int:
            return length

        def read(self, start: int, count: int) -> np.ndarray:
            assert 0 <= start <= start + count <= length
            return np.arange(start, start + count)

    held: Any = {"a": Stream()}
    ((_, batches),) = Validation(held, byte_tokenizer(), context, rows, most).parts
    told = np.concatenate([one[:, 1:].ravel() for one in batches])
    assert told.tolist() == list(range(1, min(length, most + 1)))
    for one in batches:
        assert len(one) <= rows and 2 <= one.shape[1] <= context + 1
        assert (np.diff(one, axis=1) == 1).all()


@dataclass(frozen=True)
class Alone(World):
    """A rank that keeps its sums to itself."""

    def sum(self, values: Tensor) -> Tensor:
        return values.double()


@pytest.mark.parametrize("size", [2, 3, 50])
def test_ranks_share_the_work(tmp_path, size):
    """Oracle: one process. All ranks make equally many passes, which sharded weights need."""
    net, held = model(byte_tokenizer()), written(tmp_path, byte_tokenizer(), TEXTS)
    validation = Validation(held, byte_tokenizer(), CONTEXT, 2, 10_000)
    whole = validation.run(net)
    passes: list[int] = []
    net.register_forward_hook(lambda *_: passes.append(1))
    parts, counts = [], []
    for rank in range(size):
        parts.append(validation.run(net, Alone(rank, size)))
        counts.append(len(passes))
    assert len(set(np.diff([0, *counts]))) == 1
    for name, loss in whole.items():
        assert sum(one[name].bits for one in parts) == pytest.approx(loss.bits, rel=1e-12)
        assert sum(one[name].tokens for one in parts) == loss.tokens
        assert sum(one[name].bytes for one in parts) == loss.bytes


def test_deeper_prediction_changes_nothing(tmp_path):
    """Oracle: the plain model of the same weights."""
    held = written(tmp_path, byte_tokenizer(), TEXTS)
    validation = Validation(held, byte_tokenizer(), CONTEXT, 2, 10_000)
    deep, plain = model(byte_tokenizer(), depth=2), model(byte_tokenizer())
    plain.load_state_dict(deep.plain(), strict=False)
    assert validation.run(deep) == validation.run(plain)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(tmp_path, training):
    class Watched(TrainedModel):
        fails: Any = False

        def forward(self, *args: Any, **more: Any) -> Any:
            assert not self.training and not torch.is_grad_enabled()
            if self.fails:
                raise KeyError
            return super().forward(*args, **more)

    net: Any = stirred(Watched(replace(CONFIG, vocab_size=257))).train(training)
    validation = Validation(written(tmp_path, byte_tokenizer(), TEXTS), byte_tokenizer(), CONTEXT, 2, 10_000)
    assert validation.run(net) == validation.run(net)
    assert net.training == training and isinstance(net, nn.Module)
    assert all(p.grad is None for p in net.parameters())
    Watched.fails = True
    with pytest.raises(KeyError):
        validation.run(net)
    assert net.training == training


def test_a_broken_model_is_told_as_such(tmp_path):
    net = model(byte_tokenizer())
    with torch.no_grad():
        net.model.norm.weight.fill_(torch.nan)
    held = written(tmp_path, byte_tokenizer(), TEXTS)
    for loss in Validation(held, byte_tokenizer(), CONTEXT, 2, 10_000).run(net).values():
        assert math.isnan(loss.bpb) and loss.bytes > 0


def test_units():
    """Oracle: by hand: 16 bits over 4 tokens of 8 bytes."""
    loss = Loss(16.0, 4, 8)
    assert loss.bpb == 2.0 and loss.nats == pytest.approx(4 * math.log(2))


@pytest.mark.parametrize("documents", [[""], ["", "", ""], ["a"]])
def test_a_domain_without_text_to_predict(tmp_path, documents):
    """Refused before the run: its bits per byte would be 0 / 0."""
    held = written(tmp_path, byte_tokenizer(), {"tiny": documents})
    with pytest.raises(DataError, match="validation: domain 'tiny' has "):
        Validation(held, byte_tokenizer(), CONTEXT, 2, 10_000)
