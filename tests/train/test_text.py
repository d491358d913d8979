"""The tokens of a run: where they come from, and that no benchmark item is among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.errors import DataError
from data.prepared import Prepared
from data.sources import Source
from evalsuite.registry import register
from scaling.errors import StagewiseError
from tests.evalsuite.scored import free, task_folder
from tests.train import runs
from train.config import DataConfig, parse_config
from train.text import benchmark_overlap, tokens_of

QUESTION = (
    "A lighthouse keeper counts the ships that pass her window on a grey morning in March and writes the "
    "number down as"
)
ANSWER = "forty two"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> Path:
    """No test touches the settings of whoever runs it."""
    monkeypatch.setenv("STAGEWISE_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Rows of three domains; two of them hold an item of a benchmark, in other case and punctuation."""
    path = runs.corpus(tmp_path / "text.jsonl")
    planted = f"{QUESTION} {ANSWER}".upper().replace(" ", ",  ")
    with open(path, "a", encoding="utf-8") as handle:
        for domain, text in (("prose", f"Before. {planted} After."), ("maths", f"{planted} 1 plus 1")):
            handle.write(json.dumps({"text": text, "domain": domain}) + "\n")
    return path


@pytest.fixture
def registered(tmp_path) -> Path:
    items = [free(0), free(1, id="ships", context=QUESTION, answer=ANSWER)]
    folder = task_folder(tmp_path / "tasks", {"ships": items})
    register(folder)
    return folder


def section(corpus: Path, **more) -> DataConfig:
    told = {"tokenizer": "bytes", "held_out": 0.1, "sources": [str(corpus)]} | more
    return parse_config({"steps": 1, "data": told}, "here").data


def all_text(prepared: Prepared) -> str:
    parts = []
    for split in ("train", "validation"):
        for tokens in prepared.tokens(split).values():
            parts.append(prepared.tokenizer.decode(tokens.read(0, len(tokens))))
    return " ".join(parts).lower()


def test_items_of_benchmarks_are_dropped_and_counted(corpus, registered, tmp_path):
    prepared = tokens_of(section(corpus), tmp_path / "out")
    told = prepared.card.set_index("domain")
    assert told["refused"].to_dict() == {"code": 0, "maths": 1, "prose": 1}
    assert "lighthouse" not in all_text(prepared)
    refused = {name: one["refused"] for name, one in prepared.record["domains"].items()}
    assert refused == {"code": {}, "maths": {"ships": 1}, "prose": {"ships": 1}}
    kept = told["documents"] + told["validation_documents"]
    assert kept.to_dict() == {"code": 20, "maths": 20, "prose": 20}


def test_without_the_check(corpus, registered, tmp_path):
    prepared = tokens_of(section(corpus, overlap=False), tmp_path / "out")
    assert prepared.card["refused"].sum() == 0 and all_text(prepared).count("lighthouse") == 2


def test_generated_items_are_benchmarks_too(registered):
    overlap = benchmark_overlap()
    assert "ships" in overlap.tasks and "skill_copy" in overlap.tasks
    assert overlap.hit(f"x {QUESTION} {ANSWER} y") == "ships"


def test_a_benchmark_that_cannot_be_read_is_no_benchmark_checked(corpus, registered, tmp_path):
    with open(registered / "ships.jsonl", "a", encoding="utf-8") as handle:
        handle.write("{broken\n")
    with pytest.raises((DataError, StagewiseError), match="ships") as caught:
        tokens_of(section(corpus), tmp_path / "out")
    assert "data.overlap = false" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_registered_folder_that_is_gone(corpus, registered, tmp_path):
    registered.rename(tmp_path / "elsewhere")
    with pytest.raises((DataError, StagewiseError), match=f"{registered}.*evalsuite tasks --remove"):
        tokens_of(section(corpus), tmp_path / "out")


def test_made_once(corpus, tmp_path):
    told = section(corpus, overlap=False)
    first = tokens_of(told, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    corpus.unlink()
    again = tokens_of(told, tmp_path / "out")
    assert again.digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_folder_that_is_named(corpus, tmp_path):
    made = tokens_of(section(corpus, overlap=False), tmp_path / "made")
    named = DataConfig(folder=str(tmp_path / "made"))
    assert tokens_of(named, tmp_path / "out").digest == made.digest
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"holds no data\.json"):
        tokens_of(DataConfig(folder=str(tmp_path / "none")), tmp_path / "out")


@pytest.mark.parametrize("told, size", [("bytes", 257), (300, 300), ("300", 300)])
def test_tokenizers(corpus, tmp_path, told, size):
    prepared = tokens_of(section(corpus, overlap=False, tokenizer=told), tmp_path / "out")
    assert prepared.tokenizer.size == size


def test_a_tokenizer_of_another_run(corpus, tmp_path):
    first = tokens_of(section(corpus, overlap=False, tokenizer=300), tmp_path / "first")
    told = section(corpus, overlap=False, tokenizer=str(tmp_path / "first"))
    assert tokens_of(told, tmp_path / "out").tokenizer.digest == first.tokenizer.digest


def test_no_such_tokenizer(corpus, tmp_path):
    with pytest.raises(DataError, match="none"):
        tokens_of(section(corpus, overlap=False, tokenizer=str(tmp_path / "none")), tmp_path / "out")


def test_the_seed_splits(corpus, tmp_path):
    told = section(corpus, overlap=False)
    one, two, three = (tokens_of(told, tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))
    assert one.digest == two.digest != three.digest


def test_progress_is_told(corpus, tmp_path):
    heard: list[tuple[int, int, str]] = []
    tokens_of(section(corpus, overlap=False), tmp_path / "out", progress=lambda *one: heard.append(one))
    assert heard and all(isinstance(done, int) and isinstance(text, str) for done, _, text in heard)


def test_a_source_is_a_path_or_a_table(corpus):
    told = section(corpus, sources=[str(corpus), {"path": "embedded", "most": 1000}])
    assert told.sources == (Source(str(corpus)), Source("embedded", most=1000))
