"""Muon against torch's own, and its orthogonal part against singular values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train.muon import Muon, orthogonal

SHAPES = [(8, 8), (12, 5), (5, 12), (12, 5), (30, 30), (1, 7)]


def weights(seed: int = 0) -> list[nn.Parameter]:
    chance = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(*shape, generator=chance)) for shape in SHAPES]


def trained(kind: Any, steps: int, **how: Any) -> list[nn.Parameter]:
    """Weights after steps along the same gradients."""
    params = weights()
    optimiser = kind(params, **how)
    chance = torch.Generator().manual_seed(1)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = how["lr"] * (step + 1) / steps
        for p in params:
            p.grad = torch.randn(p.shape, generator=chance)
        if step == 2:
            params[1].grad = None  # a weight that had no part in a loss stays, and so does its momentum
        optimiser.step()
    return params


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.95])
def test_steps_are_those_of_torch(decay, momentum, monkeypatch):
    """Oracle: torch.optim.Muon (match_rms_adamw), which is made to work in float32; tolerance some ten
    roundings."""
    how: dict[str, Any] = {"lr": 0.05, "weight_decay": decay, "momentum": momentum}
    mine = trained(Muon, 6, **how)
    monkeypatch.setattr(Tensor, "bfloat16", lambda self: self.clone())
    theirs = trained(torch.optim.Muon, 6, adjust_lr_fn="match_rms_adamw", **how)
    for one, other, start in zip(mine, theirs, weights(), strict=True):
        assert (one - start).abs().max() > 1e-2
        assert (one - other).abs().max() < 2e-5


def test_steps_are_those_of_torch_in_half_precision():
    """Oracle: torch.optim.Muon as it is: its five products in bfloat16 move a step by up to some percent of
    its length (measured here: at most 3%)."""
    how: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.95}
    theirs = trained(torch.optim.Muon, 6, adjust_lr_fn="match_rms_adamw", **how)
    for one, other, start in zip(trained(Muon, 6, **how), theirs, weights(), strict=True):
        assert (one - other).norm() < 0.05 * (one - start).norm()


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5), (40, 17)])
def test_singular_vectors_stay_and_values_go_near_one(shape):
    """Oracle: the quintic applied to the singular values of torch.linalg.svd, of the matrix over its norm."""
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x[1] *= 1e-4
    x[2] *= 1e4
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    s = s / s.square().sum(dim=1, keepdim=True).sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    found = orthogonal(x.float())
    assert found.dtype == torch.float32
    assert (found.double() - u * s[:, None] @ vt).abs().max() < 2e-5


def test_singular_values_end_near_one():
    """As documented: between about 0.7 and 1.2, where they span a factor of a hundred."""
    chance = torch.Generator().manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(8, 24, 24, generator=chance))
    values = torch.linalg.svdvals(orthogonal(u * torch.logspace(-2, 0, 24) @ vt))
    assert values.min() > 0.65 and values.max() < 1.25


def test_a_step_is_as_long_as_one_of_adamw():
    """Oracle: Liu et al. 2025: root mean square of 0.2 lr, whatever the shape, for gradients of full rank."""
    for shape in [(64, 64), (64, 256), (256, 64)]:
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=0.01, weight_decay=0.0).step()
        assert 0.8 < float(weight.detach().square().mean().sqrt()) / 0.002 < 1.2


def test_no_gradient_no_step():
    """A gradient of zeros moves nothing but by the decay; one that is absent moves nothing at all."""
    still, decayed = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    decayed.grad = torch.zeros(3, 4)
    optimiser = Muon([still, decayed], lr=0.1, weight_decay=0.5)
    optimiser.step()
    assert (still == 1).all() and not optimiser.state[still]
    assert torch.allclose(decayed, torch.full((3, 4), 0.95))


def test_gradients_stay_as_they_are():
    (weight,) = weights()[:1]
    weight.grad = torch.ones(8, 8)
    Muon([weight]).step()
    assert (weight.grad == 1).all()


def test_a_closure_is_called_with_gradients():
    (weight,) = weights()[:1]
    before = weight.detach().clone()

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return float(loss.detach())

    assert Muon([weight]).step(closure) == pytest.approx(float(before.square().sum()))
    assert not torch.equal(weight, before)
