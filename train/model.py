"""The decoder: RMSNorm, rotary positions, SwiGLU, normalised queries and keys.

Names of weights are those of the Qwen3 and Llama families, so that an exported checkpoint is the same tensors
(`train.export`). Shapes: b rows, t tokens, d width, h heads, k heads of keys and values, e width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scaling.errors import UsageError
from train.attention import attention
from train.norm import RMSNorm

Past = tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder.

    Attributes:
        vocab_size: ids it knows. width: of the residual stream, d. layers: blocks.
        heads, kv_heads: heads of queries, and of keys and values (fewer: grouped queries).
        head_width: of one head, even. hidden: inner width of the MLP.
        context_length: tokens it reads at most. rope_theta: base of the rotary angles.
        norm_eps: added under the root of each RMSNorm.
        qk_norm: queries and keys are normalised per head (Qwen3); without it a Llama.
        tied: the head is the embedding.

    Example:
        >>> ModelConfig(vocab_size=257, width=64, layers=2, heads=2, kv_heads=2, head_width=32, hidden=192,
        ...             context_length=128).tied
        True
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    context_length: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qk_norm: bool = True
    tied: bool = True

    def __post_init__(self) -> None:
        counts = (
            "vocab_size", "width", "layers", "heads", "kv_heads", "head_width", "hidden", "context_length",
        )  # fmt: skip
        for name in counts:
            if (value := getattr(self, name)) < 1:
                raise UsageError(f"model: {name} is {value}, valid is 1 or more")
        if self.heads % self.kv_heads:
            raise UsageError(
                f"model: heads is {self.heads} and kv_heads {self.kv_heads}; heads must be a multiple of them"
            )
        if self.head_width % 2:
            raise UsageError(f"model: head_width is {self.head_width}; rotary positions need an even one")


class Output(NamedTuple):
    """What a model gives: logits [b, t, v], and keys and values by layer where they were asked for."""

    logits: Tensor
    past_key_values: Past | None = None


class Attention(nn.Module):
    """Causal self-attention with rotary positions, and keys and values of fewer heads where so set."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, e = config.width, config.head_width
        self.head_width = e
        self.q_proj = nn.Linear(d, config.heads * e, bias=False)
        self.k_proj = nn.Linear(d, config.kv_heads * e, bias=False)
        self.v_proj = nn.Linear(d, config.kv_heads * e, bias=False)
        self.o_proj = nn.Linear(config.heads * e, d, bias=False)
        self.q_norm = RMSNorm(e, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(e, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
        keep: bool,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        b, t, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(b, t, -1, self.head_width))
        k = self.k_norm(self.k_proj(x).view(b, t, -1, self.head_width))
        v = self.v_proj(x).view(b, t, -1, self.head_width).transpose(1, 2)
        q, k = rotate(q, *angles).transpose(1, 2), rotate(k, *angles).transpose(1, 2)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        mixed = attention(q, k, v, mask)
        return self.o_proj(mixed.transpose(1, 2).reshape(b, t, -1)), (k, v) if keep else None


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)): SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and MLP, each added to what it reads after an RMSNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        mixed, kept = self.self_attn(self.input_layernorm(x), angles, mask, past, keep)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), kept


class Decoder(nn.Module):
    """Embedding, blocks and the last norm: everything below the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)


class Model(nn.Module):
    """A decoder and its head, called as models of `transformers` are.

    Args:
        config: its shape.
        recompute: throw activations of blocks away and compute them again on the way back (activation
            checkpointing): memory for a third more work.

    Example:
        >>> config = ModelConfig(vocab_size=257, width=64, layers=2, heads=2, kv_heads=2, head_width=32,
        ...                      hidden=192, context_length=128)
        >>> Model(config)(torch.zeros(1, 5, dtype=torch.long)).logits.shape
        torch.Size([1, 5, 257])
    """

    def __init__(self, config: ModelConfig, recompute: bool = False) -> None:
        super().__init__()
        self.config = config
        self.recompute = recompute
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos, sin = rotary(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Past | None = None,
        use_cache: bool = False,
    ) -> Output:
        """Logits of the next token at every place.

        Args:
            input_ids: [b, t].
            attention_mask: added to the attention scores, or true where a token is seen, in the shape
                [b or 1, h or 1, t, past + t]; causal where absent.
            position_ids: [b, t]; counted on from the past where absent.
            past_key_values: what an earlier call with `use_cache` returned.

        Raises:
            UsageError: a mask of another kind, more tokens than the context holds.
        """
        hidden, past = self.hidden(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        return Output(self.lm_head(self.model.norm(hidden)), past)

    def hidden(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Past | None = None,
        keep: bool = False,
    ) -> tuple[Tensor, Past | None]:
        """What the blocks give, before the last norm, [b, t, d]; and to `keep`, keys and values by layer."""
        t = input_ids.shape[1]
        before = past_key_values[0][0].shape[2] if past_key_values else 0
        if before + t > self.config.context_length:
            raise UsageError(
                f"model: given {before + t} tokens, it reads {self.config.context_length}; cut them"
            )
        if attention_mask is not None and attention_mask.dim() != 4:
            raise UsageError(
                f"model: attention_mask of shape {list(attention_mask.shape)}; valid is [batch, 1, tokens, "
                "past + tokens], added to the scores or true where a token is seen"
            )
        if before and attention_mask is None:
            seen = torch.ones(t, before + t, dtype=torch.bool, device=input_ids.device)
            attention_mask = seen.tril(before)[None, None]
        x = self.model.embed_tokens(input_ids)
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.to(x.dtype)
        angles = self.angles(before, t, position_ids)
        past = []
        for i, block in enumerate(self.model.layers):
            mine = past_key_values[i] if past_key_values else None
            if self.recompute and torch.is_grad_enabled():
                x, kept = checkpoint(block, x, angles, attention_mask, mine, keep, use_reentrant=False)  # pyright: ignore[reportGeneralTypeIssues]
            else:
                x, kept = block(x, angles, attention_mask, mine, keep)
            past.append(kept)
        return x, tuple(past) if keep else None

    def angles(self, before: int, t: int, position_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the places, [t, 1, e/2], or [b, t, 1, e/2] where places are given."""
        if position_ids is None:
            return self.cos[before : before + t, None], self.sin[before : before + t, None]  # pyright: ignore[reportIndexIssue]
        return self.cos[position_ids][:, :, None], self.sin[position_ids][:, :, None]  # pyright: ignore[reportIndexIssue]


def rotary(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin of place * theta^(-2i/e), each [context, e/2] (Su et al. 2021)."""
    e = config.head_width
    rate = config.rope_theta ** -(torch.arange(0, e, 2, dtype=torch.float64) / e)
    turn = torch.arange(config.context_length, dtype=torch.float64)[:, None] * rate
    return turn.cos().float(), turn.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + e/2) of a head by its angle, [b, t, h, e]."""
    one, two = x.chunk(2, dim=-1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1).type_as(x)


def initialise(model: nn.Module, layers: int, seed: int) -> None:
    """Normal weights of deviation 0.02, those that write to the residual stream divided by sqrt(2 layers).

    Source: Radford et al. 2019 (GPT-2). The same on any device and number of ranks: drawn on the CPU.
    """
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                deviation = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    deviation /= (2 * layers) ** 0.5
                weight.copy_(torch.randn(weight.shape, generator=chance) * deviation)
            else:
                weight.fill_(1.0)
