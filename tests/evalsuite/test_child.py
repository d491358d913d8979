"""A process of its own: how it ends, and that the run hears of it and is never held up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalsuite.child import Child, Process
from evalsuite.job import Asked, Job, Scored
from evalsuite.results import Identity, Wanted
from scaling.errors import UsageError

HERE = "tests.evalsuite.loaders"
PATIENCE = 60.0  # seconds; of a process that starts on a busy machine


def job(process: Process, folder: Path) -> Job:
    """One suite of one task, which nothing here gets as far as to score."""
    wanted = (Wanted(task="skill_copy", metric="bpb", shots=None, items=4),)
    asked = Asked(
        suite="tasks", wanted=wanted, members=(1,), weights=(1.0,), folder="r", identity=Identity(model="m")
    )
    return Job(
        loader=process.loader, argument=process.argument, asked=(asked,), results=str(folder),
        snapshots=str(folder / "snapshots"), nice=process.nice,
    )  # fmt: skip


def start(folder: Path, function: str, argument=None, **options) -> Child:
    name = function if ":" in function else f"{HERE}:{function}"
    process = Process(name, argument, **{"nice": 0} | options)
    return Child.start(job(process, folder), folder, process)


def ended(child: Child) -> str:
    """The reason, once it has ended."""
    found = child.wait(PATIENCE)
    assert found is not None and not found.ended and found.scored == (Scored(why=found.why),)
    assert child.poll() == found and not alive(child.pid)  # no zombie
    return found.why


def alive(pid: int) -> bool:
    """Whether there is such a process, zombies included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(done) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        ("killed", None, ["was ended by SIGKILL, as the kernel does where memory runs out"]),
        ("raises", {"layers": 3}, ["exit code 1", "loaders.py", "ValueError: no model of {'layers': 3}"]),
        ("absent", None, ["exit code 1", "has no attribute 'absent'"]),
        ("nowhere.models:build", None, ["exit code 1", "No module named 'nowhere'"]),
    ],
)
def test_a_process_that_does_not_come_to_its_end(tmp_path, function, argument, words):
    why = ended(start(tmp_path / "work", function, argument))
    assert why.startswith("the process that evaluates") and len(why) < 450
    for one in words:
        assert one in why


def test_one_that_hangs(tmp_path):
    """It is ended with all that it has started, and nothing waits for it."""
    said = tmp_path / "said"
    child = start(tmp_path / "work", "hangs", str(said), limit=PATIENCE)
    assert child.poll() is None
    until(said.exists)
    its = list(map(int, said.read_text().split()))
    assert its[0] == child.pid and all(map(alive, its)) and child.wait(0.0) is None
    child._started -= PATIENCE  # as if that time were over
    assert "took longer than its limit of 60 s" in ended(child)
    until(lambda: not any(map(_running, its)))


def _running(pid: int) -> bool:
    """Whether a process is there and no zombie, which whoever adopted it has to take away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_that_is_not_wanted_any_more(tmp_path):
    said = tmp_path / "said"
    child = start(tmp_path / "work", "hangs", str(said))
    until(said.exists)
    child.kill()
    child.kill()
    assert "SIGKILL" in ended(child)


def test_it_ends_with_the_run(tmp_path):
    """The run is killed as hard as can be; what it forked lives on, as workers that load data may."""
    said = tmp_path / "said"
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from tests.evalsuite.test_child import start\n"
        "child = start(Path(sys.argv[1]), 'hangs', sys.argv[2])\n"
        "os.fork()\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "work"), str(said)]
    run = subprocess.Popen(command, start_new_session=True)
    try:
        until(said.exists)
        run.kill()
        run.wait()
        until(lambda: not any(map(_running, map(int, said.read_text().split()))))
    finally:
        os.killpg(run.pid, signal.SIGKILL)


def test_what_it_finds_itself_in(tmp_path, monkeypatch):
    ranks = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP")
    for name in ranks:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("KEPT", "yes")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    told = tmp_path / "told"
    assert "told" in ended(start(tmp_path / "work", "tells", str(told), threads=3, nice=4, devices="5,6"))
    found = json.loads(told.read_text())
    there = found["environment"]
    assert there.keys().isdisjoint(ranks)
    threads = [there[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "RAYON")]
    assert there["KEPT"] == "yes" and there["CUDA_VISIBLE_DEVICES"] == "5,6" and threads == ["3"] * 3
    ours = [os.path.abspath(one) for one in sys.path]
    assert [one for one in found["path"] if one in ours][: len(ours)] == list(dict.fromkeys(ours))
    assert found["nice"] == os.nice(0) + 4 and found["first"] == "1000"
    assert found["session"] != os.getsid(0)  # Ctrl-C at the terminal is for the run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loader": "models.py"}, "package.module:function"),
        ({"loader": "__main__:build"}, "that can be imported"),
        ({"loader": "a:b", "argument": {1: 2}}, "what JSON has"),
        ({"loader": "a:b", "argument": float("nan")}, "what JSON has"),
        ({"loader": "a:b", "threads": 0}, "threads 0"),
        ({"loader": "a:b", "nice": 20}, "nice 20"),
        ({"loader": "a:b", "limit": 0}, "limit 0"),
    ],
)
def test_settings_that_cannot_be(options, words):
    with pytest.raises(UsageError, match="process: ") as error:
        Process(**options)
    assert words in str(error.value)


def test_a_job_is_read_back(tmp_path):
    made = job(Process("a:b", {"x": [1.5, None, "é"]}), tmp_path)
    made.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == made
