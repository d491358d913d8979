"""Lines of files, packed or not, in pieces: no file is held in memory."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from data.errors import DataError

PACKED = (".gz", ".zst")
_CHUNK = 2**20  # bytes read at a time
_LONGEST = 2**28  # bytes of one line; a file without line ends is no JSONL


def suffix(path: Path) -> str:
    """The suffix of a file, of what is inside where it is packed.

    Example:
        >>> suffix(Path("c4.00.json.gz"))
        '.json'
    """
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return os.path.splitext(name)[1]


def pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked, in order.

    Raises:
        DataError: it cannot be read, or is broken or cut short.
    """
    with _opened(path) as handle:
        while True:
            try:
                piece = handle.read(_CHUNK)
            except (EOFError, OSError, zlib.error) as error:
                raise DataError(
                    f"{path}: broken or cut short ({error}); valid is a whole {path.suffix or 'file'}. "
                    "Fetch or write it again"
                ) from error
            if not piece:
                return
            yield piece


def lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    r"""Of every line: its number from 1, the place of its first byte, its bytes without `\n`.

    Raises:
        DataError: as `pieces`; a line of more than 256 MiB.

    Example:
        >>> list(lines(Path("two.txt")))                # doctest: +SKIP
        [(1, 0, b'one'), (2, 4, b'two')]
    """
    number, start = 1, 0
    begun: list[bytes] = []
    held = 0
    for piece in pieces(path):
        *whole, rest = piece.split(b"\n")  # JSON texts may hold the other line ends of Unicode
        for line in whole:
            if begun:
                line = b"".join([*begun, line])
                begun, held = [], 0
            yield number, start, line
            number, start = number + 1, start + len(line) + 1
        if rest:
            begun.append(rest)
            held += len(rest)
        if held > _LONGEST:
            raise DataError(
                f"{path}:{number}: a line of more than {_LONGEST:,} bytes; valid is one JSON object a line"
            )
    if begun:
        yield number, start, b"".join(begun)


def decoded(data: bytes, path: Path, number: int = 1, start: int = 0) -> str:
    """Bytes as text; `number` and `start` say at which line and byte of the file they begin.

    Raises:
        DataError: they are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = number + data.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}:{line}: not UTF-8 ({error.reason}) at byte {start + error.start:,} of the text; "
            "write the file as UTF-8, or set drop_bad to leave such documents out"
        ) from error


def _opened(path: Path) -> IO[bytes]:
    kind = path.suffix.lower()
    try:
        if kind == ".gz":
            return gzip.open(path)  # type: ignore[return-value]
        if kind == ".zst":
            import pyarrow

            return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
