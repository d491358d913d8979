"""What a hook measured along a training run: its evaluations, and what happened near them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from evalsuite.measures import summarise
from evalsuite.results import Results
from evalsuite.run_log import read
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable

JOURNAL, SNAPSHOTS = "journal.jsonl", "snapshots"
_TOLD = ("failed", "thinned", "skipped", "switched", "phase", "rate", "spike", "alarm")


@dataclass(frozen=True)
class Evaluation:
    """One suite on one model of a run.

    Attributes:
        step, tokens, flops, seconds: where the run was; seconds of training.
        suite: its name. path: folder of the results.
        members: steps of the snapshots whose mean was scored. averaged: whether it was a mean; else the
            weights as they were. doubts: why the mean is not to be trusted.
        items: share of the items that was asked. missing: tasks that could not be scored, with the reason.
        speed: seconds it took, and the like.
    """

    step: int
    suite: str
    path: Path
    tokens: float | None = None
    flops: float | None = None
    seconds: float | None = None
    members: tuple[int, ...] = ()
    averaged: bool = True
    doubts: tuple[str, ...] = ()
    items: float = 1.0
    missing: tuple[Mapping[str, Any], ...] = ()
    speed: Mapping[str, float] = field(default_factory=dict, compare=False)

    @cached_property
    def results(self) -> Results:
        """The folder of its results, read once.

        Raises:
            StagewiseError: it is gone or broken.
        """
        return Results.open(self.path)

    @cached_property
    def scores(self) -> tuple[Mapping[str, Any], ...]:
        """Of each task that has its metric: task, metric, shots, score, stderr, n_items; worked out once."""
        found = []
        for done in self.results.manifest.tasks:
            made = next((row for row in done.rows if row.metric == done.metric), None)
            if made is None and done.file is not None:
                estimates = summarise(self.results.likelihoods(done)).estimates
                made = next((one for one in estimates if one.metric == done.metric), None)
            if made is not None:
                stderr = float("nan") if made.stderr is None else made.stderr
                told = {"score": made.score, "stderr": stderr, "n_items": made.n_items or 0}
                found.append({"task": done.task, "metric": done.metric, "shots": done.shots, **told})
        return tuple(found)

    @property
    def beside(self) -> bool:
        """Whether it is of plain weights beside a mean, by the name of its folder."""
        return not self.averaged and self.path.name != self.suite

    @classmethod
    def of(cls, folder: Path, event: Mapping[str, Any]) -> Evaluation:
        """From its line of the journal."""
        return cls(
            step=event["step"], suite=event["suite"], path=folder / event["folder"], tokens=event["tokens"],
            flops=event["flops"], seconds=event["seconds"], members=tuple(event["members"]),
            averaged=event["averaged"], doubts=tuple(event["doubts"]), items=event["items"],
            missing=tuple(event["missing"]), speed=event["speed"],
        )  # fmt: skip

    def told(self, folder: Path) -> dict[str, Any]:
        """Its line of the journal."""
        return {
            "step": self.step, "kind": "evaluation", "suite": self.suite,
            "folder": self.path.relative_to(folder).as_posix(), "tokens": self.tokens, "flops": self.flops,
            "seconds": self.seconds, "members": list(self.members), "averaged": self.averaged,
            "doubts": list(self.doubts), "items": self.items, "missing": list(self.missing),
            "speed": dict(self.speed),
        }  # fmt: skip


@dataclass(frozen=True)
class Evaluations:
    """Everything a hook wrote into its folder.

    Attributes:
        folder: of the hook. journal: its lines, in order. all: the evaluations of means (and of plain weights
            where nothing was averaged), by step. raw: those of plain weights beside a mean.

    Example:
        >>> Evaluations.open("runs/a/evals").series().head()         # doctest: +SKIP
    """

    folder: Path
    journal: tuple[Mapping[str, Any], ...]
    all: tuple[Evaluation, ...]
    raw: tuple[Evaluation, ...] = ()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Evaluations:
        """Read the journal of a hook: of its folder, or of the folder of a run that has one in `evals`.

        Raises:
            StagewiseError: no journal there, or a broken line.
        """
        path = Path(folder)
        if not (path / JOURNAL).is_file() and (path / "evals" / JOURNAL).is_file():
            path = path / "evals"
        if not (path / JOURNAL).is_file():
            raise StagewiseError(
                f"{folder}: holds no {JOURNAL}; give the folder of an EvalHook, or of a run that was watched"
            )
        return cls.of(path, read(path / JOURNAL))

    @classmethod
    def of(cls, folder: Path, journal: Sequence[Mapping[str, Any]]) -> Evaluations:
        """From the lines of a journal."""
        found = [Evaluation.of(folder, one) for one in journal if one["kind"] == "evaluation"]
        # Written once more after a kill: the later line counts.
        latest = {(one.step, one.suite, one.averaged, one.path): one for one in found}
        kept = sorted(latest.values(), key=lambda one: (one.step, one.suite))
        raw = tuple(one for one in kept if one.beside)  # whether or not the mean could be scored
        return cls(folder, tuple(journal), tuple(one for one in kept if not one.beside), raw)

    def also(self, event: Mapping[str, Any]) -> Evaluations:
        """With one more line; evaluations that were read stay read."""
        if event["kind"] != "evaluation":
            return replace(self, journal=(*self.journal, event))
        there = {(one.step, one.suite, one.path): one for one in (*self.all, *self.raw)}
        made = Evaluations.of(self.folder, (*self.journal, event))
        new = (event["step"], event["suite"], self.folder / event["folder"])

        def old(one: Evaluation) -> Evaluation:
            key = (one.step, one.suite, one.path)
            return one if key == new else there.get(key, one)

        return replace(made, all=tuple(map(old, made.all)), raw=tuple(map(old, made.raw)))

    @property
    def plan(self) -> Mapping[str, Any]:
        """What the hook was told to do, by its last `plan` line; empty where there is none."""
        found = [one for one in self.journal if one["kind"] == "plan"]
        return found[-1] if found else {}

    @cached_property
    def tasks(self) -> dict[tuple[str, str, str, int | None], Mapping[str, Any]]:
        """Cluster, weight and capability by (suite, task, metric, shots), of all plans."""
        return {
            (suite["name"], task["task"], task["metric"], task["shots"]): task
            for plan in self.journal
            if plan["kind"] == "plan"
            for suite in plan["suites"]
            for task in suite["tasks"]
        }

    @property
    def events(self) -> pd.DataFrame:
        """What happened beside evaluations: step, kind, text."""
        rows = [
            {"step": one["step"], "kind": one["kind"], "text": _words(one)}
            for one in self.journal
            if one["kind"] in _TOLD
        ]
        return pd.DataFrame(rows, columns=["step", "kind", "text"])

    @property
    def failures(self) -> pd.DataFrame:
        """What could not be measured: step, suite, task, why."""
        rows = [
            {
                "step": one["step"],
                "suite": one.get("suite", ""),
                "task": one.get("what", ""),
                "why": one["why"],
            }
            for one in self.journal
            if one["kind"] == "failed"
        ]
        rows += [
            {"step": one.step, "suite": one.suite, "task": lost["task"], "why": lost["why"]}
            for one in (*self.all, *self.raw)
            for lost in one.missing
        ]
        return pd.DataFrame(rows, columns=["step", "suite", "task", "why"]).sort_values("step", kind="stable")

    def table(self) -> ScoreTable:
        """The score rows of all evaluations.

        Raises:
            StagewiseError: there are none.
        """
        frames = [one.results.table().frame for one in (*self.all, *self.raw) if one.results.manifest.tasks]
        if not frames:
            raise StagewiseError(f"{self.folder}: no scores yet; the first evaluation has not ended")
        rows = pd.concat(frames, ignore_index=True)
        # Stages overlap: of a task in two suites the scores are the same.
        keys = ["source", "model", "step", "seed", "variant", "task", "metric", "shots"]
        return ScoreTable.from_frame(rows.drop_duplicates(keys), where=str(self.folder))

    def series(self) -> pd.DataFrame:
        """One row per evaluation and task, by the metric of its suite.

        Columns: step, tokens, flops, suite, cluster, capability, task, metric, shots, weight, score, stderr,
        n_items, first, last (steps of the oldest and the newest snapshot), averaged.
        """
        rows = []
        for one in self.all:
            for row in one.scores:
                about = self.tasks.get((one.suite, row["task"], row["metric"], row["shots"]))
                if about is None:
                    continue
                rows.append(
                    {
                        **row, "step": one.step, "tokens": one.tokens, "flops": one.flops, "suite": one.suite,
                        "cluster": about["cluster"], "capability": about["capability"],
                        "weight": about["weight"], "first": min(one.members, default=one.step),
                        "last": max(one.members, default=one.step), "averaged": one.averaged,
                    }
                )  # fmt: skip
        columns = [
            "step", "tokens", "flops", "suite", "cluster", "capability", "task", "metric", "shots", "weight",
            "score", "stderr", "n_items", "first", "last", "averaged",
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"tokens": float, "flops": float, "shots": "Int64"})

    def to_frame(self) -> pd.DataFrame:
        """`series`."""
        return self.series()

    def _repr_html_(self) -> str:
        return self.series().to_html(index=False)


def _words(event: Mapping[str, Any]) -> str:
    """An event in words."""
    kind = event["kind"]
    if kind == "phase":
        return f"mixture phase {event['phase']} begins"
    if kind == "rate":
        return f"learning rate {event['before']:.3g} -> {event['after']:.3g}"
    if kind == "spike":
        return f"loss {event['loss']} where about {event['usual']:.3g} is usual"
    if kind == "alarm":
        return f"{event['capability']} falls behind since step {event['since']}"
    return str(event.get("why", ""))
