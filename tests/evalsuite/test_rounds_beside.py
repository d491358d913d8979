"""The hook with a process of its own: the scores of the hook without one, and training undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.child import Process
from evalsuite.evaluations import Evaluations
from evalsuite.hook import EvalHook
from scaling.errors import UsageError
from tests.evalsuite.net import Net
from tests.evalsuite.trainers import hook, left, rows, same, scores


def train(steps: int, watch: EvalHook | None = None, wait: bool = False) -> dict:
    """A loop; `wait` lets every evaluation end before the next step, as a longer step would."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(1, steps + 1):
        batch = rows(4, seed=step)
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).transpose(1, 2), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watch is not None:
            watch(step, model, tokens=step * batch.numel())
            if wait:
                watch.rounds.collect(wait=True)  # type: ignore[call-arg]
    return left(model, optimizer)


def beside(folder: Path, function: str = "net", argument=1, **options) -> EvalHook:
    return hook(folder, process=Process(f"tests.evalsuite.loaders:{function}", argument, nice=0), **options)


@pytest.fixture(scope="module")
def alone() -> dict:
    return train(9)


def test_the_same_scores(tmp_path, alone):
    """Oracles: the hook without a process, and training without a hook, bit for bit. The evaluation that is
    at work when the run ends is waited for; one that is due meanwhile is skipped."""
    here, there = hook(tmp_path / "here", raw=True), beside(tmp_path / "there", raw=True)
    assert same(train(9, here), alone) and same(train(9, there), alone)
    here.close()
    there.close()
    a, b = Evaluations.open(tmp_path / "here"), Evaluations.open(tmp_path / "there")
    assert [one.step for one in a.all] == [3, 6, 9] and there.failures == 0
    done = {one.step for one in b.all}
    skipped = {one["step"] for one in b.journal if one["kind"] == "skipped"}
    assert done | skipped == {3, 6, 9} and 3 in done and not done & skipped
    assert scores(b) == [one for one in scores(a) if one[0] in done]
    there_by = {(one.step, one.averaged): one for one in (*b.all, *b.raw)}
    for x in (one for one in (*a.all, *a.raw) if one.step in done):
        y = there_by[x.step, x.averaged]
        assert x.results.manifest.head == y.results.manifest.head
        assert (x.members, x.doubts, x.tokens, x.flops) == (y.members, y.doubts, y.tokens, y.flops)
        assert x.results.table().frame.equals(y.results.table().frame)


def test_a_process_that_is_killed(tmp_path, alone):
    """Each time: training is the same, and journal and caller hear of it."""
    said: list[str] = []
    made = beside(tmp_path, "killed", say=said.append)
    assert same(train(9, made, wait=True), alone)
    made.close()
    found = Evaluations.open(tmp_path)
    assert not found.all and list(found.failures["step"]) == [3, 6, 9] and made.failures == 3
    assert all("was ended by SIGKILL" in one for one in found.failures["why"]) and len(said) == 3


def test_a_run_that_is_resumed(tmp_path):
    """What was at work when the run ended is done after all, under its own step."""
    cut = beside(tmp_path, "hangs", str(tmp_path / "said"))
    train(4, cut)
    cut.rounds.background.close()  # type: ignore[attr-defined]  (as the end of the run does)
    cut.journal.close()
    again = beside(tmp_path)
    again(5, Net(), tokens=5.0)
    again.close()
    assert [(one.step, one.members) for one in again.evaluations.all] == [(3, (2, 3))]
    assert again.failures == 0 and not (tmp_path / "process" / "job.json").exists()


@pytest.mark.parametrize("average", [None, Averaging(where="memory")])
def test_it_works_from_snapshots_on_disk(tmp_path, average):
    with pytest.raises(UsageError, match="snapshots on disk"):
        beside(tmp_path, average=average)
