"""Score tables in this project's own format, parquet or CSV."""

from __future__ import annotations

from typing import ClassVar

from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading
from scaling.scores import COLUMNS


class ScoreTableReader:
    """Reads parquet and CSV files that already have the columns of a score table.

    Task names and compute are taken as they stand: such a file went through a reader before.
    """

    format: ClassVar[str] = "a Stagewise score table (parquet or CSV with model, task, metric, score, ...)"

    def __init__(self) -> None:
        self._reading = Reading()

    def takes(self, file: Candidate) -> bool:
        required = {column.name for column in COLUMNS if not column.optional and column.name != "family"}
        return required <= set(file.columns)

    def add(self, file: Candidate) -> None:
        frame = file.table()
        if "family" in frame:
            frame["family"] = frame["family"].where(frame["family"].notna(), frame["model"])
        else:
            frame["family"] = frame["model"]
        self._reading.frames.append(frame.assign(file=file.name, dialect="stagewise"))

    def finish(self) -> Reading:
        return self._reading
