"""The hook in a loop of somebody else: a plain torch module from token ids to logits."""

from __future__ import annotations

import copy

import torch
from torch import nn

from evalsuite.evaluations import Evaluations
from evalsuite.registry import Registry
from tests.evalsuite.net import Net
from tests.evalsuite.trainers import NAMES, hook, left, rows, same, scores


def train(steps: int, watch=None, start=None):
    """A loop; goes on from what `start` saved at step 4."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first, saved = 1, None
    if start is not None:
        model.load_state_dict(start["model"])
        optimizer.load_state_dict(start["optimizer"])
        torch.set_rng_state(start["random"])
        first = 5
    for step in range(first, steps + 1):
        batch = rows(4, seed=step)
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).transpose(1, 2), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watch is not None:
            watch(step, model, tokens=step * batch.numel(), lr=1e-3, loss=loss.item())
        if step == 4:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            saved = copy.deepcopy(state | {"random": torch.get_rng_state()})
    gradients = {f"gradient {name}": p.grad for name, p in model.named_parameters()}
    return left(model, optimizer) | gradients, saved


def test_five_lines(tmp_path):
    """Oracle: the same loop without the hook, bit for bit."""
    plain, _ = train(6)
    made = hook(tmp_path / "evals")
    watched, _ = train(6, made)
    made.close()
    assert same(plain, watched) and made.failures == 0
    found = Evaluations.open(tmp_path / "evals")
    assert [(one.step, one.members) for one in found.all] == [(3, (2, 3)), (6, (5, 6))]
    assert sorted(set(found.series()["task"])) == sorted(NAMES)
    tokens, params = 3 * 4 * rows().shape[1], sum(p.numel() for p in Net().parameters())
    assert (found.all[0].tokens, found.all[0].flops) == (tokens, 6.0 * params * tokens)
    # What was written down is what the tasks of the registry ask.
    done = found.all[0].results.manifest.tasks[0]
    assert done.digest == Registry().task(done.task).take(6, None).digest


def test_resumed(tmp_path):
    whole, cut = hook(tmp_path / "whole"), hook(tmp_path / "cut")
    at_end, _ = train(6, whole)
    _, saved = train(5, cut)
    again = hook(tmp_path / "cut")
    resumed, _ = train(6, again, saved)
    assert same(at_end, resumed)
    assert scores(Evaluations.open(tmp_path / "whole")) == scores(Evaluations.open(tmp_path / "cut"))
    for one in (whole, cut, again):
        one.close()
