"""What a hook writes down: its journal on the disk, the same in memory, and what it says aloud."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalsuite.evaluations import JOURNAL, Evaluations
from evalsuite.ranks import Ranks
from evalsuite.run_log import RunLog, read

_log = logging.getLogger(__name__)


class Journal:
    """The journal of a run, which no error of its own ends.

    Args:
        folder: of the hook. ranks: the first of them writes and speaks; all keep the lines in memory.
        say: told what a person should know, a line each; `logging`, if absent.

    Attributes:
        evaluations: all that stands in it. failures: errors so far, of evaluations and of writing.
    """

    def __init__(self, folder: Path, ranks: Ranks, say: Callable[[str], None] | None = None) -> None:
        self.folder, self.ranks = folder, ranks
        self.failures = 0
        self.evaluations = Evaluations(folder, (), ())
        self._say = say or _log.warning
        self._file: RunLog | None = None
        self._failed: tuple[str, str] | None = None  # the last failure: what, and why without its numbers

    def open(self, step: int) -> None:
        """Take up the journal where it was before a step, or begin it: later lines are dropped.

        Raises:
            Exception: it cannot be read or written; on all ranks, if on one.
        """
        problem: Exception | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.ranks.rank == 0:
                self._file = RunLog(self.folder / JOURNAL)
                self._told_of_dropped(step)
                self._file.rewind(step - 1)
        except Exception as error:
            problem = error
        self.ranks.agree(problem)
        try:
            self.evaluations = Evaluations.open(self.folder)
        except Exception as error:  # as where a rank does not see the disk of the first
            problem = error
        self.ranks.agree(problem)

    def _told_of_dropped(self, step: int) -> None:
        later = [one["step"] for one in read(self.folder / JOURNAL) if one["step"] >= step]
        if later:
            self.tell(
                f"{self.folder}: goes on at step {step}; {len(later)} lines of steps {min(later)} to "
                f"{max(later)} are dropped from its journal, and snapshots of later steps"
            )

    def note(self, event: Mapping[str, Any]) -> None:
        """Add a line, with `step` and `kind`; where it cannot be written, that is said."""
        self.evaluations = self.evaluations.also(event)
        if self._file is None:
            return
        try:
            self._file.append(event)
        except Exception as error:
            self.failures += 1
            self.tell(f"step {event['step']}: a line of the journal is lost: {error}")

    def failed(self, step: int, what: str, error: Exception | str, suite: str = "") -> None:
        """Count a failure, write it down and say it; a hook or snapshot that fails again alike is counted."""
        self.failures += 1
        name = "" if isinstance(error, str) else f"{type(error).__name__}: "
        why = " ".join(f"{name}{error}".split())[:500]
        kind = (what, re.sub(r"[0-9]+", "", why))
        if what in ("hook", "snapshot") and kind == self._failed:
            return  # at every step, it may be
        self._failed = kind
        about = {"suite": suite} if suite else {}
        self.note({"step": step, "kind": "failed", "what": what, **about, "why": why})
        self.tell(f"step {step}: {what}{f' of {suite}' if suite else ''} failed: {why}; training goes on")

    def tell(self, line: str) -> None:
        """Say a line, once for all ranks."""
        if self.ranks.rank == 0:
            with suppress(Exception):
                self._say(line)

    def last(self, kind: str) -> Mapping[str, Any] | None:
        """The last line of a kind."""
        return next((one for one in reversed(self.evaluations.journal) if one["kind"] == kind), None)

    def close(self) -> None:
        """Bring everything to the disk, and close."""
        if self._file is not None:
            with suppress(OSError, ValueError):
                self._file.sync()
            self._file.close()
            self._file = None
