"""Folders of watched runs, made by hand in a moment: what a hook would have left, with scores put in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.alarms import Alarm, Watched
from evalsuite.evaluations import JOURNAL, Evaluation
from evalsuite.results import Done, Identity, Manifest, Missing, ModelRef, Row, SuiteRef
from evalsuite.run_log import RunLog

Curve = Callable[[int], float]  # step -> score


@dataclass(frozen=True)
class Watching:
    """One task of a made-up run."""

    task: str
    capability: str
    curve: Curve
    metric: str = "bpb"
    items: int = 400


def falling(start: float, end: float, by: float) -> Curve:
    """Bits per byte that fall towards `end` by a power law."""
    return lambda step: end + (start - end) * (1 + step / by) ** -0.5


def lost_at(curve: Curve, step: int, per_step: float) -> Curve:
    """A curve that gets worse from a step on."""
    return lambda now: curve(now) if now < step else curve(step) + per_step * (now - step)


TASKS = (
    Watching("skill_copy", "symbolic", falling(2.4, 0.6, 90)),
    Watching("skill_add", "arithmetic", falling(2.8, 1.2, 150)),
    Watching("skill_brackets", "code", lost_at(falling(2.2, 0.9, 120), 2000, 3e-4)),
    Watching("skill_names", "code", lost_at(falling(2.6, 1.1, 100), 2000, 4e-4)),
)
EVENTS: tuple[dict[str, Any], ...] = (
    {"step": 300, "kind": "rate", "before": 0.00299, "after": 0.003},
    {"step": 1350, "kind": "spike", "loss": 4.2, "usual": 2.31},
    {"step": 1980, "kind": "phase", "phase": 1},
)


def hook_folder(
    folder: Path, steps: Sequence[int], *, tasks: Sequence[Watching] = TASKS,
    suites: Sequence[str] = ("early",), events: Sequence[Mapping[str, Any]] = EVENTS,
    missing: Mapping[int, Mapping[str, str]] | None = None, doubts: Mapping[int, Sequence[str]] | None = None,
    seed: int = 0, noise: float = 0.006, budget: float = 0.02, model: str = "run", seconds: float = 3.2,
) -> Path:  # fmt: skip
    """What a hook leaves.

    Args:
        folder: to make. steps: of the evaluations. tasks: of every suite. suites: names.
        events: other lines of the journal. missing: by step, why by task. doubts: by step.
        seed, noise: of the scores. budget, model: of the plan. seconds: an evaluation takes.
    """
    draw = np.random.default_rng(seed)
    told = [
        {"task": one.task, "metric": one.metric, "shots": None, "cluster": one.capability,
         "weight": 1 / len(tasks), "capability": one.capability}
        for one in tasks
    ]  # fmt: skip
    plan = {
        "step": 1, "kind": "plan", "every": steps[0] if steps else 100, "budget": budget, "rate": 0.05,
        "model": model,
        "suites": [{"name": one, "low": 0.0, "high": math.inf, "tasks": told} for one in suites],
        "average": {
            "n": 4, "spacing": "auto", "weights": "uniform", "decay": 0.5, "where": "disk", "span": 0.1,
        },
    }  # fmt: skip
    lines: list[dict[str, Any]] = [plan]
    spent = 0.0
    for step in steps:
        for suite in suites:
            lost = dict((missing or {}).get(step, {}))
            path = folder / f"step-{step:09d}" / suite
            _results(path, [one for one in tasks if one.task not in lost], lost, step, draw, noise, model)
            members = tuple(sorted({max(1, step - 10 * i) for i in range(4)}))
            made = Evaluation(
                step, suite, path, 4096.0 * step, 2.4e10 * step, 0.5 * step, members, True,
                tuple((doubts or {}).get(step, ())), 1.0,
                tuple({"task": name, "why": why} for name, why in lost.items()),
                {"seconds": seconds, "training": 2.0 * step, "spent": spent},
            )  # fmt: skip
            lines.append(made.told(folder))
        spent += seconds * len(suites)
    with RunLog(folder / JOURNAL) as log:
        for line in sorted([*lines, *map(dict, events)], key=lambda one: one["step"]):
            log.append(line)
    return folder


def run_folder(
    folder: Path, steps: Sequence[int], length: int, *, now: int | None = None, **options: Any
) -> Path:
    """A run of our own trainer with its hook's folder: config.toml, log.jsonl, evals/.

    Args:
        folder: to make. steps: of the evaluations. length: steps of the run. now: steps done; all, if absent.
        options: of `hook_folder`.
    """
    now = length if now is None else now
    hook_folder(folder / "evals", steps, **options)
    (folder / "config.toml").write_text(
        f"steps = {length}\nseed = 0\n\n[mixture]\ncode = '0.5 until 66%, then 0.0'\nprose = 0.5\n",
        encoding="utf-8",
    )
    with RunLog(folder / "log.jsonl") as log:
        for step in range(max(1, now - 40), now + 1):
            log.append(train_line(step))
            if step % 20 == 0:
                log.append({"step": step, "kind": "validation", "bpb": {"code": 1.1, "prose": 1.9}})
    return folder


def train_line(step: int) -> dict[str, Any]:
    """A line of a run's log."""
    return {
        "step": step, "kind": "train", "loss": 2.31, "rate": 0.003, "norm": 0.4, "tokens": 4096 * step,
        "flops": 2.4e10 * step, "phase": int(step >= 1980),
        "speed": {"seconds": 0.5, "tokens_per_second": 8192.0, "peak_share": 0.31, "peak": "sheet"},
    }  # fmt: skip


def half_line(path: Path) -> None:
    """Half a line, as a process writes that is killed, or still at it."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(train_line(10**6))[:40])


def _results(
    path: Path,
    tasks: Sequence[Watching],
    lost: Mapping[str, str],
    step: int,
    draw: Any,
    noise: float,
    model: str,
) -> None:
    """A folder of results, of figures alone."""
    digest = f"{step:064x}"

    def done(one: Watching) -> Done:
        score = one.curve(step) + noise * float(draw.standard_normal())
        row = Row(metric=one.metric, score=score, stderr=2 * noise, n_items=one.items)
        return Done(
            task=one.task, metric=one.metric, shots=None, digest=digest, file=None, rows=(row,), examples=0,
            answered=one.items, truncated=0, chance=0.0, mode="packed", seconds=0.4,
        )  # fmt: skip

    manifest = Manifest(
        suite=SuiteRef(stage="early (1e+17..1e+20)", digest="5" * 64, tasks=len(tasks)),
        model=ModelRef(digest=digest, tokenizer="7" * 64, dtype="float32", max_length=256),
        identity=Identity(model=model, step=step, tokens=4096.0 * step, flops=2.4e10 * step),
        settings={"seed": 0}, versions={"python": "3.11.9", "stagewise": "0.1.0", "torch": "2.13.0"},
        tasks=tuple(map(done, tasks)),
        missing=tuple(Missing(task=name, metric="bpb", shots=None, why=why) for name, why in lost.items()),
    )  # fmt: skip
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")


# --- judgements put in ----------------------------------------------------------------------------------


def judging(behind: str = "", near: tuple[str, ...] = (), since: int = 2000, noticed: int = 2400) -> Any:
    """A stand-in for `evalsuite.alarms.watch`, which is quick, and finds one capability behind.

    Args:
        behind: capability with an alarm, once the run is past `noticed`. near: what changed near it.
    """

    def watch(evaluations: Any, *, rate: float = 0.05, forecast: Any = None) -> Watched:
        rows, alarms, parts = [], [], []
        for (suite, name), one in evaluations.series().groupby(["suite", "capability"], sort=False):
            score = np.log(8 / one.groupby("step")["score"].mean())
            alarm = name == behind and score.index[-1] >= noticed
            expected = np.where(alarm & (score.index >= since), score + 0.3, score)
            expected[:2] = np.nan  # nothing to go by yet
            told = {"capability": name, "suite": suite, "evidence": 83.0 if alarm else 1.0}
            band = {"expected": expected, "low": expected - 0.05, "high": expected + 0.05}
            parts.append(pd.DataFrame({**told, "step": score.index, "score": score.to_numpy(), **band}))
            if alarm:
                alarms.append(Alarm(str(name), str(suite), since, noticed, 0.3, 83.0, near, "bits"))
            rows.append(
                {
                    **told, "now": score.iloc[-1], **{key: value[-1] for key, value in band.items()},
                    "trend": 0.12, "alarm": alarm, "since": since if alarm else pd.NA,
                    "size": 0.3 if alarm else np.nan, "near": "; ".join(near) if alarm else "",
                    "scale": "ln(8 / bpb)", "status": "behind" if alarm else "as expected",
                }
            )  # fmt: skip
        table = pd.DataFrame(rows).astype({"since": "Int64"})
        return Watched(tuple(alarms), pd.concat(parts), 60.0, rate, table)

    return watch
