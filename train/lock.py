"""One run per folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scaling.errors import StagewiseError

LOCK = "run.lock"


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep every other run out of a folder while the body runs.

    The lock is the kernel's (flock on `run.lock`): it ends with the process, however that ends. The file
    stays and says nothing; only the lock does. Processes that were forked off the holder hold it too.

    Args:
        folder: of a run; made where it is missing.

    Raises:
        StagewiseError: another process holds it (which), or the file system has no locks.

    Example:
        >>> with locked("runs/a"):                           # doctest: +SKIP
        ...     train()
    """
    path = Path(folder) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            raise StagewiseError(
                f"{folder}: {_holder(handle.read())} runs in this folder; stop it, wait for it, or give "
                "another folder"
            ) from error
        except OSError as error:
            raise StagewiseError(
                f"{path}: cannot be locked ({error.strerror}); give a folder on a file system that has locks"
            ) from error
        handle.truncate(0)
        handle.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        handle.flush()
        try:
            yield
        finally:
            handle.truncate(0)


@contextmanager
def workplace(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder of a study, held as `locked` does; a temporary one where none is named.

    Example:
        >>> with workplace(None) as place:                   # doctest: +SKIP
        ...     train_into(place)
    """
    if folder is not None:
        with locked(folder):
            yield Path(folder).resolve()
        return
    with TemporaryDirectory(prefix="stagewise-") as made:
        yield Path(made)


def _holder(text: str) -> str:
    try:
        told = json.loads(text)
        return f"process {told['pid']} on {told['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # it holds the lock, and has not said yet who it is
