"""What goes into the commands and comes out of them: score tables in, rows and pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import UsageError
from scaling.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from scaling.readers import Progress
    from scaling.scores import ScoreTable

ROWS = (".parquet", ".csv")
PICTURES = (".png", ".svg", ".pdf")
FILTERS = ("metric", "task", "source")


def read(
    paths: Sequence[str | Path],
    drop_bad: bool = False,
    *,
    mapping: Path | None = None,
    progress: Progress | None = None,
) -> ScoreTable:
    """The scores that a command was given as SCORES.

    Args:
        paths: `ladder`, `ladder:averaged`, `ladder:raw` or `ladder:all` for the scores that come with the
            package (`./ladder` is a file or folder of that name); else files, folders, archives.
        drop_bad: keep the good rows of a bad table. mapping: how to read a wide CSV.
        progress: called as `progress(done, total, name)` after each file.

    Raises:
        UsageError: ladder: with another kind.
    """
    from scaling.embedded import named as embedded
    from scaling.readers import read_scores
    from scaling.scores import ScoreTable

    given = dict.fromkeys(map(str, paths))
    tables = {text: table for text in given if (table := embedded(text)) is not None}
    others = [text for text in given if text not in tables]
    read = list(tables.values())
    if others or not read:
        read.append(read_scores(others, drop_bad=drop_bad, mapping=mapping, progress=progress))
    return read[0] if len(read) == 1 else ScoreTable.concat(read)


def load(
    paths: Sequence[str | Path],
    drop_bad: bool = False,
    *,
    metric: Sequence[str] | None = None,
    task: Sequence[str] | None = None,
    source: Sequence[str] | None = None,
) -> ScoreTable:
    """The scores of all paths, of the metrics, tasks and sources that were asked for.

    Args:
        paths, drop_bad: see `read`.
        metric, task, source: names, in which * and ? match; None is all.

    Raises:
        UsageError: a name that matches nothing, or names that together leave nothing.
    """
    with progress_bar("reading") as step:
        table = read(paths, drop_bad, progress=step)
    for column, patterns in zip(FILTERS, (metric, task, source), strict=True):
        hit = named(table, column, patterns)
        if hit is not None:
            table = table.where(table.frame[column].isin(hit), f"another {column} than asked for")
    if not len(table):
        raise UsageError("--metric, --task and --source together leave no score; loosen one of them")
    return table


def named(table: ScoreTable, column: str, patterns: Sequence[str] | None) -> list[str] | None:
    """The names in a column that were asked for; None where all were.

    Raises:
        UsageError: a pattern that matches nothing.
    """
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    if not patterns:
        return None
    names = sorted(str(name) for name in table.frame[column].unique())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            # What was meant comes first: a long list in order of the alphabet may not reach it.
            near = get_close_matches(pattern, names, n=5)
            listed = [*near, *(name for name in names if name not in near)]
            valid = ", ".join(listed[:20]) + (" ..." if len(names) > 20 else "")
            raise UsageError(f"--{column} {pattern!r}: none there; valid is {valid}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def asked_for(frame: pd.DataFrame, metric: list[str] | None, task: list[str] | None) -> pd.Series:
    """Whether each row of a result is of the metrics and tasks that `named` found."""
    import pandas as pd

    kept = pd.Series(True, index=frame.index)
    for column, names in (("metric", metric), ("task", task)):
        if names is not None:
            kept &= frame[column].isin(names)
    return kept


def check_suffix(path: Path | None, valid: tuple[str, ...] = ROWS) -> None:
    """Refuse a file that could not be written before the work is done, not after it."""
    if path is not None and path.suffix not in valid:
        raise UsageError(f"{path}: valid suffixes are {', '.join(valid)}")


def write_rows(frame: pd.DataFrame, path: Path) -> None:
    """Write rows to a CSV or parquet file, whole or not at all, and say so."""
    from scaling.console import note
    from scaling.files import replacing

    with replacing(path) as part:
        frame.to_csv(part, index=False) if part.suffix == ".csv" else frame.to_parquet(part, index=False)
    note(f"written: {path}")


def write_picture(ax: Axes, path: Path) -> None:
    """Write the figure that axes are on, and say so."""
    from scaling.console import note
    from scaling.plot import save

    save(ax, path)
    note(f"written: {path}")
