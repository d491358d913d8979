"""`make demo`: from scores to a suite, pictures and a page, twice the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalsuite import demo
from evalsuite.suite import Suite
from scaling import embedded
from tests.scaling import synthetic


def table():
    tasks = {
        "piqa": synthetic.sigmoid(0.5, 0.9, 20.0, 2.0),
        "hellaswag": synthetic.sigmoid(0.25, 0.9, 20.0, 2.0),
        "arc_easy": synthetic.sigmoid(0.25, 0.9, 20.5, 2.0),
    }
    return synthetic.table_of(tasks, run_sd=0.004, checkpoint_sd=0.004)


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scores_become_a_suite_pictures_and_a_page(made, capsys) -> None:
    demo.run(table(), stage="3e19..1e21", out=Path("out"), replicates=30)
    suite = Suite.read(made / "out" / "suite.yaml")
    assert suite.tasks
    head = (made / "out" / "suite.yaml").read_text()
    assert "evalsuite build --scores ladder --stage 3e19..1e21 --settings ladder" in head
    files = {path.name: path.read_bytes() for path in (made / "out").iterdir()}
    assert set(files) >= {"suite.yaml", "audit.csv", "windows.png", "report.html"}
    assert b"hellaswag" in files["report.html"] and b"3e19..1e21" in files["report.html"]
    told = capsys.readouterr().out
    assert "3 early-signal" in told and "piqa" in told
    demo.run(table(), stage="3e19..1e21", out=Path("out"), replicates=30)
    assert {path.name: path.read_bytes() for path in (made / "out").iterdir()} == files


def test_without_the_scores_it_is_one_message(made, capsys, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "ladder_path", lambda: made / "ladder.parquet")
    assert demo.main() == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and "install the package anew" in told.err and not told.out
    assert list(made.iterdir()) == []
