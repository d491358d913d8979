"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` when the body succeeds.

    A reader of `path` sees the old file or the new one, never half of either; when the body raises,
    the old file stays and the temporary one is removed.

    Args:
        path: the file to write. Missing parent folders are made.
        sync: wait until it is on the disk; without it, `synced` has to follow before the file is relied on.

    Yields:
        The path to write to, with the same suffix as `path`.

    Example:
        >>> with replacing("out.txt") as part:      # doctest: +SKIP
        ...     part.write_text("all of it")
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        if sync:
            synced(part)
        # mkstemp makes private files; a result is as readable as any file the user writes.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def synced(path: str | os.PathLike[str]) -> None:
    """Wait until a file is on the disk. After the first of many, the others cost little.

    Example:
        >>> synced("out.txt")                       # doctest: +SKIP
    """
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
