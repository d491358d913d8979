"""Requests as few short rows: what several of them begin with is read once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalsuite.encoding import Ids
from evalsuite.requests import Requests

MIN_PREFIX = 8  # tokens common to all requests from which a cache of them pays
_MASK = 2**25  # entries of one batch's mask
_LOGITS = 2**25  # entries of one batch's logits
_CACHED = 16  # tokens of cache a batch may hold for each it reads
_NARROW = 0.9  # share of a batch's width below which a row starts a new one

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """A tree of requests laid out as one row of t tokens, depth first.

    A token sees itself and its ancestors: position j is an ancestor of i where j <= i < end[j], end[j] being
    where the subtree of j ends. The token at depth d has position d, in whatever branch it stands.

    Attributes:
        tokens, depth, end: [t].
        at: the place in the row that predicts each scored token, [k]. target: that token, [k].
        request: whose token it is, [k].
    """

    tokens: Array
    depth: Array
    end: Array
    at: Array
    target: Array
    request: Array

    @property
    def branched(self) -> bool:
        """Whether a token does not see all those before it."""
        return bool((self.end != len(self.tokens)).any())


@dataclass(frozen=True)
class Batch:
    """Rows of like length, padded at the right to [b, t]; a padding token sees itself alone.

    Attributes:
        tokens, depth, end: [b, t]. branched: whether a row needs its mask.
        places: flat index into [b, t] of every place that predicts something, each once, [s].
        pick: which of `places` predicts each scored token, ascending, [k]. target, request: as in `Row`, [k].
    """

    tokens: Array
    depth: Array
    end: Array
    branched: bool
    places: Array
    pick: Array
    target: Array
    request: Array

    @property
    def size(self) -> int:
        """Tokens, padding included."""
        return self.tokens.size

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches of half the rows; the scored tokens of the first come before those of the second."""
        width, middle = self.tokens.shape[1], len(self.tokens) // 2
        place = self.places[self.pick]
        cut = int(np.searchsorted(place, middle * width))
        parts = []
        for rows, mine in ((slice(0, middle), slice(0, cut)), (slice(middle, None), slice(cut, None))):
            places, pick = np.unique(place[mine] - (rows.start or 0) * width, return_inverse=True)
            arrays = self.tokens[rows], self.depth[rows], self.end[rows]
            scored = self.target[mine], self.request[mine]
            parts.append(Batch(*arrays, self.branched, places, pick, *scored))
        return parts[0], parts[1]


@dataclass(frozen=True)
class Plan:
    """All batches of some requests, longest rows first.

    Attributes:
        prefix: ids that every request begins with, read once; none where there is no such thing.
        batches: the rest of every request. tokens: of all requests, each read alone.

    Example:
        >>> plan = pack(requests, budget=4096)                    # doctest: +SKIP
        >>> plan.tokens / plan.read                               # doctest: +SKIP
        3.4
    """

    prefix: Array
    batches: tuple[Batch, ...] = field(repr=False)
    tokens: int

    @property
    def read(self) -> int:
        """Tokens that go through the model, padding included."""
        return len(self.prefix) + sum(batch.size for batch in self.batches)


def pack(
    requests: Requests,
    *,
    budget: int,
    vocabulary: int = 1,
    branching: bool = True,
    cached: bool = False,
    row_tokens: int = 0,
) -> Plan:
    """Lay out requests as batches of rows.

    Args:
        requests: what is asked.
        budget: tokens of a batch, padding included (one longer row is a batch of its own).
        vocabulary: logits per place; bounds the places of a batch.
        branching: whether the model takes a tree mask. Without one only requests that continue each other
            share a row.
        cached: whether the model continues from a cache of what all requests begin with.
        row_tokens: several items share a row up to this length: the common beginning is then read once a row.

    Returns:
        The plan. The same requests give the same plan, whatever reads it.
    """
    prefix = _common(requests) if cached else np.zeros(0, dtype=np.int64)
    if len(prefix) < MIN_PREFIX:
        prefix = prefix[:0]
    start = len(prefix)
    groups = _groups(requests, branching)
    if row_tokens and branching:
        groups = _joined(requests, groups, row_tokens)
    rows = [row for group in groups for row in _rows(requests, group, start, budget)]
    rows.sort(key=lambda row: (-len(row.tokens), row.request[0]))
    batches = tuple(_batch(part) for part in _batched(rows, budget, start, vocabulary))
    return Plan(prefix, batches, sum(map(len, requests.inputs)))


def _key(ids: Ids) -> bytes:
    """Bytes that sort as the ids do, a beginning before what continues it."""
    return ids.astype(">u4").tobytes()


def _overlap(one: np.ndarray, other: np.ndarray) -> int:
    """How many ids two sequences begin with together."""
    n = min(len(one), len(other))
    differ = np.flatnonzero(one[:n] != other[:n])
    return int(differ[0]) if len(differ) else n


def _common(requests: Requests) -> Array:
    """What all requests begin with, up to the first place at which one is scored."""
    first = requests.inputs[0]
    n = min(len(ids) - len(scored) for ids, scored in zip(requests.inputs, requests.targets, strict=True))
    for ids in requests.inputs:
        if n <= 0:
            break
        n = min(n, _overlap(first[:n], ids))
    # A lone request shares nothing.
    return first[: max(n, 0) if len(requests) > 1 else 0].astype(np.int64)


def _groups(requests: Requests, branching: bool) -> list[list[int]]:
    """Requests that share a row, each group in the order of its ids."""
    keys = [_key(ids) for ids in requests.inputs]
    order = sorted(range(len(keys)), key=lambda i: (requests.owner[i], keys[i]))
    groups: list[list[int]] = []
    for i in order:
        last = groups[-1][-1] if groups else -1
        together = last >= 0 and requests.owner[last] == requests.owner[i]
        if together and (branching or keys[i].startswith(keys[last])):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _joined(requests: Requests, groups: list[list[int]], row_tokens: int) -> list[list[int]]:
    """Groups of several items, while what they share leaves their row short enough."""
    joined: list[list[int]] = []
    length = 0
    for group in groups:
        whole = sum(len(requests.inputs[i]) for i in group)
        first = requests.inputs[joined[-1][0] if joined else group[0]]
        new = whole - sum(_overlap(first, requests.inputs[i]) for i in group)
        if joined and length + new <= row_tokens:
            joined[-1] += group
            length += new
        else:
            joined.append(list(group))
            length = whole
    for group in joined:
        group.sort(key=lambda i: _key(requests.inputs[i]))
    return joined


def _rows(requests: Requests, group: list[int], start: int, budget: int) -> Iterable[Row]:
    """One row, or several where it would exceed the budget."""
    row = _row(requests, group, start)
    if len(row.tokens) <= budget or len(group) == 1:
        return [row]
    half = len(group) // 2
    parts = group[:half], group[half:]
    return [one for part in parts for one in _rows(requests, part, start, budget)]


def _row(requests: Requests, group: list[int], start: int) -> Row:
    """The tree of sequences that come in order: each leaves the one before it where they differ."""
    longest = max(len(requests.inputs[i]) for i in group) - start
    path = np.zeros(longest, dtype=np.int64)  # the place of each depth on the way to the present leaf
    total = sum(len(requests.inputs[i]) - start for i in group)
    tokens, depth, end = (np.zeros(total, dtype=np.int64) for _ in range(3))
    at, target, request = [], [], []
    before = np.zeros(0, dtype=np.int32)
    t = 0
    for i in group:
        ids = requests.inputs[i][start:]
        shared = _overlap(before, ids)
        end[path[shared : len(before)]] = t
        new = len(ids) - shared
        path[shared : len(ids)] = np.arange(t, t + new)
        tokens[t : t + new] = ids[shared:]
        depth[t : t + new] = np.arange(start + shared, start + len(ids))
        t += new
        scored = requests.targets[i]
        at.append(path[len(ids) - len(scored) : len(ids)].copy())
        target.append(scored)
        request.append(np.full(len(scored), i))
        before = ids
    end[path[: len(before)]] = t
    return Row(
        tokens[:t], depth[:t], end[:t], np.concatenate(at), np.concatenate(target).astype(np.int64),
        np.concatenate(request),
    )  # fmt: skip


def _batched(rows: Sequence[Row], budget: int, start: int, vocabulary: int) -> Iterable[list[Row]]:
    """Rows, longest first, in batches that stay within every limit."""
    part: list[Row] = []
    places = 0
    for row in rows:
        width = len(part[0].tokens) if part else len(row.tokens)
        more = len(np.unique(row.at))
        count = len(part) + 1
        full = (
            count * width > budget
            or count * start > _CACHED * budget
            # Padding costs as tokens do; a call costs as a few hundred.
            or (len(row.tokens) < _NARROW * width and (count - 1) * width > budget / 4)
            or count * width * (width + start) > _MASK
            or (places + more) * vocabulary > _LOGITS
        )
        if part and full:
            yield part
            part, places = [], 0
        part.append(row)
        places += more
    if part:
        yield part


def _batch(rows: list[Row]) -> Batch:
    b, t = len(rows), max(len(row.tokens) for row in rows)
    tokens, depth = (np.zeros((b, t), dtype=np.int64) for _ in range(2))
    end = np.tile(np.arange(1, t + 1), (b, 1))
    for i, row in enumerate(rows):
        k = len(row.tokens)
        tokens[i, :k], depth[i, :k], end[i, :k] = row.tokens, row.depth, row.end
    flat = np.concatenate([i * t + row.at for i, row in enumerate(rows)])
    # Along a request places ascend, so its tokens stay in order.
    order = np.argsort(flat, kind="stable")
    places, pick = np.unique(flat[order], return_inverse=True)
    target, request = (
        np.concatenate([getattr(row, name) for row in rows])[order] for name in ("target", "request")
    )
    branched = any(row.branched for row in rows)
    return Batch(tokens, depth, end, branched, places, pick, target, request)
