"""What a run of a ladder measured, as rows of a score table, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.evaluations import Evaluations
from evalsuite.results import SCORES
from evalsuite.run_log import read
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable
from train.config import RunConfig
from train.evaluation import EVALS
from train.ladder.cells import Cell
from train.loop import LOG

DIGITS = 5  # of the scores of a run, after the point
PUBLISHED = 4  # of those of a ladder: still far finer than their standard errors, and they pack well


def scores_of(folder: Path, cell: Cell, config: RunConfig) -> tuple[ScoreTable, dict[str, Any]]:
    """The scores of a run that has ended, and what it cost.

    Scores of means of snapshots stand under the source "stagewise (mean of 4)", those of the weights as they
    are under "stagewise".

    Args:
        folder: of the run. cell: which one it is. config: its settings.

    Returns:
        The table, its family the recipe; and seconds of training and of evaluation, evaluations, FLOPs of
        training, bits per byte of held-out text by domain at the end.

    Raises:
        StagewiseError: an evaluation or a task is missing.
    """
    found = Evaluations.open(folder / EVALS)
    wanted = config.length // config.eval.every
    raw = wanted // config.eval.raw if config.eval.raw else 0
    if len(found.all) != wanted or len(found.raw) != raw or len(found.failures):
        why = "" if found.failures.empty else f": {found.failures['why'].iloc[0]}"
        raise StagewiseError(
            f"{folder}: {len(found.all)} of {wanted} evaluations of means and {len(found.raw)} of {raw} of "
            f"raw weights are there, {len(found.failures)} failures{why}; delete the folder to run it again"
        )
    written = [ScoreTable.read(one.path / SCORES).frame for one in (*found.all, *found.raw)]
    frame = pd.concat(written, ignore_index=True).assign(family=cell.family)
    table = ScoreTable.from_frame(rounded(frame, DIGITS), where=str(folder))
    lines = read(folder / LOG)
    held_out = [one for one in lines if one["kind"] == "validation"]
    told = {
        "run": cell.name, "steps": config.length,
        "training_seconds": max(one.seconds or 0.0 for one in found.all),
        "evaluation_seconds": sum(one.speed["seconds"] for one in (*found.all, *found.raw)),
        "evaluations": len(found.all) + len(found.raw), "flops": float(frame["flops"].max()),
        "params": float(frame["params"].max()), "held_out": held_out[-1] if held_out else {},
    }  # fmt: skip
    return table, told


def joined(folder: Path, names: Iterable[str]) -> ScoreTable:
    """The tables of the runs that are done.

    Args:
        folder: with a table for each run that is done. names: of the runs of the ladder.

    Raises:
        StagewiseError: none is done.
    """
    paths = [folder / f"{name}.parquet" for name in names if (folder / f"{name}.json").is_file()]
    if not paths:
        raise StagewiseError(f"{folder}: no run is done yet")
    frame = pd.concat([ScoreTable.read(path).frame for path in paths], ignore_index=True)
    return ScoreTable.from_frame(rounded(frame, PUBLISHED), where=str(folder))


def rounded(frame: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Scores and their standard errors to so many digits after the point."""
    return frame.assign(score=frame["score"].round(digits), stderr=frame["stderr"].round(digits))
