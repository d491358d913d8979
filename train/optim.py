"""Which optimiser takes which weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from train.config import OptimConfig
from train.muon import Muon


@dataclass(frozen=True)
class Optimisers:
    """The optimisers of a run, driven as one.

    Attributes:
        parts: AdamW, and Muon where it was chosen.

    Example:
        >>> optimisers(model, OptimConfig(name="muon")).set_rate(1e-3)      # doctest: +SKIP
    """

    parts: tuple[Optimizer, ...]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        """Move along the gradients."""
        for part in self.parts:
            part.step()

    def clear(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)


def optimisers(model: nn.Module, config: OptimConfig) -> Optimisers:
    """AdamW for all weights; with Muon, that for the matrices of the blocks.

    Weight decay goes to matrices alone, and not to embedding and head.
    """
    matrices: list[Tensor] = []
    tables: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, weight in model.named_parameters():
        table = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        (vectors if weight.dim() < 2 else tables if table else matrices).append(weight)
    plain = {"params": tables + vectors, "weight_decay": 0.0}
    decayed = {"params": matrices, "weight_decay": config.weight_decay}
    muon = config.name == "muon"
    # Sharded weights have a fused step on GPUs; on a CPU torch has it for plain tensors alone.
    sharded = any(hasattr(weight, "full_tensor") for weight in tables)
    fused = not (sharded and tables[0].device.type == "cpu")
    adam = AdamW(
        [plain] if muon else [decayed, plain],
        lr=config.lr or 1e-3, betas=(config.beta1, config.beta2), eps=config.eps, fused=fused,
    )  # fmt: skip
    if not muon:
        return Optimisers((adam,))
    return Optimisers((Muon(matrices, weight_decay=config.weight_decay, momentum=config.momentum), adam))
