"""Evaluations in a process of their own: the same scores, the same training, and what goes wrong is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from evalsuite.background import Background
from evalsuite.child import Process
from evalsuite.evaluator import Evaluator
from evalsuite.job import Asked, Scored
from evalsuite.place import Place
from evalsuite.programme import programmes
from evalsuite.registry import Registry
from evalsuite.results import Identity
from evalsuite.snapshots import Snapshots
from evalsuite.swap import swapped
from scaling.errors import StagewiseError
from tests.evalsuite.net import Bytes, Net
from tests.evalsuite.trainers import left, rows, same, tasks

STEPS, WEIGHTS = (2, 3), (0.25, 0.75)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(Bytes(), Registry())


def asked(evaluator: Evaluator, name: str = "mean", members=STEPS, weights=WEIGHTS) -> Asked:
    (found,) = programmes(tasks(), evaluator.registry)
    return Asked(
        suite=found.name, wanted=found.wanted(), members=members, weights=weights, folder=f"step/{name}",
        identity=Identity(model="net", step=3), line={"step": 3, "folder": f"step/{name}"},
    )  # fmt: skip


def beside(folder: Path, function: str, argument, evaluator: Evaluator) -> Background:
    return Background(Process(f"tests.evalsuite.loaders:{function}", argument, nice=0), folder, evaluator)


def snapped(folder: Path) -> tuple[Net, Snapshots]:
    """A network, and snapshots of it at steps 1 to 3."""
    torch.manual_seed(0)
    model, shots = Net(), Snapshots.open(folder / "snapshots", print)
    for step in (1, 2, 3):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.02 * torch.randn_like(p))
        shots.take(model, Place(step))
    return model, shots


def train(model: Net, steps: int = 20) -> dict:
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        batch = rows(4, seed=step)
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).transpose(1, 2), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return left(model, optimizer)


def files(folder: Path) -> dict[str, bytes]:
    """Of results: all bytes, but for seconds of the clock."""
    found = {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*.parquet")}
    told = json.loads((folder / "manifest.json").read_text())
    for one in told["tasks"]:
        del one["seconds"]
    return found | {"manifest": json.dumps(told).encode()}


def test_scores_and_training_are_the_same(tmp_path, evaluator):
    """Oracles: the mean swapped into the model here, and training alone; bit for bit. In between the process
    is killed, as with its run, and the resumed run has the job done again."""
    model, shots = snapped(tmp_path)
    both = [asked(evaluator), asked(evaluator, "raw", (3,), (1.0,))]
    (found,) = programmes(tasks(), evaluator.registry)
    for one in both:
        with swapped(model, shots.mean(one.members, one.weights, model)):
            evaluator.evaluate(found, one.wanted, model, tmp_path / "here" / one.folder, one.identity)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    alone = train(model)
    model.load_state_dict(start)

    first = beside(tmp_path, "net", 1, evaluator)
    first.start(both)
    shots.keep(())  # the run needs them no more
    assert first.busy and list(first.ended()) == []
    with pytest.raises(StagewiseError, match="one evaluation after the other"):
        first.start(both)
    first.close()
    assert not first.busy

    again = beside(tmp_path, "net", 1, evaluator)
    again.take_up(3, done=())
    assert again.busy and same(train(model), alone)
    told = list(again.ended(wait=True))
    assert [one for one, _ in told] == both and not again.busy
    assert [(how.why, how.missing) for _, how in told] == [("", ())] * 2 and all(
        how.seconds > 0 for _, how in told
    )
    for one in both:
        assert files(tmp_path / one.folder) == files(tmp_path / "here" / one.folder)
    # What it worked from is gone, and there is nothing to take up.
    assert not (tmp_path / "process" / "snapshots").exists()
    again.take_up(3, done=())
    assert not again.busy and list(again.ended(wait=True)) == []


def test_what_is_not_taken_up(tmp_path, evaluator):
    """What is in the journal already, what a run resumed earlier will come to again, and what is broken."""
    snapped(tmp_path)
    for step, done in ((3, {"step/mean"}), (2, set())):
        left_over = beside(tmp_path, "raises", None, evaluator)
        left_over.start([asked(evaluator)])
        left_over.close()
        again = beside(tmp_path, "raises", None, evaluator)
        again.take_up(step, done)
        assert not again.busy and not (tmp_path / "process").exists()
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "job.json").write_text("{")
    again.take_up(3, ())
    assert not again.busy


def outcome(folder: Path, function: str, argument, evaluator: Evaluator) -> list[Scored]:
    snapped(folder)
    made = beside(folder, function, argument, evaluator)
    made.start([asked(evaluator), asked(evaluator, "raw", (3,), (1.0,))])
    found = [how for _, how in made.ended(wait=True)]
    assert not made.busy and len(found) == 2
    return found


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        ("small_files", 4096, "cannot be written"),
        ("small_files", 0, "ended with exit code 1"),
        ("raises", None, "ValueError: no model of None"),
    ],
)
def test_what_goes_wrong_is_told_of_each(tmp_path, evaluator, function, argument, words):
    found = outcome(tmp_path, function, argument, evaluator)
    assert all(words in one.why for one in found), found


def test_without_links(tmp_path, evaluator, monkeypatch):
    """A file system that has no links: snapshots are copied. One that is gone is told at once."""
    _, shots = snapped(tmp_path)

    def refused(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", refused)
    made = beside(tmp_path, "raises", None, evaluator)
    made.start([asked(evaluator)])
    made.close()
    held = Snapshots.open(tmp_path / "process" / "snapshots", print)
    assert [one.step for one in held.places] == list(STEPS)
    shots.keep((3,))
    with pytest.raises(StagewiseError, match="snapshots could not be set aside"):
        made.start([asked(evaluator)])
    assert not made.busy
