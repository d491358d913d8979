"""Decisions, signal, effective compute and items as the commands print them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import typer

from scaling.agreement import PAIRS_NEEDED
from scaling.console import flops, note, print_omissions, print_table
from scaling.decisions import Decisions
from scaling.effective import EffectiveCompute
from scaling.item_reports import ItemReport
from scaling.scores import Omission
from scaling.signal import Signal


def decisions_json(found: Decisions, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings`, `pairs`, `recipes`, `refused` by reason, `needed` pairs for a claim, `tasks`, `omissions`.

    Where `claim` is false the pairs are too few, and a share is no more than the middle of its interval.
    """
    return {
        "settings": dict(settings),
        "pairs": len(found.pairs),
        "recipes": found.pairs.n_recipes,
        "refused": found.pairs.reasons(),
        "needed": PAIRS_NEEDED,
        "tasks": found.to_frame().to_dict("records"),
        "omissions": [asdict(one) for one in found.omissions],
    }


def print_decisions(found: Decisions, settings: Mapping[str, Any]) -> None:
    """The pairs and one row per task, by metric and then by how well it decides."""
    sides = [_scale(settings[name]) for name in ("small", "target")]
    match = "not asked" if settings["match"] is None else f"within {settings['match']:g}"
    typer.echo(
        f"small {sides[0]}, target {sides[1]} FLOPs, metric there {settings['metric_target'] or 'as here'}; "
        f"recipes by {', '.join(settings['by'])}, compute within a factor {settings['like']:g}, "
        f"size and data {match}; "
        f"points {settings['points']}, seed {settings['seed']}"
    )
    typer.echo(str(found))
    frame = found.to_frame().sort_values(
        ["metric", "rest", "task"], ascending=[True, False, True], kind="stable"
    )
    rows = []
    for one in frame.to_dict("records"):
        cells = []
        for name, pairs in (("itself", one["itself_pairs"]), ("rest", one["pairs"])):
            told = not math.isnan(one[f"{name}_low"])
            claim = told and pairs >= PAIRS_NEEDED
            between = f"{one[f'{name}_low']:.2f}..{one[f'{name}_high']:.2f}" if told else ""
            cells += [f"{one[name]:.2f}" if claim else "", between]
        rows.append((one["task"], one["metric"], _whole(one["shots"]), *cells, _whole(one["pairs"])))
    columns = ("task", "metric", "shots", "itself", "95%", "rest", "95% ", "pairs")
    print_table(columns, rows, right=("shots", "itself", "rest", "pairs"))
    note(
        "share of pairs ordered as the task itself, or the mean of all other benchmarks (rest), orders "
        f"the large runs; 0.5 is a coin; below {PAIRS_NEEDED} pairs an interval and no claim"
    )
    print_omissions(found.omissions)


def signal_json(found: Signal, settings: Mapping[str, Any], omissions: Sequence[Omission]) -> dict[str, Any]:
    """`settings`, `tasks`, `omissions`; a figure that cannot be measured is null."""
    return {
        "settings": dict(settings),
        "tasks": found.to_frame().to_dict("records"),
        "omissions": [asdict(one) for one in (*omissions, *found.omissions)],
    }


def print_signal(found: Signal, settings: Mapping[str, Any], omissions: Sequence[Omission]) -> None:
    """Settings and one row per task, by metric and then by SNR."""
    match = "not asked" if settings["match"] is None else f"within {settings['match']:g}"
    typer.echo(
        f"recipes by {', '.join(settings['by'])}, compute within a factor {settings['like']:g}, size {match};"
        f" noise of the last {settings['last']} checkpoints, order after {settings['after']:.0%} of training"
    )
    figures = {
        "spread": "spread", "noise": "noise", "snr": "SNR", "monotonicity": "monotone",
        "non_randomness": "above guess", "finetasks_snr": "level/noise", "ordering_consistency": "order",
        "n_recipes": "recipes", "n_runs": "runs",
    }  # fmt: skip
    frame = found.to_frame().sort_values(
        ["metric", "snr", "task"], ascending=[True, False, True], kind="stable"
    )
    rows = [
        (one["task"], one["metric"], _whole(one["shots"]), *(_figure(one[name]) for name in figures))
        for one in frame.to_dict("records")
    ]
    columns = ("task", "metric", "shots", *figures.values())
    print_table(columns, rows, right=("shots", *figures.values()))
    note("SNR: spread between like recipes over noise; level/noise is FineTasks' SNR, on another scale")
    print_omissions([*omissions, *found.omissions])


def effective_json(found: EffectiveCompute, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings`, `families` (runs, multiplier), `runs` (one entry each), `omissions`."""
    return {
        "settings": dict(settings),
        "families": found.efficiency().to_dict("records"),
        "runs": found.to_frame().to_dict("records"),
        "omissions": [asdict(one) for one in found.omissions],
    }


def print_effective(found: EffectiveCompute, settings: Mapping[str, Any]) -> None:
    """The reference and one row per family, the most efficient first."""
    frame = found.to_frame()
    placed = frame["effective_log10_flops"].notna()
    unknown = int((placed & frame["log10_flops"].isna()).sum())
    without = f", without {', '.join(settings['exclude'])} and their suites" if settings["exclude"] else ""
    typer.echo(
        f"in FLOPs of {found.reference}; {int(placed.sum())} of {len(frame)} runs placed by "
        f"{len(found.matrix.keys)} tasks and metrics{without}, {unknown} of them of unknown compute; "
        f"points {settings['points']}"
    )
    rows = [
        (str(one["family"]), f"{one['runs']:,}", f"{one['multiplier']:.2f}x")
        for one in found.efficiency().to_dict("records")
    ]
    print_table(("family", "runs", "multiplier"), rows, right=("runs", "multiplier"))
    note(
        "multiplier: effective over actual FLOPs, the median over runs of known compute; one run says little"
    )
    print_omissions(found.omissions)


def items_json(found: Sequence[ItemReport], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings`, `benchmarks`: items, checkpoints, counts needed, where early and late part, the choice."""
    return {"settings": dict(settings), "benchmarks": [_benchmark(one) for one in found]}


def _benchmark(one: ItemReport) -> dict[str, Any]:
    needed, halves = one.needed, one.halves
    made = {
        "task": one.items.task, "metric": one.items.metric, "items": one.items.n_items,
        "models": len(set(one.items.model.tolist())),
        "checkpoints": needed.checkpoints, "pairs": needed.pairs,
        "flops": [10.0**needed.low, 10.0**needed.high], "mean": needed.mean, "se": needed.se,
        "needed": needed.needed, "needed_paired": needed.needed_paired, "parted_at": 10.0**halves.at,
        "early": len(halves.early), "late": len(halves.late), "neither": len(halves.neither),
    }  # fmt: skip
    if one.choice is not None:
        made["chosen"] = [str(name) for name in one.choice.ids]
    return made


def print_items(found: Sequence[ItemReport], settings: Mapping[str, Any]) -> None:
    """One row per benchmark."""
    where = "all of the data" if settings["stage"] is None else f"{_scale(settings['stage'])} FLOPs"
    typer.echo(f"standard error {settings['se']:g} in the unit of the scores, within {where}")
    rows = []
    for one in map(_benchmark, found):
        rows.append(
            (
                one["task"], one["metric"], f"{one['items']:,}", f"{one['needed']:,}",
                "" if one["needed_paired"] is None else f"{one['needed_paired']:,}", flops(one["parted_at"]),
                f"{one['early']:,}", f"{one['late']:,}", f"{one['neither']:,}", f"{one['mean']:.3g}",
                f"{one['checkpoints']:,}",
            )
        )  # fmt: skip
    columns = (
        "task", "metric", "items", "needed", "for a pair", "parted at", "early", "late", "neither", "mean",
        "checkpoints",
    )  # fmt: skip
    print_table(columns, rows, right=columns[2:])
    note(
        "needed: items for the mean of one model; for a pair: for the difference of two models of like "
        "compute; neither: items that do not improve measurably"
    )


def _scale(value: float | tuple[float, float]) -> str:
    return "..".join(flops(end) for end in value) if isinstance(value, tuple) else flops(value)


def _whole(value: Any) -> str:
    return "" if pd.isna(value) else str(int(value))


def _figure(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
