"""One file that may hold scores, looked at through a bounded head before anything is loaded."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.errors import StagewiseError

HEAD_BYTES = 1 << 20  # what is read to recognise a format; a header line must end within it
JSON_LIMIT = 256 << 20  # a larger JSON document is refused before it is loaded
LINE_LIMIT = 16 << 20  # the same for one line of JSON lines


@dataclass
class Candidate:
    """A file, and the few views of it that readers ask for (each made once).

    Attributes:
        path: where the bytes are now.
        name: what to call it in messages: the path the user gave, or archive and member.
        inside: the path below the folder or archive the user gave, with forward slashes.

    Example:
        >>> Candidate(Path("scores.csv"), "scores.csv", "scores.csv").name
        'scores.csv'
    """

    path: Path
    name: str
    inside: str

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first `HEAD_BYTES` bytes."""
        with open(self.path, "rb") as handle:
            return handle.read(HEAD_BYTES)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the whole file, read in pieces."""
        with open(self.path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    @cached_property
    def is_parquet(self) -> bool:
        """Whether it begins as parquet files do."""
        return self.head[:4] == b"PAR1"

    @cached_property
    def is_text(self) -> bool:
        """Whether the head decodes as UTF-8 (a character cut by the end of the head is forgiven)."""
        try:
            self.head.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return error.start >= len(self.head) - 4 and error.start > 0
        return b"\0" not in self.head

    @cached_property
    def starts_like_json(self) -> bool:
        """Whether the first character opens an object or a list."""
        return self.is_text and self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")

    @cached_property
    def first_record(self) -> dict[str, Any] | None:
        """The first line as a JSON object, where the file is JSON lines; else None."""
        if not self.starts_like_json:
            return None
        line = self.head.split(b"\n", 1)[0]
        try:
            record = json.loads(line)
        except ValueError:
            return None
        return record if isinstance(record, dict) else None

    @cached_property
    def json(self) -> Any:
        """The whole JSON document, or None where the file is none (JSON lines are not one document).

        Raises:
            StagewiseError: too large to be a result file, or broken.
        """
        if not self.starts_like_json:
            return None
        if self.first_record is not None and self.head.partition(b"\n")[2].strip():
            return None
        if self.size > JSON_LIMIT:
            raise StagewiseError(
                f"{self.name}: a JSON document of {self.size / 2**20:,.0f} MiB; result files have at most "
                f"{JSON_LIMIT / 2**20:,.0f} MiB, so it was not loaded; give the results file, not the log "
                f"or the per-item samples"
            )
        try:
            return json.loads(self.path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise StagewiseError(
                f"{self.name}: broken JSON ({error}); the file may be cut short: copy it again"
            ) from error

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names of a parquet or CSV file; empty for anything else."""
        if self.is_parquet:
            import pyarrow
            import pyarrow.parquet

            try:
                return tuple(pyarrow.parquet.read_schema(self.path).names)
            except (OSError, pyarrow.ArrowException) as error:
                raise StagewiseError(
                    f"{self.name}: begins as parquet but cannot be read ({error}); copy it again"
                ) from error
        if not self.is_text or self.starts_like_json:
            return ()
        head = self.head.decode("utf-8-sig", errors="ignore")
        if "\n" not in head and self.size > HEAD_BYTES:
            return ()  # one endless line is no table
        try:
            return tuple(next(csv.reader(io.StringIO(head)), ()))
        except csv.Error:
            return ()

    def forget(self) -> None:
        """Drop what was loaded, so that a long list of files does not pile up in memory."""
        for view in ("head", "json", "first_record"):
            self.__dict__.pop(view, None)

    def lines(self) -> list[dict[str, Any]]:
        """All records of a JSON-lines file.

        Raises:
            StagewiseError: a line that is no object, is broken or is too long; names the line.
        """
        records = []
        with open(self.path, "rb") as handle:
            number = 0
            while line := handle.readline(LINE_LIMIT + 1):
                number += 1
                if len(line) > LINE_LIMIT:
                    raise StagewiseError(
                        f"{self.name}, line {number}: longer than {LINE_LIMIT / 2**20:,.0f} MiB; "
                        f"JSON lines hold one record each"
                    )
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise StagewiseError(
                        f"{self.name}, line {number}: broken JSON ({error}); the file may be cut short"
                    ) from error
                if not isinstance(record, dict):
                    raise StagewiseError(f"{self.name}, line {number}: got {record!r}, expected an object")
                records.append(record)
        return records

    def table(self) -> pd.DataFrame:
        """The whole file as a frame, for parquet and CSV."""
        try:
            if self.is_parquet:
                return pd.read_parquet(self.path)
            return pd.read_csv(self.path, low_memory=False)
        except (ValueError, OSError) as error:
            raise StagewiseError(
                f"{self.name}: not a readable table ({error}); check that every row has as many fields "
                f"as the header"
            ) from error
