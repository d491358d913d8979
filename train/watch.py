"""A run in the terminal: where it is, what it can do, and what stands out, as it trains."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.figures import amount, evidence, flops, number, span
from evalsuite.overview import Overview
from evalsuite.report import Report
from evalsuite.run_state import RunState
from scaling.errors import StagewiseError
from train.lock import LOCK

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_EVENTS = 6  # the newest that are shown
_MISSING = 4
_WIDE = 400  # columns off a terminal, where nobody knows the width, so that no cell is folded
_TRIES = 3  # in a row that a folder may be unreadable


def picture(overview: Overview, trouble: str = "", width: int = _WIDE) -> RenderableType:
    """A run as `rich` prints it.

    Args:
        overview: of the run. trouble: what just went wrong in reading it. width: columns that there are.
    """
    from rich.console import Group
    from rich.table import Table

    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim", no_wrap=True)
    head.add_column(overflow="fold")
    for label, text, style in _head(overview, trouble):
        head.add_row(label, _text(text, style))
    parts: list[RenderableType] = [head, ""]
    parts.append(_capabilities(overview, narrow=width < 88))
    events = _events(overview)
    if events.row_count:
        parts += ["", events]
    return Group(*parts)


def follow(
    folder: Path, every: float, console: Console, *, wait: Callable[[float], None] = time.sleep
) -> Overview:
    """Show a run until its last step is done, or Ctrl-C.

    Args:
        folder: of the run. every: seconds between two looks. console: a terminal. wait: what passes the time.

    Raises:
        StagewiseError: no run, or a folder that cannot be read any more.
    """
    from rich.live import Live

    found, failed, trouble = Overview.open(folder), 0, ""
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(picture(found, trouble, console.width), refresh=True)
                if over(found.run):
                    return found
                wait(every)
                try:
                    found, failed, trouble = Overview.open(folder, before=found), 0, ""
                except (StagewiseError, OSError) as error:  # a disk that is slow, a folder that is moved
                    failed, trouble = failed + 1, str(error)
                    if failed >= _TRIES:
                        raise
        except KeyboardInterrupt:
            return found


def over(run: RunState) -> bool:
    """Whether the last step is done, and the process that did it is no longer at work."""
    return run.ended and not _holder(run.folder)


def plain(overview: Overview) -> dict[str, Any]:
    """What the picture shows, as data: run, capabilities, alarms, missing, problems."""
    told = Report(overview).to_dict()
    run = told["run"] | {
        "rate": overview.run.rate, "phase": overview.run.phase, "mixture": mixture(overview.run),
        "share": overview.share, "budget": overview.plan.get("budget"),
        "evaluated": overview.last[0].step if overview.last else None, "validation": overview.run.bpb,
    }  # fmt: skip
    kept = ("capabilities", "alarms", "missing", "doubts", "problems")
    return {"run": run, **{name: told[name] for name in kept}}


def mixture(run: RunState) -> str:
    """The phase of the mixture in words, by its number in the log; empty where there is none.

    Example:
        >>> told = {"mixture": {"code": "0.5 until 40%, then 0", "prose": 0.5}}
        >>> mixture(RunState(Path("a"), "a", Path("a"), step=50, steps=100, phase=1, config=told))
        'phase 1: code 0%, prose 100%'
    """
    if type(run.phase) is not int:
        return "" if run.phase is None else f"phase {run.phase}"
    from data.errors import DataError
    from data.mixture import Mixture

    try:
        found = Mixture.parse(run.config.get("mixture", {})).resolve(run.steps or 0)
        weights = found.weights[run.phase]
    except (DataError, IndexError):
        return f"phase {run.phase}"
    told = ", ".join(f"{name} {share:.0%}" for name, share in zip(found.domains, weights, strict=True))
    return f"phase {run.phase}: {told}"


def _head(overview: Overview, trouble: str) -> list[tuple[str, str, str]]:
    """What stands above the table: label, text, style."""
    run = overview.run
    parts = [
        run.told + (", stopped" if not run.ended and _stopped(run.folder) else ""),
        "" if run.loss is None else f"loss {run.loss:.3f}",
        "" if run.tokens is None else f"{amount(run.tokens)} tokens",
        "" if run.flops is None else f"{flops(run.flops)} FLOPs",
        "" if run.rate is None else f"learning rate {run.rate:.3g}",
    ]
    lines = [(run.name, " · ".join(filter(None, parts)), "bold")]
    if phase := mixture(run):
        lines.append(("mixture", phase, ""))
    if run.bpb:
        lines.append(("held out", ", ".join(f"{k} {v:.3f}" for k, v in run.bpb.items() if v is not None), ""))
    lines += [(label, text, style) for label, text, style in _evaluation(overview) if text]
    lines += [("unreadable", one, "red") for one in overview.problems]
    if trouble:
        lines.append(("unreadable", f"{trouble}; trying again", "red"))
    return lines


def _evaluation(overview: Overview) -> list[tuple[str, str, str]]:
    last, share, budget = overview.last, overview.share, overview.plan.get("budget")
    if not last:
        return [("evaluation", "none yet", "dim"), *_missing(overview)]
    names = ", ".join(one.suite for one in last)
    members = last[-1].members
    of = f", mean of steps {members[0]:,} to {members[-1]:,}" if len(members) > 1 else ""
    told = f"last at step {last[0].step:,} ({names}{of})"
    if share is not None:
        told += f" · {share:.2%} of training time" + (f", {budget:.1%} allowed" if budget else ", no limit")
    late = budget is not None and share is not None and share > 1.1 * budget
    doubts = dict.fromkeys(why for one in last for why in one.doubts)
    return [
        ("evaluation", told, "yellow" if late else ""), *(("doubted", why, "yellow") for why in doubts),
        *_missing(overview),
    ]  # fmt: skip


def _missing(overview: Overview) -> list[tuple[str, str, str]]:
    rows: list[dict[str, Any]] = Report(overview).missing.to_dict("records")  # pyright: ignore
    lines = []
    for row in sorted(rows, key=lambda one: -one["last"])[:_MISSING]:
        where = f" of {row['suite']}" if row["suite"] else ""
        lines.append(("missing", f"{row['task']}{where}, {span(row)}: {row['why']}", "yellow"))
    if len(rows) > _MISSING:
        lines.append(("", f"and {len(rows) - _MISSING} more; see evalsuite report", "dim"))
    return lines


def _capabilities(overview: Overview, narrow: bool) -> RenderableType:
    """The table; alarms first."""
    from rich import box
    from rich.table import Table

    found = overview.capabilities.to_dict("records")
    if not found:
        return _text("no capability judged yet", "dim")
    several = len({row["suite"] for row in found}) > 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    names = ["capability", *(["suite"] if several else []), "now", "expected", "trend", "evidence", "alarm"]
    for name in names:
        right = name in ("now", "expected", "trend", "evidence")
        first = name == "capability"
        table.add_column(
            name, justify="right" if right else "left", no_wrap=not first, min_width=12 if first else None
        )
    for row in sorted(found, key=lambda one: not one["alarm"]):
        band = f"{number(row['low'])} to {number(row['high'])}"
        below = "" if narrow else f", {number(row['size'])} below"
        told = f"since step {row['since']:,}{below}" if row["alarm"] else row["status"]
        cells = [
            row["capability"], *([row["suite"]] if several else []), number(row["now"]),
            number(row["expected"]) if narrow else band, number(row["trend"], sign=True),
            evidence(row["evidence"]),
        ]  # fmt: skip
        style = "bold red" if row["alarm"] else ""
        table.add_row(*(_text(cell, style) for cell in cells), _text(told, style or "dim"))
    return table


def _events(overview: Overview) -> Any:
    """The newest events, and every alarm with what changed near it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in () if overview.watched is None else overview.watched.alarms:
        table.add_row(f"{one.noticed:,}", _text("alarm", "bold red"), _text(str(one), "bold red"))
    events = overview.evaluations.events
    for row in events[events["kind"] != "alarm"].tail(_EVENTS).to_dict("records"):
        table.add_row(f"{row['step']:,}", _text(row["kind"], "dim"), _text(row["text"]))
    return table


def _text(told: str, style: str = "") -> Any:
    """Text as it is: names and errors are not ours, and may hold what a terminal would obey."""
    from rich.text import Text

    return Text("".join(one if one.isprintable() else " " for one in told), style=style)


def _holder(folder: Path) -> bool:
    """Whether a process says that it is at work on a run, as far as can be told from here."""
    try:
        told = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        pid, host = int(told["pid"]), told["host"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _stopped(folder: Path) -> bool:
    """Whether a run was ended in order, so that it waits to be resumed."""
    path = folder / LOCK
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
