"""The journal of a hook: what is on the disk is what is in memory, and no error of its own ends a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalsuite.evaluations import JOURNAL, Evaluations
from evalsuite.journal import Journal
from evalsuite.ranks import Ranks
from scaling.errors import StagewiseError


def event(step: int, suite: str = "early", averaged: bool = True, **more) -> dict:
    told = {
        "step": step, "kind": "evaluation", "suite": suite, "folder": f"step-{step}/{suite}", "tokens": 1.0,
        "flops": 2.0, "seconds": 3.0, "members": [step - 1, step], "averaged": averaged, "doubts": [],
        "items": 1.0, "missing": [], "speed": {"seconds": 0.1},
    }  # fmt: skip
    return told | more


def opened(folder: Path, step: int = 1, said: list | None = None) -> Journal:
    journal = Journal(folder, Ranks(), (said if said is not None else []).append)
    journal.open(step)
    return journal


def test_memory_and_disk_agree(tmp_path):
    journal = opened(tmp_path / "evals")
    for one in (event(10), event(20), event(10, "late"), event(20, missing=[{"task": "t", "why": "gone"}])):
        journal.note(one)
    journal.failed(20, "evaluation", ValueError("boom\nbang"), "early")
    journal.close()
    found = Evaluations.open(tmp_path / "evals")
    assert found == journal.evaluations
    assert [(one.step, one.suite) for one in found.all] == [(10, "early"), (10, "late"), (20, "early")]
    assert found.failures.to_dict("records") == [
        {"step": 20, "suite": "early", "task": "evaluation", "why": "ValueError: boom bang"},
        {"step": 20, "suite": "early", "task": "t", "why": "gone"},
    ]
    assert Evaluations.open(tmp_path).folder == tmp_path / "evals"  # of a run


def test_taken_up(tmp_path):
    journal = opened(tmp_path)
    for step in (10, 20, 30):
        journal.note(event(step))
    journal.close()
    again = opened(tmp_path, step=21)
    again.close()
    assert [one.step for one in again.evaluations.all] == [10, 20]
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 2


def test_raw_weights_stand_beside_the_mean(tmp_path):
    journal = opened(tmp_path)
    journal.note(event(10, averaged=False, folder="step-10/early raw"))
    assert not journal.evaluations.all  # nor do they stand in for it, where it could not be scored
    journal.note(event(10))
    journal.close()
    found = journal.evaluations
    assert [one.averaged for one in found.all] == [True] and [one.averaged for one in found.raw] == [False]


def test_a_line_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    said: list[str] = []
    journal = opened(tmp_path, said=said)

    def full(*_):
        raise StagewiseError("no space")

    monkeypatch.setattr("evalsuite.journal.RunLog.append", full)
    journal.note(event(10))
    journal.close()
    assert journal.failures == 1 and "a line of the journal is lost: no space" in said[0]
    assert [one.step for one in journal.evaluations.all] == [10]


def test_a_listener_that_fails_is_no_matter(tmp_path):
    def deaf(_: str) -> None:
        raise OSError("stderr is closed")

    journal = Journal(tmp_path, Ranks(), deaf)
    journal.tell("x")


def test_no_journal(tmp_path):
    with pytest.raises(StagewiseError, match=r"holds no journal\.jsonl; give the folder of an EvalHook"):
        Evaluations.open(tmp_path)
    (tmp_path / JOURNAL).write_text(json.dumps({"step": 1}) + "\n")
    with pytest.raises(StagewiseError, match=":1: kind None"):
        Evaluations.open(tmp_path)
