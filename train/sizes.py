"""Shapes of a ladder of models, and what a shape costs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from scaling.errors import UsageError
from train.model import ModelConfig

# name: layers, width, heads. Named after the weights of their blocks, about 12 layers width^2; depth and
# width grow together. A head is 32 wide where a model is small, 64 from a width of 192 on, 128 in the
# largest.
PRESETS = {
    "0.01m": (1, 32, 1),
    "0.03m": (2, 32, 1),
    "0.1m": (2, 64, 2),
    "0.3m": (3, 96, 3),
    "0.8m": (4, 128, 4),
    "1.5m": (5, 160, 5),
    "2.7m": (6, 192, 3),
    "6m": (8, 256, 4),
    "14m": (8, 384, 6),
    "25m": (8, 512, 8),
    "60m": (12, 640, 10),
    "85m": (12, 768, 12),
    "300m": (24, 1024, 16),
    "1b": (20, 2048, 16),
}


def preset(name: str, **more: Any) -> ModelConfig:
    """The shape of a rung of the ladder.

    The MLP is 8/3 of the width wide, rounded up to a multiple of 32, so that a block has about 12 width^2
    weights.

    Args:
        name: of `PRESETS`. more: the other fields of `ModelConfig`, or fields to set otherwise.

    Raises:
        UsageError: no such preset.

    Example:
        >>> preset("2.7m", vocab_size=8192, context_length=256).hidden
        512
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"model: preset {name!r}: valid are {', '.join(PRESETS)}{hint}")
    layers, width, heads = PRESETS[name]
    shape = {
        "layers": layers, "width": width, "heads": heads, "kv_heads": more.get("heads", heads),
        "head_width": width // heads, "hidden": -(-8 * more.get("width", width) // 96) * 32,
    }  # fmt: skip
    return ModelConfig(**(shape | more))


@dataclass(frozen=True)
class Size:
    """What a shape costs; a multiplication and an addition are two FLOPs.

    Attributes:
        embedding, head: weights of the embedding, and of a head of its own (0 where tied).
        blocks: all other weights of the plain model. mtp: those of multi-token prediction.
        forward: FLOPs of the forward pass for each token: 2 for each weight of a matrix that it meets (the
            head, not the look-up of the embedding), and 2 products over the (length + 1) / 2 tokens it sees
            on average.
        length: of the rows.

    Example:
        >>> size_of(preset("2.7m", vocab_size=8192, context_length=256), 256).params
        4230336
    """

    embedding: int
    head: int
    blocks: int
    mtp: int
    forward: float
    length: int

    @property
    def params(self) -> int:
        """Weights of the plain model, N."""
        return self.embedding + self.head + self.blocks

    @property
    def training(self) -> float:
        """FLOPs of a training step for each token: the forward pass, and twice as much on the way back."""
        return 3 * self.forward

    @property
    def six_n(self) -> float:
        """6 N, what the rule of thumb says of `training`."""
        return 6.0 * self.params


def size_of(config: ModelConfig, length: int, depth: int = 0) -> Size:
    """Count the weights and FLOPs of a shape.

    Args:
        config: the shape. length: tokens of a row. depth: of multi-token prediction.

    Source: Kaplan et al. 2020, table 1; causal attention counted at the half that it computes.

    Example:
        >>> size = size_of(preset("2.7m", vocab_size=32768, context_length=256), 256)
        >>> round(size.training / size.six_n, 3)
        1.033
    """
    d, e = config.width, config.head_width
    matrices = d * e * 2 * (config.heads + config.kv_heads) + 3 * d * config.hidden
    norms = 2 * d + (2 * e if config.qk_norm else 0)
    table = config.vocab_size * d
    seen = 4 * config.heads * e * (length + 1) / 2
    block = 2 * matrices + seen
    deeper = 2 * (2 * d * d + table) + block
    return Size(
        embedding=table,
        head=0 if config.tied else table,
        blocks=config.layers * (matrices + norms) + d,
        mtp=depth * (matrices + norms + 2 * d * d + 3 * d),
        forward=config.layers * block + 2 * table + depth * deeper,
        length=length,
    )
