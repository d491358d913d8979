"""Causal attention in blocks, against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from train import attention as attending
from train.attention import attention


def heads(t: int, h: int = 3, e: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v as a model gives them: heads that were split off a width, so not contiguous."""
    chance = torch.Generator().manual_seed(seed)
    made = (torch.randn(2, t, h, e, generator=chance, dtype=dtype) for _ in range(3))
    return [one.transpose(1, 2).requires_grad_() for one in made]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.parametrize("t", [1, 5, 63, 64, 65, 130, 256])
def test_values_and_gradients_are_torchs(t):
    """Oracle: scaled_dot_product_attention, in float64."""
    q, k, v = heads(t)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(1), dtype=q.dtype)
    ours, theirs = attention(q, k, v), plain(q, k, v)
    assert ours.grad_fn is not None and "Blocked" in type(ours.grad_fn).__name__
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    wanted = torch.autograd.grad(theirs, (q, k, v), weight)
    for one, other in zip(torch.autograd.grad(ours, (q, k, v), weight), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_gradient_is_that_of_differences(monkeypatch):
    """Oracle: gradcheck, over several blocks."""
    monkeypatch.setattr(attending, "_ROWS", 3)
    assert torch.autograd.gradcheck(attention, heads(7, h=1, e=2))


def test_later_keys_are_not_seen():
    """What a place gives depends on no later token."""
    q, k, v = heads(100)
    before = attention(q, k, v)
    with torch.no_grad():
        k[:, :, 70:] += 1.0
        v[:, :, 70:] -= 1.0
    after = attention(q, k, v)
    assert torch.equal(before[:, :, :70], after[:, :, :70])
    assert not torch.allclose(before[:, :, 70:], after[:, :, 70:])


def test_large_scores_stay_finite():
    q, k, v = heads(80, dtype=torch.float32)
    found = attention(q * 1e4, k * 1e4, v)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found, plain(q * 1e4, k * 1e4, v), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("why", ["no gradient", "mask", "fewer heads of keys", "a cache", "a long row"])
def test_all_else_is_torchs(why):
    """The kernel of torch is what runs, whatever it is called."""
    q, k, v = heads(attending._LONGEST + 1 if why == "a long row" else 6)
    mask = None
    if why == "no gradient":
        q, k, v = (one.detach() for one in (q, k, v))
    if why == "mask":
        mask = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    if why == "fewer heads of keys":
        k, v = k[:, :1], v[:, :1]
    if why == "a cache":
        q, mask = q[:, :, 4:], torch.ones(2, 6, dtype=torch.bool).tril(4)[None, None]
    found = attention(q, k, v, mask)
    assert "Blocked" not in type(found.grad_fn).__name__
    if why in ("mask", "no gradient", "a long row"):
        torch.testing.assert_close(found, plain(q, k, v), rtol=0, atol=1e-12)
