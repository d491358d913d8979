"""Suites on a terminal; nothing is loaded until it is shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalsuite.suite import Suite


def show(suite: Suite) -> None:
    """Print a suite as a table, by cluster."""
    print(f"stage {suite.stage} FLOPs, early by {suite.early_by:g}; {suite.criterion}")
    from evalsuite.suite import Task

    rows = []
    for role, items in (("scored", suite.tasks), ("held out", suite.held_out)):
        for item in items:
            one = item.evidence
            p = max(one.p.early, one.p.late) if one.p else None
            weight = f"{item.weight:.3g}" if isinstance(item, Task) else ""
            opens = ("<" if one.before_data else "") + _figure(one.opens)
            shots = "" if item.shots is None else str(item.shots)
            place = (str(item.cluster), item.task, item.metric, shots, role, weight)
            rows.append((*place, one.klass, _figure(p), opens, _figure(one.closes), _figure(one.dp)))
    rows.sort(key=lambda row: int(row[0]))
    head = ("cluster", "task", "metric", "shots", "", "weight", "class", "p", "opens", "closes", "DP")
    print_table(head, rows)
    print(f"{len(suite.dropped)} task(s) dropped, each with its reason in the file")


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
