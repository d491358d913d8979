"""Which optimiser takes which weight, and what a step of it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from tests.train.test_model import CONFIG, stirred
from train.config import OptimConfig
from train.model import Model
from train.mtp import TrainedModel
from train.muon import Muon
from train.optim import optimisers

OPTIM = OptimConfig(lr=0.01, weight_decay=0.3, beta1=0.8, beta2=0.9, eps=1e-6, momentum=0.9)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("depth", [0, 2])
def test_every_weight_is_in_one_group_and_matrices_alone_decay(name, tied, depth):
    """Oracle: the names, read apart from the code: projections of blocks and of deeper prediction decay;
    embedding, head and norms do not."""
    model = TrainedModel(replace(CONFIG, tied=tied), depth)
    found = optimisers(model, replace(OPTIM, name=name))
    names = {id(p): key for key, p in model.named_parameters()}
    home: dict[str, tuple[type, float]] = {}
    for part in found.parts:
        for group in part.param_groups:
            assert group["lr"] == 0.01 or part is found.parts[0]
            for p in group["params"]:
                assert names[id(p)] not in home
                home[names[id(p)]] = (type(part), group["weight_decay"])
    assert sorted(home) == sorted(names.values())
    for key, (kind, decay) in home.items():
        matrix = "_proj." in key or "projection." in key
        assert matrix != ("norm" in key or "embed_tokens" in key or "lm_head" in key), key
        assert decay == (0.3 if matrix else 0.0), key
        assert kind is (Muon if matrix and name == "muon" else AdamW), key
    assert len(found.parts) == (2 if name == "muon" else 1)


def test_settings_reach_the_optimisers():
    muon, adam = optimisers(Model(CONFIG), replace(OPTIM, name="muon")).parts
    assert muon.defaults["momentum"] == 0.9
    assert adam.defaults["betas"] == (0.8, 0.9) and adam.defaults["eps"] == 1e-6


def stepped(p: Tensor, grads: list[Tensor], rates: list[float], decay: float) -> Tensor:
    """The oracle: AdamW by its formula (Loshchilov & Hutter 2019), in float64."""
    p, m, v = p.double(), torch.zeros_like(p).double(), torch.zeros_like(p).double()
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), 1):
        m, v = 0.8 * m + 0.2 * grad, 0.9 * v + 0.1 * grad.double() ** 2
        p = p - rate * decay * p
        p = p - rate * (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-6)
    return p


def test_steps_of_adamw_at_the_rates_that_were_set():
    """Oracle: the formula. The rate is set anew before each step, for all groups."""
    model = stirred(Model(CONFIG))
    found = optimisers(model, replace(OPTIM, name="adamw"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    grads: dict[str, list[Tensor]] = {name: [] for name in before}
    rates = [0.1, 0.02, 0.0]
    chance = torch.Generator().manual_seed(0)
    for rate in rates:
        for name, p in model.named_parameters():
            p.grad = torch.randn(p.shape, generator=chance)
            grads[name].append(p.grad.clone())
        found.set_rate(rate)
        found.step()
        found.clear()
        assert all(p.grad is None for p in model.parameters())
    for name, p in model.named_parameters():
        wanted = stepped(before[name], grads[name], rates, 0.3 if "_proj." in name else 0.0)
        assert (p - wanted).abs().max() < 1e-5 * wanted.abs().max(), name


def test_muon_and_adamw_step_together():
    """Oracle: each alone."""
    model = stirred(Model(CONFIG))
    found = optimisers(model, replace(OPTIM, name="muon"))
    twin = stirred(Model(CONFIG))
    adam = optimisers(twin, replace(OPTIM, name="adamw"))
    for one in (model, twin):
        for p in one.parameters():
            p.grad = torch.ones_like(p)
    for one in (found, adam):
        one.set_rate(0.02)
        one.step()
    told = dict(twin.named_parameters())
    for name, p in model.named_parameters():
        assert torch.equal(p, told[name]) == ("_proj." not in name), name
