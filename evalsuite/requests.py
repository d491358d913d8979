"""What is asked of a model: token ids and which of them are scored, built once for every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evalsuite.encoding import Encoder, Ids
from evalsuite.items import Item
from evalsuite.likelihoods import Likelihoods
from evalsuite.tasks import Task
from scaling.errors import StagewiseError


@dataclass(frozen=True)
class Requests:
    """Sequences of tokens, each with a tail that is scored.

    Attributes:
        inputs: ids that the model reads, [r] arrays: context and answer without its last token.
        targets: ids that are scored, [r] arrays; the last len(targets) inputs predict them.
        owner: which item each request belongs to, ascending, [r]; requests of one item share a packed row.
        truncated: whether tokens were cut off at the left, [r].
        max_length: tokens that the model can read.
        plans: batches by how they are packed, filled by the scorer and used again for every checkpoint.

    Example:
        >>> Requests.build([("a b", " c"), ("a b", " d")], Encoder(tokenizer), 1024)      # doctest: +SKIP
    """

    inputs: list[Ids] = field(repr=False)
    targets: list[Ids] = field(repr=False)
    owner: NDArray[np.int64] = field(repr=False)
    truncated: NDArray[np.bool_] = field(repr=False)
    max_length: int
    plans: dict = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.inputs)

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Requests:
        """Several as one; their items stay apart."""
        starts = np.cumsum([0, *(int(part.owner[-1]) + 1 for part in parts)])
        owner = [part.owner + start for part, start in zip(parts, starts, strict=False)]
        return cls(
            [ids for part in parts for ids in part.inputs], [ids for part in parts for ids in part.targets],
            np.concatenate(owner), np.concatenate([part.truncated for part in parts]),
            max(part.max_length for part in parts),
        )  # fmt: skip

    def take(self, index: Sequence[int]) -> Requests:
        """Some of them, in ascending order."""
        keep = np.asarray(index, dtype=np.int64)
        return Requests(
            [self.inputs[i] for i in keep], [self.targets[i] for i in keep], self.owner[keep],
            self.truncated[keep], self.max_length,
        )  # fmt: skip

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest request; 0 where nothing is asked."""
        return max(map(len, self.inputs), default=0)

    @cached_property
    def largest_token(self) -> int:
        """The largest id that occurs."""
        return max(int(max(a.max(), b.max())) for a, b in zip(self.inputs, self.targets, strict=True))

    @classmethod
    def build(
        cls,
        pairs: Sequence[tuple[str, str]],
        encoder: Encoder,
        max_length: int,
        owner: NDArray[np.int64] | None = None,
        name: Sequence[str] | None = None,
    ) -> Requests:
        """Encode (context, continuation) pairs.

        A request of more than `max_length` + 1 tokens loses its first ones, as in lm-eval.

        Args:
            pairs: texts. encoder: of the model.
            max_length: tokens the model can read.
            owner: item of each pair, ascending; each its own where absent.
            name: what to call each pair in a message.

        Raises:
            StagewiseError: an answer of no tokens, or of more than the model can read.
        """
        inputs, targets, cut = [], [], np.zeros(len(pairs), dtype=bool)
        for number, (before, scored) in enumerate(encoder.pairs(pairs)):
            if not 0 < len(scored) <= max_length:
                what = "no token" if not len(scored) else f"{len(scored):,} tokens"
                called = name[number] if name else f"request {number}"
                raise StagewiseError(
                    f"{called}: the answer {pairs[number][1]!r:.60} is {what}, valid is 1 to {max_length:,} "
                    "(what the model can read); take the item out, or use another tokenizer or model"
                )
            whole = np.concatenate([before, scored])
            cut[number] = len(whole) > max_length + 1
            inputs.append(whole[-(max_length + 1) :][:-1])
            targets.append(scored)
        return cls(inputs, targets, np.arange(len(pairs)) if owner is None else owner, cut, max_length)


@dataclass(frozen=True)
class TaskRequests:
    """The requests of a task, and what is needed to read the answers.

    Attributes:
        blank: the result without its log-likelihoods. column: answer that each request scores, [r].
        requests: what is asked. gold_only: whether only the right answers are.

    Example:
        >>> TaskRequests.build(task, 0, encoder, 1024).requests       # doctest: +SKIP
    """

    blank: Likelihoods
    column: NDArray[np.int64] = field(repr=False)
    requests: Requests
    gold_only: bool

    @classmethod
    def build(
        cls, task: Task, shots: int | None, encoder: Encoder, max_length: int, *, gold_only: bool = False
    ) -> TaskRequests:
        """Put the items of a task as requests.

        Args:
            task: with the items to ask. shots: solved examples; None for what the task has.
            encoder, max_length: see `Requests.build`.
            gold_only: score the right answers alone: all that bits per byte needs.

        Raises:
            StagewiseError: a task that must not be scored, shots it has no examples for, an answer that no
                request can be made of.
        """
        if task.unsafe:
            raise StagewiseError(f"task {task.name}: not scored: {task.unsafe}")
        prefix = task.prompt(shots)
        asked = [_pairs(item, prefix, task.delimiter, gold_only) for item in task.items]
        owner = np.repeat(np.arange(len(asked)), [len(part) for part in asked])
        column = np.array([number for part in asked for number, *_ in part], dtype=np.int64)
        texts = [(context, continuation) for part in asked for _, context, continuation in part]
        names = [f"task {task.name}, item {task.items[i].id!r}" for i in owner]
        requests = Requests.build(texts, encoder, max_length, owner, names)
        blank = _blank(task, shots, asked, requests, owner, column)
        return cls(blank, column, requests, gold_only)


def _pairs(item: Item, prefix: str, delimiter: str, gold_only: bool) -> list[tuple[int, str, str]]:
    """Column, context and continuation of each request of an item."""
    if item.option_contexts:
        parts = [(context, item.continuation) for context in item.option_contexts]
    else:
        parts = [(item.context, choice) for choice in item.choices or (item.answer,)]
    # One choice of partial scoring says nothing about the answer's bytes either: the gold one is asked.
    kept = [max(item.gold, 0)] if gold_only else range(len(parts))
    return [(i, prefix + parts[i][0], delimiter + parts[i][1]) for i in kept]


def scored_bytes(continuation: str) -> int:
    """Bytes that bits per byte divides by: UTF-8, without one leading space.

    Example:
        >>> scored_bytes(" blue"), scored_bytes("    return x")
        (4, 11)
    """
    return len(continuation.removeprefix(" ").encode())


def _blank(
    task: Task, shots: int | None, asked: list[list[tuple[int, str, str]]], requests: Requests,
    owner: np.ndarray, column: np.ndarray,
) -> Likelihoods:  # fmt: skip
    n = len(task.items)
    counts = np.array([len(item.choices) for item in task.items], dtype=np.int64)
    shape = (n, max(1, int(counts.max(initial=1))))

    def table(values: list[int]) -> NDArray[np.int64]:
        out = np.zeros(shape, dtype=np.int64)
        out[owner, column] = values
        return out

    flat = [one for part in asked for one in part]
    items = task.items
    # Where contexts differ, what follows them is the same text: nothing is to be normalised.
    written = [
        items[i].continuation if items[i].option_contexts else (items[i].choices or (items[i].answer,))[c]
        for i, c in zip(owner, column, strict=True)
    ]
    truncated = np.zeros(n, dtype=bool)
    np.logical_or.at(truncated, owner, requests.truncated)
    shots = task.prefix_shots if shots is None and task.prefix else shots or 0
    return Likelihoods(
        task.name, shots, np.array([item.id for item in task.items], dtype=str),
        np.array([item.group for item in task.items], dtype=str),
        np.array([max(item.gold, 0) for item in task.items], dtype=np.int64), counts,
        np.full(shape, np.nan), table([len(ids) for ids in requests.targets]),
        table([scored_bytes(continuation) for _, _, continuation in flat]),
        table([len(text) for text in written]), table([len(text.encode()) for text in written]),
        np.zeros(shape, dtype=bool), truncated,
    )  # fmt: skip
