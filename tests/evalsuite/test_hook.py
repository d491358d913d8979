"""The hook itself: stages, budget, sinks, alarms, settings. Oracle: what each call was told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.evaluations import Evaluations
from evalsuite.hook import EvalHook
from evalsuite.registry import Registry
from evalsuite.results import Identity
from evalsuite.sinks import JsonLines, read_log
from evalsuite.task_list import TaskList
from scaling.errors import UsageError
from tests.evalsuite.net import Bytes, Net

REGISTRY = Registry()


def listed(name: str = "tasks", tasks=("skill_copy",), items: int = 4, **stage: float) -> TaskList:
    made = TaskList.of(tasks, REGISTRY, name=name, items=items)
    return TaskList(name, made.tasks, **stage)


def hook(folder: Path, suites: Any = None, **more: Any) -> EvalHook:
    told: dict[str, Any] = {
        "folder": folder, "every": 2, "average": Averaging(n=2, spacing=1), "budget": None, "rate": 0.0,
        "registry": REGISTRY, "say": [].append,
    }  # fmt: skip
    return EvalHook(listed() if suites is None else suites, Bytes(), **(told | more))


def watched(made: EvalHook, steps: int, **told: Any) -> Evaluations:
    """Call it along a run whose weights move."""
    torch.manual_seed(0)
    model = Net(8)
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.out.bias += 0.1 * torch.randn(256)
        made(step, model, **{name: value(step) for name, value in told.items()})
    made.close()
    return Evaluations.open(made.folder)


def test_suites_change_with_an_overlap(tmp_path):
    early, late = listed("early", high=9.5e3), listed("late", ("skill_recall",), low=9.5e3)
    found = watched(hook(tmp_path, [late, early]), 20, flops=lambda step: step * 1e3)
    ran = {(one.step, one.suite) for one in found.all}
    assert {step for step, name in ran if name == "early"} == {2, 4, 6, 8, 10, 12}
    assert {step for step, name in ran if name == "late"} == {10, 12, 14, 16, 18, 20}
    told = found.events[found.events["kind"] == "switched"]
    assert list(told["step"]) == [10, 14]
    assert set(found.table().frame["task"]) == {"skill_copy", "skill_recall"}


def test_several_stages_need_compute(tmp_path):
    made = hook(tmp_path, [listed("early", high=1e4), listed("late", low=1e4)])
    found = watched(made, 2)
    assert not found.all and "flops=" in found.failures["why"].iloc[0]
    found = watched(
        hook(tmp_path / "tokens", [listed("early", high=1e9)]), 2, tokens=lambda step: 10.0 * step
    )
    assert found.all[0].flops == 6.0 * sum(p.numel() for p in Net(8).parameters()) * 20


def test_sinks_get_names_and_axes(tmp_path):
    sink = JsonLines(tmp_path / "log.jsonl")
    watched(
        hook(tmp_path / "evals", sinks=[sink], raw=True), 4, flops=lambda step: 1e3 * step,
        tokens=lambda step: 10.0 * step,
    )  # fmt: skip
    frame = read_log(tmp_path / "log.jsonl")
    assert (
        list(frame["step"]) == [2, 4]
        and list(frame["tokens"]) == [20, 40]
        and list(frame["flops"]) == [2e3, 4e3]
    )
    assert {"eval/tasks/symbolic/skill_copy/bpb", "eval_raw/tasks/symbolic/skill_copy/acc"} <= set(
        frame.columns
    )


def test_a_sink_that_fails_stands_in_the_journal(tmp_path):
    broken = SimpleNamespace(log=lambda *_: 1 / 0, close=lambda: None)
    found = watched(hook(tmp_path, sinks=[broken]), 2)
    assert len(found.all) == 1 and found.failures["task"].tolist() == ["sink"]


def test_a_small_budget_thins_and_says_so(tmp_path):
    """Oracle: a clock that runs by hand: a step takes a second, a token of evaluation half a millisecond."""
    clock = [0.0]
    said: list[str] = []
    made = hook(tmp_path, listed(items=200), budget=0.05, every=10, say=said.append)
    evaluate = made.rounds.evaluator.evaluate
    size = made.rounds.evaluator.tokens(made.rounds.rotation.programmes[0], Net(8)) / 200

    def tried(_, __, items):
        clock[0] += 0.0005 * size * items
        return 0.0, 0.0005

    def slow(programme, wanted, *rest):
        clock[0] += 0.0005 * size * wanted[0].items
        return evaluate(programme, wanted, *rest)

    made.rounds.evaluator.probe, made.rounds.evaluator.evaluate = tried, slow
    with patch("time.perf_counter", lambda: clock[0]):
        model = Net(8)
        for step in range(1, 1001):
            clock[0] += 1.0
            made(step, model, tokens=step)
        made.close()
    account = made.rounds.budget
    assert account.training == pytest.approx(999.0)
    assert account.spent <= 1.1 * 0.05 * account.training
    found = Evaluations.open(tmp_path)
    assert len(found.all) >= 2 and found.all[-1].items < 1
    assert (
        "to stay within 5.0% of training time"
        in found.events.set_index("kind")["text"]["thinned":"thinned"].iloc[0]
    )
    assert any("of the items, every" in line for line in said)
    # What it could afford it used: not less than a third of what is allowed.
    assert account.spent >= 0.05 * account.training / 3


def test_an_alarm_is_raised_once(tmp_path):
    alarm = SimpleNamespace(
        capability="symbolic", suite="tasks", since=2, noticed=4, size=0.5, evidence=99.0, near=("x",)
    )
    said: list[str] = []
    sink = JsonLines(tmp_path / "log.jsonl")
    with patch("evalsuite.alarms.watch", lambda *_, **__: SimpleNamespace(alarms=(alarm,))):
        found = watched(hook(tmp_path / "evals", rate=0.05, say=said.append, sinks=[sink]), 6)
    told = [one for one in found.journal if one["kind"] == "alarm"]
    assert [(one["step"], one["since"], one["near"]) for one in told] == [(2, 2, ["x"])]
    assert sum("ALARM" in line for line in said) == 1
    assert read_log(tmp_path / "log.jsonl")["alarm/tasks/symbolic"].dropna().tolist() == [99.0]


def test_taken_up_it_stands_on_what_was(tmp_path):
    first = watched(hook(tmp_path, identity=Identity(model="m", seed=3)), 5)
    made = hook(tmp_path)
    model = Net(8)
    made(5, model)  # of a run that was resumed after step 4
    made.close()
    found = Evaluations.open(tmp_path)
    assert [one.step for one in found.all] == [2, 4] and found.all == first.all
    assert set(found.table().frame["model"]) == {"m"}


def test_without_a_folder_to_write_it_is_off(tmp_path):
    (tmp_path / "file").write_text("")
    said: list[str] = []
    made = hook(tmp_path / "file", say=said.append)
    for step in range(1, 5):
        made(step, Net(8))
    made.close()
    assert made.failures == 1 and any("EVALUATION IS OFF" in line for line in said)


def test_interrupts_pass(tmp_path):
    made, model = hook(tmp_path), Net(8)
    before = {name: p.clone() for name, p in model.named_parameters()}
    made(1, model)
    with torch.no_grad():
        model.out.bias += 1.0
    after = model.out.bias.clone()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with patch("evalsuite.evaluator.run", stop), pytest.raises(KeyboardInterrupt):
        made(2, model)
    made.close()
    assert torch.equal(model.out.bias, after)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name != "out.bias")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"every": -1}, "every is -1"),
        ({"every": 1.5}, "whole number of steps"),
        ({"budget": 1.0}, "share of training time"),
        ({"budget": 0.0}, "share of training time"),
        ({"rate": 1.0}, "rate is 1.0"),
        ({"suites": []}, "none given"),
    ],
)
def test_settings(tmp_path, told, words):
    with pytest.raises(UsageError, match=words):
        hook(tmp_path, **told)
    assert not (tmp_path / "journal.jsonl").exists()


def test_off_costs_nothing(tmp_path):
    made = hook(tmp_path / "evals", every=0)
    made(1, nn.Linear(1, 1))
    made.saved(1)
    made.close()
    assert not (tmp_path / "evals").exists()
