"""The fused loss: value, gradient and memory against torch's cross-entropy, which holds all logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from train import loss
from train.loss import IGNORED, linear_cross_entropy, token_losses


def case(
    n: int = 13,
    v: int = 11,
    d: int = 5,
    dtype: torch.dtype = torch.float64,
    scale: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a head, and targets of which some do not count; both take gradients."""
    chance = torch.Generator().manual_seed(seed)
    hidden, weight = (
        torch.randn(*shape, generator=chance, dtype=torch.float64) for shape in ((n, d), (v, d))
    )
    target = torch.randint(0, v, (n,), generator=chance)
    target[torch.rand(n, generator=chance) < 0.25] = IGNORED
    return (hidden * scale).to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), target


def naive(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The oracle: torch, with all logits in memory."""
    return F.cross_entropy(hidden @ weight.T, target, reduction="sum", ignore_index=IGNORED)


def slopes(of: Any, hidden: Tensor, weight: Tensor, target: Tensor, scale: float = 1.0) -> list[Tensor]:
    """The value and both gradients of a loss."""
    value = of(hidden, weight, target)
    return [value.detach(), *torch.autograd.grad(value * scale, (hidden, weight))]


@pytest.fixture(params=[2**22, 44, 25, 11, 1], ids=lambda most: f"{most} logits at once")
def _at_once(request, monkeypatch):
    monkeypatch.setitem(loss._AT_ONCE, "cpu", request.param)


# --- values and gradients -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_at_once")
def test_the_gradient_is_that_of_differences():
    """Oracle: central differences in float64; chunks of 7, 4, 2, 1 and 1 tokens."""
    hidden, weight, target = case(7, 11, 3)
    assert (target == IGNORED).any()
    _, *found = slopes(linear_cross_entropy, hidden, weight, target)
    with torch.no_grad():
        for one, slope in zip((hidden, weight), found, strict=True):
            for place, wanted in zip(one.view(-1).split(1), slope.view(-1), strict=True):
                kept = place.clone()
                up, down = (
                    linear_cross_entropy(hidden, weight, target)
                    for _ in map(place.copy_, (kept + 1e-5, kept - 1e-5))
                )
                place.copy_(kept)
                assert float((up - down) / 2e-5) == pytest.approx(float(wanted), rel=1e-6, abs=1e-9)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_it_is_the_cross_entropy(dtype, scale):
    """Oracle: F.cross_entropy in float64, of the loss times 0.3."""
    hidden, weight, target = case(50, 11, 8, dtype, scale)
    found = slopes(linear_cross_entropy, hidden, weight, target, 0.3)
    wanted = slopes(naive, hidden.double(), weight.double(), target, 0.3)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype and one.shape == other.shape
        assert (one - other).abs().max() <= 50 * torch.finfo(dtype).eps * other.abs().max()
    assert (found[1][target == IGNORED] == 0).all()


@settings(max_examples=60)
@given(
    n=st.integers(1, 20), v=st.integers(1, 12), most=st.integers(1, 300), seed=st.integers(0, 99),
    kept=st.floats(0, 1),
)  # fmt: skip
def test_any_shape_in_any_chunks(n, v, most, seed, kept):
    """Oracle: F.cross_entropy in float64; one id, one token and no target at all are among them."""
    hidden, weight, target = case(n, v, 4, seed=seed)
    target[torch.rand(n, generator=torch.Generator().manual_seed(seed)) > kept] = IGNORED
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(loss._AT_ONCE, "cpu", most)
        found = slopes(linear_cross_entropy, hidden, weight, target)
        each = token_losses(hidden, weight, target)
        chunks = loss._chunks(hidden, weight)
    for one, other in zip(found, slopes(naive, hidden, weight, target), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
    assert torch.allclose(
        each, F.cross_entropy(hidden @ weight.T, target, reduction="none", ignore_index=IGNORED)
    )
    sizes = [one.stop - one.start for one in chunks]
    assert sum(sizes) == n and max(sizes) <= max(1, most // v) and set(sizes[:-1]) <= {max(sizes)}


def test_no_token_at_all():
    """A row may be too short for the deepest prediction: the loss is 0, and so are the gradients."""
    hidden, weight = torch.zeros(0, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    assert token_losses(hidden, weight, none).shape == (0,)
    value, to_hidden, to_weight = slopes(linear_cross_entropy, hidden, weight, none)
    assert value == 0 and to_hidden.shape == (0, 3) and (to_weight == 0).all()


def test_one_side_may_be_fixed():
    """Oracle: the gradient where both take one."""
    hidden, weight, target = case()
    _, to_hidden, to_weight = slopes(linear_cross_entropy, hidden, weight, target)
    (one,) = torch.autograd.grad(linear_cross_entropy(hidden, weight.detach(), target), hidden)
    (other,) = torch.autograd.grad(linear_cross_entropy(hidden.detach(), weight, target), weight)
    assert torch.equal(one, to_hidden) and torch.equal(other, to_weight)


def test_without_gradients_it_says_the_same():
    hidden, weight, target = case()
    with torch.no_grad():
        quiet = linear_cross_entropy(hidden, weight, target)
    assert not quiet.requires_grad
    assert torch.allclose(quiet, linear_cross_entropy(hidden, weight, target), rtol=1e-12)
    assert not token_losses(hidden, weight, target).requires_grad


def test_large_logits():
    """Oracle: F.cross_entropy in float64. exp() of the logits would be beyond any number."""
    for scale in (1e3, 1e6, 1e30):
        hidden, weight, target = case(40, 11, 8, torch.float32, scale)
        found = slopes(linear_cross_entropy, hidden, weight, target)
        wanted = slopes(naive, hidden.double(), weight.double(), target)
        for one, other in zip(found, wanted, strict=True):
            assert torch.isfinite(one).all()
            assert (one - other).abs().max() <= 1e-4 * other.abs().max()


@pytest.mark.parametrize("level", [10.0, 100.0, 1000.0])
def test_a_sure_token_is_told_as_well_as_torch_tells_it(level):
    """Oracle: F.cross_entropy in float64. Logits are large, all but equal, and the likeliest is the target:
    what they share has to go before anything small is added to it."""
    hidden = torch.tensor([[level, 1.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 7.0], [1.0, 0.0], [1.0, 2.0]], requires_grad=True)
    target = torch.tensor([0])
    wanted = float(naive(hidden.double(), weight.double(), target).detach())
    assert 5e-3 < wanted < 2e-2
    for value in (
        linear_cross_entropy(hidden, weight, target).detach(),
        token_losses(hidden, weight, target),
    ):
        assert abs(float(value) - wanted) < 1e-5 * wanted


def test_broken_logits_are_told():
    """A loss that is no number has to reach the guard."""
    hidden, weight, target = case(dtype=torch.float32)
    with torch.no_grad():
        hidden[3] = torch.nan
    target[3] = 1
    assert torch.isnan(linear_cross_entropy(hidden, weight, target))
    target[3] = IGNORED
    assert torch.isfinite(linear_cross_entropy(hidden, weight, target))


# --- half precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [2**22, 64])
def test_autocast_to_bfloat16(most, monkeypatch):
    """Oracle: F.cross_entropy in float64 of the rounded inputs. Logits are rounded to 2^-8 of their size, and
    sums of many chunks must not be."""
    monkeypatch.setitem(loss._AT_ONCE, "cpu", most)
    hidden, weight, target = case(2000, 16, 32, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = linear_cross_entropy(hidden, weight, target)
        each = token_losses(hidden, weight, target)
    assert value.dtype == each.dtype == torch.float32
    value.backward()
    rounded = [one.detach().bfloat16().double().requires_grad_() for one in (hidden, weight)]
    wanted = slopes(naive, rounded[0], rounded[1], target)
    assert abs(float(value.detach() / wanted[0]) - 1) < 2e-3
    assert abs(float(each.sum() / wanted[0]) - 1) < 2e-3
    for one, other in zip((hidden.grad, weight.grad), wanted[1:], strict=True):
        assert one is not None and one.dtype == torch.float32
        assert (one - other).norm() < 6e-3 * other.norm()


def test_weights_in_bfloat16():
    """Oracle: float64. Two thousand tokens add up to a gradient that is right to a rounding of the sum."""
    hidden, weight, target = case(2000, 16, 32, torch.bfloat16)
    found = slopes(linear_cross_entropy, hidden, weight, target)
    wanted = slopes(naive, hidden.double(), weight.double(), target)
    assert [one.dtype for one in found] == [torch.float32, torch.bfloat16, torch.bfloat16]
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() < 6e-3 * other.norm()


# --- memory ---------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, Tensor):
                self.found = max(self.found, one.untyped_storage().nbytes() // one.element_size())
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_never_all_logits_at_once(dtype, monkeypatch):
    """Counted: elements of the largest tensor. Torch's way makes one of n v; here there is none above a
    chunk."""
    n, v, d, most = 600, 300, 4, 9000
    monkeypatch.setitem(loss._AT_ONCE, "cpu", most)
    hidden, weight, target = case(n, v, d, dtype)
    with Largest() as seen:
        linear_cross_entropy(hidden, weight, target).backward()
    assert max(n, v) * d <= seen.found <= most
    with Largest() as seen:
        token_losses(hidden, weight, target)
    assert seen.found <= most
    with Largest() as seen:
        naive(hidden, weight, target).backward()
    assert seen.found >= n * v


def test_a_gradient_is_taken_once():
    """It is handed on, not copied: to take it again would be to take another."""
    hidden, weight, target = case()
    value = linear_cross_entropy(hidden, weight, target)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken already"):
        value.backward()


def test_gradients_add_up_over_losses():
    """Oracle: twice one of them. What was handed on must not be written to again."""
    hidden, weight, target = case()
    for _ in range(2):
        (linear_cross_entropy(hidden, weight, target) * 0.5).backward()
    both = linear_cross_entropy(hidden, weight, target) + linear_cross_entropy(hidden, weight, target)
    wanted = slopes(naive, hidden, weight, target)[1:]
    found = torch.autograd.grad(both, (hidden, weight))
    for one, other, third in zip((hidden.grad, weight.grad), wanted, found, strict=True):
        assert one is not None and torch.allclose(one, other, rtol=1e-10, atol=1e-12)
        assert torch.allclose(third, 2 * other, rtol=1e-10, atol=1e-12)
