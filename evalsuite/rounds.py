"""One evaluation after the other: which suites, how much of them, on which weights, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.budget import Budget, Ration
from evalsuite.evaluations import Evaluation
from evalsuite.evaluator import Evaluator
from evalsuite.journal import Journal
from evalsuite.mean import weights_of
from evalsuite.place import Place
from evalsuite.programme import Programme
from evalsuite.results import Identity, Results
from evalsuite.rotation import Rotation
from evalsuite.sinks import Several
from evalsuite.snapshots import Snapshots
from evalsuite.swap import swapped
from evalsuite.window import Window
from scaling.errors import StagewiseError, UsageError

LEAST = 32  # items of a task below which its score says too little
TRIED = 8  # items that tell what evaluation costs, before there is one


@dataclass
class Rounds:
    """The evaluations of a run.

    Attributes:
        evaluator: scores. rotation: chooses suites. budget: of time. sinks, journal: where results go.
        identity: whose they are. every: steps from one to the next. average: how snapshots are averaged; None
            for the weights as they are. raw: these are scored beside the mean at every n-th evaluation; 0 for
            never. rate: of false alarms.
    """

    evaluator: Evaluator
    rotation: Rotation
    budget: Budget
    sinks: Several
    journal: Journal
    identity: Identity
    every: int
    average: Averaging | None
    raw: int
    rate: float
    steps: int = 0  # of training that the budget has timed
    stride: int = 1  # of `every`, at which evaluations are run

    def run(
        self,
        at: Place,
        model: nn.Module,
        flops: float | None,
        window: Window | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """Evaluate, if the budget allows.

        Args:
            at: where the run is. model: as it is trained. flops: spent so far.
            window, snapshots: what there is to average; the weights as they are, if absent.

        Raises:
            Exception: what kept the whole evaluation from being done; a suite or a task that fails is written
                down by itself.
        """
        flops, chosen, ran = self._due(at, model, flops)
        if not self._prepared(at.step, chosen, model):
            return
        if not self.budget.known:
            self.budget.probed(*self.evaluator.probe([one.wanted() for one in chosen], model, TRIED))
        raw = self._raw(at.step)
        full = (1 + raw) * sum(self.evaluator.tokens(one, model) for one in chosen)
        ration = self._ration(at.step, chosen, full)
        if ration is None:
            return
        self._switched(at.step, flops, ran, [one.name for one in chosen])
        started = time.perf_counter()
        scored = 0
        if raw or snapshots is None:
            for one in chosen:
                scored += self._score(one, at, model, flops, ration, (at.step,), averaged=False)
        if snapshots is not None and window is not None and self.average is not None:
            members, weights, doubts = self._mean(at, window, snapshots)
            with swapped(model, snapshots.mean(members, weights, model)):
                for one in chosen:
                    scored += self._score(
                        one, at, model, flops, ration, members, averaged=True, doubts=doubts
                    )
        if scored:
            self.budget.measured(time.perf_counter() - started, round(full * ration.share), ration)
        self._watch(at.step)

    def _raw(self, step: int) -> bool:
        """Whether the weights as they are are scored beside the mean after this step."""
        return bool(self.raw) and step // self.every % self.raw == 0

    def _mean(
        self, at: Place, window: Window, snapshots: Snapshots
    ) -> tuple[tuple[int, ...], tuple[float, ...], tuple[str, ...]]:
        """What is averaged: steps of the snapshots, their weights, and why not to trust their mean."""
        assert self.average is not None
        members = window.members(at.step, snapshots.places)
        if not members:
            raise StagewiseError("there is no snapshot to average")
        doubts = window.doubts(at.step, [one for one in snapshots.places if one.step in members])
        return members, weights_of(self.average, len(members)), doubts

    def _due(
        self, at: Place, model: nn.Module, flops: float | None
    ) -> tuple[float | None, list[Programme], list[set[str]]]:
        """Compute spent so far, the suites of this stage, and those of each evaluation before."""
        if flops is None and at.tokens is not None:
            flops = 6.0 * sum(p.numel() for p in model.parameters()) * at.tokens
        if flops is None and len(self.rotation.programmes) > 1:
            raise UsageError("several suites, and no compute to choose by: call hook(..., flops=) or tokens=")
        ran = self._ran()
        names = self.rotation.active(flops, ran)
        return flops, [one for one in self.rotation.programmes if one.name in names], ran

    def _prepared(self, step: int, chosen: Sequence[Programme], model: nn.Module) -> bool:
        """Tokenise what is not tokenised yet, task by task, as long as the budget allows."""
        parts = [part.wanted for one in chosen for part in one.parts]
        done, told = 0, self.journal.ranks.told  # only the first rank's clock counts
        while done < len(parts) and (self.evaluator.prepared(parts[done]) or told(self.budget.affords)):
            self.evaluator.prepare(parts[done], model)
            done += 1
        if done == len(parts):
            return True
        why = f"{done} of {len(parts)} tasks are tokenised; more would exceed the budget of time"
        self.journal.note({"step": step, "kind": "skipped", "why": why})
        return False

    def _ran(self) -> list[set[str]]:
        """The suites of each evaluation so far."""
        found: dict[int, set[str]] = {}
        for one in self.journal.evaluations.all:
            found.setdefault(one.step, set()).add(one.suite)
        return list(found.values())

    def _switched(
        self, step: int, flops: float | None, ran: Sequence[set[str]], names: Sequence[str]
    ) -> None:
        """Say when other suites run than before, and when no stage holds the run."""
        outside = self.rotation.outside(flops)
        if ran and ran[-1] == set(names):
            return
        if not ran and not outside:
            return
        change = f"{', '.join(sorted(ran[-1])) if ran else 'none'} -> {', '.join(names)}"
        why = "; ".join(part for part in (f"suites {change}", outside) if part)
        self.journal.note({"step": step, "kind": "switched", "why": why})
        self.journal.tell(f"step {step}: {why}")

    def _ration(self, step: int, chosen: Sequence[Programme], full: int) -> Ration | None:
        """What the evaluation may cost; None where it is left out."""
        budget, share = self.budget, self.budget.share
        if share is None:
            return Ration(1.0, 1, 0.0)
        if not self.steps:  # a run resumed without its account: nothing is known of training yet
            return None
        wanted = [part.wanted for one in chosen for part in one.parts]
        items = [one.items or len(one.item_ids or ()) or LEAST for one in wanted]
        least = min(1.0, LEAST / max(float(np.median(items)), 1.0))
        between = self.every * budget.training / self.steps
        found = budget.ration(full, least, between)
        # Clocks differ between ranks; all go by that of the first.
        affords = budget.affords(found.seconds)
        told = np.array([found.share, found.stride, found.seconds, affords], dtype=float)
        told = self.journal.ranks.first(told)
        ration = Ration(float(told[0]), int(told[1]), float(told[2]))
        self._thinned(step, ration)
        self.stride = ration.stride
        if step // self.every % ration.stride:
            return None
        if not told[3]:
            why = (
                f"evaluation would take {ration.seconds:.2g} s; {budget.spent:.2g} s of "
                f"{share * budget.training:.2g} s ({share:.1%} of training) are spent"
            )
            self.journal.note({"step": step, "kind": "skipped", "why": why})
            return None
        return ration

    def _thinned(self, step: int, ration: Ration) -> None:
        """Say when less is evaluated than was asked for, or more again."""
        last = self.journal.last("thinned")
        if (last["share"] if last else 1.0, last["stride"] if last else 1) == (ration.share, ration.stride):
            return
        why = (
            f"to stay within {self.budget.share:.1%} of training time: {ration.share:.3g} of the items, "
            f"every {ration.stride * self.every} steps"
        )
        told = {"share": ration.share, "stride": ration.stride, "why": why}
        self.journal.note({"step": step, "kind": "thinned", **told})
        self.journal.tell(f"step {step}: {why}")

    def _score(
        self, one: Programme, at: Place, model: nn.Module, flops: float | None, ration: Ration,
        members: tuple[int, ...], *, averaged: bool, doubts: tuple[str, ...] = (),
    ) -> bool:  # fmt: skip
        """Run a suite on the weights that the model holds now, and write down what came of it."""
        started = time.perf_counter()
        made, identity = self._made(one, at, flops, ration.share, members, averaged, doubts)
        try:
            wanted = one.wanted(ration.share, LEAST)
            results, lost = self.evaluator.evaluate(one, wanted, model, made.path, identity)
        except Exception as error:
            self.journal.failed(at.step, "evaluation", error, suite=one.name)
            return False
        speed = {**made.speed, "seconds": time.perf_counter() - started, "spent": self.budget.spent}
        self._scored(replace(made, missing=lost, speed=speed), results)
        return True

    def _made(
        self, one: Programme, at: Place, flops: float | None, share: float, members: tuple[int, ...],
        averaged: bool, doubts: tuple[str, ...],
    ) -> tuple[Evaluation, Identity]:  # fmt: skip
        """An evaluation that is about to be made, and whose scores they will be."""
        source = self.identity.source
        if averaged and self.average is not None:
            source = f"{source} (mean of {self.average.n})"
        told = {"step": at.step, "tokens": at.tokens, "flops": flops, "source": source}
        name = one.name if averaged or self.average is None else f"{one.name} raw"
        path = self.journal.folder / f"step-{at.step:09d}" / name
        speed = {"training": self.budget.training, "spent": self.budget.spent}
        made = Evaluation(
            at.step, one.name, path, at.tokens, flops, at.seconds, members, averaged, doubts, share, (), speed
        )
        return made, self.identity.model_copy(update=told)

    def _scored(self, made: Evaluation, results: Results) -> None:
        """Write down an evaluation."""
        for task in made.missing:
            self.journal.tell(f"step {made.step}, {made.suite}: {task['task']} is missing: {task['why']}")
        self.journal.note(made.told(self.journal.folder))
        self._feed(made, results)

    def take_up(self, step: int) -> None:
        """Take up what a run left that is resumed after a step."""

    def collect(self) -> None:
        """Write down what came of an evaluation that is made beside training, once it has ended."""

    def close(self, *, wait: bool = True) -> None:
        """End, at the end of the run; `wait` for what is made beside training."""
        self.sinks.close()

    def _feed(self, made: Evaluation, results: Results) -> None:
        """Give the scores to the sinks."""
        if not self.sinks.sinks or self.journal.ranks.rank:
            return
        top = "eval" if made.averaged or self.average is None else "eval_raw"
        parts = [part for one in self.rotation.programmes if one.name == made.suite for part in one.parts]
        clusters = {part.wanted.task: part.cluster for part in parts}
        values: dict[str, Any] = {
            f"{top}/{made.suite}/{clusters.get(done.task, '')}/{done.task}/{row['metric']}": row["score"]
            for done in results.manifest.tasks
            for row in results.scores(done).to_dict("records")
        }
        self._log(values, made.step, {"tokens": made.tokens, "flops": made.flops})

    def _log(self, values: dict[str, Any], step: int, axes: dict[str, float | None]) -> None:
        before = sum(self.sinks.failures.values())
        self.sinks.log(values, step, {name: x for name, x in axes.items() if x is not None})
        if sum(self.sinks.failures.values()) > before:
            lost = ", ".join(f"{name} {count} times" for name, count in self.sinks.failures.items())
            self.journal.failed(step, "sink", f"failed: {lost}")

    def _watch(self, step: int) -> None:
        """Raise the alarms that the last evaluation gives reason to."""
        if not self.rate or self.journal.ranks.rank:
            return
        from evalsuite.alarms import watch

        try:
            found = watch(self.journal.evaluations, rate=self.rate).alarms
        except Exception as error:
            self.journal.failed(step, "alarm", error)
            return
        lines = self.journal.evaluations.journal
        known = {(one["capability"], one["suite"]) for one in lines if one["kind"] == "alarm"}
        for alarm in found:
            if (alarm.capability, alarm.suite) in known:
                continue
            event = {
                "step": step, "kind": "alarm", "capability": alarm.capability, "suite": alarm.suite,
                "since": alarm.since, "size": alarm.size, "evidence": alarm.evidence,
                "near": list(alarm.near),
            }  # fmt: skip
            self.journal.note(event)
            self.journal.tell(f"ALARM at step {step}: {alarm}")
            self._log({f"alarm/{alarm.suite}/{alarm.capability}": alarm.evidence}, step, {})
