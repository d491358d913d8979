"""Results as the commands print them: tables for people, JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import typer

from scaling.classes import Classification, Settings, TaskClass
from scaling.cluster import Clusters
from scaling.console import flops, note, print_omissions, print_table
from scaling.scores import Omission, ScoreTable

STYLES = {"early-signal": "blue", "late-signal": "dark_orange", "saturated": "green", "noisy": "dim"}
_COMPUTE = tuple(
    f"{name}{end}" for name in ("opens", "closes", "clears_chance") for end in ("", "_low", "_high")
)


def settings_line(settings: Settings) -> str:
    """What was asked, in one line."""
    return (
        f"early by {flops(settings.early_by)} FLOPs, asked at {flops(settings.asked_at)}; window: decision "
        f"probability >= {settings.threshold:g} for twice the compute, to {settings.horizon:g} decade(s) "
        f"beyond the data; trend at a false discovery rate of {settings.level:g}; points {settings.points}, "
        f"{settings.replicates} replicates, seed {settings.seed}"
    )


def probability(task: TaskClass, klass: str) -> float:
    """The probability of a class; NaN for `undetermined`, which has none."""
    return getattr(task, f"p_{klass.replace('-', '_')}", math.nan)


def classes_json(found: Classification) -> dict[str, Any]:
    """`settings`, `counts`, `tasks`, `omissions`.

    A compute that does not exist is null; one that lies beyond what was looked at is null too, and named
    in the task's `unbounded`. `window` is `none`, `measured` or `extrapolated`; `close` is `none`,
    `identified` or `not identified` (what only a fitted asymptote implies).
    """
    ends = {curve.key: 10.0 ** curve.span[1] for curve in found.curves}
    tasks = []
    for task in found.tasks:
        row = asdict(task)
        row = {("class" if name == "klass" else name): value for name, value in row.items()}
        row["unbounded"] = [name for name in _COMPUTE if math.isinf(row[name])]
        if math.isnan(task.opens):
            row["window"] = row["close"] = "none"
        else:
            row["window"] = "extrapolated" if task.extrapolated else "measured"
            row["close"] = "identified" if task.closes <= ends[task.key] else "not identified"
        tasks.append(row)
    return {
        "settings": asdict(found.settings),
        "counts": found.counts(),
        "tasks": tasks,
        "omissions": [asdict(one) for one in found.omissions],
    }


def print_classes(found: Classification) -> None:
    """Settings, counts and one row per task, by metric and then by opening."""
    typer.echo(settings_line(found.settings))
    typer.echo(", ".join(f"{count} {name}" for name, count in found.counts().items()))
    ends = {curve.key: 10.0 ** curve.span[1] for curve in found.curves}
    columns = ("task", "metric", "shots", "class", "p", "opens", "95%", "closes", "clears", "noise", "SNR")

    def order(task: TaskClass) -> tuple:
        asleep = math.isnan(task.opens)
        return (task.metric, asleep, 0.0 if asleep else task.opens, task.task, task.shots or 0)

    rows = []
    for task in sorted(found.tasks, key=order):
        p = probability(task, task.klass)
        before, after = "<" if task.opens_before_data else "", "*" if task.extrapolated else ""
        low, high = flops(task.opens_low), flops(task.opens_high)
        between = f"{low}..{high.replace('beyond', '')}" if low and low != "beyond" else ""
        bound = "<" if task.noise_is_upper_bound else ""
        if math.isnan(task.opens):
            close = ""
        else:
            close = flops(task.closes) if task.closes <= ends[task.key] else "not seen"
        rows.append(
            (
                task.task, task.metric, "" if task.shots is None else str(task.shots), task.klass,
                "" if math.isnan(p) else f"{p:.2f}", before + flops(task.opens) + after,
                between, close, flops(task.clears_chance),
                "" if math.isnan(task.noise) else f"{bound}{task.noise:.2g}",
                "" if math.isnan(task.snr) else f"{task.snr:.1f}",
            )
        )  # fmt: skip
    right = ("shots", "p", "opens", "noise", "SNR")
    print_table(columns, rows, right=right, styles=STYLES, styled="class")
    note(
        "opens, closes, clears: FLOPs; < before the data (noise: an upper bound), * beyond what was measured"
    )
    print_omissions(found.omissions)


def clusters_json(
    found: Clusters, settings: Mapping[str, Any], omissions: Sequence[Omission]
) -> dict[str, Any]:
    """`settings`, `criterion`, `tasks` with their cluster, `stability`, `omissions`."""
    return {
        "settings": dict(settings),
        "criterion": found.criterion,
        "tasks": _by_cluster(found).to_dict("records"),
        "stability": found.stability.to_dict("records"),
        "omissions": [asdict(one) for one in omissions],
    }


def print_clusters(found: Clusters, settings: Mapping[str, Any], omissions: Sequence[Omission]) -> None:
    """The criterion and one row per task, by cluster."""
    typer.echo(f"{found.criterion}; points {settings['points']}, seed {settings['seed']}")
    columns = ("cluster", "task", "metric", "shots", "format")
    rows = [
        ["" if pd.isna(value) else str(value) for value in row]
        for row in _by_cluster(found)[list(columns)].itertuples(index=False)
    ]
    print_table(columns, rows, right=("cluster", "shots"))
    print_omissions(omissions)


def _by_cluster(found: Clusters) -> pd.DataFrame:
    return found.to_frame().sort_values(["cluster", "task", "metric", "shots"], kind="stable")


def table_json(table: ScoreTable) -> dict[str, Any]:
    """`scores`, `digest`, `sources` (one entry each), `omissions`."""
    return {
        "scores": len(table),
        "digest": table.digest,
        "sources": _sources(table),
        "omissions": [asdict(one) for one in table.omissions],
    }


def print_scores(table: ScoreTable) -> None:
    """What a table holds, source by source."""
    typer.echo(str(table))
    found = _sources(table)
    columns = tuple(found[0])
    rows = []
    for one in found:
        cells = (
            flops(v) if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v for v in one.values()
        )
        rows.append(list(cells))
    print_table(columns, rows, right=columns[1:])
    print_omissions(table.omissions)


def _sources(table: ScoreTable) -> list[dict[str, Any]]:
    out = []
    for source, rows in table.frame.groupby("source", sort=True):
        known = rows[rows["flops"] > 0]
        out.append(
            {
                "source": str(source),
                "scores": len(rows),
                "models": rows["model"].nunique(),
                "with_compute": known["model"].nunique(),
                "tasks": rows["task"].nunique(),
                "metrics": rows["metric"].nunique(),
                "lowest_flops": float(known["flops"].min()),
                "highest_flops": float(known["flops"].max()),
            }
        )
    return out
