"""Tokens on disk: a domain is one row of ids, cut into files of one size that are mapped into memory."""

from __future__ import annotations

import hashlib
import os
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.index import (
    AGAIN,
    Files,
    Index,
    check_ids,
    check_shards,
    digest_of,
    dtype_of,
    read_index,
    read_starts,
)

SHARD = 2**27  # tokens of a file: 256 MB of two bytes each
_MOST = 2**32  # ids that the widest of the two number formats holds


class ShardWriter:
    """Writes the documents of one domain, each followed by the end-of-document id.

    Used in a `with` block. The index is written last, when the block ends without an error: files without one
    are no data, and after an error there are none.

    Args:
        folder: where the files go; made where it is not there.
        domain: whose documents.
        size: ids of the tokenizer.
        eos: its end-of-document id; the last id where not given.
        digest: of the tokenizer; `Tokens.open` refuses another one.
        shard: tokens of a file.

    Attributes:
        tokens, documents: written so far, ends of documents among the tokens.

    Raises:
        DataError: the folder holds the domain already, or an argument is out of range.

    Example:
        >>> with ShardWriter("train", "prose", 257) as writer:      # doctest: +SKIP
        ...     writer.add(ids)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        domain: str,
        size: int,
        *,
        eos: int | None = None,
        digest: str = "",
        shard: int = SHARD,
    ) -> None:
        self.domain, self.size, self.digest, self.shard = domain, size, digest, shard
        self.eos = size - 1 if eos is None else eos
        if not 0 < size <= _MOST or not 0 <= self.eos < size or shard < 1:
            raise DataError(
                f"domain {domain!r}: got size {size}, eos {self.eos} and {shard} tokens a file; valid are a "
                f"size of 1..{_MOST}, an eos below it and at least one token a file"
            )
        self._files = Files(Path(folder), domain)
        self._dtype = dtype_of(size)
        self._file: BinaryIO | None = None
        self._made: list[Path] = []
        self._starts = array("q")
        self._digests: list[str] = []
        self._sum = hashlib.blake2b(digest_size=16)
        self.tokens = self.documents = 0
        if self._files.index.exists():
            raise DataError(
                f"{folder}: holds domain {domain!r} already; give a new folder, or delete this one"
            )
        Path(folder).mkdir(parents=True, exist_ok=True)

    def add(self, ids: Any) -> None:
        """Append a document.

        Args:
            ids: its token ids, without an end of document.

        Raises:
            DataError: an id that the tokenizer does not have, or no whole numbers; nothing was written.
        """
        found = np.asarray(ids)
        where = f"domain {self.domain!r}: document {self.documents}"
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            told = f"got {found.dtype} {list(found.shape)}, valid is a row of whole numbers"
            raise DataError(f"{where}: {told}; give the ids of one document")
        remedy = "encode it with the tokenizer of the data"
        check_ids(found, self.size, lambda at: f"{where}: place {at}", remedy)
        self._starts.append(self.tokens)
        row = np.empty(len(found) + 1, dtype=self._dtype)
        row[:-1], row[-1] = found, self.eos
        self.documents += 1
        while len(row):
            room = self.shard - self.tokens % self.shard
            part, row = row[:room], row[room:]
            self._write(part)
            self.tokens += len(part)
            if len(part) == room:
                self._end_shard()

    def close(self) -> None:
        """Write what is left, the document starts, and the index."""
        self._end_shard()
        starts = np.frombuffer(self._starts, dtype=np.int64).astype("<i8")
        self._made.append(self._files.starts)
        with open(self._files.starts, "wb") as handle:
            np.save(handle, starts)
            _sync(handle)
        index = Index(
            self.domain, self.size, self.eos, self._dtype.name, self.digest, self.tokens, self.documents,
            self.shard, self._digests, digest_of(starts),
        )  # fmt: skip
        part = self._files.index.with_name(f".{self._files.index.name}")
        self._made.append(part)
        with open(part, "wb") as handle:
            handle.write(index.text().encode("utf-8"))
            _sync(handle)
        os.replace(part, self._files.index)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind, *_: object) -> None:
        if kind is None:
            try:
                self.close()
            except BaseException:
                self._drop()
                raise
        else:
            self._drop()

    def _write(self, part: NDArray) -> None:
        if self._file is None:
            path = self._files.shard(len(self._digests))
            self._made.append(path)
            self._file = open(path, "wb")
        content = part.tobytes()
        self._file.write(content)
        self._sum.update(content)

    def _end_shard(self) -> None:
        if self._file is None:
            return
        _sync(self._file)
        self._file.close()
        self._digests.append(self._sum.hexdigest())
        self._file, self._sum = None, hashlib.blake2b(digest_size=16)

    def _drop(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk: closing writes what is left
                self._file.close()
        for path in self._made:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one domain, all documents in a row, each ended by the end-of-document id.

    Attributes:
        files: where they are. index: what they hold.
        starts: place of the first token of each document, int64, ascending.
    """

    files: Files
    index: Index
    starts: NDArray[np.int64] = field(repr=False)
    _maps: list[NDArray | None] = field(repr=False)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], domain: str, size: int | None = None, digest: str | None = None
    ) -> Tokens:
        """Open what a `ShardWriter` wrote.

        Args:
            folder, domain: as it was written.
            size, digest: of the tokenizer in use; compared where given.

        Raises:
            DataError: no index, one of another version, files that are not as it says, another tokenizer.
        """
        files = Files(Path(folder), domain)
        index = read_index(files)
        for what, got, want in (("ids", index.vocabulary, size), ("digest", index.tokenizer, digest)):
            if want is not None and got != want:
                raise DataError(
                    f"{folder}: domain {domain!r} was written with another tokenizer: {what} "
                    f"{got or 'unknown'}, the one in use has {want}; use the data's own, or {AGAIN}"
                )
        check_shards(files, index)
        return cls(files, index, read_starts(files, index), [None] * len(index.digests))

    @property
    def domain(self) -> str:
        return self.index.domain

    @property
    def digest(self) -> str:
        """SHA-256 of what is there, by the digests in the index; the files are not read."""
        return self.index.digest

    def __len__(self) -> int:
        return self.index.tokens

    def __reduce__(self):
        # A worker process maps the files itself; a map would be sent as a copy of the data.
        return Tokens.open, (self.files.folder, self.domain, self.index.vocabulary, self.index.tokenizer)

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        """The tokens at start .. start + length - 1, wherever files end.

        Raises:
            DataError: places that are not there, or an id beyond the vocabulary.
        """
        if start < 0 or length < 0 or start + length > self.index.tokens:
            raise DataError(
                f"{self.files.folder}: domain {self.domain!r}: asked for tokens "
                f"{start}..{start + length - 1}, there are {self.index.tokens}"
            )
        out = np.empty(length, dtype=np.int64)
        done = 0
        while done < length:
            number, place = divmod(start + done, self.index.shard)
            part = self._map(number)[place : place + length - done]
            out[done : done + len(part)] = part
            done += len(part)
        if length and out.max() >= self.index.vocabulary:
            remedy = f"the file is damaged; {AGAIN}"
            check_ids(out, self.index.vocabulary, lambda at: self._where(start + at), remedy)
        return out

    def verify(self) -> None:
        """Read every file and compare it with the digest in the index.

        Raises:
            DataError: the first file that is not what was written.
        """
        for i, digest in enumerate(self.index.digests):
            path = self.files.shard(i)
            found = hashlib.blake2b(digest_size=16)
            with open(path, "rb") as handle:
                while chunk := handle.read(2**24):
                    found.update(chunk)
            if found.hexdigest() != digest:
                raise DataError(f"{path}: is not what was written; copy it again, or {AGAIN}")
        if digest_of(self.starts) != self.index.starts:
            raise DataError(f"{self.files.starts}: is not what was written; copy it again, or {AGAIN}")

    def _map(self, number: int) -> NDArray:
        found = self._maps[number]
        if found is None:
            wanted = dtype_of(self.index.vocabulary)
            found = np.memmap(self.files.shard(number), dtype=wanted, mode="r").view(np.ndarray)
            self._maps[number] = found
        return found

    def _where(self, place: int) -> str:
        number, within = divmod(place, self.index.shard)
        return f"{self.files.shard(number)}: token {within}"


def _sync(handle: BinaryIO) -> None:
    handle.flush()
    os.fsync(handle.fileno())
