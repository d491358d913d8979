"""The page about a run: its tables and pictures put into the template."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from evalsuite import figures, report_charts
from evalsuite.report_charts import MARKS, Chart, cost_bar, spark

if TYPE_CHECKING:
    from evalsuite.report import Report

_EVENTS = 300  # lines that the page lists; the journal has all
_ERROR = 240  # characters of an error's text
_FILTERS = ("number", "amount", "flops", "count", "span", "clock", "evidence")
_FRAME = ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")


def page(report: Report) -> str:
    """One HTML file, which asks for nothing else: no script, no address.

    Whatever a task, an error or a setting is called is written as text.

    Args:
        report: what stands on it.
    """
    rules = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    rules.filters |= {name: getattr(figures, name) for name in _FILTERS}
    text = (files("evalsuite") / "templates" / "run.html").read_text(encoding="utf-8")
    told, over = report.to_dict(), report.overview
    for row in told["tasks"]:
        row["spark"] = spark(row["steps"], row["scores"])
    for row in told["missing"]:
        row["why"] = _short(row["why"])
    events, share = told["events"], told["cost"]["share"]
    frame = {name.lower(): getattr(report_charts, name) for name in _FRAME}
    return rules.from_string(text).render(
        told, **frame, state=over.run.told, plan={"average": None, "rate": None} | over.plan,
        charts=report.charts, kinds=_kinds(report.charts),
        threshold=None if over.watched is None else over.watched.threshold,
        forecast="forecast" in over.capabilities, several=len(told["provenance"]["suites"]) > 1,
        bar=None if share is None else cost_bar(share, told["cost"]["budget"]),
        shown=events[-_EVENTS:], hidden=max(0, len(events) - _EVENTS),
    )  # fmt: skip


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _ERROR else f"{text[:_ERROR]}…"


def _kinds(charts: Sequence[Chart]) -> list[tuple[str, str]]:
    """The events that some picture shows, for the legend."""
    there = {one.kind for each in charts for one in each.marks}
    return [(kind, name) for kind, name in MARKS.items() if kind in there]
