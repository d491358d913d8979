"""Cross-entropy of a linear head, computed in chunks that never hold all logits at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100  # a target that counts for nothing, as in torch
_AT_ONCE = {"cpu": 2**23, "cuda": 2**28}  # logits held at once: 32 MB in float32, 1 GB on a GPU


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum over tokens of -ln softmax(hidden @ weight.T)[target], and its gradient.

    The gradient is known as soon as the logits are (softmax minus one at the target), so the forward pass
    takes it chunk by chunk and throws the logits away: three matrix products, none of them twice, and never
    more than a chunk of [n, v] in memory. Without gradients only the loss is computed.

    Under autocast the products run in its type, with softmax and sums in float32.

    Args:
        hidden: what the head reads, [n, d]. weight: the head's, [v, d].
        targets: ids, int64 [n]; -100 where a token does not count.

    Returns:
        A scalar in nats, float32 (float64 for float64 inputs); divide it by the tokens that count.

    Source:
        Wijmans et al. 2024, "Cut your losses in large-vocabulary language models" (the same idea, in a
        kernel).

    Example:
        >>> h, w = torch.zeros(3, 2), torch.zeros(4, 2)
        >>> round(float(linear_cross_entropy(h, w, torch.tensor([0, 1, -100]))), 4)    # 2 ln 4
        2.7726
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _Fused.apply(hidden, weight, targets)  # pyright: ignore[reportReturnType]
    return token_losses(hidden, weight, targets).sum()


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-ln softmax(hidden @ weight.T)[target] of every token, [n]; 0 where the target is -100. No gradient.

    Args:
        hidden, weight, targets: as in `linear_cross_entropy`.

    Example:
        >>> token_losses(torch.zeros(1, 2), torch.zeros(4, 2), torch.tensor([3]))
        tensor([1.3863])
    """
    losses = hidden.new_zeros(len(hidden), dtype=_wide(hidden))
    with torch.no_grad():
        for part in _chunks(hidden, weight):
            logits = (hidden[part] @ weight.T).to(losses.dtype)
            losses[part] = torch.nn.functional.cross_entropy(
                logits, targets[part], reduction="none", ignore_index=IGNORED
            )
    return losses


class _Fused(torch.autograd.Function):
    """Loss and gradient in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wide = _wide(hidden)
        total = hidden.new_zeros((), dtype=wide)
        to_hidden = torch.empty_like(hidden)
        # Sums over many chunks: in half precision small terms would be lost.
        to_weight = torch.zeros_like(weight, dtype=wide)
        parts = _chunks(hidden, weight)
        # On a GPU to ask would be to wait.
        some_ignored = hidden.is_cuda or bool((targets == IGNORED).any())
        room = torch.empty(
            parts[0].stop if parts else 0, len(weight), dtype=hidden.dtype, device=hidden.device
        )
        for part in parts:
            rows = hidden[part]
            kept = targets[part] != IGNORED
            target = torch.where(kept, targets[part], 0)[:, None]
            logits = torch.mm(rows, weight.T, out=room[: len(rows)]).to(wide)
            at_target = logits.gather(1, target)[:, 0]
            top = logits.amax(dim=1)
            share = torch.softmax(logits, dim=1, out=logits)
            # ln of the sum of exponentials: the largest share is exp(top) over that sum.
            losses = (top - at_target) - share.amax(dim=1).log()
            total += torch.where(kept, losses, 0).sum()
            share.scatter_add_(1, target, share.new_full(target.shape, -1.0))
            if some_ignored:
                share *= kept[:, None]
            grad = share.to(hidden.dtype)
            torch.mm(grad, weight, out=to_hidden[part])
            if wide == grad.dtype:
                to_weight.addmm_(grad.T, rows)
            else:
                to_weight += grad.T @ rows
        # Ours alone, and as large as the head: handed on as they are, not kept for a second time.
        ctx.grads = to_hidden, to_weight.to(weight.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        if ctx.grads is None:
            raise RuntimeError("linear_cross_entropy: its gradient was taken already; compute the loss again")
        to_hidden, to_weight = ctx.grads
        ctx.grads = None
        scale = grads[0]
        return to_hidden.mul_(scale), to_weight.mul_(scale), None


def _wide(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


def _chunks(hidden: Tensor, weight: Tensor) -> list[slice]:
    """Slices of the tokens, of even size, whose logits fit what is held at once."""
    tokens = len(hidden)
    most = max(1, _AT_ONCE.get(hidden.device.type, 2**26) // len(weight))
    count = max(1, -(-tokens // most))
    size = max(1, -(-tokens // count))
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]
