"""What the commands of `scaling` can be told: each option once, with its help."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scaling.errors import UsageError

MATCH = 2.0  # factor of size and data within which recipes are compared, where none is given


class Points(StrEnum):
    """Which checkpoints make a curve."""

    auto = "auto"
    final = "final"
    all = "all"


class Kind(StrEnum):
    """What to draw."""

    windows = "windows"
    curve = "curve"
    clusters = "clusters"


class RunPoints(StrEnum):
    """Which checkpoints may stand for a run."""

    final = "final"
    all = "all"


class Axis(StrEnum):
    """What compute is counted in."""

    flops = "flops"
    bytes = "bytes"


class By(StrEnum):
    """Whose runs a forecast is learned from."""

    family = "family"
    variant = "variant"
    source = "source"


Scores = Annotated[
    list[str],
    typer.Argument(
        metavar="SCORES...",
        help="Parquet or CSV of scores, or any result files, folders, archives; ladder stands for the scores "
        "that come with the package (ladder:averaged, ladder:raw, ladder:all), ./ladder for a file of "
        "that name.",
    ),
]
StageOption = Annotated[
    str | None, typer.Option("--stage", metavar="LO..HI", help="Compute interval in question, in FLOPs.")
]
EarlyBy = Annotated[
    float | None,
    typer.Option(
        "--early-by", metavar="FLOPS", help="A window open by then is early; the end of --stage where absent."
    ),
]
PointsOption = Annotated[
    Points,
    typer.Option("--points", help="Checkpoints of a curve: last ones where enough runs have one (auto)."),
]
Metric = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME", help="Only these metrics; * and ? match.")
]
Task = Annotated[
    list[str] | None, typer.Option("--task", metavar="NAME", help="Only these tasks; * and ? match.")
]
Source = Annotated[
    list[str] | None, typer.Option("--source", metavar="NAME", help="Only these sources; * and ? match.")
]
Threshold = Annotated[
    float, typer.Option(help="Decision probability that makes a task informative, above 0.5 and below 1.")
]
Replicates = Annotated[int, typer.Option(help="Bootstrap draws.")]
Seed = Annotated[int, typer.Option(help="Of the draws.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DropBad = Annotated[
    bool, typer.Option("--drop-bad", help="Keep the good rows of a bad table, and list the others.")
]
Jobs = Annotated[
    int | None, typer.Option(help="Workers; -1 is all cores. Without it the work is done right here.")
]
Level = Annotated[float, typer.Option(help="Of the intervals, between 0 and 1.")]
Rows = Annotated[Path | None, typer.Option("-o", "--out", help="Write the rows to a CSV or parquet file.")]
Picture = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw it too: PNG, SVG or PDF to write.")
]
Recipe = Annotated[
    str, typer.Option("--by", metavar="NAMES", help="What makes a recipe: some of family,variant,model.")
]
Like = Annotated[float, typer.Option(help="Recipes are compared whose compute is within this factor.")]
Match = Annotated[
    float | None, typer.Option(help=f"And whose size and data are within this one; {MATCH:g} where absent.")
]
NoMatch = Annotated[bool, typer.Option("--no-match", help="Do not ask for like size and data.")]


def matched(match: float | None, no_match: bool) -> float | None:
    """The factor of size and data; None where they are not asked for."""
    if match is not None and no_match:
        raise UsageError("--match and --no-match: give one of them")
    return None if no_match else MATCH if match is None else match


def interval(option: str, text: str, unit: str = "FLOPs") -> tuple[float, float]:
    """Two positive numbers from `LO..HI`, in order.

    Example:
        >>> interval("--stage", "1e19..1e20")
        (1e+19, 1e+20)
    """
    low, dots, high = text.partition("..")
    try:
        found = float(low), float(high)
    except ValueError:
        found = math.nan, math.nan
    if not dots or not 0 < found[0] <= found[1] < math.inf:
        raise UsageError(f"{option} {text!r}: valid is LO..HI in {unit} with 0 < LO <= HI, as 1e9..1e10")
    return found


def scale(option: str, text: str) -> float | tuple[float, float]:
    """A compute, or two from `LO..HI`."""
    if ".." in text:
        return interval(option, text)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise UsageError(f"{option} {text!r}: valid is a number of FLOPs, as 1e19, or LO..HI")
    return found
