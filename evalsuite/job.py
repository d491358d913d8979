"""What a process of its own is asked to score, and what became of it: JSON between two processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError

from evalsuite.evidence import Count, Text
from evalsuite.results import Identity, Wanted
from evalsuite.settings import Entry
from scaling.errors import StagewiseError
from scaling.files import replacing

JOB, OUTCOME = "job.json", "outcome.json"


class _File(Entry):
    """One that is a file."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read the file.

        Raises:
            StagewiseError: it is not there, or not what `write` wrote.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except (OSError, ValidationError) as error:
            raise StagewiseError(f"{path}: cannot be read: {' '.join(str(error).split())[:300]}") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        with replacing(path) as part:
            part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


class Asked(Entry):
    """One suite to score on one mean, into one folder.

    Attributes:
        suite: its name. wanted: its tasks, thinned or not. text: the suite's file, where all of it is asked.
        members, weights: steps of the snapshots, ascending, and their weights in the mean.
        folder: of the results, below that of the job. identity: whose they are.
        line: for the journal, once there are results; handed back as it is.
    """

    suite: Text
    wanted: tuple[Wanted, ...]
    text: str | None = None
    members: tuple[int, ...] = Field(min_length=1)
    weights: tuple[float, ...]
    folder: Text
    identity: Identity
    line: dict[str, Any] = Field(default_factory=dict)


class Job(_File):
    """What to score, and how.

    Attributes:
        loader: `package.module:function`; called with `argument`, it returns a model, with any weights, and
            its tokenizer.
        asked: in this order. results: where their folders are. snapshots: the folder these are in.
        tasks, seed: folders and seed of the registry.
        max_length, autocast, batch_tokens, gold_only: as for `Evaluator`; autocast by its name in torch.
        threads: of the processor. nice: added to the niceness.

    Example:
        >>> Job.read("runs/a/evals/process/job.json").loader     # doctest: +SKIP
        'mine.models:build'
    """

    loader: Text
    argument: Any = None
    asked: tuple[Asked, ...]
    results: Text
    snapshots: Text
    tasks: tuple[Text, ...] = ()
    seed: int = 0
    max_length: Count | None = None
    autocast: str | None = None
    batch_tokens: Count | None = None
    gold_only: bool = False
    threads: Count = 1
    nice: int = 10


class Scored(Entry):
    """What became of one that was asked.

    Attributes:
        why: it failed; empty where it was scored. missing: tasks that could not be, with `task` and `why`.
        seconds: it took.
    """

    why: str = ""
    missing: tuple[dict[str, str], ...] = ()
    seconds: float = 0.0


class Outcome(_File):
    """What became of a job.

    Attributes:
        scored: of each that was asked, in its order; as many as were reached.
        ended: whether all was reached. why: it was not, in words.
    """

    scored: tuple[Scored, ...] = ()
    ended: bool = False
    why: str = ""
