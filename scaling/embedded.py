"""The scores that come with the package: a ladder of small models, trained and evaluated by this project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable

LADDER = "ladder"  # stands for it where a command takes a table of scores
TITLE = "small models trained and evaluated by this project: sizes, data mixtures, seeds, checkpoints"
LICENCE = "Apache-2.0"
AVERAGED, RAW = "stagewise (mean of 4)", "stagewise"

EVEN = "even"  # the recipe that every size was trained on

Kind = Literal["even", "averaged", "raw", "all"]


def ladder_path() -> Path:
    """Where the scores are; a card beside them says how they were made."""
    return Path(__file__).resolve().parent.parent / "data" / "scores" / "ladder.parquet"


def ladder(kind: Kind = "even") -> ScoreTable:
    """The scores of the ladder.

    A family is a recipe (a data mixture); a model is a run, with its checkpoints by step.

    Args:
        kind: "even" for one recipe at all sizes, which is what curves over compute are of; "averaged" for all
            recipes. Both are scores of the mean of the last four snapshots. "raw" for those of the weights as
            they were, of all recipes, at some checkpoints; "all" for everything, told apart by `source`.

    Raises:
        StagewiseError: the package was installed without them. UsageError: another kind.

    Example:
        >>> from scaling.embedded import ladder
        >>> ladder().frame["source"].unique().tolist()                        # doctest: +SKIP
        ['stagewise (mean of 4)']
    """
    if kind not in get_args(Kind):
        raise UsageError(f"ladder: kind is {kind!r}, valid are {', '.join(get_args(Kind))}")
    path = ladder_path()
    if not path.is_file():
        raise StagewiseError(f"{path}: the scores of the ladder are not there; install the package anew")
    if kind == "all":
        return ScoreTable.read(path)
    # What is not asked for is not read: it would be most of the time.
    wanted = [("source", "==", RAW if kind == "raw" else AVERAGED)]
    wanted += [("family", "==", EVEN)] if kind == "even" else []
    return ScoreTable.from_frame(pd.read_parquet(path, filters=wanted), where=str(path))


def named(text: str) -> ScoreTable | None:
    """The table that `ladder`, `ladder:averaged` and so on stand for; None for any other text.

    Raises:
        UsageError: ladder: with another kind.
    """
    name, _, kind = text.partition(":")
    if name != LADDER:
        return None
    return ladder(kind or "even")  # pyright: ignore[reportArgumentType]
