"""The runs of a study: made once, taken up where they were cut off, found again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from scaling.errors import StagewiseError
from train.config import RunConfig
from train.loop import Outcome
from train.run import CONFIG, anneal, resume, start

Progress = Callable[[int, int, str], None]


def finished(folder: Path, config: RunConfig, progress: Progress | None = None) -> Outcome:
    """Train a run to its end, from where it was cut off if it was; or find it done.

    Raises:
        StagewiseError: stopped by a signal; the same call goes on from there.

    Example:
        >>> finished(Path("runs/a"), RunConfig(steps=100)).step          # doctest: +SKIP
        100
    """
    if (folder / CONFIG).is_file():
        return _ended(folder, resume(folder, progress=progress))
    return _ended(folder, start(folder, config, progress=progress))


def annealed(checkpoint: Path, steps: int, folder: Path, progress: Progress | None = None) -> Outcome:
    """Branch a run off as `train.run.anneal` does, and train the branch to its end as `finished` does."""
    if (folder / CONFIG).is_file():
        return _ended(folder, resume(folder, progress=progress))
    shutil.rmtree(folder, ignore_errors=True)  # a branch that was killed before it began
    return _ended(folder, anneal(checkpoint, steps, folder, progress=progress))


def _ended(folder: Path, outcome: Outcome) -> Outcome:
    if outcome.stopped:
        raise StagewiseError(
            f"{folder}: stopped by {outcome.stopped} at step {outcome.step} of {outcome.steps}; what was "
            "done is kept in the study's folder, and the same call goes on from there"
        )
    return outcome
