"""Weights and slots of a run: taken out, put back into a new one, and trained on to the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from scaling.errors import StagewiseError
from tests.train.test_model import CONFIG, ids
from train.config import OptimConfig
from train.model import initialise
from train.mtp import TrainedModel
from train.optim import Optimisers, optimisers
from train.state import gathered, scattered

SMALL = replace(CONFIG, layers=2, width=16, heads=2, kv_heads=1, hidden=24)


def started(name: Any, tied: bool = True, depth: int = 0, seed: int = 0) -> tuple[TrainedModel, Optimisers]:
    model = TrainedModel(replace(SMALL, tied=tied), depth, eos=0)
    initialise(model, 2, seed)
    return model, optimisers(model, OptimConfig(name=name, lr=0.01, beta2=0.9))


def train(model: TrainedModel, optimiser: Optimisers, start: int, steps: int) -> None:
    """Steps whose text and rate follow from their number."""
    for step in range(start, start + steps):
        model(ids(2, 20, seed=step), losses="sums").sum().div(40).backward()
        optimiser.set_rate(0.01 / (1 + step))
        optimiser.step()
        optimiser.clear()


def filed(tensors: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """As a checkpoint keeps them."""
    return {
        name: load(save({key: one.contiguous() for key, one in part.items()}))
        for name, part in tensors.items()
    }


def same(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> None:
    for name in ("model", "optimizer"):
        assert one[name].keys() == other[name].keys()
        for key, value in one[name].items():
            assert value.dtype == other[name][key].dtype and torch.equal(value, other[name][key]), key


@pytest.mark.parametrize("name", ["muon", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("depth", [0, 2])
def test_a_run_goes_on_to_the_bit(name, tied, depth):
    """Oracle: the run that was never cut off. The one that goes on starts from other weights."""
    whole = started(name, tied, depth)
    train(*whole, 0, 6)
    part = started(name, tied, depth)
    train(*part, 0, 3)
    kept = filed(gathered(*part))
    train(*part, 3, 3)  # to be taken out changes nothing
    same(gathered(*part), gathered(*whole))
    again = started(name, tied, depth, seed=1)
    scattered(*again, kept["model"], kept["optimizer"])
    same(gathered(*again), kept)
    train(*again, 3, 3)
    same(gathered(*again), gathered(*whole))
    assert (again[0].lm_head.weight is again[0].model.embed_tokens.weight) == tied


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_run_that_has_steps_behind_it_goes_back(name):
    """Oracle: as above, into a run with slots and gradients of its own."""
    one = started(name)
    train(*one, 0, 2)
    kept = filed(gathered(*one))
    train(*one, 2, 2)
    after = filed(gathered(*one))
    scattered(*one, kept["model"], kept["optimizer"])
    train(*one, 2, 2)
    same(gathered(*one), after)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_checkpoint_before_the_first_update_changes_nothing(name):
    """All steps so far may have been skipped. Oracle: the run that wrote none, and the one that goes on from
    it."""
    whole, part = started(name), started(name)
    kept = filed(gathered(*part))
    again = started(name, seed=1)
    scattered(*again, kept["model"], kept["optimizer"])
    for one in (whole, part, again):
        train(*one, 0, 3)
    same(gathered(*part), gathered(*whole))
    same(gathered(*again), gathered(*whole))


@pytest.mark.parametrize("name", ["muon", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_kept(name, tied):
    """Oracle: the names of the model; a slot is named by its weight."""
    model, optimiser = started(name, tied, depth=1)
    train(model, optimiser, 0, 1)
    found = gathered(model, optimiser)
    weights = dict(model.named_parameters())
    assert found["model"].keys() == weights.keys() and ("lm_head.weight" in weights) == (not tied)
    wanted = set()
    for key in weights:
        moved = name == "muon" and ("_proj." in key or "projection." in key)
        slots = ["momentum_buffer"] if moved else ["exp_avg", "exp_avg_sq", "step"]
        wanted |= {f"{key}|{slot}" for slot in slots}
    assert found["optimizer"].keys() == wanted
    assert all(torch.equal(found["model"][key], value) for key, value in weights.items())


def test_settings_follow_from_the_config_and_not_from_the_checkpoint():
    """What a branch relies on: rate and decay are its own."""
    one = started("adamw")
    train(*one, 0, 1)
    kept = filed(gathered(*one))
    model = TrainedModel(SMALL, eos=0)
    other = optimisers(model, OptimConfig(name="adamw", lr=0.5, weight_decay=0.7, beta1=0.3))
    scattered(model, other, kept["model"], kept["optimizer"])
    (adam,) = other.parts
    assert [group["weight_decay"] for group in adam.param_groups] == [0.7, 0.0]
    assert all(tuple(group["betas"]) == (0.3, 0.95) and group["lr"] == 0.5 for group in adam.param_groups)


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda kept: kept.pop("model.norm.weight"), r"weight model\.norm\.weight has shape none,.* \(16,"),
        (lambda kept: kept.update(more=torch.ones(2)), r"weight more has shape \(2,\), .* none"),
        (
            lambda kept: kept.update({"model.norm.weight": torch.ones(17)}),
            r"norm\.weight has shape \(17,\), ",
        ),
    ],
)
def test_weights_of_another_model(change, said):
    one = started("muon")
    train(*one, 0, 1)
    kept = filed(gathered(*one))
    before = filed(gathered(*one))
    change(kept["model"])
    with pytest.raises(StagewiseError, match=said):
        scattered(*one, kept["model"], kept["optimizer"])
    same(gathered(*one), before)


@pytest.mark.parametrize(("name", "other"), [("muon", "adamw"), ("adamw", "muon")])
def test_slots_of_another_optimiser(name, other):
    """The optimiser belongs to the config: a checkpoint of another one is told so."""
    one = started(name)
    train(*one, 0, 1)
    kept = filed(gathered(*one))
    with pytest.raises(StagewiseError, match="checkpoint: "):
        scattered(*started(other), kept["model"], kept["optimizer"])
