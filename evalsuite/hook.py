"""The hook: suites run inside a training loop, on the mean of its last snapshots, in a share of its time."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.background import Background
from evalsuite.budget import Budget
from evalsuite.child import Process
from evalsuite.course import Course
from evalsuite.evaluations import Evaluations
from evalsuite.evaluator import Evaluator
from evalsuite.journal import Journal
from evalsuite.keeper import Keeper
from evalsuite.place import Place
from evalsuite.programme import programmes
from evalsuite.ranks import Ranks
from evalsuite.registry import Registry
from evalsuite.results import Identity
from evalsuite.rotation import Rotation
from evalsuite.rounds import Rounds
from evalsuite.rounds_beside import RoundsBeside
from evalsuite.sinks import Several, Sink
from scaling.errors import UsageError


class EvalHook:
    """Watches a training run: call it after every optimiser step.

    At every multiple of `every` steps it runs the suite of the run's stage on the mean of the last snapshots,
    writes score rows and the likelihoods of every item, feeds sinks, and raises an alarm when a capability
    falls behind. It leaves weights, gradients, modes and random states as they were, bit for bit;
    an error inside is logged and counted, and training goes on. All ranks of a distributed run call it.

    Args:
        suites: suite files, `Suite` objects or a `TaskList`, one or several; each is run in its stage.
        tokenizer: of `transformers` or `tokenizers`, an object with `encode`, or an `Encoder`.
        folder: of what it writes; a resumed run names the same, and all ranks see it.
        every: steps between evaluations; 0 for never, which costs nothing.
        average: how snapshots are averaged; None scores the weights as they are.
        budget: share of training time that evaluation, snapshots included, may take; None for no limit.
        sinks: get `eval/<suite>/<cluster>/<task>/<metric>` over step, tokens and FLOPs.
        registry: where tasks are found; the user's folders and the generated skills, if absent.
        identity: whose scores they are; named as the folder that `folder` is in, if absent.
        raw: score the weights as they are beside their mean at every n-th evaluation; 0 for never.
        process: score in a process of its own, from the snapshots on disk, while training goes on; `budget`
            is then of the snapshots. An evaluation that is due while the one before is at work is skipped.
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
        raw: int = 0,
        process: Process | None = None,
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
        if raw < 0:
            raise UsageError(f"raw is {raw!r}, valid is n, for every n-th evaluation, or 0 for none")
        if not 0 <= rate < 1:
            raise UsageError(f"rate is {rate!r}, valid is from 0 (no alarms) to below 1")
        if process is not None and (average is None or average.where != "disk"):
            raise UsageError(
                "process: works from snapshots on disk; give average=Averaging(), or Averaging(n=1) for the "
                "weights as they are"
            )
        self.folder, self.every, self.average = Path(folder), every, average
        evaluator = Evaluator(
            tokenizer, registry or Registry.open(), max_length=max_length, autocast=autocast,
            budget=batch_tokens, gold_only=gold_only,
        )  # fmt: skip
        self.journal = Journal(self.folder, Ranks(), say)
        beside: dict[str, Any] = {}
        if process is not None:
            beside["background"] = Background(process, self.folder, evaluator)
        self.rounds = (RoundsBeside if beside else Rounds)(
            evaluator, Rotation(programmes(suites, evaluator.registry), overlap), Budget(budget),
            Several(sinks), self.journal,
            identity or Identity(model=self.folder.resolve().parent.name or "model"),
            every, average, raw, rate,
            **beside,
        )  # fmt: skip
        self._course = Course()
        self.keeper = None
        if average is not None:
            self.keeper = Keeper(average, max(every, 1), self.rounds.budget, self.journal)
        self._begun = False
        self._saved: int | None = None
        self._ended: float | None = None
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
            lr: learning rate of the step. loss: of the step; a tensor is read, which waits for the device.
            phase: of the data mixture, such as its number.
        """
        if self._off:
            return
        start, budget = time.perf_counter(), self.rounds.budget
        budget.begin()
        try:
            spent, read, rate, value = (
                None if one is None else float(one) for one in (flops, tokens, lr, loss)
            )
            self._step(operator.index(step), model, start, spent, read, rate, value, phase)
        except Exception as error:  # training goes on, whatever it is
            self.journal.failed(step, "hook", error)
        self._ended = budget.end()

    def saved(self, step: int, oldest: int | None = None) -> None:
        """Tell that a checkpoint is on the disk: snapshots that no resume needs any more are deleted.

        Args:
            step: of the checkpoint.
            oldest: step of the oldest one that a resume may start from; the one saved before, if absent.
        """
        before, self._saved = self._saved if self._saved is not None else step, step
        if self._off or not self._begun:
            return
        start = time.perf_counter()
        self.rounds.budget.begin()
        try:
            self.journal.note({**self._state(), "step": step, "kind": "saved"})
            if self.keeper is not None:
                self.keeper.oldest = before if oldest is None else oldest
                self.keeper.prune(step)
        except Exception as error:
            self.journal.failed(step, "snapshot", error)
        ended = self.rounds.budget.end()
        if self._ended is not None:  # time of the hook's own is not time of training
            self._ended += ended - start

    def close(self, *, wait: bool = True) -> None:
        """End: sinks and the journal are closed. Closing twice does no harm.

        Args:
            wait: for an evaluation that is at work in a process of its own; else it is ended, and a resumed
                run has it done again.
        """
        try:
            self.rounds.close(wait=wait)
        except Exception as error:
            self.journal.failed(0, "evaluation", error)
        self.journal.close()
        self._off = True

    @property
    def failures(self) -> int:
        """Errors so far, each of which stands in the journal."""
        return self.journal.failures

    @property
    def evaluations(self) -> Evaluations:
        """What was measured so far."""
        return self.journal.evaluations

    def _step(
        self, step: int, model: nn.Module, start: float, flops: float | None, tokens: float | None,
        lr: float | None, loss: float | None, phase: Any,
    ) -> None:  # fmt: skip
        if not self._begun:
            self._begin(step, model)
        if self._ended is not None:
            self.rounds.budget.train(start - self._ended)
            self.rounds.steps += 1
        keeper, rounds = self.keeper, self.rounds
        at = Place(step, tokens, rounds.budget.training if keeper is None else keeper.seconds(), lr)
        for event in self._course.notice(step, phase=phase, lr=lr, loss=loss):
            self.journal.note(event)
        try:
            rounds.collect()
        except Exception as error:  # of the first rank alone: it has to go on with the others
            self.journal.failed(step, "evaluation", error)
        if keeper is not None:
            keeper.stride = rounds.stride
            keeper.take(at, model)
        try:
            if step % self.every == 0:
                told = (None, None) if keeper is None else (keeper.window, keeper.snapshots)
                rounds.run(at, model, flops, *told)
        finally:
            if keeper is not None:
                keeper.tidy(step)

    def _begin(self, step: int, model: nn.Module) -> None:
        """Take up the folder where a run left it, or make it."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.journal.ranks = Ranks.here(device)
        self._begun = True
        try:
            self.journal.open(step)
            if self.keeper is not None:
                self.keeper.open(self.folder, step)
            self.rounds.take_up(step - 1)
        except Exception:
            self._off = True
            self.journal.tell(f"{self.folder}: EVALUATION IS OFF for this run; training goes on without it")
            raise
        rounds, found = self.rounds, self.journal.evaluations
        if (saved := self.journal.last("saved")) and saved["step"] == step - 1:
            self._course = Course.of(saved["course"])
            rounds.budget.restore(saved["speed"])
            rounds.steps = saved["speed"]["steps"]
        if thinned := self.journal.last("thinned"):
            rounds.stride = thinned["stride"]
        settled = tuple(map(rounds.evaluator.settled, rounds.rotation.programmes))
        rounds.rotation = Rotation(settled, rounds.rotation.overlap)
        plan = self._plan()
        if {**found.plan, "step": 0} != {**plan, "step": 0}:
            self.journal.note({**plan, "step": step})

    def _state(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        rounds = self.rounds
        return {"course": self._course.state, "speed": rounds.budget.state | {"steps": rounds.steps}}

    def _plan(self) -> dict[str, Any]:
        """The hook's settings, for the journal."""
        rounds, average = self.rounds, self.average
        return {
            "step": 0, "kind": "plan", "suites": [one.told() for one in rounds.rotation.programmes],
            "every": self.every, "budget": rounds.budget.share, "rate": rounds.rate,
            "model": rounds.identity.model,
            "average": None if average is None else {
                "n": average.n, "spacing": str(average.spacing), "weights": average.weights,
                "decay": average.decay, "where": average.where, "span": average.span,
                "least": average.least,
            },
        }  # fmt: skip
