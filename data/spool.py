"""Texts laid aside on disk, packed, between the time they are read and the time they are encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LENGTH = 8  # bytes of the length before each text


@contextmanager
def spooling(path: Path) -> Iterator[Callable[[str], None]]:
    """Yield what writes a text to the end of a new file.

    Example:
        >>> with spooling(Path("texts.zst")) as put:            # doctest: +SKIP
        ...     put("a text")
    """
    import pyarrow

    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.CompressedOutputStream(file, "zstd") as packed:

        def put(text: str) -> None:
            content = text.encode()
            packed.write(len(content).to_bytes(_LENGTH, "little"))
            packed.write(content)

        yield put


def spooled(path: Path, wanted: NDArray[np.bool_]) -> Iterator[str]:
    """The texts of a file that are wanted, in order; one is in memory at a time.

    Args:
        path: what `spooling` wrote. wanted: whether each of its n texts is, [n].
    """
    import pyarrow

    with pyarrow.OSFile(str(path)) as file, pyarrow.CompressedInputStream(file, "zstd") as packed:
        for want in wanted.tolist():
            content = packed.read(int.from_bytes(packed.read(_LENGTH), "little"))
            if want:
                yield content.decode()
