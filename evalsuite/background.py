"""The evaluations of a hook in a process of their own, one after the other, while training goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from evalsuite.child import Child, Process
from evalsuite.durable import remove
from evalsuite.evaluations import SNAPSHOTS
from evalsuite.evaluator import Evaluator
from evalsuite.job import JOB, Asked, Job, Scored
from scaling.errors import StagewiseError

FOLDER = "process"


class Background:
    """At most one process at a time.

    What it works from lies in a folder of its own: the job, and the snapshots as links (copies, where the
    file system has none). So the run may delete its own meanwhile, and once resumed have the job done again.

    Args:
        process: how it is run. folder: of the hook. evaluator: whose settings it takes over.

    Example:
        >>> beside = Background(Process("mine:build"), Path("runs/a/evals"), evaluator)   # doctest: +SKIP
        >>> beside.start([asked])                                                         # doctest: +SKIP
        >>> for asked, scored in beside.ended():     # at every later step                # doctest: +SKIP
        ...     print(asked.line["step"], scored.why or "scored")
    """

    def __init__(self, process: Process, folder: Path, evaluator: Evaluator) -> None:
        self.process = process
        self.folder = folder.absolute() / FOLDER
        self._evaluator = evaluator
        self._asked: tuple[Asked, ...] = ()
        self._child: Child | None = None

    @property
    def busy(self) -> bool:
        """Whether it is at work, or what became of the work was not taken yet."""
        return self._child is not None

    def start(self, asked: Sequence[Asked]) -> None:
        """Have these scored.

        Raises:
            StagewiseError: it is busy; or the folder cannot be written, or the process not be started.
        """
        if self._child is not None:
            raise StagewiseError("process: one evaluation after the other; the one before is at work")
        try:
            remove(self.folder)
            for step in sorted({step for one in asked for step in one.members}):
                name = f"step-{step:09d}"
                _link(self.folder.parent / SNAPSHOTS / name, self.folder / SNAPSHOTS / name)
        except OSError as error:
            raise StagewiseError(f"{self.folder}: snapshots could not be set aside: {error}") from error
        self._start(asked)

    def take_up(self, step: int, done: Collection[str]) -> None:
        """Have that done again which a run left when it ended, and which is resumed after a step.

        Args:
            step: the last one done. done: folders of the results that stand in its journal, as it has them.
        """
        asked: list[Asked] = []
        if (self.folder / JOB).is_file():
            try:
                job = Job.read(self.folder / JOB)
                asked = [one for one in job.asked if one.line["step"] <= step and one.folder not in done]
            except (StagewiseError, KeyError):  # broken, or of another version
                asked = []
        if asked:
            self._start(asked)
        else:
            remove(self.folder)

    def ended(self, *, wait: bool = False) -> Iterator[tuple[Asked, Scored]]:
        """What was asked and what became of it, once the process has ended; until then, nothing.

        Args:
            wait: for its end.
        """
        if self._child is None:
            return
        outcome = self._child.wait() if wait else self._child.poll()
        if outcome is None:
            return
        self._child = None
        yield from zip(self._asked, outcome.scored, strict=True)
        # Not before it is taken: a run that is killed in between finds the job again.
        remove(self.folder / JOB)
        remove(self.folder / SNAPSHOTS)

    def close(self) -> None:
        """End the process; what it has not ended is found again by `take_up`."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _start(self, asked: Sequence[Asked]) -> None:
        self._asked = tuple(asked)
        self._child = Child.start(self._job(), self.folder, self.process)

    def _job(self) -> Job:
        process, evaluator = self.process, self._evaluator
        return Job(
            loader=process.loader, argument=process.argument, threads=process.threads, nice=process.nice,
            asked=self._asked, results=str(self.folder.parent), snapshots=str(self.folder / SNAPSHOTS),
            tasks=tuple(os.path.abspath(one.path) for one in evaluator.registry.folders),
            seed=evaluator.registry.seed, max_length=evaluator.max_length, batch_tokens=evaluator.budget,
            autocast=evaluator.autocast and str(evaluator.autocast).removeprefix("torch."),
            gold_only=evaluator.gold_only,
        )  # fmt: skip


def _link(source: Path, target: Path) -> None:
    """Let a folder of files be found at a second place."""
    target.mkdir(parents=True)
    for one in sorted(source.iterdir()):
        try:
            os.link(one, target / one.name)
        except OSError:
            if not one.is_file():
                raise
            shutil.copy2(one, target / one.name)
