"""What the commands of `scaling` can be told: each option once, with its help."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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


Scores = Annotated[
    list[Path],
    typer.Argument(
        metavar="SCORES...", help="Parquet or CSV of scores, or any result files, folders, archives."
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
