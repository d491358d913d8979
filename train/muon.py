"""Muon: momentum whose direction is made orthogonal, for the matrices of the blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_A, _B, _C = 3.4445, -4.7750, 2.0315  # of the quintic that pushes singular values towards 1
_STEPS = 5


class Muon(Optimizer):
    """w <- (1 - lr decay) w - lr 0.2 sqrt(max(rows, columns)) O.

    O is the orthogonal part of the Nesterov momentum. The factor makes the step as long as one of AdamW
    usually is, so that one learning rate serves both. Torch has the same optimiser from 2.9 on, which works
    in bfloat16, matrix by matrix: right for a GPU, and some ten times slower than float32 on a CPU without
    such units. This one works in float32 on a CPU, on all matrices of one shape at once.

    Args:
        params: matrices, dense or sharded (each rank makes the whole of it orthogonal, and keeps its shard).
        lr, weight_decay, momentum: as in torch.

    Source:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu et al. 2025,
        "Muon is scalable for LLM training" (the factor).

    Example:
        >>> weight = torch.nn.Parameter(torch.eye(2))
        >>> weight.grad = torch.eye(2)
        >>> Muon([weight], lr=0.1).step()
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                buffer = state["momentum_buffer"]
                buffer.lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(buffer, group["momentum"])
                alike[tuple(weight.shape)].append((weight, direction))
            for shape, pairs in alike.items():
                whole = torch.stack([_whole(direction) for _, direction in pairs])
                turned = orthogonal(whole)
                rate = -group["lr"] * 0.2 * max(shape) ** 0.5
                for (weight, _), update in zip(pairs, turned, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(_shard(update.to(weight.dtype), weight), alpha=rate)
        return loss


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the singular vectors of these and singular values near 1, [n, rows, columns].

    Newton-Schulz: X <- a X + (b A + c A^2) X with A = X X^T, five times, after division by the norm. Singular
    values end between about 0.7 and 1.2.

    Example:
        >>> values = torch.linalg.svdvals(orthogonal(torch.diag(torch.tensor([1.0, 0.1]))[None]))
        >>> bool(((values > 0.6) & (values < 1.3)).all())
        True
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


def _whole(tensor: Tensor) -> Tensor:
    full = getattr(tensor, "full_tensor", None)
    return full() if full is not None else tensor


def _shard(update: Tensor, like: Tensor) -> Tensor:
    """The part of an update that this rank holds of a weight."""
    if not hasattr(like, "full_tensor"):
        return update
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(update.contiguous(), like.device_mesh, like.placements)  # pyright: ignore[reportAttributeAccessIssue]
