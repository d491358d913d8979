"""What was noticed of losses that were planted: by the alarm, and by a threshold on raw accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.alarms import watch
from evalsuite.evaluations import Evaluations
from evalsuite.run_log import read
from train.studies.threshold import threshold_alarms

DROPS = (0.02, 0.03, 0.05, 0.1)  # of accuracy, below its best so far
ALARM = "alarm"


@dataclass(frozen=True)
class Watch:
    """One run, and what was noticed of it.

    Attributes:
        arm: what was done to it. seed: of it. capability: that had to suffer, "" for none.
        at, steps: the step of the loss, and of the end.
        noticed: by detector and capability, the first step at which it spoke.
        losses: training loss and bits per byte of held-out text, just before the loss and at the end.
        looks: evaluations. failures: of them.
    """

    arm: str
    seed: int
    capability: str
    at: int
    steps: int
    noticed: dict[tuple[str, str], int]
    losses: dict[str, float]
    looks: int
    failures: int

    @classmethod
    def of(
        cls, found: Evaluations, log: Path, *, arm: str, seed: int, capability: str, domain: str, at: int,
        steps: int,
    ) -> Watch:  # fmt: skip
        """From the folder of its hook, and its log.

        Args:
            found: evaluations. log: of the run. domain: of the text that was dropped, "" for none.
        """
        noticed = {(ALARM, one.capability): one.noticed for one in reversed(watch(found).alarms)}
        accuracy = raw_accuracy(found)
        for drop in DROPS:
            for name, step in below_best(accuracy, drop).items():
                noticed[f"{drop:.0%} below best", name] = step
        losses = _losses(log, domain, at, steps)
        return cls(arm, seed, capability, at, steps, noticed, losses, len(found.all), len(found.failures))


@dataclass(frozen=True)
class Detection:
    """What the study found.

    Attributes:
        summary: one row per arm and detector: runs; found, runs in which the planted loss was noticed; delay
            and slowest, median and largest, in steps; share, the median as share of the run; false, runs in
            which it spoke of what was not planted: at all in controls, before the loss in others.
        runs: one row per run: arm, seed, detector, capability, step. losses: one row per run.
    """

    summary: pd.DataFrame
    runs: pd.DataFrame
    losses: pd.DataFrame

    @classmethod
    def of(cls, watches: Sequence[Watch]) -> Detection:
        """Count."""
        detectors = [ALARM, *(f"{drop:.0%} below best" for drop in DROPS)]
        rows: list[dict[str, Any]] = []
        for arm in dict.fromkeys(one.arm for one in watches):
            mine = [one for one in watches if one.arm == arm]
            for detector in detectors:
                rows.append({"arm": arm, "detector": detector, **_counted(mine, detector)})
        runs = [
            {"arm": one.arm, "seed": one.seed, "detector": detector, "capability": name, "step": step}
            for one in watches
            for (detector, name), step in sorted(one.noticed.items(), key=lambda item: item[1])
        ]
        losses = [
            {"arm": one.arm, "seed": one.seed, **one.losses, "looks": one.looks, "failures": one.failures}
            for one in watches
        ]
        columns = ["arm", "seed", "detector", "capability", "step"]
        return cls(pd.DataFrame(rows), pd.DataFrame(runs, columns=columns), pd.DataFrame(losses))

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All of it, by name."""
        return {"summary": self.summary, "runs": self.runs, "losses": self.losses}

    def to_frame(self) -> pd.DataFrame:
        """The summary."""
        return self.summary

    def _repr_html_(self) -> str:
        return self.summary.to_html(index=False)


def raw_accuracy(found: Evaluations) -> pd.DataFrame:
    """Mean accuracy of the tasks of each capability, of weights as they are: step, capability, acc."""
    rows = []
    for one in found.raw or found.all:
        about = {
            task["task"]: task["capability"]
            for (suite, *_), task in found.tasks.items()
            if suite == one.suite
        }
        for done in one.results.manifest.tasks:
            scores = one.results.scores(done).set_index("metric")["score"]
            if "acc" in scores and done.chance > 0:  # a task with choices
                rows.append({"step": one.step, "capability": about[done.task], "acc": float(scores["acc"])})
    frame = pd.DataFrame(rows, columns=["step", "capability", "acc"])
    return frame.groupby(["capability", "step"])["acc"].mean().reset_index()


def below_best(accuracy: pd.DataFrame, drop: float) -> dict[str, int]:
    """The first step at which accuracy is more than `drop` below its best so far, by capability.

    Example:
        >>> frame = pd.DataFrame({"capability": "code", "step": [1, 2, 3], "acc": [0.3, 0.4, 0.35]})
        >>> below_best(frame, 0.04)
        {'code': 3}
    """
    found = threshold_alarms(accuracy.rename(columns={"acc": "score"}), drop)
    return {str(one["capability"]): int(one["noticed"]) for one in found.to_dict("records")}


def _counted(mine: Sequence[Watch], detector: str) -> dict[str, Any]:
    delays, false = [], 0
    for one in mine:
        steps = {name: step for (by, name), step in one.noticed.items() if by == detector}
        planted = steps.get(one.capability)
        if planted is not None and planted > one.at:
            delays.append(planted - one.at)
        false += any(step <= one.at or not one.capability for step in steps.values())
    nothing = float("nan")
    losing = bool(mine[0].capability)
    return {
        "runs": len(mine), "found": len(delays) if losing else nothing,
        "delay": float(np.median(delays)) if delays else nothing,
        "slowest": float(max(delays)) if delays else nothing,
        "share": float(np.median(delays)) / mine[0].steps if delays else nothing, "false": false,
    }  # fmt: skip


def _losses(log: Path, domain: str, at: int, steps: int) -> dict[str, float]:
    """Training loss (nats a token, mean of a twentieth of the run) and held-out bpb, then and at the end."""
    told = read(log)
    width = max(1, steps // 20)
    train = [(one["step"], one["loss"]) for one in told if one["kind"] == "train"]

    def mean(end: int) -> float:
        return float(np.mean([loss for step, loss in train if end - width < step <= end]))

    held = {one["step"]: one["bpb"] for one in told if one["kind"] == "validation"}
    before = held[max(step for step in held if step <= at)]
    after = held[max(held)]
    means = [float(np.mean(list(one.values()))) for one in (before, after)]
    found = {
        "train_before": mean(at), "train_after": mean(steps), "bpb_before": means[0], "bpb_after": means[1],
    }  # fmt: skip
    if domain:
        found |= {"domain_before": before[domain], "domain_after": after[domain]}
    return found
