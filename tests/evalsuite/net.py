"""A network and a tokenizer as anybody writes them, that need nothing but torch."""

from __future__ import annotations

import torch
from torch import nn

VOCABULARY = 256


class Bytes:
    """A token for each byte of UTF-8."""

    bos_token_id = 0

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class Net(nn.Module):
    """A network as anybody writes one: ids [b, t] to logits [b, t, v], with dropout and a buffer."""

    def __init__(self, d: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, d)
        self.mix = nn.GRU(d, d, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(d, VOCABULARY)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1  # type: ignore[operator]
        return self.out(self.drop(self.mix(self.embed(ids))[0]))
