"""One text for all vocabularies: read once, held out to the same byte, in a folder that is for it alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.documents import Document
from data.errors import DataError
from data.sources import read
from scaling.errors import UsageError
from tests.train.tradeoffs import ASKED, SMALL, held_out, written
from train.tradeoff import tradeoff
from train.vocabulary import BYTES


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_text_is_read_once(tmp_path: Path):
    asked: list[Document] = []
    source = written(tmp_path / "text.jsonl")

    def refuse(document: Document) -> str | None:
        asked.append(document)
        return "a task" if "sea" in document.text else None

    result = tradeoff(source, ASKED, train=False, refuse=refuse, folder=tmp_path / "kept", **SMALL)
    assert len(asked) == len({one.text for one in read(source)})
    rows = [one for name in ("train", "validation") for one in rows_of(tmp_path / "kept" / f"{name}.jsonl")]
    assert sorted(one["text"] for one in rows) == sorted(
        {one.text for one in read(source) if "sea" not in one.text}
    )
    assert result.vocabularies["size"].tolist() == [257, 300, 350]


def test_every_vocabulary_is_measured_on_the_same_bytes(tmp_path: Path):
    """The last document is cut, not within a letter."""
    folder, most = tmp_path / "kept", 100
    source = written(tmp_path / "text.jsonl")
    tradeoff(source, ASKED, train=False, held_out_bytes=most, folder=folder, **SMALL)
    rows = rows_of(folder / "validation.jsonl")
    for domain, texts in held_out(source).items():
        mine = [one["text"] for one in rows if one["domain"] == domain]
        assert "".join(texts).startswith("".join(mine))
        assert most - 4 < sum(len(one.encode()) for one in mine) <= most


def test_a_folder_is_for_one_text(tmp_path: Path):
    source, folder = written(tmp_path / "text.jsonl"), tmp_path / "kept"
    tradeoff(source, [BYTES], train=False, folder=folder, **SMALL)
    with pytest.raises(UsageError, match="other settings: held_out; give another folder"):
        tradeoff(source, ASKED, folder=folder, **SMALL | {"held_out": 0.2})
    with pytest.raises(UsageError, match="other settings: sources, refuse"):
        tradeoff(written(tmp_path / "b.jsonl"), ASKED, folder=folder, refuse=lambda _: None, **SMALL)


def test_text_without_held_out_text_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no text is held out"):
        tradeoff(written(tmp_path / "text.jsonl"), [300], **SMALL | {"held_out": 0.0})
