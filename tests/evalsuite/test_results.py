"""A folder of results: what is written is read back, and what does not belong together is kept apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import summarise
from evalsuite.results import (
    CONVENTION,
    Done,
    Identity,
    Manifest,
    Missing,
    ModelRef,
    Results,
    SuiteRef,
    Wanted,
    item_file,
)  # fmt: skip
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable
from tests.evalsuite.test_measures import made

ONE, TWO = "1" * 64, "2" * 64


def manifest(**changes) -> Manifest:
    suite = SuiteRef(stage="mid (1e+19..1e+21)", digest=ONE, tasks=2)
    model = ModelRef(digest=ONE, tokenizer=ONE, dtype="float32", max_length=512)
    fields = {"suite": suite, "model": model, "identity": Identity(model="m", params=1e6)}
    return Manifest(**fields | {"settings": {"seed": 0}, "versions": {"python": "3"}} | changes)


def done(task: str, metric: str = "acc", shots: int | None = 0, **changes) -> Done:
    fields = {"task": task, "metric": metric, "shots": shots, "digest": ONE, "file": item_file(task, shots)}
    fields |= {"examples": shots or 0, "answered": 40, "truncated": 0, "chance": 0.25, "mode": "plain"}
    return Done(**fields | {"seconds": 1.5} | changes)


def said(task: str, seed: int = 0, shots: int = 0) -> Likelihoods:
    return replace(made(seed, 40), task=task, shots=shots)


WANTED = tuple(Wanted(task=name, metric="acc", shots=0) for name in ("b", "a"))


@pytest.fixture
def folder(tmp_path) -> Path:
    results = Results.begin(tmp_path / "r", manifest()).start()
    for name in ("a", "b"):
        results = results.add(done(name), said(name))
    results.end(WANTED, ())
    return tmp_path / "r"


def test_what_is_written_is_read_back(folder):
    found = Results.open(folder)
    assert [one.task for one in found.manifest.tasks] == ["b", "a"]  # as asked for, not as scored
    for name in ("a", "b"):
        back, given = found.likelihoods(next(d for d in found.manifest.tasks if d.task == name)), said(name)
        for column in ("ids", "gold", "n_choices", "tokens", "bytes", "chars", "greedy", "truncated"):
            np.testing.assert_array_equal(getattr(back, column), getattr(given, column), err_msg=column)
        np.testing.assert_array_equal(back.ll, given.ll)  # bit by bit, NaN where nothing was scored
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "items/a@0.parquet", "items/b@0.parquet", "manifest.json", "scores.parquet",
    ]  # fmt: skip


def test_score_rows(folder):
    """Oracle: the summaries of the likelihoods."""
    table = ScoreTable.read(folder / "scores.parquet").frame
    row = table[(table["task"] == "a") & (table["metric"] == "bpb")].iloc[0]
    one = summarise(said("a"))["bpb"]
    assert (row["score"], row["stderr"], row["n_items"]) == (one.score, one.stderr, one.n_items)
    assert (row["model"], row["family"], row["source"], row["params"]) == ("m", "m", "stagewise", 1e6)
    assert pd.isna(row["flops"]) and pd.isna(row["step"]) and row["shots"] == 0
    pd.testing.assert_frame_equal(table, Results.open(folder).to_frame())
    assert "<table" in Results.open(folder)._repr_html_()


def test_compute_follows_from_tokens(tmp_path):
    identity = Identity(model="m", family="f", params=1e6, tokens=2e9, step=7, variant="v", seed=3)
    results = Results.begin(tmp_path, manifest(identity=identity)).add(done("a"), said("a"))
    row = results.table().frame.iloc[0]
    assert row["flops"] == 6 * 1e6 * 2e9
    assert (row["family"], row["step"], row["variant"], row["seed"]) == ("f", 7, "v", 3)


def test_the_manifest_states_the_convention(folder):
    told = json.loads((folder / "manifest.json").read_text())
    assert told["convention"] == CONVENTION and "without one leading space" in CONVENTION
    assert told["suite"]["digest"] == ONE and told["versions"] == {"python": "3"} and told["missing"] == []


def test_the_manifest_of_a_killed_run_is_taken_up(tmp_path):
    results = Results.begin(tmp_path, manifest()).start()
    assert Results.open(tmp_path).manifest == manifest()
    (tmp_path / ".manifest.k3x.json").write_text('{"form')  # what a kill between two writes leaves
    results.add(done("a"), said("a"))
    (tmp_path / "items" / "b@0.parquet").write_bytes(b"PAR1")  # written before the manifest named it
    again = Results.begin(tmp_path, manifest())
    assert [one.task for one in again.manifest.tasks] == ["a"]
    assert again.add(done("b"), said("b")).all().keys() == {one.key for one in WANTED}


def test_a_folder_with_hidden_files_alone_is_empty(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / ".manifest.abc.json").write_text("")
    assert Results.begin(tmp_path, manifest()).manifest.tasks == ()


@pytest.mark.parametrize("name", ["notes.txt", "scores.parquet", "items"])
def test_a_folder_of_other_files(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(StagewiseError, match="holds other files; give an empty or a new folder"):
        Results.begin(tmp_path, manifest())


OTHERS = {
    "suite": (
        {"suite": SuiteRef(stage="late", digest=TWO, tasks=2)},
        rf"suite\.(stage|digest) was .*, is ('late'|{TWO[:12]})",
    ),
    "no suite": ({"suite": None}, r"suite was mid \(1e\+19\.\.1e\+21\), is none"),
    "model": (
        {"model": ModelRef(digest=TWO, tokenizer=ONE, dtype="float32", max_length=512)},
        r"model\.digest was 111111111111\.\.\., is 222222222222\.\.\.;",
    ),
    "length": (
        {"model": ModelRef(digest=ONE, tokenizer=ONE, dtype="float32", max_length=99)},
        r"model\.max_length was 512, is 99",
    ),
    "name": ({"identity": Identity(model="n", params=1e6)}, r"identity\.model was 'm', is 'n'"),
    "seed": ({"settings": {"seed": 1}}, r"settings\.seed was 0, is 1"),
    "new setting": ({"settings": {"seed": 0, "x": True}}, r"settings\.x was none, is True"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "told"), OTHERS.values(), ids=OTHERS)
def test_results_of_something_else(folder, change, told):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(StagewiseError, match=f"holds results of something else: {told}") as caught:
        Results.begin(folder, manifest(**change))
    assert "\n" not in str(caught.value) and "give another folder" in str(caught.value)
    assert (folder / "manifest.json").read_bytes() == before


def test_other_versions_are_no_other_results(folder):
    again = Results.begin(folder, manifest(versions={"python": "4"}))
    assert len(again.manifest.tasks) == 2 and again.manifest.versions == {"python": "4"}


def test_a_task_stands_once_at_each_number_of_examples(folder):
    """The score table has one row for (task, shots, metric), whatever metric was asked for."""
    results = Results.open(folder).add(done("a", "bpb", None), said("a", 1))
    results = results.add(done("a", "bpb", 5), said("a", 2, 5)).end((), ())
    assert [(one.task, one.metric, one.examples) for one in results.manifest.tasks] == [
        ("b", "acc", 0), ("a", "bpb", 0), ("a", "bpb", 5),
    ]  # fmt: skip
    assert not results.to_frame().duplicated(["task", "metric", "shots"]).any()


def test_what_went_missing_leaves_no_older_scores(folder):
    lost = tuple(Missing(**one.model_dump(), why="gone") for one in WANTED)
    results = Results.open(folder).end(WANTED, lost[:1])
    assert [one.task for one in results.manifest.tasks] == ["a"]
    assert set(ScoreTable.read(folder / "scores.parquet").frame["task"]) == {"a"}
    results.end(WANTED, lost)
    assert not (folder / "scores.parquet").exists() and Results.open(folder).manifest.tasks == ()


def test_no_folder_of_results(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            StagewiseError, match=r"holds no manifest\.json; give a folder that `evalsuite run`"
        ):
            Results.open(path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "the file"), ("[]", "the file"), ("", "the file"), ("{}", "suite"), ('{"format": 2}', "format"),
        (manifest().model_dump_json().replace('"tasks":2', '"tasks":"two"'), "suite.tasks"),
        (manifest().model_dump_json()[:-1] + ', "more": 1}', "more"),
    ],
)  # fmt: skip
def test_a_broken_manifest(folder, text, place):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(StagewiseError, match=rf"manifest\.json: {place}: .*into another folder"):
        Results.open(folder)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b"PAR1"), "cannot be read"),
        (lambda path: pd.DataFrame({"item": ["a"]}).to_parquet(path), "missing column"),
    ],
)
def test_a_spoilt_file_of_items(folder, spoil, told):
    spoil(folder / "items" / "a@0.parquet")
    with pytest.raises(StagewiseError, match=told):
        Results.open(folder).table()


@given(st.text(min_size=1, max_size=30), st.none() | st.integers(0, 99))
def test_a_file_stays_in_the_folder_and_is_of_one_task(task, shots):
    path = Path(item_file(task, shots))
    assert path.parts[0] == "items" and len(path.parts) == 2 and "\0" not in path.name
    assert Path("/r", path).resolve().parent == Path("/r/items")
    other = item_file(task + "@", shots)
    assert other != str(path) and item_file(task, 100) != str(path)


@pytest.mark.parametrize("task", ["../../etc/passwd", "..", "/abs", "a\\b", "{{7*7}}", "a b", "é", "x@5"])
def test_odd_names(task):
    name = item_file(task, 0).removeprefix("items/")
    assert not set(name) & set("/\\{} ") and name.endswith("@0.parquet")
