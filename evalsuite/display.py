"""Suites on a terminal; nothing is loaded until it is shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    from evalsuite.findings import DecisionLine, QualityLine
    from evalsuite.suite import Suite


def show(suite: Suite) -> None:
    """Print a suite as a table, by cluster, and what is known of it as a whole."""
    print(f"stage {suite.stage} FLOPs, early by {suite.early_by:g}; {suite.criterion}")
    from evalsuite.suite import Task

    rows = []
    for role, items in (("scored", suite.tasks), ("held out", suite.held_out)):
        for item in items:
            one = item.evidence
            p = max(one.p.early, one.p.late) if one.p else None
            scored = isinstance(item, Task)
            weight = f"{item.weight:.3g}" if scored else ""
            asked = "" if item.items is None else f"{item.items:,}"
            if scored and item.of is not None:
                asked += f" of {item.of:,}" + (" (named)" if item.item_ids else "")
            cost = f"{item.cost:,}" if scored and item.cost is not None else ""
            opens = ("<" if one.before_data else "") + _figure(one.opens)
            shots = "" if item.shots is None else str(item.shots)
            place = (str(item.cluster), item.task, item.metric, shots, role, weight, asked, cost)
            rows.append((*place, one.klass, _figure(p), opens, _figure(one.closes), _figure(one.dp)))
    rows.sort(key=lambda row: int(row[0]))
    head = (
        "cluster", "task", "metric", "shots", "", "weight", "items", "tokens", "class", "p", "opens",
        "closes", "DP",
    )  # fmt: skip
    print_table(head, rows)
    print(f"{len(suite.dropped)} task(s) dropped, each with its reason in the file")
    if suite.note:
        print(f"note: {suite.note}")
    for line in findings(suite):
        print(line)


def findings(suite: Suite) -> list[str]:
    """Cost, quality, decisions and stability of a suite, a line each."""
    lines = []
    if (one := suite.budget) is not None:
        counts = {"measured": one.measured, "from facts": one.facts, "assumed": one.assumed}
        known = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        asked = f" (budget {one.budget})" if one.budget else ""
        lines.append(
            f"cost: {one.tokens:,} tokens per model, {one.tokens / one.full:.0%} of {one.full:,}{asked}; "
            f"item sizes {known}; standard error of the score against all items {one.error:.2g}"
        )
    if (two := suite.quality) is not None:
        lines.append(_quality(two))
    if (three := suite.decisions) is not None:
        lines.append(_decisions(three))
    if (four := suite.stability) is None:
        lines.append("stability: not measured (build with --leave-families-out)")
    elif None in (four.changed, four.worst_changed, four.unstable, four.places):
        lines.append(f"stability: no family can be left out: {four.note}")
    else:
        lines.append(
            f"stability: without one of {four.families} families {four.changed:.1%} of the classes change on "
            f"average, {four.worst_changed:.1%} without {four.worst}; {four.unstable:.0%} of the tasks "
            f"change class without some family; {four.places:.2g} tasks enter or leave the suite on average"
            + (f" ({four.note})" if four.note else "")
        )
    return lines


def _quality(one: QualityLine) -> str:
    if not one.choices:
        return f"quality: not measured: {one.note}"
    told = ", ".join(
        f"{way.choice} {way.agreement:.2f} [{way.low:.2f}, {way.high:.2f}] at {way.cost:.0%} of the cost"
        for way in one.choices
    )
    line = f"quality ({one.measure}, models and benchmarks held out, {one.groups} runs or recipes): {told}"
    if (gap := one.against_all) is not None:
        line += f"; suite less all tasks {gap[0]:+.3f} [{gap[1]:+.3f}, {gap[2]:+.3f}]"
    if one.above is not None and one.random_mean_high is not None:
        line += (
            f"; above {one.above:.0%} of the equally costly random suites (95th percentile of random "
            f"choosing: {one.random_mean_high:.2f})"
        )
    return line


def _decisions(one: DecisionLine) -> str:
    if one.share is None or one.low is None or one.high is None:
        return f"decision accuracy: not measured: {one.note}"
    rest = ", ".join(
        f"{name} {value:.2f}"
        for name, value in (("all tasks", one.all_tasks), ("random tasks", one.random))
        if value is not None
    )
    return (
        f"decision accuracy, stage against larger runs: {one.share:.2f} [{one.low:.2f}, {one.high:.2f}] of "
        f"{one.pairs} pairs of {one.recipes} recipes ({one.refused} refused); {rest}"
        + (f"; {one.note}" if one.note else "")
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows under their head."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Through a pipe nobody knows the width; wide enough that no cell is folded.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 400).print(table)


def print_json(data: Suite | dict) -> None:
    """Print a suite or plain data as JSON."""
    plain = data if isinstance(data, dict) else data.model_dump(mode="json", by_alias=True)
    print(json.dumps(plain, ensure_ascii=False, indent=2))


def print_frames(frames: dict[str, DataFrame | None], as_json: bool) -> None:
    """Print frames one after the other, or as JSON under their names; None is left out."""
    there = {name: frame for name, frame in frames.items() if frame is not None}
    if as_json:
        print_json({name: records(frame) for name, frame in there.items()})
        return
    for frame in there.values():
        rows = [tuple(map(cell, row)) for row in frame.itertuples(index=False)]
        print_table(tuple(map(str, frame.columns)), rows)


def records(frame: DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain data; None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [
        {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}
        for row in plain.to_dict("records")
    ]


def cell(value: Any) -> str:
    """A value in a table: four digits, nothing for what is missing."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if value is None or str(value) in ("nan", "<NA>"):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def say(text: str) -> None:
    """A message, on stderr."""
    print(text, file=sys.stderr)
