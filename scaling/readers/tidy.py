"""Tidy tables of public result sets made by an earlier script: one parquet per source."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import pandas as pd

from scaling.facts.tables import rows, score_units
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading
from scaling.tasks import find_alias, task_info

_DIALECTS = {"pythia": "lm-eval-0.3", "lmeval_hist": "lm-eval-0.3"}
_RENAMED = {"checkpoint_step": "step", "num_fewshot": "shots"}
_LEFT_OUT = ["higher_is_better", "chance"]  # facts, and here some of them are wrong: see TaskInfo


class TidyReader:
    """Reads tables with `checkpoint_step` and `num_fewshot`, and puts their names and units right.

    What differs from ours (percent, the word acc for several metrics, names that two tests share) is
    listed row by row in `scaling/facts/tidy.csv`. Chance and the numbers of items are taken from our
    facts, because some there are copied from metadata that is wrong.
    """

    format: ClassVar[str] = "tidy table of a public result set (checkpoint_step, num_fewshot, ...)"

    def __init__(self) -> None:
        self._reading = Reading()

    def takes(self, file: Candidate) -> bool:
        return {"checkpoint_step", "num_fewshot", "source", "model", "task", "metric", "score"} <= set(
            file.columns
        )

    def add(self, file: Candidate) -> None:
        frame = file.table().rename(columns=_RENAMED).drop(columns=_LEFT_OUT, errors="ignore")
        variant = frame["variant"].astype("string")
        frame["variant"] = variant.where(variant.str.len() > 0)
        parts = [
            _translated(str(source), str(task), str(metric), part.copy())
            for (source, task, metric), part in frame.groupby(["source", "task", "metric"], sort=False)
        ]
        self._reading.frames.append(pd.concat(parts).assign(dialect="stagewise", file=file.name))

    def finish(self) -> Reading:
        return self._reading


@cache
def _corrections() -> dict[tuple[str, str, str], dict[str, str]]:
    return {(row["source"], row["task"], row["metric"]): row for row in rows("tidy.csv")}


def _translated(source: str, task: str, metric: str, part: pd.DataFrame) -> pd.DataFrame:
    """The rows of one task and metric, in our names and units."""
    dialect = _DIALECTS.get(source, source)
    listed = _corrections().get((source, task, metric))
    if listed is not None:
        part["task"], part["metric"] = listed["our_task"], listed["our_metric"]
        times = float(listed["times"])
    else:
        found = find_alias(task, source, dialect)
        part["task"] = found.task if found else task
        times = score_units(dialect, task, metric)
    part["score"] = part["score"] * times
    part["stderr"] = part["stderr"] * times
    items = task_info(part["task"].iloc[0]).n_items
    if items is not None and part["metric"].iloc[0] != "ce_loss":
        part["n_items"] = items
    if source == "olmo_ladder":
        part["seed"] = part["model"].str.endswith("-rerun").astype(int)
        part["variant"] = part["model"].str.removesuffix("-rerun").str.partition("-")[2]
    elif source == "openmodels":
        part["source"] = part["variant"].str.startswith("sloth").map({True: "sloth", False: "obsscaling"})
    elif source in ("gemstones", "openlm_scaling"):
        part["variant"] = pd.NA  # the kind of file, or a number that the model's name holds
    return part
