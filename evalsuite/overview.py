"""A watched run at a glance: where it is, what its hook measured, what stands out, what cannot be read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from evalsuite.evaluations import JOURNAL, Evaluation, Evaluations
from evalsuite.run_log import read
from evalsuite.run_state import RunState
from scaling.errors import StagewiseError

if TYPE_CHECKING:
    from evalsuite.alarms import Watched

RATE = 0.05  # of false alarms, where the plan says none


@dataclass(frozen=True)
class Overview:
    """What `train watch` and `evalsuite report` show.

    Attributes:
        run: where it is. evaluations: those whose results can be read, and the whole journal.
        watched: expectations and alarms; None before the first evaluation, and where they failed.
        problems: what could not be read or judged, in words.
    """

    run: RunState
    evaluations: Evaluations
    watched: Watched | None = None
    problems: tuple[str, ...] = ()
    _all: Evaluations | None = field(default=None, repr=False, compare=False)  # also what cannot be read

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, forecast: Any = None, before: Overview | None = None
    ) -> Overview:
        """Read a run, also one that is being written.

        Args:
            folder: of the run, or of the hook of another trainer.
            forecast: as for `evalsuite.alarms.watch`.
            before: the overview of a moment ago, whose evaluations are not read again.

        Raises:
            StagewiseError: no run; a journal with a broken line.

        Example:
            >>> Overview.open("runs/a").watched.to_frame()       # doctest: +SKIP
        """
        run = RunState.read(Path(folder))
        found = _journal(run, before)
        if before is not None and found is before._all and not before.problems:
            return replace(before, run=_placed(run, found))
        kept, problems = _readable(found)
        watched: Watched | None = None
        if kept.all:
            from evalsuite.alarms import watch

            try:
                watched = watch(kept, rate=kept.plan.get("rate") or RATE, forecast=forecast)
            except Exception as error:  # as in the hook: whatever it is, the scores are shown
                name = "" if isinstance(error, StagewiseError) else f"{type(error).__name__}: "
                problems = (*problems, f"no expectations, no alarms: {name}{error}")
        return cls(_placed(run, found), kept, watched, problems, found)

    @property
    def plan(self) -> dict[str, Any]:
        """What the hook was told to do."""
        return dict(self.evaluations.plan)

    @property
    def capabilities(self) -> pd.DataFrame:
        """One row per suite and capability, as `Watched.to_frame`; empty where nothing was judged."""
        return pd.DataFrame() if self.watched is None else self.watched.to_frame()

    @property
    def last(self) -> tuple[Evaluation, ...]:
        """The evaluations of the newest step that has one."""
        found = self.evaluations.all
        return tuple(one for one in found if one.step == found[-1].step)

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of training, and of evaluation, up to the end of the last evaluation."""
        told = (self._all or self.evaluations).all
        if not told:
            return 0.0, 0.0
        newest = [one for one in told if one.step == told[-1].step]
        # What an evaluation says was spent is from before it.
        spent = min(one.speed.get("spent", 0.0) for one in newest)
        spent += sum(one.speed.get("seconds", 0.0) for one in newest)
        return newest[-1].speed.get("training", 0.0), spent

    @property
    def share(self) -> float | None:
        """Time of evaluation per time of training; None before the first."""
        training, spent = self.seconds
        return spent / training if training else None


def _journal(run: RunState, before: Overview | None) -> Evaluations:
    """The journal; where it has grown, what was read of it stays read."""
    path = run.hook / JOURNAL
    if not path.is_file():
        return Evaluations(run.hook, (), ())
    lines = tuple(read(path))
    old = before._all if before is not None else None
    if old is None or old.folder != run.hook or lines[: len(old.journal)] != old.journal:
        return Evaluations.of(run.hook, lines)
    for line in lines[len(old.journal) :]:
        old = old.also(line)
    return old


def _readable(found: Evaluations) -> tuple[Evaluations, tuple[str, ...]]:
    """Without the evaluations whose folders are gone or broken, and what is wrong with those."""
    good: list[Evaluation] = []
    problems: list[str] = []
    for one in found.all:
        try:
            for done in one.results.manifest.tasks:
                if done.file is not None:
                    one.results.likelihoods(done)
        except (StagewiseError, OSError) as error:
            problems.append(f"step {one.step}, {one.suite}: results cannot be read: {error}")
        else:
            good.append(one)
    return (replace(found, all=tuple(good)) if problems else found), tuple(problems)


def _placed(run: RunState, found: Evaluations) -> RunState:
    """Of a trainer without a log of ours the journal tells where it is."""
    if run.step or not found.journal:
        return run
    tokens, flops = (
        next((x for one in reversed(found.all) if (x := getattr(one, name)) is not None), None)
        for name in ("tokens", "flops")
    )
    step = max(one["step"] for one in found.journal)
    return replace(run, step=step, tokens=tokens, flops=flops)
