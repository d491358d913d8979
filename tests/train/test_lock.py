"""One run per folder: between processes, within one, and after a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.errors import StagewiseError
from train import lock
from train.lock import LOCK, locked

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from train.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_told_who_is_there(tmp_path):
    folder = tmp_path / "new/run"
    with locked(folder):
        with pytest.raises(StagewiseError) as caught:
            with locked(folder):
                pytest.fail("two runs in one folder")
        assert f"process {os.getpid()} on {socket.gethostname()} runs in this folder" in str(caught.value)
        assert str(folder) in str(caught.value)
        with pytest.raises(StagewiseError, match=str(os.getpid())), locked(folder):
            pass  # a refused run did not free it, nor wipe out who holds it
    with locked(folder):
        pass


def test_another_folder_is_free(tmp_path):
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_an_error_frees_it(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0
    assert (tmp_path / LOCK).read_text() == ""
    with locked(tmp_path):
        pass


def test_a_kill_frees_it(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            with pytest.raises(StagewiseError, match=f"process {holder.pid} on "), locked(tmp_path):
                pytest.fail("two runs in one folder")
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait(timeout=30)
    assert str(holder.pid) in (tmp_path / LOCK).read_text()  # the file of the dead says nothing
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path, text):
    with locked(tmp_path):
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(StagewiseError, match="another process runs in this folder"), locked(tmp_path):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with pytest.raises(StagewiseError, match=r"run\.lock: cannot be locked \(No locks available\)"):
        with locked(tmp_path):
            pass
