"""The live table: what it shows, when it ends, and that a run that is being written does not break it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from evalsuite.alarms import watch as judge
from evalsuite.evaluations import JOURNAL
from evalsuite.overview import Overview
from evalsuite.run_log import RunLog
from scaling.errors import StagewiseError
from tests.evalsuite.watched import EVENTS, half_line, hook_folder, judging, run_folder, train_line
from train.lock import LOCK
from train.watch import follow, mixture, over, picture, plain

STEPS = (1000, 1500, 2000, 2500)


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    """One capability is behind."""
    monkeypatch.setattr(
        "evalsuite.alarms.watch", judging("code", near=("step 1980: mixture phase 1 begins",))
    )


@pytest.fixture
def run(tmp_path) -> Path:
    """A run in the middle."""
    return run_folder(
        tmp_path / "base", STEPS, 6000, now=2600, missing={2500: {"skill_add": "logits are NaN"}},
        doubts={2500: ["the mean lags"]},
    )  # fmt: skip


def shown(folder: Path, width: int = 400) -> str:
    """The picture as text."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(picture(Overview.open(folder), width=width))
    return console.file.getvalue()  # type: ignore[attr-defined]


def lines(text: str) -> dict[str, str]:
    """First word of a line: the rest, blanks folded."""
    return {words[0]: " ".join(words[1:]) for words in map(str.split, text.splitlines()) if words}


# --- what it shows --------------------------------------------------------------------------------------


def test_the_state_of_the_run(run):
    told = lines(shown(run))
    assert told["base"] == (
        "step 2,600 of 6,000, 43% · loss 2.310 · 10.6M tokens · 6.24e13 FLOPs · learning rate 0.003"
    )
    assert told["mixture"] == "phase 1: code 0%, prose 100%"
    assert told["held"] == "out code 1.100, prose 1.900"
    # Oracle: four evaluations of 3.2 s, the last after 5,000 s of training.
    assert told["evaluation"] == (
        f"last at step 2,500 (early, mean of steps 2,470 to 2,500) · {4 * 3.2 / 5000:.2%} of training time, "
        "2.0% allowed"
    )
    assert told["doubted"] == "the mean lags"
    assert told["missing"] == "skill_add of early, step 2,500: logits are NaN"


def test_the_table_has_alarms_first(run):
    text = shown(run)
    frame = Overview.open(run).capabilities.set_index("capability")
    code = frame.loc["code"]
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("code", "symb", "arith"))] == [
        "code", "symbolic", "arithmetic",
    ]  # fmt: skip
    assert lines(text)["code"] == (
        f"{code['now']:.3f} {code['low']:.3f} to {code['high']:.3f} +0.120 83 since step 2,000, 0.300 below"
    )
    assert lines(text)["symbolic"].endswith(" 1 as expected")


def test_alarms_and_events_stand_below(run):
    told = shown(run)
    assert (
        "code (early) falls behind since step 2,000, noticed at step 2,400: 35.0% more bits per byte than "
        "expected; near it: step 1980: mixture phase 1 begins"
    ) in told
    assert "loss 4.2 where about 2.31 is usual" in told
    assert told.index("as expected") < told.index("falls behind") < told.index("is usual")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_fits_any_terminal(run, width):
    assert max(map(len, shown(run, width).splitlines())) <= width


def test_what_others_wrote_cannot_steer_the_terminal(tmp_path):
    why = "\x1b[2J\x07[bold red]no[/] such\rfile\x9b31m"
    failed = {"step": 900, "kind": "failed", "what": "evaluation", "suite": "early", "why": why}
    text = shown(run_folder(tmp_path / "a", STEPS, 6000, events=[failed]))
    assert "[2J [bold red]no[/] such file 31m" in text and not {"\x1b", "\x07", "\r", "\x9b"} & set(text)


def test_a_run_that_has_just_begun(tmp_path):
    told = shown(run_folder(tmp_path / "a", (), 100, now=1, events=()))
    assert "step 1 of 100, 1%" in told and "none yet" in told and "no capability judged yet" in told
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "config.toml", tmp_path / "b")
    assert lines(shown(tmp_path / "b"))["b"] == "step 0 of 100, 0%"


def test_the_hook_of_another_trainer(tmp_path):
    told = lines(shown(hook_folder(tmp_path / "watching", STEPS, events=())))
    assert told["watching"] == "step 2,500 · 10.2M tokens · 6e13 FLOPs" and "mixture" not in told


def test_as_data(run):
    told = plain(Overview.open(run))
    assert told["run"]["evaluated"] == 2500 and told["run"]["mixture"].startswith("phase 1: ")
    assert [one["capability"] for one in told["capabilities"] if one["alarm"]] == ["code"]
    assert told["missing"][0]["task"] == "skill_add" and told["doubts"][0]["why"] == "the mean lags"


@pytest.mark.parametrize(
    ("phase", "config", "told"),
    [
        (None, {}, ""), ("late", {}, "phase late"), (1, {}, "phase 1"), (7, {"mixture": {"a": 1}}, "phase 7"),
        (0, {"mixture": {"a": "1 until 50%, then 0", "b": 3}}, "phase 0: a 25%, b 75%"),
        (0, {"mixture": {"a": "often"}}, "phase 0"),
    ],
)  # fmt: skip
def test_the_mixture_in_words(run, phase, config, told):
    from dataclasses import replace

    assert mixture(replace(Overview.open(run).run, phase=phase, config=config)) == told


# --- a run that is being written ------------------------------------------------------------------------


def test_what_is_half_written_is_passed_over(run):
    before = shown(run)
    half_line(run / "log.jsonl")
    half_line(run / "evals" / JOURNAL)
    (run / "evals" / "step-000003000" / "early").mkdir(parents=True)  # no line of the journal yet
    assert shown(run) == before


def test_results_that_are_gone_are_said(run):
    shutil.rmtree(run / "evals" / "step-000001500")
    told = shown(run)
    assert "step 1500, early: results cannot be read" in told and "as expected" in told


def test_an_error_of_the_statistics_is_said(run, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr("evalsuite.alarms.watch", broken)
    told = shown(run)
    assert "no expectations, no alarms: ValueError: no" in told and "no capability judged yet" in told


def test_the_real_judgement(tmp_path, monkeypatch):
    """What the alarms find in a run that loses code at step 2,000 is what is shown."""
    monkeypatch.setattr("evalsuite.alarms.watch", judge)
    found = Overview.open(run_folder(tmp_path / "a", range(200, 4001, 200), 6000, now=4000))
    assert found.watched is not None and not found.problems
    console = Console(file=io.StringIO(), width=400, highlight=False)
    console.print(picture(found))
    told = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "code" in {one.capability for one in found.watched.alarms}
    assert all(str(one) in told for one in found.watched.alarms)


# --- following ------------------------------------------------------------------------------------------


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=50, highlight=False)


def followed(run: Path, *happenings: Callable[[], object]) -> tuple[Overview, str, int]:
    """Follow a run in which something happens between two looks; also how often time was passed."""
    console, left, waits = terminal(), list(happenings), []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        left.pop(0)()

    found = follow(run, 3.0, console, wait=wait)
    assert set(waits) <= {3.0} and not left
    shown = re.sub(r"\x1b\[(?!\?25h)[0-9?;]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    return found, " ".join(shown.split()), len(waits)  # where lines break depends on the folder's name


def trained(run: Path, step: int) -> Callable[[], None]:
    def go() -> None:
        with RunLog(run / "log.jsonl") as log:
            log.append(train_line(step))

    return go


def test_it_grows_with_the_run_and_ends_with_it(run):
    found, text, waits = followed(
        run, trained(run, 2700), lambda: half_line(run / "log.jsonl"), trained(run, 6000)
    )
    assert waits == 3 and found.run.ended
    assert all(part in text for part in ("step 2,600 of", "step 2,700 of", "step 6,000 of 6,000, ended"))


def test_new_evaluations_are_shown(run, tmp_path):
    whole = run_folder(tmp_path / "whole", (*STEPS, 3000), 6000, now=3000)

    def evaluated() -> None:
        shutil.copytree(whole / "evals", run / "evals", dirs_exist_ok=True)

    found, text, _ = followed(run, evaluated, trained(run, 6000))
    assert found.last[0].step == 3000 and "last at step 3,000" in text


def test_ctrl_c_leaves_quietly(run):
    def stop() -> None:
        raise KeyboardInterrupt

    found, text, _ = followed(run, stop)
    assert found.run.step == 2600 and text.count("\x1b[?25h") == 1  # the cursor is back


def test_a_folder_that_fails_once_is_tried_again(run, tmp_path):
    away = tmp_path / "away"
    found, text, waits = followed(run, lambda: run.rename(away), lambda: away.rename(run), trained(run, 6000))
    assert waits == 3 and found.run.ended and "no run here" in text


def test_a_folder_that_is_gone_is_an_error(run):
    with pytest.raises(StagewiseError, match="no run here"):
        followed(run, lambda: shutil.rmtree(run), *[lambda: None] * 2)


def test_it_waits_for_the_process_that_does_the_last_step(run, monkeypatch):
    """The last evaluation comes after the last line of the log."""
    (run / LOCK).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    trained(run, 6000)()
    assert not over(Overview.open(run).run)
    found, _, waits = followed(run, lambda: (run / LOCK).write_text(""))
    assert waits == 1 and over(found.run)


@pytest.mark.parametrize(
    ("lock", "ended"),
    [(None, True), ("", True), ("{", True), ({"pid": 2**22 + 1}, True), ({"host": "b"}, False)],
)
def test_whose_lock_it_is(run, lock, ended):
    """Of a process that is gone, nobody's; of another machine, taken for alive."""
    trained(run, 6000)()
    if lock is not None:
        told = {"pid": os.getpid(), "host": socket.gethostname()}
        (run / LOCK).write_text(lock if isinstance(lock, str) else json.dumps(told | lock))
    assert over(Overview.open(run).run) == ended


def test_a_stopped_run_is_called_that(run):
    assert "stopped" not in shown(run)
    (run / LOCK).write_text("")
    assert "step 2,600 of 6,000, 43%, stopped" in shown(run)


def test_events_are_the_newest(run):
    with RunLog(run / "evals" / JOURNAL) as log:
        for i in range(10):
            log.append({"step": 2600 + i, "kind": "phase", "phase": i})
    told = shown(run)
    assert "mixture phase 9 begins" in told and EVENTS[1]["kind"] not in told
