"""The table of a ladder and the card that says how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import pandas as pd

from evalsuite.skills import skill_names
from evalsuite.tasks import TaskFolder
from scaling.embedded import AVERAGED, RAW
from scaling.files import replacing
from train.ladder.climb import SCORES, Place
from train.ladder.questions import items_for
from train.ladder.table import joined
from train.ladder.verify import TOLERANCE
from train.ladder.version import computed_by

TABLE, CARD = "ladder.parquet", "ladder.md"
_SHOWN = ("acc", "bpb", "bpb_bytes", "brier")  # metrics whose standard errors the card tells


def publish(place: Place) -> dict[str, Any]:
    """Write the scores of all runs that are done as one table, and its card.

    Returns:
        Figures of the table: rows, runs, cells (distinct run, step, task), tasks, metrics.
    """
    table = joined(place.folder / SCORES, [one.name for one in place.cells])
    table.write(place.folder / TABLE)
    frame = table.frame
    figures = {
        "rows": len(frame), "runs": int(frame["model"].nunique()), "runs_planned": len(place.cells),
        "cells": len(frame[["model", "step", "task"]].drop_duplicates()),
        "tasks": int(frame["task"].nunique()), "metrics": sorted(frame["metric"].unique()),
        "bytes": (place.folder / TABLE).stat().st_size, "digest": table.digest,
    }  # fmt: skip
    with replacing(place.folder / CARD) as part:
        part.write_text(_card(place, frame, figures), encoding="utf-8")
    return figures


def _card(place: Place, frame: pd.DataFrame, figures: Mapping[str, Any]) -> str:
    """The card: what was run and how, what it cost, its limits."""
    import jinja2

    ladder, record = place.ladder, place.prepared.record
    kept = [place.folder / SCORES / f"{one.name}.json" for one in place.cells if place.done(one)]
    costs = pd.DataFrame([json.loads(path.read_text(encoding="utf-8")) for path in kept])
    asked = place.questions.to_frame()
    stderr = frame[frame["source"] == AVERAGED].groupby("metric")["stderr"].median()
    met, skill_items = _met(place)
    told = costs["versions"].dropna().tolist() if "versions" in costs else []
    used = {f"{name} {version}" for one in told or [computed_by()] for name, version in one.items()}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True)
    environment.filters["thousands"] = lambda value: f"{int(value):,}"
    template = environment.from_string(
        (resources.files("train.ladder") / "card.md.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        figures=figures, ladder=ladder, sizes=_sizes(frame).to_dict("records"), averaged=AVERAGED, raw=RAW,
        ordinal=f"{ladder.raw}th" if ladder.raw > 3 else ("", "one", "second", "third")[ladder.raw],
        vocabulary=place.prepared.tokenizer.size, tokenizer=place.prepared.tokenizer.digest,
        text=record["digest"],
        domains=[
            (name, f"{one['train']['bytes'] / 1e6:.1f}") for name, one in sorted(record["domains"].items())
        ],
        two=items_for(ladder.stderr, 2), four=items_for(ladder.stderr, 4),
        stderr=[(name, f"{stderr[name]:.3f}") for name in _SHOWN if name in stderr],
        partly=int((asked["items"] < asked["there"]).sum()), long=list(asked.loc[asked["long"] > 0, "task"]),
        tolerance=" and ".join(f"{most} in {name}" for name, most in TOLERANCE.items()),
        met=met, skill_items=skill_items, flops=costs["flops"].sum(), largest=frame["params"].max(),
        hours=[f"{costs[name].sum() / 3600:.2f}" for name in ("training_seconds", "evaluation_seconds")],
        commits=sorted({f"`{one}`" for one in costs["commit"] if one}) or ["unknown"],
        versions=sorted(used),
    )  # fmt: skip


def _met(place: Place) -> tuple[int, int]:
    """Questions about generated skills that stand in the text of practised ones, and all that are asked."""
    tokens = place.prepared.tokens("train").get("skills")
    text = "" if tokens is None else place.prepared.tokenizer.decode(tokens.read(0, len(tokens)).tolist())
    folder = TaskFolder.open(place.questions.folder)
    items = [item for name in folder.files if name in skill_names() for item in folder.task(name).items]
    return sum(item.context.strip() in text for item in items), len(items)


def _sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per size and length: what was run."""
    columns = {name: (name, "max") for name in ("params", "tokens", "flops")}
    ends = frame.groupby(["model", "family"], as_index=False).agg(**columns)
    ends["size"] = ends["model"].str.partition("-")[0]
    rows = []
    for (params, size, tokens), group in ends.groupby(["params", "size", "tokens"], sort=True):
        counts = group["family"].value_counts(sort=False).sort_index()
        recipes = ", ".join(f"{name} ({count})" for name, count in counts.items())
        row = {"size": size, "params": params, "tokens": tokens, "flops": group["flops"].min()}
        rows.append(row | {"runs": len(group), "recipes": recipes})
    return pd.DataFrame(rows)
