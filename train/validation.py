"""Bits per byte of held-out text, by domain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data.errors import DataError
from data.shards import Tokens
from data.tokenizer import Tokenizer
from train.distributed import World


@dataclass(frozen=True)
class Loss:
    """Surprise at the text of a domain.

    Attributes:
        bits: in all, over the tokens of text (ends of documents are no text). tokens, bytes: of that text.
    """

    bits: float
    tokens: int
    bytes: int

    @property
    def bpb(self) -> float:
        """Bits per byte: comparable between tokenizers."""
        return self.bits / self.bytes

    @property
    def nats(self) -> float:
        """Nats per token: what a cross-entropy says."""
        return self.bits * math.log(2) / self.tokens


class Validation:
    """The same windows of held-out text each time.

    A window has `context` + 1 tokens, one after the other from the beginning of a domain, up to `most`
    tokens; what is left over at the end makes a shorter last one. Each token is predicted once, but for the
    first of each domain.

    Args:
        tokens: held-out, by domain. tokenizer: tells how many bytes a token is.
        context: tokens the model reads. rows: of a forward pass. most: tokens of each domain.

    Raises:
        DataError: a domain of less than two tokens.

    Example:
        >>> held_out = prepared.tokens("validation")                                  # doctest: +SKIP
        >>> Validation(held_out, tokenizer, 256, 16, 65536).run(model)                # doctest: +SKIP
    """

    def __init__(
        self, tokens: Mapping[str, Tokens], tokenizer: Tokenizer, context: int, rows: int, most: int
    ) -> None:
        self.bytes = torch.from_numpy(np.asarray(tokenizer.bytes, dtype=np.int64))
        self.parts: list[tuple[str, list[np.ndarray]]] = []
        for name, one in sorted(tokens.items()):
            if len(one) < 2:
                raise DataError(
                    f"validation: domain {name!r} has {len(one)} tokens, valid is two or more; hold more of "
                    "it out"
                )
            ids = one.read(0, min(len(one), most + 1))
            if not self.bytes[ids[1:]].any():
                raise DataError(
                    f"validation: domain {name!r} has no text after its first token; hold more of it out"
                )
            whole = (len(ids) - 1) // context
            windows = [ids[i * context : i * context + context + 1] for i in range(whole)]
            batches = [np.stack(windows[i : i + rows]) for i in range(0, whole, rows)]
            if len(rest := ids[whole * context :]) > 1:
                batches.append(rest[None])
            self.parts.append((name, batches))

    def run(self, model: nn.Module, world: World | None = None) -> dict[str, Loss]:
        """The losses by domain, the same on every rank. The model is left in the mode it was in.

        Args:
            model: a `TrainedModel`, maybe spread. world: the ranks that share the work.
        """
        world = world or World()
        training = model.training
        model.eval()
        sums = torch.zeros(len(self.parts), 3, dtype=torch.float64, device=world.device)
        lengths = self.bytes.to(world.device)
        try:
            with torch.no_grad():
                for i, (_, batches) in enumerate(self.parts):
                    # Sharded weights are gathered in every pass: all ranks make equally many.
                    for start in range(0, len(batches), world.size):
                        mine = start + world.rank
                        ids = torch.from_numpy(batches[min(mine, len(batches) - 1)]).to(world.device)
                        told = _told(model(ids, losses="tokens"), lengths[ids[:, 1:]])
                        sums[i] += told if mine < len(batches) else 0
        finally:
            model.train(training)
        totals = world.sum(sums).cpu().tolist()
        return {
            name: Loss(nats / math.log(2), int(tokens), int(size))
            for (name, _), (nats, tokens, size) in zip(self.parts, totals, strict=True)
        }


def _told(losses: Tensor, lengths: Tensor) -> Tensor:
    """Nats, tokens and bytes of text."""
    text = lengths > 0
    return torch.stack([losses.double()[text].sum(), text.sum().double(), lengths.sum().double()])
