"""RMSNorm: the gradient in closed form against torch's own, and against differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from train.norm import RMSNorm, _Normed


def made(width: int, eps: float, dtype: torch.dtype = torch.float64, seed: int = 0) -> RMSNorm:
    norm = RMSNorm(width, eps).to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(width, generator=torch.Generator().manual_seed(seed)) + 1)
    return norm


def rows(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 4), (1, 1)])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.5])
def test_the_gradient_is_that_of_differences(shape, eps):
    """Oracle: torch.autograd.gradcheck in float64."""
    x = rows(*shape).requires_grad_()
    weight = rows(shape[-1]).add(0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: _Normed.apply(a, b, eps), (x, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_values_and_gradients_are_those_of_torch(dtype, scale):
    """Oracle: F.rms_norm, and its gradient by autograd. Tolerance: some ten units in the last place."""
    norm = made(48, 1e-6, dtype)
    x, towards = rows(4, 7, 48, dtype=dtype) * scale, rows(4, 7, 48, dtype=dtype)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = norm.weight.detach().clone().requires_grad_()
    one, other = norm(mine), F.rms_norm(theirs, (48,), weight, 1e-6)
    one.backward(towards)
    other.backward(towards)
    assert mine.grad is not None and theirs.grad is not None and norm.weight.grad is not None
    bound = 20 * torch.finfo(dtype).eps
    assert weight.grad is not None
    for a, b in ((one, other), (mine.grad, theirs.grad), (norm.weight.grad, weight.grad)):
        assert a.dtype == dtype and (a - b).abs().max() <= bound * b.abs().max()


def test_without_gradients_it_says_the_same():
    norm = made(16, 1e-6, torch.float32)
    with torch.no_grad():
        quiet = norm(rows(3, 16, dtype=torch.float32))
    assert torch.allclose(quiet, norm(rows(3, 16, dtype=torch.float32)), rtol=1e-6, atol=0)


def test_inputs_of_half_precision_stay_so():
    """Oracle: F.rms_norm on the values in float32; 2^-8 is a unit of bfloat16."""
    norm = made(16, 1e-6, torch.float32)
    x = rows(3, 16, dtype=torch.bfloat16)
    out = norm(x)
    assert out.dtype == torch.bfloat16
    exact = F.rms_norm(x.float(), (16,), norm.weight, 1e-6)
    assert ((out.float() - exact).abs() <= 3 * 2**-8 * exact.abs() + 1e-6).all()
    out.float().sum().backward()
    assert norm.weight.grad is not None and norm.weight.grad.dtype == torch.float32


def test_rows_of_zeros():
    """Oracle: 0 w / sqrt(eps), with the gradient w / sqrt(eps)."""
    norm = made(4, 1e-4)
    x = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    out = norm(x)
    out.sum().backward()
    assert (out == 0).all()
    assert x.grad is not None and torch.allclose(x.grad, norm.weight.detach().expand(2, 4) / 0.01)


def test_a_slice_of_a_wider_tensor():
    """Inputs need not lie in one piece. Oracle: F.rms_norm."""
    norm = made(6, 1e-6)
    mine = rows(5, 3, 12).transpose(0, 1).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    norm(mine[..., ::2]).sin().sum().backward()
    F.rms_norm(theirs[..., ::2], (6,), norm.weight.detach(), 1e-6).sin().sum().backward()
    assert mine.grad is not None and theirs.grad is not None and torch.allclose(mine.grad, theirs.grad)


def test_a_gradient_of_the_gradient_is_refused():
    """It is not computed; a wrong one would be worse than none."""
    x = rows(2, 4).requires_grad_()
    (slope,) = torch.autograd.grad(made(4, 0.0)(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
