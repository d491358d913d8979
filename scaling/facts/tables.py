"""Loaders for the fact tables of this folder; each is read once, when first asked for."""

from __future__ import annotations

import csv
import fnmatch
import gzip
import io
from functools import cache
from importlib.resources import files


def rows(name: str) -> tuple[dict[str, str], ...]:
    """All rows of `scaling/facts/<name>`, plain CSV or gzipped.

    Example:
        >>> rows("models.csv")[0]["name"]
        'pythia-70m@v0'
    """
    content = (files("scaling") / "facts" / name).read_bytes()
    if name.endswith(".gz"):
        content = gzip.decompress(content)
    return tuple(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))


@cache
def file_variants() -> tuple[dict[str, str], ...]:
    """Which variant a source's file belongs to, where only the file's place says so."""
    return rows("file_variants.csv")


@cache
def _units() -> tuple[dict[str, str], ...]:
    return rows("units.csv")


@cache
def score_units(dialect: str, task: str, metric: str) -> float:
    """What to multiply a harness's number by to get ours (SQuAD 2 is in percent there: 0.01).

    Example:
        >>> score_units("lm-eval-0.3", "squad2", "f1"), score_units("lm-eval-0.3", "piqa", "acc")
        (0.01, 1.0)
    """
    for row in _units():
        if (
            row["dialect"] == dialect
            and fnmatch.fnmatch(task, row["task"])
            and row["metric"] in (metric, "*")
        ):
            return float(row["times"])
    return 1.0
