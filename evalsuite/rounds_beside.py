"""Evaluations that are made in a process of their own, while training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from evalsuite.background import Background
from evalsuite.evaluations import Evaluation
from evalsuite.job import Asked
from evalsuite.place import Place
from evalsuite.programme import Programme
from evalsuite.rounds import Rounds
from evalsuite.snapshots import Snapshots
from evalsuite.window import Window


@dataclass
class RoundsBeside(Rounds):
    """Rounds whose suites are scored from snapshots on disk, in a process of their own.

    An evaluation that is due while the one before is at work is skipped. All items are asked: the budget is
    of the run's own time, which snapshots alone take. The first rank has the process; the others do nothing.

    Attributes:
        background: the process.
    """

    background: Background | None = None

    def run(
        self,
        at: Place,
        model: nn.Module,
        flops: float | None,
        window: Window | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """Begin an evaluation, if none is at work; arguments as of `Rounds.run`."""
        assert self.background is not None and snapshots is not None and window is not None
        flops, chosen, ran = self._due(at, model, flops)
        if self.journal.ranks.rank:
            return
        if self.background.busy:
            why = "the evaluation before is still at work"
            self.journal.note({"step": at.step, "kind": "skipped", "why": why})
            return
        self._switched(at.step, flops, ran, [one.name for one in chosen])
        self.background.start(self._asked(at, flops, chosen, window, snapshots))

    def take_up(self, step: int) -> None:
        """Have that done again which was at work when the run ended that is resumed after a step."""
        if self.background is None or self.journal.ranks.rank:
            return
        lines = self.journal.evaluations.journal
        try:
            self.background.take_up(step, {one["folder"] for one in lines if one["kind"] == "evaluation"})
        except Exception as error:  # of the first rank alone: the others would wait for it
            self.journal.failed(step, "evaluation", error)

    def collect(self, *, wait: bool = False) -> None:
        """Write down what came of an evaluation, under the step that it is of, once it has ended."""
        assert self.background is not None
        step = None
        for asked, how in self.background.ended(wait=wait):
            if how.why:
                self.journal.failed(asked.line["step"], "evaluation", how.why, suite=asked.suite)
                continue
            speed = {**asked.line["speed"], "seconds": how.seconds}
            line = {**asked.line, "missing": how.missing, "speed": speed}
            try:
                made = Evaluation.of(self.journal.folder, line)
                self._scored(made, made.results)
            except Exception as error:  # results that are gone; the others are taken
                self.journal.failed(asked.line["step"], "evaluation", error, suite=asked.suite)
                continue
            step = made.step
        if step is not None:
            self._watch(step)

    def close(self, *, wait: bool = True) -> None:
        """Wait for what is at work, or leave it to a resumed run, and end."""
        assert self.background is not None
        try:
            if wait and self.background.busy:
                self.journal.tell("waiting for the last evaluation, in its own process")
            self.collect(wait=wait)
        finally:
            self.background.close()
            super().close()

    def _asked(
        self,
        at: Place,
        flops: float | None,
        chosen: Sequence[Programme],
        window: Window,
        snapshots: Snapshots,
    ) -> list[Asked]:
        """Every suite on the mean, and on the weights as they are where these are wanted."""
        members, weights, doubts = self._mean(at, window, snapshots)
        means = [(members, weights, True, doubts)]
        if self._raw(at.step) and at.step in members:
            means.insert(0, ((at.step,), (1.0,), False, ()))
        asked = []
        for steps, shares, averaged, why in means:
            for one in chosen:
                made, identity = self._made(one, at, flops, 1.0, steps, averaged, why)
                line = made.told(self.journal.folder)
                text = None if one.suite is None else one.suite.body()
                asked.append(
                    Asked(
                        suite=one.name, wanted=one.wanted(), text=text, members=steps, weights=shares,
                        folder=line["folder"], identity=identity, line=line,
                    )
                )  # fmt: skip
        return asked
