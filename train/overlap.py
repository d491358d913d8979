"""Training text that holds questions of a benchmark: found by what 13 words in a row they share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, repeat
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.errors import UsageError

if TYPE_CHECKING:
    from data.documents import Document
    from evalsuite.items import Item
    from evalsuite.tasks import Task

NGRAM = 13  # words in a row that text and a question may not share
SHORTEST = 8  # words; a question of fewer is found everywhere, so it cannot be tested
_WORD = re.compile(r"[^\W_]+")  # letters and digits; names_like_this are several words
_BLANK = re.compile(r"\s")
_PIECE = 2**22  # characters of a text in work at once
_SPARSE = 4  # bits by which the bitmap outgrows the number of keys: 1 place in 2^4 passes by chance
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the step of splitmix64, and an odd base

Words = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


def words_of(text: str) -> list[str]:
    """The words that count: runs of letters and digits, lower-cased.

    Example:
        >>> words_of("Don't call my_name(3.5)")
        ['don', 't', 'call', 'my', 'name', '3', '5']
    """
    return _WORD.findall(text.lower())


def item_texts(task: Task, item: Item) -> tuple[str, ...]:
    """A question with its right answer, as a model reads it; in both forms where it is scored in two."""
    whole = f"{item.context}{task.delimiter}{item.answer}"
    if not item.option_contexts:
        return (whole,)
    return whole, f"{item.option_contexts[item.gold]}{task.delimiter}{item.continuation}"


@dataclass(frozen=True, eq=False)
class Overlap:
    """What text may not share with benchmarks.

    A key is 13 words in a row of a question and its right answer, or a question of 8 to 12 words whole. Each
    key has a 64-bit polynomial hash; no two keys share one. A place of a text is looked up by the hash of its
    next 8 words, first in a bitmap; what passes by the hash of each length; and what is found is compared
    word by word: a text is never refused because two hashes agree.

    Source: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C (13 words, 8 at least).

    Attributes:
        tasks: names, sorted; `owner` counts in this order.
        sizes: one row per task: task, items, keys, untestable (items of fewer than 8 words).
        vocabulary: number of each word that stands in a key, from 1; other words are 0.
        stream: the questions as numbers of words, one after the other.
        hashes: of the keys, ascending, [k]. at: where each stands in `stream`. length: its words.
        first: where each key's tasks begin in `owner`, [k + 1]. owner: tasks of the keys.
        salt: which of the hash functions it is.

    Example:
        >>> overlap = Overlap.of(registry.task(name) for name in registry.names())   # doctest: +SKIP
        >>> overlap.hit("Where did Mary go? " + passage)                             # doctest: +SKIP
        'babi_qa1'
    """

    tasks: tuple[str, ...]
    sizes: pd.DataFrame = field(repr=False)
    vocabulary: Mapping[str, int] = field(repr=False)
    stream: Words = field(repr=False)
    hashes: Hashes = field(repr=False)
    at: Places = field(repr=False)
    length: Places = field(repr=False)
    first: Places = field(repr=False)
    owner: NDArray[np.int32] = field(repr=False)
    salt: int = field(repr=False)
    _refused: dict[tuple[str, str], list[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> Overlap:
        """The keys of tasks. Their order does not matter.

        Raises:
            UsageError: two tasks of one name.
        """
        tasks = sorted(tasks, key=lambda task: task.name)
        names = tuple(task.name for task in tasks)
        if twice := [one for one, other in pairwise(names) if one == other]:
            raise UsageError(f"task {twice[0]}: given twice; give each task once, or rename one of them")
        found: dict[str, int] = {}
        rows: list[Words] = []
        owners, untestable = [], np.zeros(len(tasks), dtype=np.int64)
        for number, task in enumerate(tasks):
            for item in task.items:
                texts = [words for words in map(words_of, item_texts(task, item)) if len(words) >= SHORTEST]
                untestable[number] += not texts
                owners += [number] * len(texts)
                for words in texts:
                    ids = [found.setdefault(word, len(found) + 1) for word in words]
                    rows.append(np.array(ids, np.int32))
        vocabulary, stream = _sorted(found, rows)
        start, length, owner = _keys(np.array([len(row) for row in rows], np.int64), np.array(owners, int))
        salt, hashes = _hashed(stream, start, length, len(vocabulary))
        hashes, key_at, key = np.unique(hashes, return_index=True, return_inverse=True)
        pairs = np.unique(key * max(len(tasks), 1) + owner)
        key, owner = np.divmod(pairs, max(len(tasks), 1))
        first = np.searchsorted(key, np.arange(len(hashes) + 1))
        sizes = pd.DataFrame(
            {
                "task": names,
                "items": [len(task.items) for task in tasks],
                "keys": np.bincount(owner, minlength=len(tasks)),
                "untestable": untestable,
            }
        )
        return cls(
            names, sizes, vocabulary, stream, hashes, start[key_at], length[key_at], first,
            owner.astype(np.int32), salt,
        )  # fmt: skip

    def hits(self, text: str) -> dict[str, int]:
        """How many keys of each task a text holds, most first; empty where it holds none.

        A key counts once however often it stands in the text, and for every task that has it.
        """
        if not len(self.hashes):
            return {}
        found = [keys for words in self._pieces(text) if len(keys := self._keys_in(words))]
        if not found:
            return {}
        keys = np.unique(np.concatenate(found))
        owners = np.concatenate([self.owner[self.first[key] : self.first[key + 1]] for key in keys])
        counts = np.bincount(owners, minlength=len(self.tasks))
        ranked = np.argsort(-counts, kind="stable")
        return {self.tasks[i]: int(counts[i]) for i in ranked if counts[i]}

    def hit(self, text: str) -> str | None:
        """The task of which a text holds most keys, of equals the first by name; None where it holds none."""
        return next(iter(self.hits(text)), None)

    def refuse(self, document: Document) -> str | None:
        """What a document holds, as `hit`; it is then counted as refused. A callback for `data.prepare`."""
        task = self.hit(document.text)
        if task is not None:
            refused = self._refused.setdefault((task, document.domain), [0, 0])
            refused[0] += 1
            refused[1] += len(document.text.encode())
        return task

    @property
    def counts(self) -> pd.DataFrame:
        """What was refused: task, domain, documents, bytes; a document stands with one task only."""
        rows = [(*key, *refused) for key, refused in sorted(self._refused.items())]
        return pd.DataFrame(rows, columns=["task", "domain", "documents", "bytes"])

    @property
    def untestable(self) -> dict[str, int]:
        """Items of each task that are too short to be tested."""
        return dict(zip(self.sizes["task"], self.sizes["untestable"].tolist(), strict=True))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of rule, keys and their tasks: equal where the same text is refused for the same tasks."""
        made = hashlib.sha256(f"{_WORD.pattern} {NGRAM} {SHORTEST}\n".encode())
        for words in (self.tasks, self.vocabulary):
            made.update("\n".join(words).encode() + b"\0")
        for array in (self.length, self.first, self.owner):
            made.update(array.astype("<i8").tobytes())
        for n in range(SHORTEST, NGRAM + 1):
            made.update(_windows(self.stream, self.at[self.length == n], n).astype("<i4").tobytes())
        return made.hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """One row per task: items, keys, untestable."""
        return self.sizes.copy()

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)

    @cached_property
    def _values(self) -> Hashes:
        return _values(len(self.vocabulary), self.salt)

    @cached_property
    def _heads(self) -> tuple[Hashes, NDArray[np.bool_], np.uint64]:
        """Hashes of what keys begin with, ascending; a bitmap of their leading bits; how many are left."""
        heads = np.unique(_eights(self._values[_windows(self.stream, self.at, SHORTEST)]))
        bits = len(heads).bit_length() + _SPARSE
        shift = np.uint64(64 - bits)
        bitmap = np.zeros(2**bits, dtype=bool)
        bitmap[heads >> shift] = True
        return heads, bitmap, shift

    @cached_property
    def _lengths(self) -> list[int]:
        return np.unique(self.length).tolist()

    def _pieces(self, text: str) -> Iterator[Words]:
        """A text as numbers of words, in pieces that overlap by a word less than a key."""
        known = self.vocabulary.get
        start, before = 0, np.zeros(0, np.int32)
        while start < len(text):
            # Cut at a blank: no word is halved, and lower-casing sees no further than that.
            blank = _BLANK.search(text, start + _PIECE)
            end = blank.start() if blank else len(text)
            words = words_of(text[start:end] if end - start < len(text) else text)
            ids = np.fromiter(map(known, words, repeat(0)), np.int32, len(words))
            before = np.concatenate([before[len(before) - min(len(before), NGRAM - 1) :], ids])
            if len(before) >= SHORTEST:
                yield before
            start = end

    def _keys_in(self, words: Words) -> Places:
        """The keys that stand in a piece of a text."""
        heads, bitmap, shift = self._heads
        hashes = _eights(self._values[words])
        places = np.flatnonzero(bitmap[hashes >> shift])
        places = places[_looked_up(heads, hashes[places])[1]]
        found = [np.zeros(0, np.int64)]
        for n in self._lengths if len(places) else ():
            windows = _windows(words, places[places + n <= len(words)], n)
            hashes = _polynomial(self._values[windows].T)
            key, same = _looked_up(self.hashes, hashes)
            same &= self.length[key] == n
            key, windows = key[same], windows[same]
            found.append(key[(_windows(self.stream, self.at[key], n) == windows).all(axis=1)])
        return np.concatenate(found)


def _sorted(found: Mapping[str, int], rows: list[Words]) -> tuple[dict[str, int], Words]:
    """Words numbered in their own order, so that the order of tasks and items leaves no trace."""
    words = sorted(found)
    rank = np.zeros(len(found) + 1, np.int32)
    rank[[found[word] for word in words]] = np.arange(1, len(words) + 1)
    stream = rank[np.concatenate(rows)] if rows else np.zeros(0, np.int32)
    return {word: i for i, word in enumerate(words, 1)}, stream


def _keys(sizes: Places, owners: Places) -> tuple[Places, Places, Places]:
    """Start, length and task of every key of texts of these sizes, one after the other; doubles stay."""
    keys = np.maximum(sizes - NGRAM, 0) + 1
    within = np.arange(keys.sum()) - np.repeat(np.cumsum(keys) - keys, keys)
    start = np.repeat(np.cumsum(sizes) - sizes, keys) + within
    return start, np.repeat(np.minimum(sizes, NGRAM), keys), np.repeat(owners, keys)


def _hashed(stream: Words, start: Places, length: Places, words: int) -> tuple[int, Hashes]:
    """The first salt under which no two keys share a hash, and the hash of every key."""
    hashes = np.zeros(len(start), np.uint64)
    salt = 0
    while True:
        values = _values(words, salt)
        for n in range(SHORTEST, NGRAM + 1):
            hashes[length == n] = _polynomial(values[_windows(stream, start[length == n], n)].T)
        _, chosen, key = np.unique(hashes, return_index=True, return_inverse=True)
        alike = chosen[key]  # of each key, the one that stands for its hash
        if (length == length[alike]).all() and all(
            np.array_equal(_windows(stream, start[mine], n), _windows(stream, start[alike[mine]], n))
            for n in range(SHORTEST, NGRAM + 1)
            for mine in [length == n]
        ):
            return salt, hashes
        salt += 1


def _values(words: int, salt: int) -> Hashes:
    """A number for each word, 0 included, that looks drawn at random (splitmix64)."""
    z = (np.arange(1, words + 2, dtype=np.uint64) + (np.uint64(salt) << np.uint64(32))) * _ODD
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _polynomial(columns: Iterable[Hashes]) -> Hashes:
    """Horner's rule modulo 2^64 over n columns; n itself comes first, so that lengths differ."""
    columns = list(columns)
    total = np.full(len(columns[0]), len(columns), np.uint64)
    for column in columns:
        total *= _ODD
        total += column
    return total


def _eights(values: Hashes) -> Hashes:
    """A hash of every 8 values in a row along the last axis, by doubling: [..., m] -> [..., m - 7]."""
    step, base = 1, int(_ODD)
    while step < SHORTEST:
        values = values[..., :-step] * np.uint64(base) + values[..., step:]
        step, base = 2 * step, base * base % 2**64
    return values


def _looked_up(table: Hashes, hashes: Hashes) -> tuple[Places, NDArray[np.bool_]]:
    """Where each hash stands in an ascending table of one at least, and whether it does."""
    at = np.searchsorted(table, hashes)
    at[at == len(table)] = 0
    return at, table[at] == hashes


def _windows(words: Words, at: Places, n: int) -> Words:
    """[len(at), n] words from each place on."""
    return words[at[:, None] + np.arange(n)]
