"""The command `evalsuite report`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evalsuite.console import caller
from tests.evalsuite.watched import judging, run_folder


@pytest.fixture
def call(monkeypatch, capsys):
    """`evalsuite ARGS`, where nothing is judged twice."""
    monkeypatch.setattr("evalsuite.alarms.watch", judging("code", noticed=300, since=200))
    return caller(monkeypatch, capsys)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return run_folder(
        tmp_path_factory.mktemp("run") / "a", [100, 200, 300], 300, events=(),
        missing={200: {"skill_add": "NaN"}},
    )  # fmt: skip


def test_a_page_is_written_and_told_of(call, run, tmp_path):
    page = tmp_path / "new" / "report.html"
    code, out, err = call("report", str(run), "-o", str(page))
    assert (code, out) == (0, "")
    assert err == f"{page}: step 300 of 300, ended; 3 evaluations, 1 alarm(s), 1 thing(s) missing\n"
    assert page.read_text(encoding="utf-8").lstrip().startswith("<!doctype html>")
    assert [one.name for one in page.parent.iterdir()] == ["report.html"]


def test_json_goes_to_stdout(call, run, tmp_path):
    code, out, err = call("report", str(run), "--json")
    told = json.loads(out)
    assert (code, err) == (0, "") and told["run"]["step"] == 300
    assert [one["capability"] for one in told["alarms"]] == ["code"]
    assert told["missing"] == [
        {"suite": "early", "task": "skill_add", "why": "NaN", "first": 200, "last": 200, "times": 1}
    ]
    code, again, err = call("report", str(run), "--json", "-o", str(tmp_path / "a.html"))
    assert (code, again) == (0, out) and (tmp_path / "a.html").is_file() and "a.html" in err


def test_results_that_cannot_be_read_are_said(call, run, tmp_path):
    other = run_folder(tmp_path / "b", [100, 200], 300, events=())
    (other / "evals" / "step-000000200" / "early" / "manifest.json").unlink()
    code, _, err = call("report", str(other), "-o", str(tmp_path / "b.html"))
    assert code == 0 and "step 200, early: results cannot be read" in err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("nowhere", "-o", "a.html"), 1, "nowhere: no run here"),
        (("RUN",), 2, "no place to write to; give -o report.html, or --json"),
        ((), 2, "Missing argument"),
        (("RUN", "-o", "file/a.html"), 1, "file"),
    ],
)
def test_a_wrong_call_is_one_error(call, run, tmp_path, monkeypatch, args, code, said):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    found, out, err = call("report", *(str(run) if one == "RUN" else one for one in args))
    assert found == code and not out and said in " ".join(err.split()) and "Traceback" not in err


def test_help_has_an_example(call):
    code, out, _ = call("report", "--help")
    assert code == 0 and "Example: evalsuite report runs/a -o report.html" in " ".join(out.split())
