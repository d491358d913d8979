"""Multi-token prediction as in DeepSeek-V3, and the model together with the losses it is trained on.

Source: DeepSeek-AI 2024, "DeepSeek-V3 technical report", section 2.2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from scaling.errors import UsageError
from train.loss import IGNORED, linear_cross_entropy, token_losses
from train.model import Block, Model, ModelConfig, Output, Past
from train.norm import RMSNorm


class MTPModule(nn.Module):
    """One further depth of prediction: h' = M [RMSNorm(h); RMSNorm(Emb(t))], and a block over h'.

    At depth k and place i it reads h of depth k-1 (depth 0: the main model's, before its last norm) and the
    embedding of token i+k, and its output predicts token i+k+1 through the head of the main model. Embedding
    and head belong to the main model; the projection M [d, 2d], the block and three norms are its own.

    Example:
        >>> config = ModelConfig(vocab_size=9, width=8, layers=1, heads=2, kv_heads=2, head_width=4,
        ...                      hidden=16, context_length=4)
        >>> h, e = torch.zeros(1, 4, 8), torch.zeros(1, 4, 8)
        >>> MTPModule(config)(h, e, Model(config).angles(0, 4)).shape
        torch.Size([1, 4, 8])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hidden_norm = RMSNorm(config.width, config.norm_eps)
        self.embedding_norm = RMSNorm(config.width, config.norm_eps)
        self.projection = nn.Linear(2 * config.width, config.width, bias=False)
        self.block = Block(config)
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(self, hidden: Tensor, embedded: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """From h and embeddings, both [b, t, d], the h of this depth; `norm` of it is what the head reads."""
        return self.block(self.joined(hidden, embedded), angles)[0]

    def joined(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        """h' = M [RMSNorm(h); RMSNorm(Emb(t))], [b, t, d]: what the block reads."""
        return self.projection(torch.cat((self.hidden_norm(hidden), self.embedding_norm(embedded)), dim=-1))


class TrainedModel(Model):
    """A model that also gives its losses, with the modules of multi-token prediction while it is trained.

    Called without `losses` it is the plain model. Rows for losses have one token more than the model reads:
    depth 0 predicts tokens 1..t from tokens 0..t-1, depth k tokens k+1..t, as far as the row goes. A token
    beyond the end of the document that place i lies in is no target of a deeper depth (depth 0 keeps the
    first token of a document as the target of the end mark before it).

    Args:
        config, recompute: as for `Model`. depth: of multi-token prediction, 0 for none.
        eos: id that ends a document; None where rows hold one document each.

    Example:
        >>> config = ModelConfig(vocab_size=9, width=8, layers=1, heads=2, kv_heads=2, head_width=4,
        ...                      hidden=16, context_length=4)
        >>> TrainedModel(config, depth=2)(torch.zeros(1, 5, dtype=torch.long), losses="sums").shape
        torch.Size([3])
    """

    def __init__(
        self, config: ModelConfig, depth: int = 0, eos: int | None = None, recompute: bool = False
    ) -> None:
        super().__init__(config, recompute)
        if not 0 <= depth < config.context_length:
            raise UsageError(
                f"mtp: depth is {depth}, valid is 0 to {config.context_length - 1} (context_length - 1)"
            )
        self.eos = eos
        self.mtp = nn.ModuleList(MTPModule(config) for _ in range(depth))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Past | None = None,
        use_cache: bool = False,
        losses: Literal["sums", "tokens"] | None = None,
    ) -> Output | Tensor:
        """Logits as `Model` gives them; or, of rows [b, t + 1], losses in nats.

        Args:
            losses: `sums` for the sum over targets by depth, [1 + depth], to be divided by `target_counts`;
                `tokens` for those of depth 0 by token, [b, t].
        """
        if losses is None:
            return super().forward(input_ids, attention_mask, position_ids, past_key_values, use_cache)
        hidden, _ = self.hidden(input_ids[:, :-1])
        head = self.lm_head.weight
        if losses == "tokens":
            each = token_losses(self.model.norm(hidden).flatten(0, 1), head, input_ids[:, 1:].flatten())
            return each.view(len(input_ids), -1)
        wanted = targets(input_ids, len(self.mtp), self.eos)
        sums = [linear_cross_entropy(self.model.norm(hidden).flatten(0, 1), head, wanted[0].flatten())]
        for h, target, module in zip(self.drafts(input_ids, hidden), wanted[1:], self.mtp, strict=True):
            sums.append(linear_cross_entropy(module.norm(h).flatten(0, 1), head, target.flatten()))  # pyright: ignore[reportCallIssue]
        return torch.stack(sums)

    def drafts(self, input_ids: Tensor, hidden: Tensor) -> list[Tensor]:
        """h of each depth k = 1, 2, ...: [b, t - k, d].

        Args:
            input_ids: [b, t + 1]. hidden: the main model's, [b, t, d].
        """
        found = []
        for k, module in enumerate(self.mtp, 1):
            places = input_ids.shape[1] - 1 - k
            embedded = self.model.embed_tokens(input_ids[:, k : k + places])
            hidden = module(hidden[:, :places], embedded, self.angles(0, places))
            found.append(hidden)
        return found

    def plain(self) -> dict[str, Tensor]:
        """The weights of the plain model: none of multi-token prediction, a tied head not repeated."""
        return {name: p.detach() for name, p in self.named_parameters() if not name.startswith("mtp.")}


def targets(input_ids: Tensor, depth: int, eos: int | None) -> list[Tensor]:
    """What each depth has to predict, -100 where the document ended before it.

    Args:
        input_ids: [b, t + 1]. depth: of multi-token prediction. eos: id that ends a document.

    Returns:
        For k = 0..depth the ids [b, t - k]: at place i token i+k+1, if none of tokens i+1..i+k is `eos`.

    Example:
        >>> [one.tolist() for one in targets(torch.tensor([[5, 0, 7, 8]]), 1, eos=0)]
        [[[0, 7, 8]], [[-100, 8]]]
    """
    found = [input_ids[:, 1:]]
    ended = torch.zeros_like(found[0], dtype=torch.bool)
    for k in range(1, depth + 1):
        ended = ended[:, :-1]
        if eos is not None:
            ended = ended | (input_ids[:, k:-1] == eos)
        found.append(input_ids[:, 1 + k :].masked_fill(ended, IGNORED))
    return found


def target_counts(input_ids: Tensor, depth: int, eos: int | None) -> Tensor:
    """How many targets each depth has in these rows, at least 1, [1 + depth] float64.

    Example:
        >>> target_counts(torch.tensor([[5, 0, 7, 8]]), 1, eos=0)
        tensor([3., 1.], dtype=torch.float64)
    """
    counts = [(one != IGNORED).sum() for one in targets(input_ids, depth, eos)]
    return torch.stack(counts).clamp(min=1).double()
