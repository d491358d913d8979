"""What a reader hands back: rows still in the source's own words, and what it left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import pandas as pd

from scaling.readers.candidate import Candidate
from scaling.scores import Omission


@dataclass
class Reading:
    """Rows a reader found, before task names, facts and checks are applied.

    Attributes:
        rows: plain rows; keys are columns of a score table, plus `dialect` (the harness that chose the
            task name) and `file`. Absent keys are NA.
        frames: the same as frames, for readers that work by column.
        omissions: what the reader left out.

    Example:
        >>> reading = Reading()
        >>> reading.add(model="m", task="piqa", metric="acc", score=0.7)
        >>> len(reading.frame())
        1
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    frames: list[pd.DataFrame] = field(default_factory=list)
    omissions: list[Omission] = field(default_factory=list)

    def add(self, **row: Any) -> None:
        """Append one row."""
        self.rows.append(row)

    def omit(self, what: str, where: str, count: int) -> None:
        """Say that `count` things were left out."""
        if count:
            self.omissions.append(Omission(what, where, count))

    def frame(self) -> pd.DataFrame:
        """All rows in one frame."""
        parts = list(self.frames)
        if self.rows:
            parts.append(pd.DataFrame(self.rows))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


class Reader(Protocol):
    """One format. A fresh reader is made for each call of `read_scores`; it may gather several files.

    Attributes:
        format: what it reads, in words a message can use.
    """

    format: ClassVar[str]

    def takes(self, file: Candidate) -> bool:
        """Whether the content of `file` is this format."""
        ...

    def add(self, file: Candidate) -> None:
        """Take the file in."""
        ...

    def finish(self) -> Reading:
        """The rows of all files taken in."""
        ...
