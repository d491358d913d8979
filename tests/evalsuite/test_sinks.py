"""Sinks: files are read back by other means; a module that behaves as TensorBoard does stands in for it."""

from __future__ import annotations

import json
import logging
import math
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import sinks
from evalsuite.sinks import JsonLines, Several, TensorBoard, read_log
from scaling.errors import StagewiseError, UsageError

NAN, INF = float("nan"), float("inf")


def lines(path) -> list[dict]:
    """Strict JSON: Python's own reader would take NaN."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n") or not text
    return [json.loads(line, parse_constant=refuse) for line in text.split("\n")[:-1]]


@pytest.fixture
def opened(tmp_path):
    """JSON lines at a path, closed in the end."""
    made = []

    def make(path=tmp_path / "log.jsonl"):
        made.append(JsonLines(path))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


# --- JSON lines


def test_a_line_per_call(tmp_path, opened):
    sink = opened(tmp_path / "deep" / "log.jsonl")
    sink.log({"train/loss": 2.5, "größe": 1}, 10, {"tokens": 5120})
    assert lines(sink.path) == [{"step": 10, "tokens": 5120.0, "train/loss": 2.5, "größe": 1.0}]  # at once
    sink.log({}, np.int64(11))
    sink.close()
    sink.close()
    assert lines(sink.path)[1] == {"step": 11}


def test_what_is_not_finite_is_null_and_told(opened):
    sink = opened()
    sink.log({"a": NAN, "b": INF, "c": -INF, "d": 1.0}, 0)
    assert lines(sink.path) == [
        {"step": 0, "a": None, "b": None, "c": None, "d": 1.0,
         "not_finite": {"a": "nan", "b": "inf", "c": "-inf"}}
    ]  # fmt: skip
    row = read_log(sink.path).iloc[0]
    assert math.isnan(row["a"]) and row["b"] == INF and row["c"] == -INF and row["d"] == 1


def test_numbers_of_other_libraries_are_plain(opened):
    torch = pytest.importorskip("torch")
    sink = opened()
    sink.log(
        {"a": torch.tensor(0.5), "b": np.float32(0.25), "c": np.bool_(True), "d": torch.tensor([2.0])}, 1
    )
    assert lines(sink.path) == [{"step": 1, "a": 0.5, "b": 0.25, "c": 1.0, "d": 2.0}]


names = st.text(min_size=1, max_size=5).filter(lambda name: name not in sinks._RESERVED)
numbers = st.floats(allow_nan=True, allow_infinity=True)
calls = st.lists(st.tuples(st.integers(0, 5), st.dictionaries(names, numbers, max_size=4)), max_size=8)


@given(calls=calls)
def test_read_back_is_what_was_logged_last(calls, tmp_path_factory):
    """Oracle: a dict per step, updated call by call."""
    sink = JsonLines(tmp_path_factory.mktemp("log") / "log.jsonl")
    told: dict[int, dict[str, float]] = {}
    for step, values in calls:
        sink.log(values, step)
        told.setdefault(step, {}).update(values)
    sink.close()
    frame = read_log(sink.path)
    assert frame["step"].tolist() == sorted(told)
    for row in frame.to_dict("records"):
        for name in set(frame.columns) - {"step"}:
            expected = told[row["step"]].get(name, NAN)
            assert row[name] == expected or (math.isnan(row[name]) and math.isnan(expected))


@pytest.mark.parametrize("half", [b"", b'{"step": 12, "los', b"x" * 200_000])
def test_a_half_line_is_cut_off_when_the_file_is_opened_again(tmp_path, half, opened):
    path = tmp_path / "log.jsonl"
    sink = opened(path)
    sink.log({"loss": 1.0}, 10)
    sink.log({"loss": 2.0}, 11)
    sink.close()
    path.write_bytes(path.read_bytes() + half)
    assert read_log(path)["step"].tolist() == [10, 11]  # nor does a reader trip over it
    sink = opened(path)
    sink.log({"loss": 3.0}, 11)
    assert [line["loss"] for line in lines(path)] == [1, 2, 3]
    assert read_log(path)["loss"].tolist() == [1, 3]


def test_a_file_of_half_a_line_only(tmp_path, opened):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"st')
    opened(path).log({}, 1)
    assert lines(path) == [{"step": 1}]


def test_short_writes_are_completed(opened):
    sink = opened()
    real = sink._file
    sink._file = SimpleNamespace(write=lambda data: real.write(data[:3]))  # type: ignore[assignment]
    sink.log({"loss": 1.0}, 1)
    sink._file = real
    assert lines(sink.path) == [{"step": 1, "loss": 1.0}]


@pytest.mark.parametrize("text", ["[1]", '{"loss": 1}', '{"step": "a"}', "{", '{"step": 1, "not_finite": 3}'])
def test_a_broken_line_is_named(tmp_path, text):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1}}\n{text}\n', encoding="utf-8")
    with pytest.raises(StagewiseError, match=r"log\.jsonl:2: got .* valid is a JSON object"):
        read_log(path)


def test_an_empty_log_and_none(tmp_path, opened):
    opened().close()
    assert list(read_log(tmp_path / "log.jsonl").columns) == ["step"]
    with pytest.raises(StagewiseError, match="no such file"):
        read_log(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("values", "step", "axes", "told"),
    [
        ({"a": "1.0"}, 3, None, r"step 3: a: got '1.0', valid is one number"),
        ({"a": None}, 3, None, r"a: got None"),
        ({"a": np.zeros(2)}, 3, None, r"a: got array"),
        ({"": 1}, 3, None, r"the name ''"),
        ({1: 1}, 3, None, r"the name 1"),
        ({"step": 1}, 3, None, r"the name 'step', valid is text other than"),
        ({}, 3, {"global_step": 1}, r"the name 'global_step'"),
        ({"tokens": 1}, 3, {"tokens": 1}, r"'tokens' is a value and an axis"),
        ({}, -1, None, r"got step -1, valid is a whole number from 0"),
        ({}, 1.5, None, r"got step 1.5"),
        ({}, None, None, r"got step None"),
    ],
)
def test_what_is_no_number_is_an_error_and_writes_nothing(values, step, axes, told, opened):
    sink = opened()
    with pytest.raises(UsageError, match=told):
        sink.log(values, step, axes)
    assert lines(sink.path) == []


# --- TensorBoard


@pytest.fixture
def board(monkeypatch):
    """What SummaryWriter was called with."""
    heard = []

    class SummaryWriter:
        def __init__(self, log_dir, *, purge_step, flush_secs):
            heard.append(("open", log_dir, purge_step))

        def add_scalar(self, tag, scalar_value, global_step):
            heard.append((tag, scalar_value, global_step))

        def close(self):
            heard.append("close")

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    return heard


def test_scalars_and_axes(board, tmp_path):
    sink = TensorBoard(tmp_path)
    sink.log({"loss": 2.5, "norm": INF}, 10, {"tokens": 5120})
    sink.close()
    sink.close()
    told = [("open", str(tmp_path), None), ("tokens", 5120.0, 10), ("loss", 2.5, 10), ("norm", INF, 10)]
    assert board == [*told, "close"]


def test_a_resumed_run_hides_what_came_after(board, tmp_path):
    TensorBoard(tmp_path, resumed=200)
    assert board == [("open", str(tmp_path), 201)]


def test_without_tensorboard_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(StagewiseError, match="pip install tensorboard"):
        TensorBoard(tmp_path)


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
@pytest.mark.filterwarnings("ignore")  # of the libraries it loads
def test_with_the_real_one(tmp_path):
    """Oracle: tensorboard's own reader."""
    sink = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        sink.log({"loss": float(step)}, step)
    sink.close()
    sink = TensorBoard(tmp_path, resumed=1)
    sink.log({"loss": 20.0}, 2)
    sink.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(1, 1.0), (2, 20.0)]


# --- several


class Broken:
    """A sink that fails on some steps, and at its close."""

    def __init__(self, *bad: int, error: BaseException | None = None):
        self.bad, self.error, self.got = bad, error or OSError("no network"), []

    def log(self, values, step, axes=None):
        if step in self.bad:
            raise self.error
        self.got.append(step)

    def close(self):
        raise self.error


def test_a_failing_sink_is_said_once_and_breaks_nothing(caplog, opened):
    broken, file = Broken(2, 3), opened()
    several = Several([broken, file])
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3, 4):
            several.log({"loss": 1.0}, step, {"tokens": step})
        several.close()
    assert [line["step"] for line in lines(file.path)] == [1, 2, 3, 4]
    assert broken.got == [1, 4]  # it is tried again
    assert several.failures == {"Broken": 3}
    (record,) = caplog.records
    assert record.getMessage() == (
        "sink Broken: log of step 2 failed (OSError: no network); training goes on, further failures of it "
        "are counted only"
    )
    assert file._file.closed


def test_sinks_of_one_kind_are_told_apart():
    several = Several([Broken(), Broken(1), Broken(1)])
    several.log({}, 1)
    assert several.failures == {"Broken 2": 1, "Broken 3": 1}


def test_an_interrupt_passes():
    with pytest.raises(KeyboardInterrupt):
        Several([Broken(1, error=KeyboardInterrupt())]).log({}, 1)


def test_a_number_that_is_none_breaks_no_training(opened):
    several = Several([opened()])
    several.log({"loss": None}, 1)  # type: ignore[dict-item]
    assert several.failures == {"JsonLines": 1}


def test_no_sinks():
    several = Several([])
    several.log({"loss": 1.0}, 1)
    several.close()
    assert several.failures == {}
