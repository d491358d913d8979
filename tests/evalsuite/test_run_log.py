"""The log of a run: cut at any byte and rewound, it goes on as if nothing had happened."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.run_log import RunLog, read
from scaling.errors import StagewiseError, UsageError

ROOT = Path(__file__).resolve().parents[2]


def record(step: int, **more) -> dict:
    return {"step": step, "kind": "train", **more}


def written(path: Path, records: list[dict]) -> bytes:
    with RunLog(path) as log:
        for one in records:
            log.append(one)
    return path.read_bytes()


values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
records = st.lists(
    st.builds(
        lambda step, kind, more: {**more, "step": step, "kind": kind},
        st.integers(0, 6), st.text(min_size=1), st.dictionaries(st.text(), values, max_size=2),
    ),
    max_size=12,
).map(lambda found: sorted(found, key=lambda one: one["step"]))  # fmt: skip


@given(records=records)
def test_what_is_appended_is_read(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "log.jsonl"
    data = written(path, records)
    assert read(path) == records
    assert data.count(b"\n") == len(records)  # a line each, whatever is in the texts


@given(records=records, step=st.integers(-1, 7), data=st.data())
def test_a_resumed_run_has_the_log_of_one_never_stopped(records, step, data, tmp_path_factory):
    """Oracle: the bytes of the log that was never stopped. The stop comes at any byte after the lines that a
    checkpoint of `step` found written."""
    folder = tmp_path_factory.mktemp("run")
    whole = written(folder / "whole.jsonl", records)
    kept = sum(one["step"] <= step for one in records)
    least = sum(map(len, whole.splitlines(keepends=True)[:kept]))
    stop = data.draw(st.integers(least, len(whole)))
    path = folder / "log.jsonl"
    path.write_bytes(whole[:stop])
    with RunLog(path) as log:
        log.rewind(step)
        assert read(path) == records[:kept]
        for one in records[kept:]:
            log.append(one)
    assert path.read_bytes() == whole
    assert sorted(os.listdir(folder)) == ["log.jsonl", "whole.jsonl"]


@given(records=records, stop=st.integers(0, 10**4), more=records)
def test_opening_cuts_off_half_a_line_and_no_more(records, stop, more, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "log.jsonl"
    whole = written(path, records)
    stop %= len(whole) + 1
    path.write_bytes(whole[:stop])
    lines = whole[:stop].count(b"\n")
    assert read(path) == records[:lines]  # reading already passes over it
    written(path, more)
    assert read(path) == records[:lines] + more


def test_a_long_half_line_is_cut_off(tmp_path):
    """Longer than what is searched at once."""
    path = tmp_path / "log.jsonl"
    whole = written(path, [record(1, text="x" * 200_000)])
    path.write_bytes(whole + whole[:-1])
    assert written(path, [record(2)]) == whole + written(tmp_path / "other.jsonl", [record(2)])
    path.write_bytes(whole[:-1])
    assert written(path, []) == b""


def test_lines_of_one_step_stay_together_whatever_their_order(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path, [record(3), record(1), record(2), {"step": 2, "kind": "scores"}, record(5)])
    with RunLog(path) as log:
        log.rewind(2)
    assert read(path) == [record(1), record(2), {"step": 2, "kind": "scores"}]


def test_numbers_that_are_none_become_null(tmp_path):
    """Oracle: a strict reader of JSON."""
    path = tmp_path / "new/run/log.jsonl"
    given = {"loss": float("nan"), "deep": {"list": [1.5, float("inf"), -np.inf, np.float32("nan")]}}
    written(path, [record(1, **given)])

    def refuse(name: str):
        pytest.fail(f"{name} is no JSON")

    told = json.loads(path.read_text(), parse_constant=refuse)
    assert told == record(1, loss=None, deep={"list": [1.5, None, None, None]})


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    given = {
        "step": np.int64(4),
        "kind": "train",
        "a": np.float64(0.1),
        "b": torch.tensor(0.5),
        "c": np.True_,
    }
    written(tmp_path / "log.jsonl", [given])
    (told,) = read(tmp_path / "log.jsonl")
    assert told == {"step": 4, "kind": "train", "a": 0.1, "b": 0.5, "c": True}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"kind": "train"}, "step None: valid is a whole number from 0"),
        ({"step": 1.5, "kind": "train"}, "step 1.5"),
        ({"step": True, "kind": "train"}, "step True"),
        ({"step": -1, "kind": "train"}, "step -1"),
        ({"step": 1}, "kind None: valid is a text"),
        ({"step": 1, "kind": ""}, "kind ''"),
    ],
)
def test_a_record_needs_step_and_kind(tmp_path, bad, message):
    with RunLog(tmp_path / "log.jsonl") as log, pytest.raises(UsageError, match=message):
        log.append(bad)
    assert read(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"step": 2, "ki', "not JSON"),
        (b"", "not JSON"),
        (b"\0\0\0", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 10**5, "not JSON"),
        (b'{"step": 2, "kind": "train", "loss": NaN}', r"not JSON \(NaN is no number of JSON"),
        (b"[2]", "got list, valid is an object"),
        (b'{"kind": "train"}', "step None"),
    ],
)
def test_a_broken_line_is_told_by_its_number(tmp_path, line, message):
    path = tmp_path / "log.jsonl"
    whole = written(path, [record(1), record(2), record(3)]).splitlines(keepends=True)
    path.write_bytes(whole[0] + line + b"\n" + whole[2])
    before = path.read_bytes()
    with pytest.raises(StagewiseError, match=rf"log\.jsonl:2: {message}"):
        read(path)
    with RunLog(path) as log:
        with pytest.raises(StagewiseError, match=rf"log\.jsonl:2: {message}"):
            log.rewind(3)
        assert path.read_bytes() == before
        log.append(record(4))  # the log is open still
    assert path.read_bytes().startswith(before)
    assert os.listdir(tmp_path) == ["log.jsonl"]


def test_no_such_log(tmp_path):
    with pytest.raises(StagewiseError, match=r"none\.jsonl: no such file"):
        read(tmp_path / "none.jsonl")


def test_a_line_is_there_when_append_returns(tmp_path):
    """The process is killed right after; nobody closed or flushed anything."""
    code = (
        "import os, signal, sys; from evalsuite.run_log import RunLog; log = RunLog(sys.argv[1])\n"
        "for step in range(50): log.append({'step': step, 'kind': 'train', 'text': 'x' * 1000})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "log.jsonl")], cwd=ROOT, timeout=60)
    assert done.returncode == -9
    assert [one["step"] for one in read(tmp_path / "log.jsonl")] == list(range(50))


class Full:
    """A file on a disk that has room for a few bytes more; a write takes what there is room for."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self.file.write(data[: self.room])
        self.room -= done
        return done

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        log.append(record(1))
        real = log._file
        log._file = Full(real, 10)  # type: ignore[assignment]
        with pytest.raises(StagewiseError, match=r"a line of step 2 could not be written: No space left"):
            log.append(record(2))
        assert read(path) == [record(1)] and path.read_bytes().endswith(b"\n")
        log._file = real
        log.append(record(2))
    assert read(path) == [record(1), record(2)]


def test_a_write_that_takes_part_of_a_line_is_continued(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log:
        real = log._file

        class Slow(Full):
            def write(self, data) -> int:
                return self.file.write(data[:3])

        log._file = Slow(real, 0)  # type: ignore[assignment]
        log.append(record(1, text="abc"))
        log.sync()
    assert read(tmp_path / "log.jsonl") == [record(1, text="abc")]
