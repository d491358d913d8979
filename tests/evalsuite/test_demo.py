"""`make demo`: one default, and a way on where there is nothing to read."""

from pathlib import Path

import pytest

from evalsuite import demo
from evalsuite.suite import Suite
from tests.scaling import synthetic


@pytest.fixture
def nothing(tmp_path, monkeypatch) -> Path:
    """A fresh clone with nothing beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "EMBEDDED", tmp_path / "data" / "scores")
    monkeypatch.setenv("STAGEWISE_SHARED", str(tmp_path / "shared"))
    return tmp_path


def table():
    tasks = {
        "piqa": synthetic.sigmoid(0.5, 0.9, 20.0, 2.0),
        "hellaswag": synthetic.sigmoid(0.25, 0.9, 20.0, 2.0),
        "arc_easy": synthetic.sigmoid(0.25, 0.9, 20.5, 2.0),
    }
    return synthetic.table_of(tasks, run_sd=0.004, checkpoint_sd=0.004)


def test_without_scores_it_says_how_to_get_some(nothing, capsys) -> None:
    assert demo.main() == 0
    told = capsys.readouterr().out
    assert "scaling fetch olmo_ladder" in told and told.count("\n") == 1
    assert list(nothing.iterdir()) == []


def test_embedded_scores_come_before_fetched_ones_and_those_before_shared_ones(nothing) -> None:
    archive = nothing / "shared" / "sources" / demo.ARCHIVE
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert [path.resolve() for path in demo.find_scores()] == [archive]
    fetched = nothing / "sources" / demo.SOURCE
    fetched.mkdir(parents=True)
    assert [path.resolve() for path in demo.find_scores()] == [fetched]
    ours = nothing / "data" / "scores" / "own.parquet"
    ours.parent.mkdir(parents=True)
    ours.touch()
    assert [path.resolve() for path in demo.find_scores()] == [ours]


def test_scores_become_a_suite_and_pictures(nothing, capsys) -> None:
    table().write(nothing / "scores.parquet")
    demo.run([Path("scores.parquet")], stage="3e19..1e21", out=Path("out"), replicates=30)
    suite = Suite.read(nothing / "out" / "suite.yaml")
    assert suite.tasks
    head = (nothing / "out" / "suite.yaml").read_text()
    assert "evalsuite build --scores scores.parquet --stage 3e19..1e21 --replicates 30" in head
    assert {path.name for path in (nothing / "out").iterdir()} >= {"suite.yaml", "audit.csv", "windows.png"}
    told = capsys.readouterr().out
    assert "3 early-signal" in told and "piqa" in told


def test_a_broken_input_is_one_message(nothing, capsys) -> None:
    ours = nothing / "data" / "scores" / "own.parquet"
    ours.parent.mkdir(parents=True)
    ours.touch()
    assert demo.main() == 1
    assert capsys.readouterr().err.startswith("error: ")
