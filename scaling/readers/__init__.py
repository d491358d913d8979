"""Any result file this project knows, read into one score table."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from scaling.errors import StagewiseError, UnknownFormat
from scaling.readers.candidate import Candidate
from scaling.readers.canonical import canonical_table
from scaling.readers.gather import gather
from scaling.readers.gemstones import GemstonesReader
from scaling.readers.lm_eval import LmEvalReader
from scaling.readers.lm_eval_old import OldLmEvalReader
from scaling.readers.olmo_ladder import OlmoLadderReader
from scaling.readers.open_lm import OpenLmReader
from scaling.readers.reading import Reader
from scaling.readers.table import ScoreTableReader
from scaling.readers.tidy import TidyReader
from scaling.readers.wide_csv import WideCsvReader, read_mapping
from scaling.scores import Omission, ScoreTable

__all__ = ["READERS", "Progress", "read_scores"]

Progress = Callable[[int, int, str], None]

READERS: tuple[type[Reader], ...] = (
    TidyReader,
    ScoreTableReader,
    OlmoLadderReader,
    GemstonesReader,
    LmEvalReader,
    OpenLmReader,
    OldLmEvalReader,
    WideCsvReader,
)


_SIGNS = (b'"results"', b'"table_results"', b'"eval_metrics"', b'"hyperparameters"', b'"main"')


def read_scores(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    drop_bad: bool = False,
    progress: Progress | None = None,
    mapping: str | os.PathLike[str] | None = None,
) -> ScoreTable:
    """Read result files, folders of them and archives into one validated table.

    Each file's format is recognised by its content. Inside a folder or an archive, files of no known
    format are counted in `omissions`; a file named by itself must be readable. Compute is never guessed:
    it comes from the file or from `scaling/facts/models.csv`, and rows without it are kept and counted.

    Args:
        paths: one path or several: files, folders, .tar (plain, gzip, zstd, bzip2).
        drop_bad: keep the good rows, and count broken files and bad rows in `omissions`.
        progress: called as `progress(done, total, name)` after each file.
        mapping: a YAML file that says how to read your own wide CSV.

    Returns:
        The table; `table.omissions` lists what was left out and why.

    Raises:
        UnknownFormat: a file named by itself, or everything found, is of no known format.
        BadScores: rows that break the format, all of them (unless `drop_bad`).
        StagewiseError: a missing path, a broken or empty file, an unsafe archive.

    Example:
        >>> table = read_scores(["results/", "old/pythia.tar.zst"])     # doctest: +SKIP
        >>> print(table)                                                # doctest: +SKIP
        195,123 scores of 63 models (63 with known compute) on 161 tasks from 2 source(s)
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise StagewiseError("no paths given; name at least one result file, folder or archive")
    readers: list[Reader] = [reader() for reader in READERS if reader is not WideCsvReader]
    own = read_mapping(mapping) if mapping is not None else None
    # A user's mapping is meant for his files, so it is asked before the shipped formats.
    wide = WideCsvReader(own)
    readers = [wide, *readers] if own else [*readers, wide]
    unknown: Counter[tuple[str, str]] = Counter()
    broken: list[str] = []
    omissions: list[Omission] = []
    with tempfile.TemporaryDirectory(prefix="scaling-read-") as scratch:
        # Listed first, so that progress knows its end and an unsafe archive stops before any reading.
        files = list(gather(given, Path(scratch)))
        for number, (file, alone) in enumerate(files, start=1):
            try:
                reader = _reader_of(file, readers, alone)
                if reader is None:
                    folder = file.name[: len(file.name) - len(file.inside)].rstrip("/:")
                    unknown[(folder, Path(file.inside).suffix or Path(file.inside).name)] += 1
                else:
                    reader.add(file)
            except UnknownFormat:
                raise
            except StagewiseError as error:
                if not drop_bad:
                    raise
                broken.append(str(error))
            except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
                problem = (
                    f"{file.name}: recognised, but not as expected inside ({type(error).__name__}: {error}); "
                    f"the file may be incomplete or of a newer version of its format"
                )
                if not drop_bad:
                    raise StagewiseError(problem) from error
                broken.append(problem)
            file.forget()
            if progress is not None:
                progress(number, len(files), file.name)
        readings = [reader.finish() for reader in readers]
    for (folder, suffix), count in sorted(unknown.items()):
        omissions.append(Omission(f"file(s) of no known format: {suffix}", folder, count))
    omissions += [Omission(f"broken file: {problem}", "read", 1) for problem in broken]
    for reading in readings:
        omissions += reading.omissions
    frames = [frame for reading in readings if len(frame := reading.frame())]
    if not frames:
        found = "; ".join(f"{item.count} x {item.what}" for item in omissions[:5]) or "no files"
        raise UnknownFormat(f"{', '.join(map(str, given))}: no scores in there ({found}); {_known_formats()}")
    frame = pd.concat(frames, ignore_index=True)
    return canonical_table(frame, where=", ".join(map(str, given)), drop_bad=drop_bad, omissions=omissions)


def _reader_of(file: Candidate, readers: list[Reader], alone: bool) -> Reader | None:
    if file.size == 0:
        if alone:
            raise StagewiseError(f"{file.name}: empty file; a result file holds at least one score")
        return None
    try:
        for reader in readers:
            if reader.takes(file):
                return reader
    except StagewiseError:
        # A broken file that shows no sign of holding results is just another file of the folder.
        if alone or any(sign in file.head for sign in _SIGNS) or file.is_parquet:
            raise
    if alone:
        raise UnknownFormat(f"{file.name}: a file of no known format; {_known_formats()}")
    return None


def _known_formats() -> str:
    formats = "\n  - ".join(reader.format for reader in READERS)
    return f"known formats are\n  - {formats}\nfor another wide CSV, pass a mapping file"
