"""The hook: suites run inside a training loop, on the mean of its last snapshots, in a share of its time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.budget import Budget, Ration
from evalsuite.course import Course
from evalsuite.evaluations import JOURNAL, SNAPSHOTS, Evaluation, Evaluations
from evalsuite.evaluator import Evaluator
from evalsuite.mean import weights_of
from evalsuite.place import Place
from evalsuite.programme import Programme, programmes
from evalsuite.ranks import Ranks
from evalsuite.registry import Registry
from evalsuite.results import Identity
from evalsuite.rotation import Rotation
from evalsuite.run_log import RunLog
from evalsuite.sinks import Several, Sink
from evalsuite.snapshots import Snapshots
from evalsuite.swap import swapped
from evalsuite.window import Window
from scaling.errors import StagewiseError, UsageError

_LEAST = 32  # items of a task below which its score says too little
_log = logging.getLogger(__name__)


class EvalHook:
    """Watches a training run: call it after every optimiser step.

    At every multiple of `every` steps it runs the suite of the run's stage on the mean of the last snapshots,
    writes score rows and the likelihoods of every item, feeds sinks, and raises an alarm when a capability
    falls behind. It leaves weights, gradients, modes and random states as they were, bit for bit;
    an error inside is logged and counted, and training goes on. All ranks of a distributed run call it.

    Args:
        suites: suite files, `Suite` objects or a `TaskList`, one or several; each is run in its stage.
        tokenizer: of `transformers` or `tokenizers`, an object with `encode`, or an `Encoder`.
        folder: of what it writes; a resumed run names the same.
        every: steps between evaluations; 0 for never, which costs nothing.
        average: how snapshots are averaged; None scores the weights as they are.
        budget: share of training time that evaluation, snapshots included, may take; None for no limit.
        sinks: get `eval/<suite>/<cluster>/<task>/<metric>` over step, tokens and FLOPs.
        registry: where tasks are found; the user's folders and the generated skills, if absent.
        identity: whose scores they are; the name of the folder, if absent.
        raw: score the weights as they are, too, beside their mean.
        overlap: evaluations in which a suite whose stage is over runs on beside the next.
        rate: of false alarms in a run, over all capabilities and steps; 0 for no alarms.
        max_length, autocast, batch_tokens, gold_only: as in `Scorer` and `evalsuite.run.run`.
        say: told what a person should know, a line each; `logging`, if absent.

    Raises:
        UsageError, StagewiseError: suites that cannot be read, settings that cannot be. Calls raise nothing.

    Example:
        >>> hook = EvalHook("early.yaml", tokenizer, folder="runs/a/evals", every=500)   # doctest: +SKIP
        >>> for step, batch in enumerate(batches, 1):                                    # doctest: +SKIP
        ...     train_on(batch)
        ...     hook(step, model, tokens=step * tokens_per_step)
        >>> hook.close()                                                                 # doctest: +SKIP
    """

    def __init__(
        self,
        suites: Any,
        tokenizer: Any,
        *,
        folder: str | os.PathLike[str],
        every: int,
        average: Averaging | None = Averaging(),  # noqa: B008  (frozen)
        budget: float | None = 0.02,
        sinks: Sequence[Sink] = (),
        registry: Registry | None = None,
        identity: Identity | None = None,
        raw: bool = False,
        overlap: int = 2,
        rate: float = 0.05,
        max_length: int | None = None,
        autocast: torch.dtype | None = None,
        batch_tokens: int | None = None,
        gold_only: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if type(every) is not int or every < 0:
            raise UsageError(f"every is {every!r}, valid is a whole number of steps; 0 for no evaluation")
        if budget is not None and not 0 < budget < 1:
            raise UsageError(f"budget is {budget!r}, valid is a share of training time such as 0.02, or None")
        if not 0 <= rate < 1:
            raise UsageError(f"rate is {rate!r}, valid is from 0 (no alarms) to below 1")
        self.folder, self.every, self.average, self.raw, self.rate = Path(folder), every, average, raw, rate
        self.evaluator = Evaluator(
            tokenizer, registry or Registry.open(), max_length=max_length, autocast=autocast,
            budget=batch_tokens, gold_only=gold_only,
        )  # fmt: skip
        self.rotation = Rotation(programmes(suites, self.evaluator.registry), overlap)
        self.identity = identity or Identity(model=self.folder.resolve().parent.name or "model")
        self.window = Window(average, every) if average is not None and every else None
        self.budget = Budget(budget)
        self.sinks = Several(sinks)
        self.failures = 0
        self.evaluations = Evaluations(self.folder, (), ())
        self._say = say or _log.warning
        self._course = Course()
        self._ranks: Ranks | None = None
        self._journal: RunLog | None = None
        self._snapshots: Snapshots | None = None
        self._saved: list[int] = []
        self._ended: float | None = None
        self._tokens: float | None = None
        self._steps = 0  # seen by this process
        self._off = not every

    def __call__(
        self,
        step: int,
        model: nn.Module,
        *,
        flops: float | None = None,
        tokens: float | None = None,
        lr: float | None = None,
        loss: float | None = None,
        phase: Any = None,
    ) -> None:
        """Look whether something is due after this step, and do it.

        Args:
            step: optimiser steps done, 1 for the first. model: being trained, as it is called in training.
            flops: spent so far; 6 * parameters * tokens, if absent. tokens: trained on so far.
            lr: learning rate of the step. loss: of the step. phase: of the data mixture, such as its number.
        """
        if self._off:
            return
        start = time.perf_counter()
        try:
            if self._ranks is None:
                self._begin(step, model)
            if self._ended is not None:
                seen = None if tokens is None or self._tokens is None else tokens - self._tokens
                self.budget.train(start - self._ended, seen)
                self._steps += 1
            self._tokens = tokens
            self._step(Place(step, tokens, self.budget.training, lr), model, flops, loss, phase)
        except Exception as error:  # training goes on, whatever it is
            self._failed(step, "hook", error)
        end = time.perf_counter()
        self.budget.spend(end - start)
        self._ended = end

    def saved(self, step: int, oldest: int | None = None) -> None:
        """Tell that a checkpoint is on the disk: snapshots that no resume needs any more are deleted.

        Args:
            step: of the checkpoint.
            oldest: step of the oldest one that a resume may start from; the one saved before, if absent.
        """
        if self._off or self._snapshots is None or self.window is None:
            return
        start = time.perf_counter()
        try:
            before = self._saved[-1] if self._saved else step
            self._saved = [before, step] if oldest is None else [oldest, step]
            self._prune(self._saved[0])
        except Exception as error:
            self._failed(step, "snapshot", error)
        self.budget.spend(time.perf_counter() - start)

    def close(self) -> None:
        """End: sinks and the journal are closed. Closing twice does no harm."""
        self.sinks.close()
        if self._journal is not None:
            with suppress(OSError, ValueError):
                self._journal.sync()
            self._journal.close()
            self._journal = None
        self._off = True

    # --- a step -----------------------------------------------------------------------------------------

    def _step(self, at: Place, model: nn.Module, flops: float | None, loss: float | None, phase: Any) -> None:
        for event in self._course.notice(at.step, phase=phase, lr=at.lr, loss=loss):
            self._note(event)
        if self.window is not None and self._snapshots is not None:
            if self.window.due(at, self._snapshots.places):
                try:
                    self._snapshots.take(model, at)
                except Exception as error:
                    self._failed(at.step, "snapshot", error)
            if not self._saved and len(self._snapshots.places) > self._plenty:
                self._prune(at.step)
        if at.step % self.every == 0:
            self._evaluate(at, model, flops)

    def _begin(self, step: int, model: nn.Module) -> None:
        """Take up the folder where a run left it, or make it."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._ranks = ranks = Ranks.here(device)
        problem: Exception | None = None
        journal: tuple[Mapping[str, Any], ...] = ()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if ranks.rank == 0:
                self._journal = RunLog(self.folder / JOURNAL)
                self._journal.rewind(step - 1)
        except Exception as error:
            problem = error
        try:
            ranks.agree(problem)
            if (self.folder / JOURNAL).is_file():
                journal = Evaluations.open(self.folder).journal
            self.evaluations = Evaluations.of(self.folder, journal)
            if self.window is not None and self.average is not None:
                place = self.folder / SNAPSHOTS if self.average.where == "disk" else None
                self._snapshots = Snapshots.open(place, self._tell)
                self._snapshots.rewind(step - 1)
        except Exception as error:
            self._off = True
            self._tell(f"EVALUATION IS OFF: {error}; training goes on without it")
            raise
        if self.evaluations.all:
            last = self.evaluations.all[-1].speed
            self.budget.training, self.budget.spent = last.get("training", 0.0), last.get("spent", 0.0)
        self.rotation = Rotation(
            tuple(map(self.evaluator.settled, self.rotation.programmes)), self.rotation.overlap
        )
        plan = self._plan(model)
        if {**self.evaluations.plan, "step": 0} != {**plan, "step": 0}:
            self._note({**plan, "step": step})

    def _plan(self, model: nn.Module) -> dict[str, Any]:
        average = self.average
        return {
            "step": 0, "kind": "plan", "suites": [one.told() for one in self.rotation.programmes],
            "every": self.every, "budget": self.budget.share, "rate": self.rate,
            "model": self.identity.model,
            "average": average and {
                "n": average.n, "spacing": str(average.spacing), "weights": average.weights,
                "decay": average.decay, "where": average.where, "span": average.span,
            },
        }  # fmt: skip

    @property
    def _plenty(self) -> int:
        """Snapshots kept where nobody tells of checkpoints: a resume may lack some, and the scores say so."""
        return 8 * (self.average.n if self.average else 1)

    def _prune(self, resumable: int) -> None:
        """Delete the snapshots that no evaluation after step `resumable` uses."""
        assert self._snapshots is not None and self.window is not None
        self._snapshots.keep(self.window.needed(resumable, self._snapshots.places))

    # --- an evaluation ----------------------------------------------------------------------------------

    def _evaluate(self, at: Place, model: nn.Module, flops: float | None) -> None:
        assert self._ranks is not None
        if flops is None and at.tokens is not None:
            flops = 6.0 * sum(p.numel() for p in model.parameters()) * at.tokens
        if flops is None and len(self.rotation.programmes) > 1:
            raise UsageError("several suites, and no compute to choose by: call hook(..., flops=) or tokens=")
        ran = self._ran()
        names = self.rotation.active(flops, ran)
        chosen = [one for one in self.rotation.programmes if one.name in names]
        ration = self._ration(at.step, chosen, model)
        if ration is None:
            return
        before = set(ran[-1]) if ran else set()
        if before and before != set(names):
            why = f"{', '.join(sorted(before))} -> {', '.join(names)} at {flops or 0:.3g} FLOPs"
            self._note({"step": at.step, "kind": "switched", "why": why})
            self._tell(f"step {at.step}: suites change: {why}")
        started = time.perf_counter()
        if self.raw or self._snapshots is None or self.average is None:
            averaged = self._snapshots is None
            for one in chosen:
                self._score(one, at, model, flops, ration, (at.step,), averaged=averaged, doubts=())
        if self._snapshots is not None and self.average is not None and self.window is not None:
            places = {one.step: one for one in self._snapshots.places}
            members = self.window.members(at.step, self._snapshots.places)
            if not members:
                raise StagewiseError(f"step {at.step}: no snapshot to average")
            doubts = self.window.doubts(at.step, [places[step] for step in members])
            weights = weights_of(self.average, len(members))
            with swapped(model, self._snapshots.mean(members, weights, model)):
                for one in chosen:
                    self._score(one, at, model, flops, ration, members, averaged=True, doubts=doubts)
        read = sum(self.evaluator.tokens(one, model) for one in chosen) * ration.share * (1 + self.raw)
        self.budget.measured(time.perf_counter() - started, round(read), ration)
        self._watch(at.step)

    def _ran(self) -> list[set[str]]:
        """The suites of each evaluation so far."""
        found: dict[int, set[str]] = {}
        for one in self.evaluations.all:
            found.setdefault(one.step, set()).add(one.suite)
        return list(found.values())

    def _ration(self, step: int, chosen: Sequence[Programme], model: nn.Module) -> Ration | None:
        """What the evaluation may cost; None where it is left out."""
        assert self._ranks is not None
        if self.budget.share is None:
            return Ration(1.0, 1, 0.0)
        full = sum(self.evaluator.tokens(one, model) for one in chosen) * (1 + self.raw)
        items = [
            part.wanted.items or len(part.wanted.item_ids or ()) or _LEAST
            for one in chosen
            for part in one.parts
        ]
        least = min(1.0, _LEAST / max(float(np.median(items)), 1.0))
        between = self.every * self.budget.training / max(self._steps, 1)
        if not self._steps:
            between = 0.0
        found = self.budget.ration(full, least, between)
        told = [found.share, found.stride, found.seconds, self.budget.affords(found)]
        share, stride, seconds, affords = self._ranks.first(np.array(told, dtype=float))
        ration = Ration(float(share), int(stride), float(seconds))
        self._thinned(step, ration)
        if step // self.every % ration.stride:
            return None
        if not affords:
            spent, allowed = self.budget.spent, self.budget.share * self.budget.training
            why = (
                f"evaluation would take {seconds:.2g} s; {spent:.2g} s of {allowed:.2g} s "
                f"({self.budget.share:.0%} of training) are spent"
            )
            self._note({"step": step, "kind": "skipped", "why": why})
            return None
        return ration

    def _thinned(self, step: int, ration: Ration) -> None:
        """Say when less is evaluated than was asked for, or more again."""
        last = next((one for one in reversed(self.evaluations.journal) if one["kind"] == "thinned"), None)
        was = (last["share"], last["stride"]) if last else (1.0, 1)
        if was == (ration.share, ration.stride):
            return
        why = (
            f"to stay within {self.budget.share:.1%} of training time: {ration.share:.3g} of the items, "
            f"every {ration.stride * self.every} steps"
        )
        told = {"share": ration.share, "stride": ration.stride, "why": why}
        self._note({"step": step, "kind": "thinned", **told})
        self._tell(f"step {step}: {why}")

    def _score(
        self, one: Programme, at: Place, model: nn.Module, flops: float | None, ration: Ration,
        members: tuple[int, ...], *, averaged: bool, doubts: tuple[str, ...],
    ) -> None:  # fmt: skip
        """Run a programme on the weights that the model holds now, and write down what came of it."""
        started = time.perf_counter()
        mean = averaged and self.average is not None
        identity = self.identity.model_copy(
            update={
                "step": at.step, "tokens": at.tokens, "flops": flops,
                "source": f"{self.identity.source} (mean of {self.average.n})"
                if mean and self.average
                else self.identity.source,
            }
        )  # fmt: skip
        path = self.folder / f"step-{at.step:09d}" / (one.name if averaged else f"{one.name} raw")
        try:
            results, lost = self.evaluator.evaluate(
                one, one.wanted(ration.share, _LEAST), model, path, identity
            )
        except Exception as error:
            self._failed(at.step, "evaluation", error, suite=one.name)
            return
        for task in lost:
            self._tell(f"step {at.step}, {one.name}: {task['task']} is missing: {task['why']}")
        speed = {
            "seconds": time.perf_counter() - started, "training": self.budget.training,
            "spent": self.budget.spent,
        }  # fmt: skip
        made = Evaluation(
            at.step, one.name, path, at.tokens, flops, at.seconds, members, averaged, doubts, ration.share,
            lost, speed,
        )  # fmt: skip
        self._note(made.told(self.folder))
        if self._ranks is not None and self._ranks.rank == 0:
            self._feed(one, made, results)

    def _feed(self, one: Programme, made: Evaluation, results: Any) -> None:
        """Give the scores to the sinks."""
        if not self.sinks.sinks:
            return
        top = "eval" if made.averaged else "eval_raw"
        clusters = {part.wanted.task: part.cluster for part in one.parts}
        values = {
            f"{top}/{one.name}/{clusters.get(row.task, '')}/{row.task}/{row.metric}": float(row.score)
            for done in results.manifest.tasks
            for row in results.scores(done).itertuples()
        }
        axes = {"tokens": made.tokens, "flops": made.flops}
        before = sum(self.sinks.failures.values())
        self.sinks.log(values, made.step, {name: x for name, x in axes.items() if x is not None})
        if sum(self.sinks.failures.values()) > before:
            self._note({"step": made.step, "kind": "failed", "what": "sink", "why": str(self.sinks.failures)})

    def _watch(self, step: int) -> None:
        """Raise the alarms that the last evaluation gives reason to."""
        assert self._ranks is not None
        if not self.rate or self._ranks.rank:
            return
        from evalsuite.alarms import watch

        try:
            found = watch(self.evaluations, rate=self.rate)
            known = {(x["capability"], x["suite"]) for x in self.evaluations.journal if x["kind"] == "alarm"}
            for alarm in found.alarms:
                if (alarm.capability, alarm.suite) in known:
                    continue
                self._note(
                    {
                        "step": step, "kind": "alarm", "capability": alarm.capability, "suite": alarm.suite,
                        "since": alarm.since, "size": alarm.size, "evidence": alarm.evidence,
                        "near": list(alarm.near),
                    }
                )  # fmt: skip
                self._tell(f"ALARM at step {step}: {alarm}")
                self.sinks.log({f"alarm/{alarm.suite}/{alarm.capability}": alarm.evidence}, step)
        except Exception as error:
            self._failed(step, "alarm", error)

    # --- what is written down ---------------------------------------------------------------------------

    def _note(self, event: Mapping[str, Any]) -> None:
        """Write a line of the journal; where that fails, it is said."""
        self.evaluations = self.evaluations.also(event)
        if self._journal is None:
            return
        try:
            self._journal.append(event)
        except Exception as error:
            self.failures += 1
            self._tell(f"step {event['step']}: a line of the journal is lost: {error}")

    def _failed(self, step: int, what: str, error: Exception, suite: str = "") -> None:
        """Count a failure, write it down and say it; training goes on."""
        self.failures += 1
        why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        about = {"suite": suite} if suite else {}
        self._note({"step": step, "kind": "failed", "what": what, **about, "why": why})
        self._tell(f"step {step}: {what}{f' of {suite}' if suite else ''} failed: {why}; training goes on")

    def _tell(self, line: str) -> None:
        if self._ranks is None or self._ranks.rank == 0:
            self._say(line)
