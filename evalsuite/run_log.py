"""The log of a run: a JSON object per line, that a resumed run takes up without gap or repeat."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaling.console import plain
from scaling.errors import StagewiseError, UsageError
from scaling.files import replacing


class RunLog:
    """Appends records to a file of JSON lines.

    Every line is with the operating system when `append` returns, so a killed process loses none; `sync`
    brings them to the disk, as is due before a checkpoint is written. A line that a killed process left half
    written is cut off when the file is opened.

    Args:
        path: of the file. It and missing parents are made.

    Example:
        >>> with RunLog("runs/a/log.jsonl") as log:          # doctest: +SKIP
        ...     log.append({"step": 1, "kind": "train", "loss": 2.3})
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line.

        Args:
            record: with `step` (int) and `kind` (text). A number that is not finite is written as null.

        Raises:
            UsageError: a record without these. StagewiseError: it cannot be written, as on a full disk; the
                file then ends with the line before.
        """
        kept = plain(record)
        if problem := _problem(kept):
            raise UsageError(f"{self.path}: record {dict(record)!r:.200}: {problem}")
        line = (json.dumps(kept, allow_nan=False) + "\n").encode()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise StagewiseError(
                f"{self.path}: a line of step {kept['step']} could not be written: {error.strerror}; the "
                "lines before it stand: make room, and resume"
            ) from error
        self._size += len(line)

    def rewind(self, step: int) -> None:
        """Drop the lines of later steps, so that a run resumed after `step` writes each of them once.

        The rest is written beside and renamed: a kill leaves the old file or the new one.

        Raises:
            StagewiseError: a broken line, by its number; the file stays as it is.
        """
        self._file.close()
        try:
            with replacing(self.path) as part, open(part, "wb") as out:
                for record, line in _lines(self.path):
                    if record["step"] <= step:
                        out.write(line)
        finally:
            self._open()

    def sync(self) -> None:
        """Bring all lines to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        # Unbuffered: a buffer would keep what a full disk refused, and write it again after the next line.
        self._file = open(self.path, "a+b", buffering=0)
        self._size = _whole(self._file)
        self._file.truncate(self._size)


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a log, in its order, without a last line that is half written.

    Raises:
        StagewiseError: no such file, or a broken line, by its number.

    Example:
        >>> [line["loss"] for line in read("runs/a/log.jsonl") if line["kind"] == "train"]   # doctest: +SKIP
    """
    return [record for record, _ in _lines(Path(path))]


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Every whole line: its record, and its bytes."""
    try:
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                if not line.endswith(b"\n"):  # the last, and half written
                    return
                record: Any = None
                try:
                    record = json.loads(line, parse_constant=_no_number)
                    problem = _problem(record)
                except (ValueError, RecursionError) as error:
                    problem = f"not JSON ({error})"
                if problem:
                    raise StagewiseError(
                        f"{path}:{number}: {problem}; no run writes such a line: mend it, or delete it"
                    )
                yield record, line
    except FileNotFoundError as error:
        raise StagewiseError(f"{path}: no such file; give the log of a run") from error


def _problem(record: Any) -> str:
    """What is wrong with a record, in words; empty when nothing is."""
    if not isinstance(record, dict):
        return f"got {type(record).__name__}, valid is an object with step and kind"
    step, kind = record.get("step"), record.get("kind")
    if type(step) is not int or step < 0:
        return f"step {step!r}: valid is a whole number from 0"
    if not isinstance(kind, str) or not kind:
        return f"kind {kind!r}: valid is a text that names what the record is of"
    return ""


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _whole(handle: Any) -> int:
    """Where the last whole line of a file ends."""
    end = handle.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        handle.seek(start)
        found = handle.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
