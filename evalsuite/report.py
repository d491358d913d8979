"""What the evaluations of a run found, what is missing, and what they cost: as tables, and as a page."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.overview import Overview
from evalsuite.report_charts import Chart, chart
from scaling.errors import StagewiseError
from scaling.files import replacing
from scaling.metrics import metric_info


@dataclass(frozen=True)
class Report:
    """A run as tables, and as a page.

    Attributes:
        overview: of the run.

    Example:
        >>> Report.of("runs/a").write("report.html")             # doctest: +SKIP
    """

    overview: Overview

    @classmethod
    def of(cls, folder: str | os.PathLike[str], *, forecast: Any = None) -> Report:
        """Read a run.

        Args:
            folder: of the run, or of the hook of another trainer.
            forecast: curves for the expected bands, as for `evalsuite.alarms.watch`.

        Raises:
            StagewiseError: no run, or one that nothing watches.
        """
        found = Overview.open(folder, forecast=forecast)
        if not found.evaluations.journal:
            raise StagewiseError(
                f"{folder}: the run has no journal of evaluations yet; train it with an EvalHook, and wait "
                "for its first step"
            )
        return cls(found)

    @cached_property
    def series(self) -> pd.DataFrame:
        """One row per evaluation and task: `Evaluations.series`."""
        return self.overview.evaluations.series()

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """One row per suite and task: step, now, first, change, better, stderr, n_items, steps, scores.

        `better` says whether the change is one to the better; NA where it is within two standard errors of
        both, taken as independent (on the safe side where both asked the same items), and where no direction
        is better.
        """
        rows = []
        for (suite, task, metric, shots), one in self.series.groupby(
            ["suite", "task", "metric", "shots"], sort=False, dropna=False
        ):
            first, now = one.iloc[0], one.iloc[-1]
            change = now["score"] - first["score"]
            up = metric_info(str(metric)).higher_is_better
            clear = abs(change) > 2 * math.hypot(first["stderr"], now["stderr"])
            rows.append(
                {
                    "suite": suite, "task": task, "metric": metric, "shots": shots,
                    "cluster": now["cluster"], "capability": now["capability"], "step": int(now["step"]),
                    "now": now["score"], "first": first["score"], "change": change,
                    "better": pd.NA if up is None or not clear else bool((change > 0) == up),
                    "stderr": now["stderr"], "n_items": int(now["n_items"]),
                    "steps": one["step"].tolist(), "scores": one["score"].tolist(),
                }
            )  # fmt: skip
        columns = [
            "suite", "task", "metric", "shots", "cluster", "capability", "step", "now", "first", "change",
            "better", "stderr", "n_items", "steps", "scores",
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns).astype({"better": "boolean"})

    @cached_property
    def missing(self) -> pd.DataFrame:
        """What could not be measured: suite, task, why (the last time), first, last (steps), times."""
        return _again(self.overview.evaluations.failures, ["suite", "task"])

    @cached_property
    def doubts(self) -> pd.DataFrame:
        """Why means are not to be trusted: suite, why (the last time), first, last (steps), times."""
        rows = [
            {"suite": one.suite, "why": why, "step": one.step}
            for one in self.overview.evaluations.all
            for why in one.doubts
        ]
        return _again(pd.DataFrame(rows, columns=["suite", "why", "step"]), ["suite"])

    @cached_property
    def limits(self) -> pd.DataFrame:
        """What was left out for time, and when suites changed: kind, first, last, times, why (the last)."""
        events = self.overview.evaluations.events
        rows = []
        for kind in ("thinned", "skipped", "switched"):
            found = events[events["kind"] == kind]
            # Each thinning and each change of suites is another; the last of many skips tells enough.
            groups = [found] if kind == "skipped" else [found.iloc[[i]] for i in range(len(found))]
            rows += [
                {"kind": kind, "first": int(one["step"].iloc[0]), "last": int(one["step"].iloc[-1]),
                 "times": len(one), "why": one["text"].iloc[-1]}
                for one in groups if len(one)
            ]  # fmt: skip
        return pd.DataFrame(rows, columns=["kind", "first", "last", "times", "why"])

    @cached_property
    def cost(self) -> pd.DataFrame:
        """One row per evaluation: step, suite, tokens, flops, members, seconds, items (share), missing,
        weights (digest)."""
        found = self.overview.evaluations
        rows = [
            {
                "step": one.step, "suite": one.suite, "averaged": one.averaged, "tokens": one.tokens,
                "flops": one.flops, "members": list(one.members), "seconds": one.speed.get("seconds"),
                "items": one.items, "missing": len(one.missing), "weights": one.results.manifest.model.digest,
            }
            for one in found.all
        ]  # fmt: skip
        columns = [
            "step", "suite", "averaged", "tokens", "flops", "members", "seconds", "items", "missing",
            "weights",
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns).astype({"seconds": float})

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, tokenizer, numbers and suites, of the newest evaluation of each suite."""
        newest = {one.suite: one.results.manifest for one in self.overview.evaluations.all}
        told = {"versions": {}, "tokenizer": None, "dtype": None, "max_length": None, "convention": None}
        if newest:
            last = list(newest.values())[-1]
            told = {
                "versions": dict(last.versions), "tokenizer": last.model.tokenizer, "dtype": last.model.dtype,
                "max_length": last.model.max_length, "convention": last.convention,
            }  # fmt: skip
        return told | {
            "suites": {name: one.suite.digest if one.suite else None for name, one in newest.items()},
        }  # fmt: skip

    @cached_property
    def charts(self) -> list[Chart]:
        """A picture per capability, in the order of the table."""
        watched = self.overview.watched
        if watched is None:
            return []
        history, events = watched.history, self.overview.evaluations.events
        last = max(self.overview.run.step, int(history["step"].max()) if len(history) else 1)
        alarms = {(one.suite, one.capability): (one.since, one.noticed) for one in watched.alarms}
        parts = {key: one for key, one in history.groupby(["suite", "capability"], sort=False)}
        rows = {(row["suite"], row["capability"]): row for row in _rows(self.overview.capabilities)}
        return [
            chart(
                name, suite, parts[suite, name], last, events, alarms.get((suite, name)), _scale(row["scale"])
            )
            for (suite, name), row in rows.items()
        ]

    def to_frame(self) -> pd.DataFrame:
        """`tasks`."""
        return self.tasks

    def to_dict(self) -> dict[str, Any]:
        """Everything on the page, as plain data."""
        over = self.overview
        training, spent = over.seconds
        alarms = () if over.watched is None else over.watched.alarms
        return {
            "run": {
                "name": over.run.name, "step": over.run.step, "steps": over.run.steps,
                "ended": over.run.ended, "tokens": over.run.tokens, "flops": over.run.flops,
                "loss": over.run.loss,
                "suites": [one["name"] for one in over.plan.get("suites", ())],
            },
            "alarms": [
                {"capability": one.capability, "suite": one.suite, "since": one.since, "noticed": one.noticed,
                 "size": one.size, "lost": one.lost, "evidence": one.evidence, "near": list(one.near)}
                for one in alarms
            ],
            "capabilities": _rows(over.capabilities),
            "tasks": _rows(self.tasks),
            "missing": _rows(self.missing), "doubts": _rows(self.doubts), "limits": _rows(self.limits),
            "problems": list(over.problems),
            "cost": {
                "training_seconds": training, "evaluation_seconds": spent, "share": over.share,
                "budget": over.plan.get("budget"), "evaluations": _rows(self.cost),
            },
            "events": _rows(over.evaluations.events),
            "provenance": self.provenance,
        }  # fmt: skip

    def html(self) -> str:
        """The page; the same run gives the same text."""
        from evalsuite.report_page import page

        return page(self)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        with replacing(path) as part:
            part.write_text(self.html(), encoding="utf-8")

    def _repr_html_(self) -> str:
        return self.tasks.drop(columns=["steps", "scores"]).to_html(index=False)


def _again(found: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """What happened again and again in one row, also where only figures in its text differ."""
    kind = found["why"].astype(str).str.replace(r"\d[\d.,]*", "#", regex=True)
    parts = found.assign(kind=kind).groupby([*by, "kind"], sort=False)
    told = parts.agg(
        why=("why", "last"), first=("step", "min"), last=("step", "max"), times=("step", "size")
    )  # fmt: skip
    return told.reset_index().drop(columns="kind").sort_values("first", kind="stable")


def _scale(told: str) -> str:
    """What the scores of a capability are on, for its picture."""
    return "scale of the headline" if told == "both" else told


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data; None for what is missing."""

    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple | np.ndarray):
            return [plain(one) for one in value]
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            return None
        return value.item() if isinstance(value, np.generic) else value

    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]
