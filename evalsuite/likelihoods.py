"""What a model said about the items of one task: a log-likelihood per answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.errors import StagewiseError

_LISTS = ("ll", "tokens", "bytes", "chars", "greedy")
_COLUMNS = ("item", "group", "gold", "n_choices", *_LISTS, "truncated")


@dataclass(frozen=True)
class Likelihoods:
    """Log-likelihoods of the answers to n items, with up to c choices each.

    Where an item has fewer than c answers, or where only the gold answer was scored, `ll` is NaN and the
    counts are 0. An item with a free answer has one answer, column 0.

    Attributes:
        task: our name. shots: solved examples before each item.
        ids: names of the items, [n]. groups: the part of the task each belongs to, or "", [n].
        gold: column of the right answer, [n]. n_choices: answers to choose from; 0 where free, [n].
        ll: ln p(answer | context), summed over its tokens, nats, [n, c].
        tokens: tokens of each answer, [n, c].
        bytes: UTF-8 bytes of what was scored, without one leading space: the project's one convention for
            bits per byte, [n, c].
        chars, choice_bytes: characters and UTF-8 bytes of the choice as the task writes it: what lm-eval
            divides by for `acc_norm` and `acc_bytes`, [n, c].
        greedy: whether every token of the answer is the model's most likely one, [n, c].
        truncated: whether context was cut off at the left to fit the model, [n].

    Example:
        >>> one = Likelihoods.of("t", 0, ["a"], [0], [[-1.0, -2.0]], [[3, 4]])
        >>> one.n_items, one.answered.tolist()
        (1, [[True, True]])
    """

    task: str
    shots: int | None
    ids: NDArray[np.str_]
    groups: NDArray[np.str_] = field(repr=False)
    gold: NDArray[np.int64] = field(repr=False)
    n_choices: NDArray[np.int64] = field(repr=False)
    ll: NDArray[np.float64] = field(repr=False)
    tokens: NDArray[np.int64] = field(repr=False)
    bytes: NDArray[np.int64] = field(repr=False)
    chars: NDArray[np.int64] = field(repr=False)
    choice_bytes: NDArray[np.int64] = field(repr=False)
    greedy: NDArray[np.bool_] = field(repr=False)
    truncated: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, task: str, shots: int | None, ids, gold, ll, size, *, free: bool = False) -> Likelihoods:
        """From log-likelihoods and sizes alone: bytes and characters alike, one token an answer."""
        ll, size = np.asarray(ll, dtype=float), np.asarray(size, dtype=np.int64)
        n = len(ll)
        there = np.isfinite(ll)
        count = np.zeros(n, dtype=np.int64) if free else there.sum(axis=1)
        return cls(
            task, shots, np.asarray(ids, dtype=str), np.full(n, ""), np.asarray(gold, dtype=np.int64), count,
            ll, there.astype(np.int64), size, size, size, np.zeros(ll.shape, dtype=bool),
            np.zeros(n, dtype=bool),
        )  # fmt: skip

    @property
    def n_items(self) -> int:
        return len(self.ids)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which answers were scored, [n, c]."""
        return self.tokens > 0

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """Items whose every choice was scored, [n]; none with a free answer."""
        return (self.n_choices > 1) & (self.answered.sum(axis=1) == self.n_choices)

    def gold_of(self, values: np.ndarray) -> np.ndarray:
        """The right answer's entry of an array [n, c], [n]."""
        return np.take_along_axis(values, self.gold[:, None], axis=1)[:, 0]

    def to_frame(self) -> pd.DataFrame:
        """One row per item; per answer quantities as lists."""
        width = np.maximum(self.n_choices, 1)
        lists = {
            name: [row[:k].tolist() for row, k in zip(getattr(self, name), width, strict=True)]
            for name in (*_LISTS, "choice_bytes")
        }
        return pd.DataFrame(
            {
                "item": self.ids, "group": self.groups, "gold": self.gold, "n_choices": self.n_choices,
                **lists, "truncated": self.truncated,
            }
        )  # fmt: skip

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, task: str, shots: int | None) -> Likelihoods:
        """The inverse of `to_frame`.

        Raises:
            StagewiseError: a missing column, or lists of unequal length in one row.
        """
        missing = [name for name in (*_COLUMNS, "choice_bytes") if name not in frame.columns]
        if missing:
            raise StagewiseError(f"items of {task}: missing column(s) {', '.join(missing)}")
        count = frame["n_choices"].to_numpy(dtype=np.int64)
        width = np.maximum(count, 1)
        c = int(width.max(initial=1))

        def padded(name: str, fill: Any) -> np.ndarray:
            out = np.full((len(frame), c), fill)
            for row, (values, k) in enumerate(zip(frame[name], width, strict=True)):
                if len(values) != k:
                    where = f"items of {task}, item {frame['item'].iloc[row]!r}, {name}"
                    raise StagewiseError(f"{where}: got {len(values)} value(s), valid is {k}")
                out[row, :k] = [np.nan if value is None else value for value in values]
            return out

        return cls(
            task, shots, frame["item"].to_numpy(dtype=str), frame["group"].fillna("").to_numpy(dtype=str),
            frame["gold"].to_numpy(dtype=np.int64), count, padded("ll", np.nan), padded("tokens", 0),
            padded("bytes", 0), padded("chars", 0), padded("choice_bytes", 0), padded("greedy", False),
            frame["truncated"].to_numpy(dtype=bool),
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.to_frame().head(10).to_html(index=False)
