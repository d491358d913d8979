"""Vocabularies side by side: counts against straight ones, costs against formulas, runs against runs."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.tokenizer import Tokenizer, byte_tokenizer
from tests.train.tradeoffs import ASKED, SEEDS, SETTINGS, SHAPE, SMALL, assert_same, held_out, made, written
from train.model import Model
from train.sizes import preset
from train.tradeoff import tradeoff
from train.vocabulary import BYTES, label_of

__all__ = ["made"]


def test_bytes_and_words_per_token_are_those_of_the_held_out_text(made):
    """Oracle: each held-out text encoded by itself, and counted."""
    source, folder, result = made
    texts = held_out(source)
    found = result.domains.set_index(["vocabulary", "domain"])
    whole = result.vocabularies.set_index("vocabulary")
    assert sorted(texts) == ["code", "prose"]
    for name in map(label_of, ASKED):
        kept = next(folder.glob(f"tokens/{name}*"))
        tokenizer = byte_tokenizer() if name == BYTES else Tokenizer.read(kept)
        sums = np.zeros(3)
        for domain, mine in texts.items():
            counts = np.array(
                [sum(len(one.encode()) for one in mine), sum(len(one.split()) for one in mine),
                 sum(len(one) for one in tokenizer.encode(mine))],
            )  # fmt: skip
            sums += counts
            assert found.loc[(name, domain), "bytes_per_token"] == counts[0] / counts[2]
            assert found.loc[(name, domain), "words_per_token"] == counts[1] / counts[2]
        assert whole.loc[name, "bytes_per_token"] == sums[0] / sums[2]
        assert whole.loc[name, "words_per_token"] == sums[1] / sums[2]
    assert (whole.loc[BYTES, "bytes_per_token"], whole.loc[BYTES, "size"]) == (1.0, 257)
    assert whole.loc["350", "bytes_per_token"] > whole.loc["300", "bytes_per_token"] > 1


def test_flops_per_byte_are_those_of_the_formula(made):
    """Oracle: 6 FLOPs for each weight of a matrix, and attention over (context + 1) / 2 tokens, by hand."""
    _, _, result = made
    d, hidden, context = 16, 32, SMALL["context"]
    for row in result.vocabularies.itertuples():
        matrices = 4 * d * d + 3 * d * hidden + row.size * d
        expected = 6 * matrices + 3 * 2 * 2 * d * (context + 1) / 2
        assert row.flops_per_token == expected
        assert row.flops_per_byte == pytest.approx(expected / row.bytes_per_token, rel=1e-12)
    table = result.domains.merge(result.vocabularies[["vocabulary", "flops_per_token"]])
    expected = table["flops_per_token"] / table["bytes_per_token"]
    np.testing.assert_allclose(table["flops_per_byte"], expected, rtol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_the_share_of_the_embedding_is_that_of_a_built_model(tmp_path: Path, tied: bool):
    """Oracle: the weights of the model, counted."""
    settings = SETTINGS | {"model.tied": tied}
    source = written(tmp_path / "text.jsonl")
    result = tradeoff(source, [300, BYTES], train=False, **SMALL | {"settings": settings})
    for row in result.vocabularies.itertuples():
        model = Model(preset("0.1m", vocab_size=int(row.size), context_length=16, tied=tied, **SHAPE))
        counts = {name: one.numel() for name, one in model.named_parameters()}
        table = sum(n for name, n in counts.items() if name.startswith(("model.embed_tokens", "lm_head")))
        assert (row.params, row.embedding_share) == (sum(counts.values()), table / sum(counts.values()))


def test_the_same_again(made, tmp_path: Path):
    source, _, result = made
    told: list[str] = []
    again = tradeoff(
        source, "bytes,300,350", seeds=SEEDS, progress=lambda done, total, text: told.append(text), **SMALL
    )
    assert_same(result, again)
    assert {one.partition(":")[0] for one in told} >= {"vocabulary 300, seed 1", "vocabulary bytes, seed 0"}


def test_a_vocabulary_that_the_text_cannot_fill_says_so(tmp_path: Path):
    result = tradeoff(written(tmp_path / "text.jsonl"), "2k", train=False, **SMALL)
    row = result.vocabularies.iloc[0]
    assert row["vocabulary"] == "2k" and row["asked"] == 2048 and 257 < row["size"] < 2048
    assert result.notes == (f"vocabulary 2k: the text gives {row['size']:,} ids of 2,048; give more text",)


def test_without_runs_there_is_no_loss(tmp_path: Path):
    result = tradeoff(written(tmp_path / "text.jsonl"), ASKED, train=False, **SMALL)
    assert len(result.runs) == 0 and math.isnan(result.flops)
    assert not [one for one in result.to_frame() if one.startswith("bpb") or one == "steps"]
    assert result.plot().get_ylabel() == "bytes per token"


def test_a_result_shows_itself(made):
    _, _, result = made
    frame = result.to_frame()
    assert len(frame) == 3 and frame["bpb.code"].notna().all()
    expected = result.domains.query("vocabulary == '300' and domain == 'prose'")["flops_per_byte"].item()
    assert frame.set_index("vocabulary").loc["300", "flops_per_byte.prose"] == expected
    assert "embedding_share" in result._repr_html_() and "steps say little" in result._repr_html_()
    ax = result.plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["code", "prose", "all"]
    assert result.plot(ax) is ax


def test_importing_it_imports_no_torch():
    code = "import sys, train.tradeoff; sys.exit('torch' in sys.modules or 'tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
