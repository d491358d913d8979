"""Prepared folders: what comes out, decoded, is what went in; the same bytes each time; all or nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from data import prepare as module
from data.documents import Document
from data.errors import DataError
from data.prepare import prepare
from data.prepared import Prepared
from data.sieve import Sieve
from data.sources import Source, read
from data.tokenizer import byte_tokenizer, train_tokenizer

WORDS = "the a cat dog sees runs over under tree house quickly é 日本 42 7 := return def".split()


def text(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=draw.randint(3, 60)))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two domains of rows with repeats and blanks among them, one of texts, and validation of its own."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as handle:
        for i in range(300):
            row = {"text": " " if i % 50 == 0 else text(i % 280), "domain": "code" if i % 3 else "maths"}
            handle.write(json.dumps(row) + "\n")
    (folder / "own.jsonl").write_text(
        "".join(json.dumps({"text": text(1_000 + i), "domain": "prose"}) + "\n" for i in range(5))
    )
    (folder / "texts").mkdir()
    for i in range(20):
        # Texts 0 and 1 are those of own.jsonl.
        (folder / "texts" / f"{i:02d}.txt").write_text(
            text(1_000 + i if i < 2 else 2_000 + i), encoding="utf-8"
        )
    return folder


def sources(corpus: Path) -> list[Source]:
    return [
        Source(str(corpus / "rows.jsonl")),
        Source(str(corpus / "texts"), domain="prose"),
        Source(str(corpus / "own.jsonl"), held_out=True),
    ]


def refuse(document: Document) -> str | None:
    return "a task" if "tree house" in document.text else None


def decoded(prepared: Prepared, split: str) -> dict[str, list[str]]:
    """Domain -> its texts, by cutting the tokens where documents start."""
    found = {}
    for name, tokens in prepared.tokens(split).items():  # type: ignore[arg-type]
        ids = tokens.read(0, len(tokens))
        parts = np.split(ids, tokens.starts[1:])
        assert all(part[-1] == prepared.tokenizer.eos for part in parts)
        found[name] = [prepared.tokenizer.decode(part[:-1]) for part in parts]
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()
    }


@pytest.mark.parametrize("batch", [1, 500, 2_000_000])
@pytest.mark.parametrize("how", [{"tokenizer": "bytes"}, {"size": 300}])
def test_what_comes_out_is_what_went_in(corpus: Path, tmp_path: Path, monkeypatch, batch: int, how: dict):
    """Oracle: a sieve over the documents as they are read."""
    monkeypatch.setattr(module, "_BATCH", batch)
    prepared = prepare(sources(corpus), tmp_path / "out", held_out=0.1, refuse=refuse, seed=3, **how)
    sieve = Sieve(held_out=0.1, seed=3, refuse=refuse)
    kept = [
        one.text
        for source in sources(corpus)
        for one in read(source)
        if sieve.keep(one, held_out=source.held_out)
    ]
    sifted = sieve.sifted()
    for split, held in (("train", False), ("validation", True)):
        wanted: dict[str, list[str]] = {}
        for one, i, out in zip(kept, sifted.domain, sifted.held_out, strict=True):
            if out == held:
                wanted.setdefault(sifted.domains[i], []).append(one)
        assert decoded(prepared, split) == wanted
    own = [one for one in read(sources(corpus)[-1]) if not refuse(one)]
    assert sorted(decoded(prepared, "validation")["prose"]) == sorted(one.text for one in own)
    assert not set(decoded(prepared, "train")["prose"]) & set(decoded(prepared, "validation")["prose"])


def test_the_card_counts_what_is_there(corpus: Path, tmp_path: Path):
    """Oracle: the decoded texts, counted."""
    prepared = prepare(sources(corpus), tmp_path / "out", size=280, held_out=0.1, refuse=refuse)
    card = prepared.card.set_index("domain")
    assert tuple(card.index) == prepared.domains == ("code", "maths", "prose")
    train, validation = decoded(prepared, "train"), decoded(prepared, "validation")
    for name, row in zip(prepared.domains, card.to_dict("records"), strict=True):
        texts = train[name]
        size, n = sum(len(one.encode()) for one in texts), len(prepared.tokens("train")[name])
        assert (row["documents"], row["bytes"], row["tokens"]) == (len(texts), size, n)
        assert row["bytes_per_token"] == pytest.approx(size / (n - len(texts)), rel=1e-12)
        words = sum(len(one.split()) for one in texts)
        assert row["words_per_token"] == pytest.approx(words / (n - len(texts)), rel=1e-12)
        held = validation[name]
        assert row["validation_documents"] == len(held) > 0
        assert row["validation_bytes"] == sum(len(one.encode()) for one in held)
        assert row["validation_tokens"] == len(prepared.tokens("validation")[name])
    assert card["blank"].sum() == 6 and card.loc["prose", "duplicates"] == 2
    assert card["refused"].sum() > 0 and prepared.record["domains"]["code"]["refused"].keys() <= {"a task"}
    assert prepared.sources["documents"].tolist() == [300, 20, 5]
    assert "validation_tokens" in prepared._repr_html_() and prepared.to_frame().equals(prepared.card)


def test_the_same_inputs_give_the_same_bytes(corpus: Path, tmp_path: Path):
    one, other = (
        prepare(sources(corpus), tmp_path / name, size=280, held_out=0.1, seed=1, sample=3_000)
        for name in ("one", "other")
    )
    assert files(one.folder) == files(other.folder)
    assert one.digest == other.digest == Prepared.read(one.folder).digest
    changed = prepare(sources(corpus), tmp_path / "changed", size=280, held_out=0.1, seed=2, sample=3_000)
    assert changed.digest != one.digest


def test_the_digest_is_of_the_tokens(corpus: Path, tmp_path: Path):
    """The same text in another place, read by other settings, trains the same."""
    first = prepare(sources(corpus), tmp_path / "a", tokenizer="bytes")
    shutil.copytree(corpus, tmp_path / "moved")
    second = prepare(sources(tmp_path / "moved"), tmp_path / "b", tokenizer=byte_tokenizer(), sample=5)
    assert first.digest == second.digest


def test_a_tokenizer_given_or_read(corpus: Path, tmp_path: Path):
    tokenizer = train_tokenizer([text(i) for i in range(50)], 300)
    tokenizer.save(tmp_path / "tokenizer")
    one = prepare(sources(corpus), tmp_path / "a", tokenizer=tokenizer)
    other = prepare(sources(corpus), tmp_path / "b", tokenizer=tmp_path / "tokenizer")
    assert one.digest == other.digest and one.tokenizer.digest == tokenizer.digest
    assert one.record["tokenizer"]["trained_on"] is None


def test_the_sample_is_of_the_training_text_and_capped(corpus: Path, tmp_path: Path, monkeypatch):
    """Oracle: the texts that reach the trainer, against the decoded training split."""
    seen: list[str] = []

    def train(texts, size):
        seen.extend(texts)
        return byte_tokenizer()

    monkeypatch.setattr(module, "train_tokenizer", train)
    prepared = prepare(sources(corpus), tmp_path / "out", size=257, sample=4_000, held_out=0.3)
    train_texts = decoded(prepared, "train")
    told = prepared.record["tokenizer"]["trained_on"]
    for name, texts in train_texts.items():
        mine = [one for one in seen if one in set(texts)]
        total = sum(len(one.encode()) for one in texts)
        size = sum(len(one.encode()) for one in mine)
        assert told[name] == {"documents": len(mine), "bytes": size}
        if total <= 4_000:
            assert mine == texts
        else:
            # Documents of at most 250 bytes, drawn one by one: the sum stays near the cap.
            assert 2_000 < size < 6_000
    assert len(seen) == sum(one["documents"] for one in told.values())
    assert any(sum(len(one.encode()) for one in texts) > 4_000 for texts in train_texts.values())


def test_a_sample_is_never_empty(corpus: Path, tmp_path: Path):
    prepared = prepare(sources(corpus), tmp_path / "out", size=257, sample=1)
    assert sum(one["documents"] for one in prepared.record["tokenizer"]["trained_on"].values()) >= 1


def test_progress_goes_forward(corpus: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 1_000)
    calls: list[tuple[int, int, str]] = []
    prepare(sources(corpus), tmp_path / "out", size=300, step=lambda *call: calls.append(call))
    phases = list(dict.fromkeys(text for _, _, text in calls))
    assert phases[0].startswith("reading ") and phases[-2:] == ["training the tokenizer", "encoding"]
    for phase in phases[-2:]:
        done = [(d, n) for d, n, text in calls if text == phase]
        assert done == sorted(done) and done[0][0] == 0 and done[-1][0] == done[-1][1] > 0 and len(done) > 3
    assert all(total == 0 for _, total, text in calls if text.startswith("reading"))


def test_what_is_dropped_is_counted(tmp_path: Path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n[]\n{"text": "b"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:2: not UTF-8"):
        prepare([Source(str(path), "prose")], tmp_path / "out", tokenizer="bytes")
    assert not (tmp_path / "out").exists()
    prepared = prepare([Source(str(path), "prose", drop_bad=True)], tmp_path / "out", tokenizer="bytes")
    (row,) = prepared.record["sources"]
    assert (row["documents"], row["dropped"]) == (2, 2) and "x.jsonl:2: not UTF-8" in row["first_dropped"]


# --- all or nothing ---------------------------------------------------------------------------------


def test_a_failure_leaves_nothing(corpus: Path, tmp_path: Path, monkeypatch):
    before = sorted(os.listdir(tmp_path))
    real = module._domains

    def broken(*args):
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_domains", broken)
    with pytest.raises(KeyboardInterrupt):
        prepare(sources(corpus), tmp_path / "out", tokenizer="bytes")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_folder_in_use_is_left_alone(corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    prepared = prepare(sources(corpus), out, tokenizer="bytes")  # empty, so it may be there
    held = files(out)
    with pytest.raises(DataError, match=r"out: holds prepared data; read it"):
        prepare(sources(corpus), out, tokenizer="bytes")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes").write_text("mine")
    for name in ("other", "other/notes"):
        with pytest.raises(DataError, match="is there already and not an empty folder"):
            prepare(sources(corpus), tmp_path / name, tokenizer="bytes")
    assert files(out) == held and prepared.digest == Prepared.read(out).digest
    assert sorted(held)[0] == "data.json" and ".spool.zst" not in held


def test_a_result_is_as_readable_as_any_folder(corpus: Path, tmp_path: Path):
    """Oracle: a folder made beside it."""
    prepare(sources(corpus), tmp_path / "out", tokenizer="bytes")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- what is wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how, message",
    [
        ({}, "got neither of tokenizer and size"),
        ({"tokenizer": "bytes", "size": 300}, "got both of tokenizer and size"),
        ({"size": 256}, "got size 256, sample .*; valid is a size from 257"),
        ({"size": 300, "sample": 0}, "got size 300, sample 0"),
        ({"tokenizer": "no/such"}, r"no/such: cannot be read"),
        ({"tokenizer": "bytes", "held_out": 1.0}, "held_out: got 1.0; valid is a share"),
    ],
)
def test_settings_are_checked_before_any_reading(corpus: Path, tmp_path: Path, monkeypatch, how, message):
    monkeypatch.setattr(module, "read", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match=message):
        prepare(sources(corpus), tmp_path / "out", **how)


@pytest.mark.parametrize(
    "content, how, message",
    [
        ("", {}, "holds no document"),
        ('{"text": " "}\n{"text": ""}\n', {}, "nothing is left of 2 documents: 2 are blank, 0 refused"),
        (
            '{"text": "a"}\n',
            {"refuse": lambda _: "x"},
            "nothing is left of 1 documents: 0 are blank, 1 refused",
        ),
    ],
)
def test_an_empty_corpus(tmp_path: Path, content: str, how: dict, message: str):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        prepare(Source(str(path), "prose"), tmp_path / "out", tokenizer="bytes", **how)
    assert os.listdir(tmp_path) == ["x.jsonl"]


def test_nothing_to_train_on(corpus: Path, tmp_path: Path):
    with pytest.raises(DataError, match="all 5 documents are held out"):
        prepare([Source(str(corpus / "own.jsonl"), held_out=True)], tmp_path / "out", tokenizer="bytes")
    with pytest.raises(DataError, match="sources: got none"):
        prepare([], tmp_path / "out", tokenizer="bytes")


def test_a_folder_that_is_not_what_was_written(corpus: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no data\.json; valid is a folder that prepare"):
        Prepared.read(tmp_path)
    prepared = prepare(sources(corpus), tmp_path / "out", tokenizer="bytes")
    with pytest.raises(DataError, match=r"split: got 'test'; valid is 'train' or 'validation'"):
        prepared.tokens("test")  # type: ignore[arg-type]
    record = (prepared.folder / "data.json").read_text()
    for changed, message in (
        ("{", "cannot be read"),
        ("[]", "format None"),
        (record.replace('"format": 1', '"format": 9'), "format 9"),
        (record.replace(prepared.digest, "0" * 64), "its digest is not that of the files"),
    ):
        (prepared.folder / "data.json").write_text(changed)
        with pytest.raises(DataError, match=message):
            Prepared.read(prepared.folder)
    (prepared.folder / "data.json").write_text(record)
    train_tokenizer(["a b c"] * 3, 257).save(tmp_path / "t")
    shutil.copy(tmp_path / "t" / "tokenizer.json", prepared.folder / "tokenizer.json")
    with pytest.raises(DataError, match="not the tokenizer the data was encoded with"):
        Prepared.read(prepared.folder)
