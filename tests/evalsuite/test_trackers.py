"""Trackers: modules that behave as W&B and trackio do stand in for them."""

from __future__ import annotations

import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import trackers
from evalsuite.trackers import Wandb
from scaling.errors import StagewiseError, UsageError

NAN, INF = float("nan"), float("inf")


class Run:
    """A run that keeps rows as W&B does: rows of one step are merged, steps that go back are dropped."""

    def __init__(self, id: str, rows: dict[int, dict]):
        self.id, self.rows, self.defined, self.finished = id, rows, [], 0
        self.step = max(rows, default=-1) + 1
        self.dropped = []

    def define_metric(self, name, step_metric=None, hidden=None):
        self.defined.append((name, step_metric, hidden))

    def log(self, data, step=None):
        if step < self.step:
            self.dropped.append(data)
            return
        self.step = step
        self.rows.setdefault(step, {}).update(data)

    def finish(self):
        self.finished += 1


class FakeWandb:
    """The module; runs outlive a process."""

    def __init__(self):
        self.runs: dict[str, dict[int, dict]] = {}
        self.asked: list[dict] = []

    def init(self, *, project, name=None, config=None, id=None, resume=None, mode=None):
        self.asked.append({"project": project, "name": name, "config": config, "id": id, "resume": resume})
        id = id or f"run{len(self.runs)}"
        return Run(id, self.runs.setdefault(id, {}))


def test_wandb_draws_everything_over_the_step(tmp_path):
    wandb = FakeWandb()
    sink = Wandb(wandb, project="p", name="n", config={"seed": 0}, mode="offline")
    assert wandb.asked == [{"project": "p", "name": "n", "config": {"seed": 0}, "id": None, "resume": None}]
    sink.log({"loss": 2.0}, 10, {"tokens": 5120, "flops": 1e15})
    sink.log({"val": 3.0}, 10, {"tokens": 5120})
    sink.log({"loss": 1.0}, 20, {"tokens": 10240})
    run = sink._run
    assert run.defined[:2] == [("global_step", None, True), ("*", "global_step", None)]
    assert sorted(run.defined[2:]) == [("flops", None, True), ("tokens", None, True)]  # each once
    assert run.rows == {
        10: {"global_step": 10, "tokens": 5120, "flops": 1e15, "loss": 2.0, "val": 3.0},
        20: {"global_step": 20, "tokens": 10240, "loss": 1.0},
    }
    sink.close()
    sink.close()
    assert run.finished == 1


def test_steps_that_repeat_after_a_resume_are_kept():
    """W&B would drop steps 201 to 212 of the second process; the later number of each counts."""
    wandb = FakeWandb()
    sink = Wandb(wandb, project="p")
    for step in range(190, 213):
        sink.log({"loss": float(step)}, step)
    again = Wandb(wandb, project="p", id=sink.id)
    assert wandb.asked[1]["id"] == sink.id and wandb.asked[1]["resume"] == "allow"
    for step in range(201, 250):
        again.log({"loss": step + 0.5}, step)
        again.log({"norm": 1.0}, step)
    assert again._run.dropped == []
    rows = [wandb.runs[again.id][row] for row in sorted(wandb.runs[again.id])]
    assert len(rows) == 23 + 49  # calls of one step share a row
    drawn = {row["global_step"]: row["loss"] for row in rows}
    assert drawn == {step: float(step) if step < 201 else step + 0.5 for step in range(190, 250)}


def test_rows_catch_up_with_steps_where_steps_are_far_apart():
    wandb = FakeWandb()
    first = Wandb(wandb, project="p")
    for step in (200, 210, 220):
        first.log({"loss": 1.0}, step)
    again = Wandb(wandb, project="p", id=first.id)
    for step in (210, 220, 230, 240):
        again.log({"loss": 2.0}, step)
    assert sorted(wandb.runs[first.id]) == [200, 210, 220, 222, 223, 230, 240]


@given(steps=st.lists(st.integers(0, 6), max_size=12), cuts=st.sets(st.integers(0, 12)))
def test_whatever_the_steps_no_number_is_lost(steps, cuts):
    """Oracle: the last number of each step; a new process starts at each cut."""
    wandb = FakeWandb()
    sink = Wandb(wandb, project="p", id="r")
    dropped = []
    for i, step in enumerate(steps):
        if i in cuts:
            dropped += sink._run.dropped
            sink = Wandb(wandb, project="p", id="r")
        sink.log({"loss": float(i)}, step)
    assert not dropped and not sink._run.dropped
    rows = [wandb.runs["r"][row] for row in sorted(wandb.runs["r"])]
    assert {row["global_step"]: row["loss"] for row in rows} == {s: float(i) for i, s in enumerate(steps)}


def test_what_is_not_finite_is_counted_beside():
    sink = Wandb(FakeWandb(), project="p")
    sink.log({"loss": np.float32(NAN), "norm": INF, "rate": 0.1}, 1)
    row = sink._run.rows[1]
    assert type(row["loss"]) is float and math.isnan(row["loss"]) and row["norm"] == INF
    assert {name for name in row if name.startswith("not_finite")} == {"not_finite/loss", "not_finite/norm"}


class FakeTrackio:
    """A tracker without ids, without define_metric, that takes any step; calls go through the module."""

    def __init__(self):
        self.asked: list[dict] = []
        self.rows: list[tuple[int, dict]] = []
        self.finished = 0

    def init(self, project, name=None, config=None, resume="never"):
        self.asked.append({"project": project, "name": name, "config": config, "resume": resume})
        return SimpleNamespace(name=name or "brave-sunset-0", id="0123")

    def log(self, metrics, step=None):
        self.rows.append((step, metrics))

    def finish(self):
        self.finished += 1


def test_a_tracker_without_metrics_gets_the_step_as_it_is():
    trackio = FakeTrackio()
    sink = Wandb(trackio, project="p")
    sink.log({"loss": 2.0}, 10, {"tokens": 1})
    sink.log({"loss": 1.0}, 5)
    assert trackio.rows == [(10, {"tokens": 1.0, "loss": 2.0}), (5, {"loss": 1.0})]
    again = Wandb(trackio, project="p", id=sink.id)  # it takes no id: by name
    assert trackio.asked[1] == {"project": "p", "name": "brave-sunset-0", "config": {}, "resume": "allow"}
    assert again.id == "brave-sunset-0"
    sink.close()
    assert trackio.finished == 1


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_known_tracker_is_loaded_by_name(monkeypatch, name):
    fake = ModuleType(name)
    fake.init = FakeWandb().init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, fake)
    assert Wandb(name, project="p").id == "run0"


def test_any_other_name_is_refused(monkeypatch):
    monkeypatch.setattr(trackers, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    with pytest.raises(UsageError, match="tracker 'os': valid is wandb or trackio, or a module with init"):
        Wandb("os", project="p")


@pytest.mark.parametrize("there", [None, ModuleType("wandb")])  # absent; a folder that runs left behind
def test_without_the_tracker_the_package_is_named(monkeypatch, there):
    monkeypatch.setitem(sys.modules, "wandb", there)
    with pytest.raises(StagewiseError, match="pip install wandb"):
        Wandb(project="p")
