"""What is kept of the documents read, and which of them validate: none twice, none refused, none in both."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.documents import Document
from data.errors import DataError

Refuse = Callable[[Document], str | None]


@dataclass
class Counts:
    """Of one domain, in documents.

    Attributes:
        read: all. blank: without anything but white space. duplicates: whose text another one has.
        refused: what was hit -> documents. kept: the rest, training and validation.
    """

    read: int = 0
    blank: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    kept: int = 0


@dataclass(frozen=True)
class Sifted:
    """What a sieve kept of all documents.

    Attributes:
        domains: names, in order.
        domain: index into `domains` of every kept document, in the order of their first sight, [n].
        held_out: whether it validates, [n]. size: its bytes of UTF-8, [n].
        chance: a number in [0, 1) drawn from its text, from which samples are taken, [n].
        counts: domain -> how many were kept, and why the others were not.
    """

    domains: tuple[str, ...]
    domain: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    size: NDArray[np.int64]
    chance: NDArray[np.float64]
    counts: dict[str, Counts]

    def to_frame(self) -> pd.DataFrame:
        """One row a domain: documents read, blank, duplicates, refused, kept, held out."""
        rows = []
        for i, name in enumerate(self.domains):
            count = self.counts[name]
            rows.append(
                {
                    "domain": name, "read": count.read, "blank": count.blank, "duplicates": count.duplicates,
                    "refused": sum(count.refused.values()), "kept": count.kept,
                    "held_out": int(self.held_out[self.domain == i].sum()),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


class Sieve:
    """Takes documents one by one; says at the end which of them validate.

    Equal texts are kept once, wherever they stand. A document validates when a hash of its text, salted with
    the seed, falls below the share; in a domain of two documents or more at least one does and at least one
    does not. A domain with documents that are held out as a whole (`held_out` of a source) validates on
    those alone; where their text is found elsewhere too, it is kept there as theirs, not trained on. Nothing
    of this hangs on the order of the documents.

    Whole documents are held out, not books: chunks of one book may stand on both sides. Cut a book into
    documents only where that is of no matter, or hold out files of whole books (`held_out`).

    Memory: about 250 bytes a document.

    Args:
        held_out: share of the documents of each domain, in [0, 1); 0 holds out none.
        seed: of the split.
        refuse: given a document, what it must not hold (a benchmark item, for one), or None. Asked once of
            each text.

    Raises:
        DataError: a share that is none.

    Example:
        >>> sieve = Sieve(held_out=0.5)
        >>> [sieve.keep(Document(text, "maths", "here")) for text in ("1 + 1", "2 + 2", "1 + 1", " ")]
        [True, True, False, False]
        >>> int(sieve.sifted().held_out.sum())
        1
    """

    def __init__(self, *, held_out: float = 0.01, seed: int = 0, refuse: Refuse | None = None) -> None:
        if not (isinstance(held_out, int | float) and math.isfinite(held_out) and 0 <= held_out < 1):
            raise DataError(f"held_out: got {held_out!r}; valid is a share from 0 to below 1, such as 0.01")
        self.share, self.refuse = held_out, refuse
        self._salt = blake2b(f"stagewise split {seed}".encode()).digest()
        self._known: dict[bytes, int | str] = {}  # digest -> place of a kept document, or why refused
        self._names: dict[str, int] = {}
        self._counts: dict[str, Counts] = {}
        self._whole: set[str] = set()  # domains of sources that are held out
        self._domain, self._forced = array("i"), array("b")
        self._hash, self._chance, self._size = array("Q"), array("Q"), array("q")

    def __len__(self) -> int:
        """Documents kept so far."""
        return len(self._size)

    def keep(self, document: Document, *, held_out: bool = False) -> bool:
        """Whether a document is kept: not blank, not seen before, not refused.

        Args:
            document: the next one. held_out: whether its source is validation as a whole.
        """
        count = self._counts.setdefault(document.domain, Counts())
        count.read += 1
        if not document.text or document.text.isspace():
            count.blank += 1
            return False
        if held_out:
            self._whole.add(document.domain)
        digest = document.digest
        known = self._known.get(digest)
        if isinstance(known, int):
            self._again(known, document.domain, held_out)
            return False
        if known is None and self.refuse is not None:
            known = self.refuse(document)
        if known is not None:
            self._known[digest] = known
            count.refused[known] += 1
            return False
        self._known[digest] = len(self)
        self._domain.append(self._index(document.domain))
        self._forced.append(held_out)
        self._size.append(document.size)
        drawn = blake2b(digest, key=self._salt, digest_size=16).digest()
        self._hash.append(int.from_bytes(drawn[:8], "big"))
        self._chance.append(int.from_bytes(drawn[8:], "big"))
        return True

    def sifted(self) -> Sifted:
        """What was kept, and the split of it."""
        names = tuple(sorted(self._counts))
        order = {name: i for i, name in enumerate(names)}
        index = np.array([order[name] for name in self._names], dtype=np.int64)
        domain = index[np.array(self._domain, dtype=np.int64)] if len(self) else np.zeros(0, dtype=np.int64)
        forced = np.array(self._forced, dtype=bool)
        hashes = np.array(self._hash, dtype=np.uint64)
        held_out = forced.copy()
        for i, name in enumerate(names):
            mine = np.flatnonzero(domain == i)
            count = self._counts[name]
            count.kept = len(mine)
            count.duplicates = count.read - count.blank - sum(count.refused.values()) - count.kept
            if name not in self._whole:
                held_out[mine[self._by_hash(hashes[mine])]] = True
        # Other bits than the split's: what trains has no low hashes left to draw a sample by.
        chance = (np.array(self._chance, dtype=np.uint64) >> np.uint64(11)).astype(np.float64) / 2**53
        size = np.array(self._size, dtype=np.int64)
        return Sifted(names, domain, held_out, size, chance, dict(sorted(self._counts.items())))

    def _index(self, domain: str) -> int:
        return self._names.setdefault(domain, len(self._names))

    def _again(self, place: int, domain: str, held_out: bool) -> None:
        """A kept text once more. Whose it is must not hang on which copy came first."""
        forced = bool(self._forced[place])
        names = list(self._names)
        if (not held_out, domain) < (not forced, names[self._domain[place]]):
            self._domain[place] = self._index(domain)
            self._forced[place] = held_out

    def _by_hash(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which documents of a domain validate, [n]."""
        out = hashes < np.uint64(int(self.share * 2**64))
        if len(hashes) < 2 or self.share == 0:
            return np.zeros(len(hashes), dtype=bool)
        if not out.any():
            out[hashes.argmin()] = True
        if out.all():
            out[hashes.argmax()] = False
        return out
