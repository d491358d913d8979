"""The index of a domain's token files: what they hold, their names, and whether they are what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError

FORMAT = 1
AGAIN = "prepare the data again"


@dataclass(frozen=True)
class Index:
    """What the files of a domain hold.

    Attributes:
        domain: whose tokens. vocabulary: ids of the tokenizer. eos: its end-of-document id.
        dtype: of an id on disk, little-endian. tokenizer: digest of the tokenizer, "" where nobody said.
        tokens, documents: in all files together. shard: tokens of each file but the last.
        digests: BLAKE2b-128 of each file. starts: that of the document starts.
    """

    domain: str
    vocabulary: int
    eos: int
    dtype: str
    tokenizer: str
    tokens: int
    documents: int
    shard: int
    digests: list[str]
    starts: str
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 of all it says, and so of the tokens."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def text(self) -> str:
        """The content of its file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def length(self, number: int) -> int:
        """Tokens of a file."""
        return min(self.shard, self.tokens - number * self.shard)


@dataclass(frozen=True)
class Files:
    """Where the files of a domain are in a folder.

    Raises:
        DataError: the domain's name is empty, or too long for a file.

    Example:
        >>> Files(Path("train"), "web/docs").shard(3).name
        'web%2Fdocs-00003.bin'
    """

    folder: Path
    domain: str

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= 200:
            raise DataError(f"domain {self.domain[:60]!r}: valid is a name of 1 to 200 letters; give another")

    @property
    def name(self) -> str:
        return quote(self.domain, safe=" ", errors="surrogatepass")

    @property
    def index(self) -> Path:
        return self.folder / f"{self.name}.index.json"

    @property
    def starts(self) -> Path:
        return self.folder / f"{self.name}.starts.npy"

    def shard(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:05d}.bin"


def dtype_of(size: int) -> np.dtype:
    """The number format of ids of a vocabulary on disk."""
    return np.dtype("<u2" if size <= 2**16 else "<u4")


def digest_of(starts: NDArray[np.int64]) -> str:
    """That of document starts, as the index keeps it."""
    return hashlib.blake2b(starts.astype("<i8").tobytes(), digest_size=16).hexdigest()


def check_ids(ids: NDArray, size: int, where: Callable[[int], str], remedy: str) -> None:
    """Refuse ids that a vocabulary does not have; `where` tells the place of one."""
    if not ids.size or (ids.max() < size and ids.min() >= 0):
        return
    at = int(np.flatnonzero((ids < 0) | (ids >= size))[0])
    valid = f"the vocabulary has {size} (valid is 0..{size - 1})"
    raise DataError(f"{where(at)}: id {ids[at]}, {valid}; {remedy}")


def read_index(files: Files) -> Index:
    """The index of a domain.

    Raises:
        DataError: there is none, it is of another version, or does not agree with itself.
    """
    path, domain = files.index, files.domain
    try:
        told = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        there = sorted(one.name.removesuffix(".index.json") for one in files.folder.glob("[!.]*.index.json"))
        has = f"it holds {', '.join(there)}" if there else "it holds no domain"
        raise DataError(
            f"{path}: missing, so domain {domain!r} is not there or was not finished ({has}); {AGAIN}"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({str(error)[:120]}); {AGAIN}") from error
    version = told.get("format") if isinstance(told, dict) else None
    if version != FORMAT:
        raise DataError(f"{path}: format {version!r}, this version reads {FORMAT}; {AGAIN}")
    kinds = {"int": int, "str": str, "list[str]": list}
    fields = Index.__dataclass_fields__
    wrong = sorted(set(told) ^ set(fields)) or [
        name for name, one in fields.items() if type(told[name]) is not kinds[str(one.type)]
    ]
    if wrong:
        raise DataError(f"{path}: {', '.join(wrong)}: missing, unknown or of another type; {AGAIN}")
    index = Index(**told)
    if index.domain != domain or index.tokens < 0 or index.shard < 1 or index.vocabulary < 1:
        raise DataError(f"{path}: is of domain {index.domain!r}, or its numbers are out of range; {AGAIN}")
    if index.dtype != dtype_of(index.vocabulary).name:
        valid = f"{dtype_of(index.vocabulary).name} for a vocabulary of {index.vocabulary}"
        raise DataError(f"{path}: got dtype {index.dtype!r}, valid is {valid}; {AGAIN}")
    if len(index.digests) != -(-index.tokens // index.shard):
        raise DataError(f"{path}: {index.tokens} tokens do not fill {len(index.digests)} files; {AGAIN}")
    return index


def check_shards(files: Files, index: Index) -> None:
    """Whether every file is there, as long as it should be; none is read.

    Raises:
        DataError: the first that is not.
    """
    for i in range(len(index.digests)):
        path = files.shard(i)
        wanted = index.length(i) * np.dtype(index.dtype).itemsize
        found = path.stat().st_size if path.is_file() else None
        if found != wanted:
            told = "is missing" if found is None else f"has {found:,} bytes, the index says {wanted:,}"
            raise DataError(f"{path}: {told}; copy it again, or {AGAIN}")


def read_starts(files: Files, index: Index) -> NDArray[np.int64]:
    """The place of the first token of each document.

    Raises:
        DataError: the file is not what the index says, or a document is longer than what is there.
    """
    path = files.starts
    try:
        starts = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({str(error)[:120]}); {AGAIN}") from error
    if starts.dtype != np.dtype("<i8") or starts.shape != (index.documents,):
        told = f"{starts.dtype} {list(starts.shape)}, the index says {index.documents} documents"
        raise DataError(f"{path}: {told}; {AGAIN}")
    starts = starts.view(np.ndarray)
    ends = np.append(starts[1:], index.tokens)
    short = np.flatnonzero(ends <= starts)
    if len(starts) and (starts[0] != 0 or len(short)):
        at = int(short[0]) if len(short) else 0
        raise DataError(
            f"{path}: document {at} goes from token {starts[at]} to {ends[at]}, there are {index.tokens}; "
            f"{AGAIN}"
        )
    return starts
