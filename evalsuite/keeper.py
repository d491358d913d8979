"""The snapshots of a run: taken when they are due, deleted when no evaluation can use them any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import nn

from evalsuite.averaging import Averaging
from evalsuite.budget import Budget
from evalsuite.evaluations import SNAPSHOTS
from evalsuite.journal import Journal
from evalsuite.place import Place
from evalsuite.snapshots import Snapshots
from evalsuite.window import Window

_PLENTY = 4  # windows of snapshots that are taken before old ones are looked for


@dataclass
class Keeper:
    """Keeps what evaluations average, and what those of a resumed run will.

    Attributes:
        average: how snapshots are averaged. every: steps between evaluations. budget: of time.
        journal: where it is told what was left out; its `saved` lines say where a resume may start from.
        stride: evaluations that are run, every so many-th. oldest: checkpoint that a resume may start from.
        snapshots: what there is; None before `open`.
    """

    average: Averaging
    every: int
    budget: Budget
    journal: Journal
    stride: int = 1
    oldest: int | None = None
    snapshots: Snapshots | None = None
    _window: Window | None = field(default=None, repr=False)
    _most: int = field(default=0, repr=False)

    @property
    def window(self) -> Window:
        """Which snapshots the evaluations average that the budget allows."""
        every = self.every * self.stride
        if self._window is None or self._window.every != every:
            self._window = Window(self.average, every)
        return self._window

    def open(self, folder: Path, step: int) -> None:
        """Find what there is from before a step.

        Args:
            folder: of the hook. step: the next.
        """
        place = folder / SNAPSHOTS if self.average.where == "disk" else None
        self.snapshots = Snapshots.open(place, self.journal.tell)
        self.snapshots.rewind(step - 1)
        self._most = _PLENTY * self.average.n

    def seconds(self) -> float:
        """Of training so far; where snapshots go by the clock, that of the first rank."""
        seconds = self.budget.training
        if self.average.apart.unit != "minutes":
            return seconds
        return float(self.journal.ranks.first(np.array([seconds]))[0])

    def take(self, at: Place, model: nn.Module) -> None:
        """Take a snapshot, if one is due and the budget allows it."""
        assert self.snapshots is not None
        try:
            if not self.window.due(at, self.snapshots.places):
                return
            if self.journal.ranks.told(self.budget.affords):
                self.snapshots.take(model, at)
            else:
                why = "a snapshot is left out: it would exceed the budget of time"
                self.journal.note({"step": at.step, "kind": "skipped", "why": why})
        except Exception as error:
            self.journal.failed(at.step, "snapshot", error)

    def tidy(self, step: int) -> None:
        """Delete old ones, if there are many; after the evaluation of a step, which may be their last."""
        if self.snapshots is not None and len(self.snapshots.places) > self._most:
            self.prune(step)

    def prune(self, step: int) -> None:
        """Delete those that no evaluation from now on uses, nor one of a run resumed at a checkpoint.

        Args:
            step: of now, or of the last checkpoint.
        """
        if self.snapshots is None:
            return
        places, window, oldest = self.snapshots.places, self.window, self.oldest
        starts = {step, *(one.step for one in places[-1:])}
        if oldest is not None:
            lines = self.journal.evaluations.journal
            starts |= {oldest, *(one["step"] for one in lines if one["kind"] == "saved")}
        kept: set[int] = set()
        for start in (one for one in starts if oldest is None or oldest <= one):
            kept |= window.needed(start, [one for one in places if one.step <= start])
        self.snapshots.keep(kept)
        self._most = len(kept) + _PLENTY * self.average.n
