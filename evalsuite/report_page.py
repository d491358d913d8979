"""The page about scores, a run, or both: tables and pictures put into the templates."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from evalsuite import figures, report_charts
from evalsuite.display import findings
from evalsuite.report_charts import MARKS, Chart, cost_bar, spark
from evalsuite.report_series import short_flops
from evalsuite.report_windows import ORDER, Picture
from scaling.evidence import CLASSES

if TYPE_CHECKING:
    from evalsuite.report import Report
    from evalsuite.report_scores import ScoreReport

_EVENTS = 300  # lines that the page lists; the journal has all
_ERROR = 240  # characters of an error's text
_FILTERS = ("number", "amount", "flops", "count", "span", "clock", "evidence")
_FRAME = ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")
_COLUMNS = (  # of the table of tasks: what it sorts by, heading, class
    ("task", "task", ""), ("metric", "metric", ""), ("capability", "capability", ""),
    ("class", "class", ""), ("opens", "opens", "n"), ("closes", "closes", "n"), ("snr", "SNR", "n"),
    ("cost", "cost", "n"), ("", "curve", ""), ("weight", "in the suite", ""),
)  # fmt: skip


def page(report: Report | None = None, scores: ScoreReport | None = None) -> str:
    """One HTML file, which asks for nothing else: no address, and no script but its own.

    Whatever a task, an error or a setting is called is written as text. The policy in its head lets a browser
    run one script, by its digest, and none without scores.

    Args:
        report: of a run. scores: of a table. One of the two at least.
    """
    rules = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    rules.filters |= {name: getattr(figures, name) for name in _FILTERS} | {"letter": letter}
    sheets = ["style.css", *(["scores.css"] if scores is not None else [])]
    told: dict[str, Any] = {"run": None, "scores": None, "style": Markup("".join(map(_template, sheets)))}
    if report is not None:
        told |= _run(report)
    if scores is not None:
        told |= _scores(scores, None if report is None else report.overview.run.flops)
    names = [scores.name if scores else "", f"{told['run']['name']} · {told['state']}" if report else ""]
    return rules.get_template("page.html").render(told, title=" · ".join(filter(None, names)))


def letter(number: int) -> str:
    """The name of a cluster on the page, whose numbers are those of suites.

    Example:
        >>> letter(1), letter(26), letter(27)
        ('A', 'Z', 'AA')
    """
    name = ""
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _template(name: str) -> str:
    return (files("evalsuite") / "templates" / name).read_text(encoding="utf-8")


# --- a run ----------------------------------------------------------------------------------------------


def _run(report: Report) -> dict[str, Any]:
    told, over = report.to_dict(), report.overview
    for row in told["tasks"]:
        row["spark"] = spark(row["steps"], row["scores"])
    for row in told["missing"]:
        row["why"] = _short(row["why"])
    events, share = told["events"], told["cost"]["share"]
    return told | {name.lower(): getattr(report_charts, name) for name in _FRAME} | {
        "state": over.run.told, "plan": {"average": None, "rate": None} | over.plan,
        "charts": report.charts, "kinds": _kinds(report.charts),
        "threshold": None if over.watched is None else over.watched.threshold,
        "forecast": "forecast" in over.capabilities, "several": len(told["provenance"]["suites"]) > 1,
        "bar": None if share is None else cost_bar(share, told["cost"]["budget"]),
        "shown": events[-_EVENTS:], "hidden": max(0, len(events) - _EVENTS),
    }  # fmt: skip


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _ERROR else f"{text[:_ERROR]}…"


def _kinds(charts: Sequence[Chart]) -> list[tuple[str, str]]:
    """The events that some picture shows, for the legend."""
    there = {one.kind for each in charts for one in each.marks}
    return [(kind, name) for kind, name in MARKS.items() if kind in there]


# --- scores ---------------------------------------------------------------------------------------------


def _scores(report: ScoreReport, at: float | None) -> dict[str, Any]:
    picture = report.picture(at)
    colour = picture.metrics
    shown = [one | {"p_class": _of_class(one)} for one in report.series]
    suite = report.suite
    told = {
        "name": report.name, "state": _state(report), "sentence": _sentence(report, picture),
        "series": shown, "columns": _COLUMNS, "colour": colour, "unbuilt": report.unbuilt,
        "filters": [
            ("class", "Class", [name for name in ORDER if any(one["class"] == name for one in shown)]),
            ("metric", "Metric", sorted(colour)),
            ("capability", "Capability", sorted({str(one["capability"]) for one in shown})),
        ],
        "clusters": None if report.clusters is None else report.clusters.criterion,
        "groups": report.groups, "alone": report.alone,
        "findings": [] if suite is None else findings(suite),
        "heaviest": 1.0 if suite is None else max(one.weight for one in suite.tasks),
        "provenance": report.provenance, "omissions": report.table.omissions,
    }  # fmt: skip
    script = _template("scores.js")
    return {
        "scores": told, "picture": picture, "suite": suite, "script": Markup(script),
        "script_digest": b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "data": Markup(_inert(report.curves | {"classes": ORDER, "rows": [_row(x, colour) for x in shown]})),
    }  # fmt: skip


def _row(one: dict[str, Any], colour: dict[str, int]) -> dict[str, Any]:
    """What the script knows of a row: what it sorts and filters by, and what stands beside its curve."""
    label = one["metric"] + ("" if one["shots"] is None else f", {one['shots']}-shot")
    p = one["p_class"]
    place = [("in the suite", one["role"] + (f": {one['reason']}" if one["reason"] else ""))]
    early, late, saturated, noisy = ("–" if x is None else f"{x:.2f}" for x in one["p"])
    chances = f"early {early}, late {late}, saturated {saturated}, noisy {noisy}"
    window = [
        (name, told + (f" ({between})" if between else ""))
        for name, told, between in (
            ("opens (FLOPs)", one["opens_told"], one["opens_between"]),
            ("closes (FLOPs)", one["closes_told"], one["closes_between"]),
        )
    ]
    return {
        **{name: one[name] for name in ("task", "metric", "capability", "class", "opens", "closes", "snr")},
        "cost": one["cost"], "p": p, "label": label, "colour": colour[one["metric"]],
        # Held out comes after what is scored, before what is out.
        "weight": {"scored": one["weight"], "held out": 0.0, "out": -1.0}.get(one["role"]),
        "told": f"{label}: {one['class']}" + ("" if p is None else f", probability {p:.2f}"),
        "evidence": one["evidence"],
        "figures": [("probability", chances), *window, *one["figures"], *(place if one["role"] else [])],
    }  # fmt: skip


def _of_class(one: dict[str, Any]) -> float | None:
    return one["p"][CLASSES.index(one["class"])] if one["class"] in CLASSES else None


def _inert(data: Any) -> str:
    """JSON that no HTML can break out of."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _state(report: ScoreReport) -> str:
    frame = report.shown.frame
    known = frame["flops"][frame["flops"] > 0]
    told = f"{frame['task'].nunique():,} tasks, {frame['model'].nunique():,} models"
    told += f", {short_flops(known.min())} to {short_flops(known.max())} FLOPs"
    stage = report.classification.settings.stage
    return told + (f"; stage {short_flops(stage[0])} to {short_flops(stage[1])}" if stage else "")


def _sentence(report: ScoreReport, picture: Picture) -> str:
    """What the picture of windows shows."""
    settings = report.classification.settings
    counts = [f"{picture.counts[name]} {name}" for name in ORDER if picture.counts.get(name)]
    return (
        "A bar spans the compute over which a task tells a better model from a worse one (of two models a "
        f"factor of two apart, the larger scores better with a probability of {settings.threshold:g} or "
        f"more): of {picture.tasks:,} tasks, by their best metric, {', '.join(counts)}, where early means "
        f"open by {short_flops(settings.early_by)} FLOPs."
    )
