"""Greedy decoding, alone or with drafts of the modules of multi-token prediction (self-speculative).

Source:
    Leviathan et al. 2023, "Fast inference from transformers via speculative decoding"; Gloeckle et al. 2024,
    "Better & faster large language models via multi-token prediction"; DeepSeek-AI 2024, section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaling.errors import UsageError
from train.loss import IGNORED
from train.model import Model, Past
from train.mtp import MTPModule, TrainedModel, targets

_ROWS = 4  # whose logits are held at once


@dataclass(frozen=True)
class Decoded:
    """What a model went on with.

    Attributes:
        ids: after the prompt; the last may be `eos`.
        drafted: ids that the modules proposed. accepted: those that the main model gives itself.
        passes: of the main model, the one that read the prompt included.
    """

    ids: tuple[int, ...]
    drafted: int
    accepted: int
    passes: int

    @property
    def acceptance(self) -> float:
        """Accepted of drafted, 0..1; NaN where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        told = {"tokens": len(self.ids), "drafted": self.drafted, "accepted": self.accepted}
        return pd.DataFrame([{**told, "acceptance": self.acceptance, "passes": self.passes}])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def greedy(model: Model, prompt: Sequence[int], most: int, eos: int | None = None) -> Decoded:
    """The most likely id, again and again.

    Args:
        model: a `Model`. prompt: ids it begins with, one or more.
        most: ids to give. eos: id after which to stop.

    Raises:
        UsageError: no prompt, nothing to give, or more than the model's context holds.

    Example:
        >>> greedy(model, [5, 6, 7], most=3).passes                       # doctest: +SKIP
        3
    """
    return _decoded(model, prompt, most, eos, [])


def speculative(model: TrainedModel, prompt: Sequence[int], most: int, eos: int | None = None) -> Decoded:
    """The same ids as `greedy`, in fewer passes of the main model.

    Module k drafts the k-th id after the next one. The next pass of the main model reads all drafts at once,
    keeps them up to the first that it would not have given itself, and puts its own in that one's place.

    Args:
        model: with modules of multi-token prediction. prompt, most, eos: as for `greedy`.

    Raises:
        UsageError: a model without modules; otherwise as `greedy`.

    Example:
        >>> speculative(model, [5, 6, 7], most=64).acceptance             # doctest: +SKIP
        0.71
    """
    modules = _modules(model)
    return _decoded(model, prompt, most, eos, [_Module(model, k) for k in range(1, modules + 1)])


def acceptance(model: TrainedModel, ids: Tensor | NDArray[np.integer]) -> NDArray[np.float64]:
    """How often each module would draft what the main model gives, told on text instead of by decoding.

    Of all places of all rows, the share at which the most likely id of depth k is the main model's for that
    same token. The first depth is what decoding would accept at a place of that text; deeper ones read its
    tokens where decoding has drafts. Tokens beyond the end of a document are left out, as in training.

    Args:
        model: with modules of multi-token prediction. ids: rows of text, [b, t + 1].

    Returns:
        Shares by depth, 0..1, [depth]; NaN where no place is left.

    Raises:
        UsageError: a model without modules, rows too short for its depth or longer than its context.

    Example:
        >>> acceptance(model, batches.batch(0).ids).shape                 # doctest: +SKIP
        (1,)
    """
    depth = _modules(model)
    rows = torch.as_tensor(ids, device=model.lm_head.weight.device)
    if rows.dim() != 2 or rows.shape[1] < depth + 2:
        raise UsageError(
            f"acceptance: ids of shape {list(rows.shape)}, valid: [rows, tokens], {depth + 2} tokens or more"
        )
    agreed, places = np.zeros(depth), np.zeros(depth)
    with torch.inference_mode():
        for part in rows.split(_ROWS):
            hidden, _ = model.hidden(part[:, :-1])
            own = model.lm_head(model.model.norm(hidden)).argmax(-1)
            wanted = targets(part, depth, model.eos)
            for k, h in enumerate(model.drafts(part, hidden), 1):
                draft = model.lm_head(cast("MTPModule", model.mtp[k - 1]).norm(h)).argmax(-1)
                counts = wanted[k] != IGNORED
                agreed[k - 1] += int(((draft == own[:, k:]) & counts).sum())
                places[k - 1] += int(counts.sum())
    return np.divide(agreed, places, out=np.full(depth, np.nan), where=places > 0)


def _modules(model: TrainedModel) -> int:
    depth = len(model.mtp)
    if not depth:
        raise UsageError(
            "decode: the model has no modules of multi-token prediction; use greedy, or train with mtp.depth"
        )
    return depth


def _decoded(
    model: Model, prompt: Sequence[int], most: int, eos: int | None, modules: list[_Module]
) -> Decoded:
    """Draft, read the drafts, keep what the main model agrees with; without modules one id a pass."""
    context = model.config.context_length
    if len(prompt) < 1 or most < 1 or len(prompt) + most - 1 > context:
        raise UsageError(
            f"decode: a prompt of {len(prompt)} ids and {most} to give; valid is one or more of each, and "
            f"together up to {context + 1} (the model reads {context}, and need not read the last)"
        )
    ids, main = [int(one) for one in prompt], _Main(model)
    start, drafted, accepted, passes = len(ids), 0, 0, 0
    drafts: list[int] = []
    with torch.inference_mode():
        while True:
            own = main.read(ids + drafts)[-1 - len(drafts) :]
            kept = next((i for i, draft in enumerate(drafts) if draft != own[i]), len(drafts))
            given = own[: kept + 1]
            if eos is not None and eos in given:
                given = given[: given.index(eos) + 1]
            ids += given
            passes, drafted, accepted = passes + 1, drafted + len(drafts), accepted + min(kept, len(given))
            left = start + most - len(ids)
            if left <= 0 or (eos is not None and ids[-1] == eos):
                return Decoded(tuple(ids[start:]), drafted, accepted, passes)
            # All but the last id have been read; what was read of drafts that were refused is forgotten.
            main.cut(len(ids) - 1)
            drafts, below = [], main.hidden
            for module in modules[: left - 1]:  # the pass that reads them gives one more
                drafts.append(module.read(below, ids + drafts))
                below = module.hidden
            for k, module in enumerate(modules, 1):
                module.cut(max(0, len(ids) - k))  # later places have read drafts


class _Main:
    """The main model and what it has read: keys, values, and h [1, places, d] for the modules."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.past: Past | None = None
        self.hidden = model.lm_head.weight.new_zeros(1, 0, model.config.width)

    def read(self, ids: list[int]) -> list[int]:
        """The most likely next id at each place that was not read before."""
        new = torch.tensor([ids[self.hidden.shape[1] :]], device=self.hidden.device)
        hidden, self.past = self.model.hidden(new, past_key_values=self.past, keep=True)
        self.hidden = torch.cat((self.hidden, hidden), dim=1)
        return self.model.lm_head(self.model.model.norm(hidden))[0].argmax(-1).tolist()

    def cut(self, places: int) -> None:
        """Forget all after the first places."""
        self.hidden = self.hidden[:, :places]
        if self.past is not None:
            self.past = tuple((k[:, :, :places], v[:, :, :places]) for k, v in self.past)


class _Module:
    """Module k of multi-token prediction and what it has read, as `_Main`."""

    def __init__(self, model: TrainedModel, k: int) -> None:
        self.model, self.k = model, k
        self.past: tuple[Tensor, Tensor] | None = None
        self.hidden = model.lm_head.weight.new_zeros(1, 0, model.config.width)

    def read(self, below: Tensor, ids: list[int]) -> int:
        """A draft of the id after `ids`, from h of depth k - 1 and the k-th id after each place."""
        model, module = self.model, cast("MTPModule", self.model.mtp[self.k - 1])
        before, places = self.hidden.shape[1], below.shape[1]
        told = torch.tensor([ids[before + self.k : places + self.k]], device=below.device)
        joined = module.joined(below[:, before:], model.model.embed_tokens(told))
        seen = torch.ones(places - before, places, dtype=torch.bool, device=below.device).tril(before)
        angles = model.angles(before, places - before)
        hidden, self.past = module.block(joined, angles, seen[None, None], self.past, True)
        self.hidden = torch.cat((self.hidden, hidden), dim=1)
        return int(model.lm_head(module.norm(hidden[:, -1])).argmax())

    def cut(self, places: int) -> None:
        """Forget all after the first places."""
        self.hidden = self.hidden[:, :places]
        if self.past is not None:
            self.past = (self.past[0][:, :, :places], self.past[1][:, :, :places])
