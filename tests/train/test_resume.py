"""Runs that are cut off: killed, stopped, broken on disk. Oracle: every byte of the run that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from evalsuite.durable import MANIFEST
from scaling.errors import StagewiseError
from tests.evalsuite.test_durable import cut, flip
from tests.train import runs
from tests.train.runs import CHANGING, EVERY, STEPS, Child, Harm, at, config, data, lines, ran, same, steps_of
from train.checkpoint import checkpoint_name
from train.config import RunConfig
from train.lock import LOCK
from train.loop import CHECKPOINTS, LOG
from train.record import RECORD
from train.run import CONFIG

__all__ = ["data"]
FILES = ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", MANIFEST)


@pytest.fixture(scope="module")
def plain(data) -> RunConfig:
    return config(data, **CHANGING)


@pytest.fixture(scope="module")
def whole(plain, tmp_path_factory) -> Path:
    """A run that nothing befell, in a process of its own."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    told = ran(runs.train, folder, plain)
    assert (told["step"], told["stopped"]) == (STEPS, "")
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """A copy of it, to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def until(folder: Path, step: int) -> Path:
    """Make of a run one that was killed after a checkpoint."""
    for one in steps_of(folder):
        if one > step:
            shutil.rmtree(at(folder, one))
    return folder


def broken_off(code: int | None) -> bool:
    return code == -signal.SIGKILL


# --- killed -------------------------------------------------------------------------------------------


def test_a_run_repeats(whole, plain, tmp_path):
    """In another process, and in one that has random states of its own."""
    random.seed(5)
    runs.start(tmp_path / "again", plain)
    same(tmp_path / "again", whole)


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment(whole, plain, events, tmp_path, seed):
    """At a call or return that chance picks, once or several times until it gets through."""
    draw, folder = random.Random(seed), tmp_path / "run"
    for _ in range(1 + seed % 2):
        told = plain if not (folder / CONFIG).is_file() else None
        moment = draw.randrange(1, events)
        end = Child(runs.train, folder, told, Harm(event=moment)).end()
        assert broken_off(end.code) or (end.code, end.value["step"]) == (0, STEPS), end
    assert runs.finish(folder, plain).step == STEPS
    same(folder, whole)


@pytest.fixture(scope="module")
def events(plain, tmp_path_factory) -> int:
    """Calls and returns of a whole run."""
    folder = tmp_path_factory.mktemp("events") / "run"
    return ran(runs.train, folder, plain, Harm(event=10**12))["events"]


def test_killed_from_outside(whole, plain, tmp_path):
    """One run, killed by the clock again and again; each time further on."""
    draw, folder = random.Random(1), tmp_path / "run"
    step = 1
    while step < STEPS:
        begun = (folder / CONFIG).is_file()
        child = Child(runs.train, folder, None if begun else plain, Harm(at=step, hold=True))
        child.hear()
        child.pipe.send("go on")
        child.process.join(draw.uniform(0, 0.1))
        child.process.kill()
        assert child.end().code in (-signal.SIGKILL, 0)
        step = max([step, *steps_of(folder)]) + 2
    runs.finish(folder, plain)
    same(folder, whole)


@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_boundary_of_writing(whole, changes, tmp_path, part):
    """Before each call that changes the disk, after some: two checkpoints, and the deletion of the oldest."""
    for n in range(1 + part, changes + 1, 4):
        folder = until(Path(shutil.copytree(whole, tmp_path / f"{n}")), 12)
        end = Child(runs.train, folder, None, Harm(call=n, late=n % 3 == 0)).end()
        assert broken_off(end.code), (n, end)
        runs.resume(folder)
        same(folder, whole)


@pytest.fixture(scope="module")
def changes(whole, tmp_path_factory) -> int:
    """Calls that change the disk while the run is taken up after step 12."""
    folder = until(Path(shutil.copytree(whole, tmp_path_factory.mktemp("changes") / "run")), 12)
    count = ran(runs.train, folder, None, Harm(call=10**9))["calls"]
    assert count > 20
    return count


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_killed_while_text_becomes_tokens(tmp_path, share):
    """Half of the tokens are no tokens: `start` makes them again."""
    text = runs.corpus(tmp_path / "text.jsonl")
    made = config(None, data__sources=[str(text)], data__overlap=False, data__tokenizer="bytes", steps=EVERY)
    count = ran(runs.train, tmp_path / "whole", made, Harm(event=10**12))["events"]
    end = Child(runs.train, tmp_path / "run", made, Harm(event=int(share * count))).end()
    assert broken_off(end.code), end
    runs.finish(tmp_path / "run", made)
    same(tmp_path / "run", tmp_path / "whole", EVERY)


def test_a_line_that_is_half_written(whole, copy):
    until(copy, 12)
    log = copy / LOG
    log.write_bytes(log.read_bytes()[:-30])
    runs.resume(copy)
    same(copy, whole)


def test_a_finished_run_stays_as_it_is(copy):
    before = {path: path.stat().st_mtime_ns for path in (copy / CHECKPOINTS).glob("*/*")}
    log = (copy / LOG).read_bytes()
    outcome = runs.resume(copy)
    assert (outcome.step, outcome.stopped) == (STEPS, "")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (copy / LOG).read_bytes() == log
    assert outcome.losses == runs.resume(copy).losses and set(outcome.losses) == {"code", "maths", "prose"}


# --- broken -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["cut", "flipped"])
@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_of_the_newest_checkpoint(whole, copy, name, harm):
    path = at(copy, STEPS) / name
    if harm == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        flip(path, random.Random(name).randrange(8 * path.stat().st_size))
    said: list[str] = []
    runs.resume(copy, say=said.append)
    assert "CHECKPOINT NOT USED" in said[0] and name in said[0] and str(at(copy, STEPS)) in said[0]
    assert f"next older, {checkpoint_name(STEPS - EVERY)}" in said[0]
    assert f"goes on after step {STEPS - EVERY} of {STEPS}" in said[1]
    same(copy, whole)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_of_the_newest_checkpoint(whole, copy, name):
    (at(copy, STEPS) / name).unlink()
    runs.resume(copy)
    same(copy, whole)


def test_the_next_older_ones_are_broken_too(whole, copy):
    for step, name in ((18, FILES[0]), (15, FILES[4]), (12, FILES[2])):
        cut(at(copy, step) / name)
    said: list[str] = []
    runs.resume(copy, say=said.append)
    assert [line[:19] for line in said[:3]] == ["CHECKPOINT NOT USED"] * 3
    assert f"goes on after step 9 of {STEPS}" in said[3]
    same(copy, whole)


def test_every_checkpoint_is_broken(copy):
    for step in steps_of(copy):
        cut(at(copy, step) / FILES[step % 3])
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != LOCK}
    said: list[str] = []
    with pytest.raises(StagewiseError, match=r"every checkpoint is broken; start the run again in another"):
        runs.resume(copy, say=said.append)
    assert len(said) == 5 and "there is no older one" in said[-1]
    assert {path: path.read_bytes() for path in before} == before


def test_a_whole_one_copied_back(whole, copy):
    """What the error advises."""
    for step in steps_of(copy):
        cut(at(copy, step) / FILES[0])
    shutil.copytree(at(whole, 6), at(copy, 6), dirs_exist_ok=True)
    runs.resume(copy)
    same(copy, whole)


# --- stopped ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_writes_a_checkpoint(whole, plain, tmp_path, name):
    child = Child(runs.train, tmp_path / "run", plain, Harm(at=7, hold=True))
    assert child.hear() == 7
    os.kill(child.process.pid or 0, getattr(signal, name))
    child.pipe.send("go on")
    end = child.end()
    assert (end.code, end.error, end.complaints) == (0, "", ())
    # The step that was at work is done; then it ends.
    assert (end.value["step"], end.value["stopped"]) == (8, name)
    assert end.value["said"][-1:] == [
        f"stopped by {name} at step 8; go on with: train resume {tmp_path / 'run'}"
    ]
    assert steps_of(tmp_path / "run") == [3, 6, 8]
    runs.resume(tmp_path / "run")
    same(tmp_path / "run", whole)


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", -signal.SIGTERM)])
def test_a_second_signal_ends_it_at_once(whole, plain, tmp_path, name, code):
    end = Child(runs.train, tmp_path / "run", plain, Harm(at=7, signals=(name, name))).end()
    assert end.code == code
    assert steps_of(tmp_path / "run") == [3, 6]
    runs.resume(tmp_path / "run")
    same(tmp_path / "run", whole)


def test_signals_are_as_before_afterwards(plain, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    runs.start(tmp_path / "run", plain)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


# --- what else stands in the way ------------------------------------------------------------------------


def test_a_folder_has_one_run_at_a_time(whole, plain, tmp_path):
    folder = tmp_path / "run"
    child = Child(runs.train, folder, plain, Harm(at=4, hold=True))
    try:
        child.hear()
        for attempt in (lambda: runs.resume(folder), lambda: runs.start(folder, plain)):
            pid = child.process.pid
            with pytest.raises(StagewiseError, match=f"process {pid} on .* runs in this folder"):
                attempt()
    finally:
        child.pipe.send("go on")
        end = child.end()
    assert end.code == 0
    same(folder, whole)  # the others left no trace


@pytest.mark.parametrize("room", [25_000, 2_000], ids=["checkpoint", "log"])
def test_a_full_disk(whole, plain, tmp_path, room):
    """A file may grow no further than some bytes, from step 5 on; the largest of a checkpoint has 50,000."""
    end = Child(runs.train, tmp_path / "run", plain, Harm(at=5, room=room)).end()
    assert end.code == 1 and end.error.startswith("StagewiseError: ")
    assert str(tmp_path / "run") in end.error and "make room" in end.error
    assert steps_of(tmp_path / "run") == [3]
    assert [path.name for path in (tmp_path / "run" / CHECKPOINTS).iterdir()] == [checkpoint_name(3)]
    runs.resume(tmp_path / "run")
    same(tmp_path / "run", whole)


@pytest.mark.parametrize("tokenizer, what", [("bytes", "data"), (300, "tokenizer")])
def test_other_data_than_it_had(tmp_path, tokenizer, what):
    tokens = runs.tokens(tmp_path / "tokens")
    child = Child(runs.train, tmp_path / "run", config(tokens), Harm(at=7, signals=("SIGTERM",)))
    assert child.end().code == 0
    log = lines(tmp_path / "run")
    shutil.move(tokens, tmp_path / "kept")
    runs.tokens(tokens, seed=1, tokenizer=tokenizer)
    with pytest.raises(StagewiseError, match=rf"step-000000008: was trained with {what} .*data\.folder"):
        runs.resume(tmp_path / "run")
    assert lines(tmp_path / "run") == log
    shutil.rmtree(tokens)
    with pytest.raises(ValueError, match=r"holds no data\.json"):
        runs.resume(tmp_path / "run")
    shutil.move(tmp_path / "kept", tokens)
    assert runs.resume(tmp_path / "run").step == STEPS


def test_another_shape_than_it_had(copy):
    until(copy, 12)
    text = (copy / CONFIG).read_text()
    (copy / CONFIG).write_text(text.replace("width = 16", "width = 32"))
    with pytest.raises(StagewiseError, match=r"model\.width was 16 when the run was started and is 32 now"):
        runs.resume(copy)
    # Where nobody noted what it was started with, the weights say it.
    (copy / RECORD).unlink()
    with pytest.raises(StagewiseError, match=r"shape .* give the config the run was started with"):
        runs.resume(copy)
    (copy / RECORD).unlink()
    (copy / CONFIG).write_text(text)
    assert runs.resume(copy).step == STEPS


@pytest.mark.parametrize("folder", ["none", "."])
def test_no_run(tmp_path, folder):
    with pytest.raises(StagewiseError, match=r"holds no config\.toml; give the folder of a run"):
        runs.resume(tmp_path / folder)
