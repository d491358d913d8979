"""Hand-written models, right and wrong in one way each, and the naive way that all are held against."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evalsuite.requests import Requests

VOCABULARY = 48


class Bytes:
    """A tokenizer without transformers: a byte is an id, and 256 stands for an empty context."""

    bos_token_id = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class Toy(nn.Module):
    """A causal model: two layers of attention with learned positions, and a head.

    `forward(ids) -> logits`: no mask, no positions. What differs in the others is said where they are.
    """

    def __init__(self, seed: int = 0, vocabulary: int = VOCABULARY, d: int = 32, length: int = 512) -> None:
        super().__init__()
        self.max_seq_len = length
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(vocabulary, d)
            self.place = nn.Embedding(length, d)
            self.mix = nn.ModuleList(nn.Linear(d, 3 * d, bias=False) for _ in range(2))
            self.out = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in range(2))
            self.head = nn.Linear(d, vocabulary, bias=False)
            with torch.no_grad():
                for weight in [self.head.weight, *(one.weight for one in (*self.mix, *self.out))]:
                    weight.mul_(3.0)  # so that what a token sees is seen in the logits

    def hidden(
        self, ids: Tensor, masks: list[Tensor | None] | None = None, at: Tensor | None = None
    ) -> Tensor:
        t = ids.shape[1]
        at = torch.arange(t, device=ids.device)[None] if at is None else at
        x = self.embed(ids) + self.place(at)
        causal = torch.full((t, t), -torch.inf, dtype=x.dtype, device=ids.device).triu(1)
        for layer, (mix, out) in enumerate(zip(self.mix, self.out, strict=True)):
            q, k, v = mix(nn.functional.layer_norm(x, x.shape[-1:])).chunk(3, dim=-1)
            mask = masks[layer] if masks is not None else None
            score = q @ k.mT / q.shape[-1] ** 0.5 + (causal if mask is None else mask[:, 0])
            x = x + out(score.softmax(dim=-1) @ v)
        return nn.functional.layer_norm(x, x.shape[-1:])

    def forward(self, ids: Tensor) -> Any:
        return self.head(self.hidden(ids))


class ReturnsTuple(Toy):
    def forward(self, ids: Tensor) -> Any:
        return self.head(self.hidden(ids)), None


class ReturnsObject(Toy):
    def forward(self, ids: Tensor) -> Any:
        return SimpleNamespace(logits=self.head(self.hidden(ids)), loss=None)


class Masked(Toy):
    """Takes a mask and positions, and heeds both."""

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        return self.head(self.hidden(ids, [attention_mask, attention_mask], position_ids))


class IgnoresMask(Toy):
    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        return self.head(self.hidden(ids, None, position_ids))


class IgnoresPositions(Toy):
    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        return self.head(self.hidden(ids, [attention_mask, attention_mask]))


class HalfMasked(Toy):
    """The second layer sees all that came before."""

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        return self.head(self.hidden(ids, [attention_mask, None], position_ids))


class Leaks(Toy):
    """A ten-thousandth of what came before passes the mask."""

    part = 1e-4

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        x = self.hidden(ids, [attention_mask, attention_mask], position_ids)
        before = torch.cumsum(x, dim=1) / torch.arange(1, x.shape[1] + 1)[None, :, None].to(x)
        # Without a mask as well: the plain run is what it is held against.
        return self.head(x + self.part * before)


class RefusesMask(Toy):
    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        if attention_mask is not None:
            raise NotImplementedError("no masks here\nnor there")
        return self.head(self.hidden(ids, None, position_ids))


class SoftCapped(Masked):
    """Changes logits after its head."""

    cap = 5.0

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        return self.cap * torch.tanh(super().forward(ids, attention_mask, position_ids) / self.cap)


class RowWindow(Masked):
    """Each token sees the last 40 places of its row, whatever branch they stand in."""

    window = 40

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        t = ids.shape[1]
        lag = torch.arange(t)[:, None] - torch.arange(t)[None]
        near = (
            torch.zeros(t, t).masked_fill((lag < 0) | (lag >= self.window), -torch.inf).to(self.embed.weight)
        )
        mask = near[None, None] if attention_mask is None else attention_mask + near
        return self.head(self.hidden(ids, [mask, mask], position_ids))


class Breaks(Masked):
    """Not a number at the places of this id; others do not see it."""

    token = 7

    def hidden(
        self, ids: Tensor, masks: list[Tensor | None] | None = None, at: Tensor | None = None
    ) -> Tensor:
        return super().hidden(ids, masks, at).masked_fill((ids == self.token)[..., None], torch.nan)


class Forbids(Masked):
    """After its head, and only where this id was read, all ids are alike."""

    token = 7

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        logits = super().forward(ids, attention_mask, position_ids)
        return logits.masked_fill((ids == self.token)[..., None], 0.0)


class Noisy(Masked):
    """Draws from every source of chance, also in evaluation mode; dropout in training mode."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.drop = nn.Dropout(0.5)
        self.fails = False

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        torch.rand(3), np.random.rand(3), random.random()
        if self.fails:
            raise RuntimeError("broken on purpose")
        return self.head(self.drop(self.hidden(ids, [attention_mask, attention_mask], position_ids)))


class SeesBatch(Toy):
    """What it says of a row depends on the other rows: no mode can be right but one row at a time."""

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Any:
        x = self.hidden(ids, [attention_mask, attention_mask], position_ids)
        return self.head(x + 0.3 * x.mean(dim=(0, 1)))


class ForgetsCache(Masked):
    """Takes a cache and gives one back, and reads as if there were none."""

    def forward(
        self, ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None,
        past_key_values: Any = None, use_cache: bool = False,
    ) -> Any:  # fmt: skip
        mask = None if attention_mask is None else attention_mask[..., -ids.shape[1] :]
        logits = super().forward(ids, mask, position_ids)
        return SimpleNamespace(logits=logits, past_key_values=((torch.zeros(1, 1), torch.zeros(1, 1)),))


def questions(
    seed: int, items: int = 12, answers: int = 4, context: tuple[int, int] = (5, 30),
    answer: tuple[int, int] = (1, 5), shared: int = 0, vocabulary: int = VOCABULARY, max_length: int = 512,
) -> Requests:  # fmt: skip
    """Requests of random ids: `shared` ids that all begin with, a context per item, answers of its own.

    Some answers begin alike, some are alike, and some continue each other.
    """
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> np.ndarray:
        return rng.integers(0, vocabulary, rng.integers(low, high + 1)).astype(np.int32)

    start = ids(shared, shared)
    inputs, targets, owner, cut = [], [], [], []
    for i in range(items):
        before = np.concatenate([start, ids(*context)])
        last = ids(*answer)
        for _ in range(answers):
            own = ids(*answer)
            kind = rng.integers(4)
            scored = (own, np.concatenate([last[: len(last) // 2], own]), np.concatenate([last, own]), last)[
                kind
            ]
            last = scored[: answer[1] + 3]
            whole = np.concatenate([before, last])
            inputs.append(whole[-(max_length + 1) :][:-1])
            targets.append(last)
            owner.append(i)
            cut.append(len(whole) > max_length + 1)
    return Requests(inputs, targets, np.array(owner), np.array(cut), max_length)


def naive(model: nn.Module, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: each request alone through the model, log_softmax in float64, a sum."""
    ll, greedy = [], []
    with torch.no_grad():
        for ids, scored in zip(requests.inputs, requests.targets, strict=True):
            out = model(torch.from_numpy(ids.astype(np.int64))[None])
            out = getattr(out, "logits", out)
            logits = (out[0] if isinstance(out, tuple) else out)[0, -len(scored) :].double()
            target = torch.from_numpy(scored.astype(np.int64))
            chosen = logits.log_softmax(dim=-1).gather(1, target[:, None])
            ll.append(float(chosen.sum()))
            greedy.append(bool((logits.argmax(dim=-1) == target).all()))
    return np.array(ll), np.array(greedy)
