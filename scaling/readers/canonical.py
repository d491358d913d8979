"""From a reader's rows to a valid table: task names, facts, copies, checks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from scaling.models import find_model
from scaling.scores import COLUMNS, KEY, Omission, ScoreTable
from scaling.tasks import find_alias, task_info

_NAMES = [column.name for column in COLUMNS]


def canonical_table(
    frame: pd.DataFrame, *, where: str, drop_bad: bool = False, omissions: Iterable[Omission] = ()
) -> ScoreTable:
    """Name tasks by the alias table, fill compute and items from facts, drop empty cells and exact copies.

    All of that for foreign files alone: rows of a score table of ours are taken as they stand.

    Args:
        frame: rows in the sources' words: columns of a score table, plus `dialect`, `version` and `file`.
        where: what to call the input in messages.
        drop_bad: passed to `ScoreTable.from_frame`.
        omissions: carried over.

    Returns:
        The table, with everything left out added to its omissions.
    """
    left_out = list(omissions)
    frame = frame.reset_index(drop=True)
    for name in (*_NAMES, "dialect", "version", "file"):
        if name not in frame.columns:
            frame[name] = pd.NA
    foreign = (frame["dialect"] != "stagewise").to_numpy(dtype=bool, na_value=True)
    # Empty cells are how a foreign file says "not measured"; in a table of ours they are errors.
    missing = pd.to_numeric(frame["score"], errors="coerce").isna() & foreign
    for source, count in frame.loc[missing, "source"].value_counts().items():
        left_out.append(Omission("score is NaN or missing in the source", str(source), int(count)))
    frame = frame[~missing].reset_index(drop=True)
    foreign = foreign[~missing.to_numpy()]
    frame = _named(frame, foreign)
    for name in ("source", "family", "model", "variant", "task", "metric"):
        frame[name] = frame[name].astype("string")
    for name in ("score", "stderr", "params", "tokens", "flops"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    for name in ("step", "seed", "shots", "n_items"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("Float64").astype("Int64")
    # What the source itself says about a model comes before what the fact tables say.
    frame = _with_facts(_same_model(frame, foreign), foreign)
    # Copies made by other programs can differ in the last bit.
    rounded = frame["score"].round(12).rename("rounded")
    copies = pd.concat([frame[list(KEY)], rounded], axis=1).duplicated(keep="first") & foreign
    for source, count in frame.loc[copies, "source"].value_counts().items():
        left_out.append(
            Omission("copy of a score already read (same key, same score)", str(source), int(count))
        )
    frame = frame[~copies]
    if "rerun" in frame.columns:
        # A file in the wrong folder repeats a measurement that a rightly filed one holds.
        again = frame["rerun"].eq(True).fillna(False).to_numpy(dtype=bool)
        held = pd.MultiIndex.from_frame(frame.loc[~again, list(KEY)].astype("string").fillna(""))
        keys = pd.MultiIndex.from_frame(frame.loc[again, list(KEY)].astype("string").fillna(""))
        drop = np.zeros(len(frame), dtype=bool)
        drop[again] = keys.isin(held)
        for source, count in frame.loc[drop, "source"].value_counts().items():
            left_out.append(
                Omission(
                    "re-run in a misnamed file: its config asks what another file already answers",
                    str(source),
                    int(count),
                )
            )
        frame = frame[~drop]
    unknown = ~(frame["flops"].notna() | (frame["params"].notna() & frame["tokens"].notna()))
    for source, group in frame[unknown].groupby("source"):
        left_out.append(
            Omission(
                "kept, but without compute (no params and tokens in the file or in the model facts)",
                f"{source}: {group['model'].nunique()} model(s)",
                len(group),
            )
        )
    return ScoreTable.from_frame(frame[_NAMES], where=where, drop_bad=drop_bad, omissions=left_out)


def _named(frame: pd.DataFrame, foreign: np.ndarray) -> pd.DataFrame:
    """Task names by the alias table, once per distinct name."""
    keys = frame.loc[foreign, ["source", "dialect", "task", "version"]].astype("string").fillna("")
    codes, distinct = pd.factorize(pd.MultiIndex.from_frame(keys))
    found = [
        find_alias(task, source, dialect, version=version or None)
        for source, dialect, task, version in distinct
    ]
    own = keys["task"].to_numpy(dtype=object)
    task = np.array([alias.task if alias else None for alias in found], dtype=object)[codes] if found else own
    frame["task"] = frame["task"].astype(object)
    frame.loc[foreign, "task"] = np.where(pd.isna(task), own, task)
    for name in ("shots", "metric"):
        values = np.array([getattr(alias, name) if alias else None for alias in found], dtype=object)
        if len(found) and any(value is not None for value in values):
            given = frame.loc[foreign, name].to_numpy(dtype=object)
            frame[name] = frame[name].astype(object)
            stated = values[codes]
            # A metric that only the table knows replaces the reader's placeholder; shots fill gaps.
            keep = pd.notna(given) if name == "shots" else pd.isna(stated)
            frame.loc[foreign, name] = np.where(keep, given, stated)
    return frame


def _with_facts(frame: pd.DataFrame, foreign: np.ndarray) -> pd.DataFrame:
    """Family, params, tokens and n_items where the source gave none and a fact table has them."""
    step = frame["step"].to_numpy(dtype=float, na_value=np.nan)
    codes, models = pd.factorize(frame["model"].astype("string").fillna(""))
    infos = [found.info if (found := find_model(str(model))) else None for model in models]

    def fact(name: str) -> np.ndarray:
        values = [getattr(info, name) if info else None for info in infos]
        if name == "family":
            return np.array(values, dtype=object)[codes]
        return np.array([np.nan if value is None else value for value in values], dtype=float)[codes]

    if len(infos):
        per_step = np.where(step == 0, 0.0, step * fact("tokens_per_step"))
        tokens = np.where(np.isnan(step), fact("tokens"), per_step)
        for name, value in (("params", fact("params")), ("tokens", tokens)):
            given = frame[name].to_numpy(dtype=float)
            frame[name] = np.where(foreign & np.isnan(given), value, given)
        family = frame["family"].to_numpy(dtype=object)
        family = np.where(pd.isna(family), fact("family"), family)
        family = np.where(pd.isna(family), frame["model"].to_numpy(dtype=object), family)
        frame["family"] = pd.array(family, dtype="string")
    codes, tasks = pd.factorize(frame["task"].astype("string").fillna(""))
    facts = [task_info(str(task)).n_items for task in tasks]
    items = np.array([np.nan if value is None else value for value in facts], dtype=float)[codes]
    given = frame["n_items"].to_numpy(dtype=float, na_value=np.nan)
    frame["n_items"] = pd.Series(np.where(foreign & np.isnan(given), items, given), index=frame.index).astype(
        "Int64"
    )
    return frame


def _same_model(frame: pd.DataFrame, foreign: np.ndarray) -> pd.DataFrame:
    """What one table of a source states about a finished model, on that source's other tables too."""
    figures = ["params", "tokens", "flops"]
    none = frame[figures].isna().all(axis=1)
    # Only tables that know no compute at all: where a table leaves a model out, it has its reasons.
    silent = none.groupby(frame["file"].astype("string").fillna("")).transform("all")
    final = frame["step"].isna().to_numpy(dtype=bool)
    bare = foreign & final & silent.to_numpy(dtype=bool)
    if not bare.any() or none.all():
        return frame
    stated = frame.loc[final & ~bare, ["source", "model", "family", *figures]]
    stated = stated.drop_duplicates()
    # Two tables that contradict each other settle nothing.
    stated = stated[~stated.duplicated(["source", "model"], keep=False)].set_index(["source", "model"])
    filled = stated.reindex(pd.MultiIndex.from_frame(frame.loc[bare, ["source", "model"]]))
    for name in figures:
        frame.loc[bare, name] = filled[name].to_numpy(dtype=float)
    family = filled["family"].to_numpy(dtype=object)
    own = frame.loc[bare, "family"].to_numpy(dtype=object)
    frame.loc[bare, "family"] = pd.array(np.where(pd.isna(family), own, family), dtype="string")
    return frame
