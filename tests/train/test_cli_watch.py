"""The command `train watch`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evalsuite.watched import hook_folder, judging, run_folder
from tests.test_house import MODEL_LIBRARIES, run_command
from tests.train.commands import call


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    monkeypatch.setattr("evalsuite.alarms.watch", judging("code", since=200, noticed=300))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run in the middle."""
    return run_folder(tmp_path_factory.mktemp("run") / "a", [100, 200, 300], 600, now=300, events=())


@pytest.mark.parametrize("flags", [(), ("--once",), ("--every", "0.5")])
def test_off_a_terminal_it_prints_once(run, flags):
    said = call("watch", run, *flags)
    assert "step 300 of 600, 50%" in said.out and "falls behind since step 200" in said.out and not said.err


def test_json(run):
    told = call("watch", run, "--json").json
    assert set(told) == {"run", "capabilities", "alarms", "missing", "doubts", "problems"}
    assert told["run"]["step"] == 300 and [one["capability"] for one in told["alarms"]] == ["code"]


def test_the_folder_of_a_hook(tmp_path):
    assert "step 200" in call("watch", hook_folder(tmp_path / "mine", [100, 200], events=())).out
    assert call("watch", tmp_path / "mine", "--json").json["run"]["steps"] is None


def test_no_run_is_one_clear_error(tmp_path):
    said = call("watch", tmp_path, code=1)
    assert (
        said.err.startswith(f"error: {tmp_path}: no run here") and said.err.count("\n") == 1 and not said.out
    )


@pytest.mark.parametrize("args", [(), ("a", "--every", "0"), ("a", "--never")])
def test_a_wrong_call_exits_with_2(args):
    assert "Usage: train watch" in " ".join(call("watch", *args, code=2).err.split())


def test_help_has_an_example():
    assert "Example: train watch runs/a" in call("watch", "--help").plain


def test_it_needs_no_torch(run):
    """Loading it takes seconds."""
    done, modules = run_command("train", "watch", str(run))
    assert done.returncode == 0 and "step 300 of 600" in done.stdout, done.stderr
    assert not modules & MODEL_LIBRARIES
