"""Runs with a hook. Oracle: every byte of the run without one; and of the run that nothing befell."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from evalsuite.evaluations import Evaluations
from evalsuite.hook import EvalHook
from evalsuite.results import MANIFEST
from evalsuite.rounds_beside import RoundsBeside
from evalsuite.run_log import read
from scaling.errors import StagewiseError, UsageError
from tests.train import runs
from tests.train.runs import CHANGING, STEPS, Harm, at, config, data, files, lines, ran, ranks, same, steps_of
from train.config import RunConfig
from train.evaluation import EVALS
from train.load import load

__all__ = ["data"]
EVERY = 4
NAMES = ("tiny_add", "tiny_words")
_TIMES = ("seconds", "training", "spent", "speed")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    """Two tasks of a few bytes an item, that fit a model which reads 16."""
    folder = tmp_path_factory.mktemp("tasks")
    words = ("the", "a", "sea", "old", "wind")
    adds = [(f"{a} plus {b}", [str(a + b), str(a + b + 1)]) for a in range(4) for b in range(3)]
    lists = {"tiny_add": adds, "tiny_words": [(f"the {one}", [f"{one}s", "12"]) for one in words]}
    for name, rows in lists.items():
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as handle:
            for i, (context, choices) in enumerate(rows):
                item = {"id": f"{name}-{i}", "context": context, "choices": choices, "gold": 0}
                handle.write(json.dumps(item | {"answer": choices[0], "family": "x", "source": "y"}) + "\n")
    return folder


def watched(data: Path, tasks: Path, **more: Any) -> RunConfig:
    told: dict[str, Any] = {
        "eval__tasks": list(NAMES), "eval__folders": [str(tasks)], "eval__every": EVERY, "eval__budget": 0.0,
        "eval__average": 3, "eval__rate": 0.0, "eval__spacing": 2, **CHANGING,
    }  # fmt: skip
    return config(data, **(told | more))


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory) -> Path:
    """A run that nobody watches."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    ran(runs.train, folder, config(data, **CHANGING))
    return folder


@pytest.fixture(scope="module")
def whole(data, tasks, tmp_path_factory) -> Path:
    """The same run, watched."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ran(runs.train, folder, watched(data, tasks))
    return folder


def journal(folder: Path) -> list[dict[str, Any]]:
    """Its journal without what a clock says."""
    told = read(folder / EVALS / "journal.jsonl")
    return [{k: v for k, v in one.items() if k not in _TIMES} for one in told]


def items(folder: Path) -> dict[str, bytes]:
    """Likelihoods of every item of every evaluation."""
    place = folder / EVALS
    return {
        str(path.relative_to(place)): path.read_bytes() for path in sorted(place.glob("step-*/*/items/*"))
    }


def alike(one: Path, other: Path) -> None:
    """Fail unless two watched runs measured the same, of the same averaged weights."""
    same(one, other)
    assert journal(one) == journal(other)
    assert items(one) == items(other) != {}
    first, second = Evaluations.open(one), Evaluations.open(other)
    digests = [[x.results.manifest.model.digest for x in each.all] for each in (first, second)]
    assert digests[0] == digests[1] and len(set(digests[0])) == len(digests[0])


def test_training_is_as_without_a_hook(plain, whole):
    same(plain, whole)
    found = Evaluations.open(whole)
    assert [one.step for one in found.all] == [4, 8, 12, 16]
    assert [one.members for one in found.all][1:] == [(4, 6, 8), (8, 10, 12), (12, 14, 16)]
    assert not len(found.failures)
    assert set(found.series()["task"]) == set(NAMES)


def test_scores_are_of_the_mean(whole):
    """Oracle: the float64 mean of the snapshots' weights, digested and scored by themselves."""
    from safetensors.torch import load_file

    from evalsuite.loading import model_digest

    one = Evaluations.open(whole).all[-1]
    # Those of the last window are still there: a resume may start before it.
    kept = [whole / EVALS / "snapshots" / f"step-{step:09d}" for step in one.members]
    there = [load_file(next(path.glob("*.safetensors"))) for path in kept]
    model = load(at(whole, STEPS)).model
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(sum(each[name].double() * (1 / 3) for each in there))
    assert model_digest(model) == one.results.manifest.model.digest
    axes = [(one.tokens, one.flops) for one in Evaluations.open(whole).all]
    told = {line["step"]: (line["tokens"], line["flops"]) for line in lines(whole) if line["kind"] == "train"}
    assert axes == [told[step] for step in (4, 8, 12, 16)]


@pytest.mark.parametrize("step", [3, 6, 9, 12, 15])
def test_resumed_inside_a_window(whole, tmp_path, step):
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    for one in steps_of(folder):
        if one > step:
            shutil.rmtree(at(folder, one))
    runs.resume(folder)
    alike(folder, whole)


def test_killed_and_resumed(whole, data, tasks, tmp_path):
    """Before anything was saved, and in between."""
    folder = tmp_path / "run"
    for moment in (20_000, 60_000, 90_000):
        told = watched(data, tasks) if not (folder / "config.toml").is_file() else None
        runs.Child(runs.train, folder, told, Harm(event=moment)).end()
    runs.finish(folder, watched(data, tasks))
    alike(folder, whole)


def test_weights_as_they_are_too(data, tasks, plain, tmp_path):
    runs.start(tmp_path / "run", watched(data, tasks, eval__raw=True))
    same(plain, tmp_path / "run")
    found = Evaluations.open(tmp_path / "run")
    assert len(found.raw) == len(found.all) == 4
    sources = found.table().frame.groupby("source")["step"].nunique().to_dict()
    assert sources == {"stagewise": 4, "stagewise (mean of 3)": 4}
    runs.start(tmp_path / "only", watched(data, tasks, eval__average=1))
    digests = [[x.results.manifest.model.digest for x in each] for each in (
        found.raw, Evaluations.open(tmp_path / "only").all
    )]  # fmt: skip
    assert digests[0] == digests[1]


def test_in_a_process_of_its_own(data, tasks, plain, tmp_path):
    """Killed the first time: training is as without, and what is missing is said."""
    from evalsuite.child import Child

    start, folder, started = Child.start, tmp_path / "run", []

    def killed(*args: Any) -> Child:
        child = start(*args)
        if not started:
            os.kill(child.pid, signal.SIGKILL)
        started.append(child)
        return child

    collect = RoundsBeside.collect

    def patient(self, *, wait: bool = False) -> None:
        """As in a run that is slow enough for an evaluation to end before the next is due."""
        collect(self, wait=True)

    with patch.object(Child, "start", killed), patch.object(RoundsBeside, "collect", patient):
        runs.start(folder, watched(data, tasks, eval__process=True, eval__every=8))
    same(plain, folder)
    found = Evaluations.open(folder)
    assert [(one.step, one.members) for one in found.all] == [(16, (12, 14, 16))]
    assert list(found.failures["step"]) == [8] and "SIGKILL" in found.failures["why"].iloc[0]
    runs.start(tmp_path / "within", watched(data, tasks, eval__every=8))
    ours, theirs = (Evaluations.open(one).series() for one in (folder, tmp_path / "within"))
    last = theirs["step"] == 16
    assert list(ours["score"]) == list(theirs["score"][last])


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks(data, tasks, whole, tmp_path, kind):
    """Averaged weights and scores are those of one process, but for the order of sums."""
    folder = tmp_path / "run"
    ends = ranks(2, runs.train, folder, watched(data, tasks, device__parallel=kind))
    assert [(one.code, one.error, one.complaints) for one in ends] == [(0, "", ())] * 2
    ours, theirs = Evaluations.open(folder).series(), Evaluations.open(whole).series()
    assert not len(Evaluations.open(folder).failures)
    assert list(ours["step"]) == list(theirs["step"])
    assert ours["score"].to_numpy() == pytest.approx(theirs["score"].to_numpy(), rel=1e-4)
    ends = ranks(2, runs.train, tmp_path / "plain", config(data, **CHANGING, device__parallel=kind))
    assert [one.code for one in ends] == [0, 0]
    assert (
        files(at(folder, STEPS))["model.safetensors"]
        == files(at(tmp_path / "plain", STEPS))["model.safetensors"]
    )


def test_ranks_know_what_was_measured(data, tasks, tmp_path):
    """Of two stages on two ranks: they change at the same evaluation on both, and nothing fails."""
    ends = ranks(2, staged, tmp_path / "run", watched(data, tasks, steps=16))
    assert [(one.code, one.error) for one in ends] == [(0, "")] * 2
    assert ends[0].value == ends[1].value
    failures, ran = ends[0].value
    assert failures == 0
    assert ran == [(4, "early"), (8, "early"), (8, "late"), (12, "early"), (12, "late"), (16, "late")]


def staged(pipe: Any, folder: Path, config: RunConfig) -> Any:
    """A run of two suites by stage; what its hook knows; a job."""
    from evalsuite.task_list import TaskList
    from train import evaluation

    of, kept = evaluation._watched, []
    seen = EvalHook.close

    def two(told: Any, registry: Any) -> Any:
        one = of(told, registry)
        return [
            TaskList("early", one.tasks[:1], high=5e7), TaskList("late", one.tasks[1:], low=5e7)
        ]  # fmt: skip

    def close(self, **how: Any) -> None:
        kept.append((self.failures, [(one.step, one.suite) for one in self.evaluations.all]))
        seen(self, **how)

    with patch.object(evaluation, "_watched", two), patch.object(EvalHook, "close", close):
        runs.train(pipe, folder, config)
    return kept[0]


# --- evaluations that fail --------------------------------------------------------------------------------


def test_a_task_that_is_gone(data, tasks, plain, tmp_path):
    place = Path(shutil.copytree(tasks, tmp_path / "tasks"))

    def begun(done: int, *_: Any) -> None:
        if done == 1:
            (place / "tiny_add.jsonl").unlink(missing_ok=True)

    with patch("evalsuite.evaluator._Kept.task", _forgetful):
        runs.start(tmp_path / "run", watched(data, place), progress=begun)
    same(plain, tmp_path / "run")
    found = Evaluations.open(tmp_path / "run")
    assert set(found.failures["task"]) == {"tiny_add"}
    assert list(found.failures["step"]) == [4, 8, 12, 16]
    assert set(found.series()["task"]) == {"tiny_words"}


def _forgetful(self, name: str):
    """A registry that reads its files each time."""
    from evalsuite.registry import Registry

    return Registry(tuple(type(one).open(one.path) for one in self.folders), self.seed).task(name)


@pytest.mark.parametrize(
    ("error", "where", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "evalsuite.engine.Engine.run", "out of memory"),
        (MemoryError(), "evalsuite.evaluator.run", "MemoryError"),
        (OSError(28, "No space left on device"), "evalsuite.results.Results.add", "No space left"),
        (OSError(28, "No space left on device"), "evalsuite.snapshots.write_folder", "No space left"),
        (RuntimeError("boom"), "evalsuite.rotation.Rotation.active", "boom"),
        (RuntimeError("boom"), "evalsuite.journal.RunLog.append", ""),
    ],
)  # fmt: skip
def test_whatever_fails(data, tasks, plain, tmp_path, error, where, words):
    said: list[str] = []

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    with patch(where, fail) if "RunLog" not in where else patch("evalsuite.journal.RunLog", _broken):
        runs.start(tmp_path / "run", watched(data, tasks), say=said.append)
    same(plain, tmp_path / "run")
    assert any(words in line and "goes on" in line for line in said) or "lost" in " ".join(said)
    if words:
        why = " ".join(Evaluations.open(tmp_path / "run").failures["why"])
        assert words in why


class _broken:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def rewind(self, step: int) -> None:
        pass

    def append(self, event: Any) -> None:
        raise StagewiseError("disk full")

    def sync(self) -> None:
        pass

    close = sync


def test_logits_that_are_no_numbers(data, tasks, plain, tmp_path):
    """Of one evaluation: its head gives NaN."""
    from train.model import Model

    forward = Model.forward

    def broken(self, *args: Any, **named: Any) -> Any:
        out = forward(self, *args, **named)
        logits = out.logits if hasattr(out, "logits") else out
        logits.fill_(math.nan)
        return out

    with patch("train.model.Model.forward", broken):
        runs.start(tmp_path / "run", watched(data, tasks))
    same(plain, tmp_path / "run")
    found = Evaluations.open(tmp_path / "run")
    assert not found.all and len(found.failures) == 4
    assert "NaN" in found.failures["why"].iloc[0] or "nan" in found.failures["why"].iloc[0]


def test_a_full_disk(data, tasks, plain, tmp_path):
    """No file of the hook can be longer than a kilobyte: neither snapshots nor results, nor the journal."""
    call, said = EvalHook.__call__, []

    def cramped(self, *args: Any, **named: Any) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            call(self, *args, **named)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with patch.object(EvalHook, "__call__", cramped):
        runs.start(tmp_path / "run", watched(data, tasks), say=said.append)
    same(plain, tmp_path / "run")
    assert any("snapshot failed" in line and "training goes on" in line for line in said)
    assert any("a line of the journal is lost" in line for line in said)


def test_settings_are_checked_before_anything_is_made(data, tasks, tmp_path):
    cases = [
        ({"eval__tasks": ["tiny_ad"]}, "near it are"),
        ({"eval__metric": "accuracy"}, "eval.metric"),
        ({"eval__suites": ["no.yaml"], "eval__tasks": []}, "no.yaml"),
        ({"eval__suites": ["no.yaml"]}, "one of them"),
        ({"eval__spacing": "often"}, "spacing"),
        ({"eval__folders": ["nowhere"]}, "nowhere"),
    ]
    for told, words in cases:
        with pytest.raises((UsageError, StagewiseError), match=words):
            runs.start(tmp_path / "run", watched(data, tasks, **told))
        assert not (tmp_path / "run" / "config.toml").exists()


def test_off_is_off(data, tasks, tmp_path):
    runs.start(tmp_path / "run", watched(data, tasks, eval__every=0))
    assert not (tmp_path / "run" / EVALS).exists()


def test_results_are_of_the_run(whole):
    one = Evaluations.open(whole).all[0]
    told = json.loads((one.path / MANIFEST).read_text())["identity"]
    assert told["model"] == "run" and told["seed"] == 0 and told["step"] == 4
