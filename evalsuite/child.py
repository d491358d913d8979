"""A process of its own that evaluates, seen from the training run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.durable import remove
from evalsuite.job import JOB, OUTCOME, Job, Outcome, Scored
from scaling.errors import StagewiseError, UsageError

SAID = "stderr.txt"
_TAIL = 300  # characters of its last words in a message
_LOADER = re.compile(r"(?!__main__:)[^\W\d]\w*(\.\w+)*:[^\W\d]\w*(\.\w+)*")
# What makes a process one of the ranks of a run.
_RANKS = frozenset(
    "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_NAME "
    "ROLE_WORLD_SIZE NODE_RANK MASTER_ADDR MASTER_PORT".split()
)
_LAUNCHERS = ("TORCHELASTIC_", "PET_", "ACCELERATE_", "FSDP_")


@dataclass(frozen=True)
class Process:
    """How evaluations run in a process of their own.

    Attributes:
        loader: `package.module:function`, which that process imports and calls; so not of a script that
            trains when it is imported. It returns the model, on its device and with any weights, and its
            tokenizer (or an `Encoder`), and sets what scores depend on in torch as the run does.
        argument: for it, as JSON has it.
        threads: of the processor, for torch and tokenizers. nice: added to the niceness, 0 to 19.
        devices: GPUs it may see, as CUDA_VISIBLE_DEVICES; those of the run, if None.
        limit: seconds until it is ended as hanging; None for never.

    Raises:
        UsageError: what cannot be.

    Example:
        >>> Process("mine.models:build", {"layers": 12}, devices="7").threads
        1
    """

    loader: str
    argument: Any = None
    threads: int = 1
    nice: int = 10
    devices: str | None = None
    limit: float | None = 3600.0

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.loader, str) or not _LOADER.fullmatch(self.loader):
            problems.append(
                f"loader {self.loader!r}: valid is package.module:function, of a module that can be imported"
            )
        try:
            if json.loads(json.dumps(self.argument, allow_nan=False)) != self.argument:
                raise ValueError("it would be read back as something else")
        except (TypeError, ValueError) as error:
            problems.append(f"argument: {error}; valid is what JSON has")
        if type(self.threads) is not int or self.threads < 1:
            problems.append(f"threads {self.threads!r}: valid is a whole number from 1")
        if type(self.nice) is not int or not 0 <= self.nice <= 19:
            problems.append(f"nice {self.nice!r}: valid is 0 to 19")
        if self.limit is not None and not self.limit > 0:
            problems.append(f"limit {self.limit!r}: valid is a number of seconds above 0, or None")
        if problems:
            raise UsageError(f"process: {'; '.join(problems)}")


@dataclass
class Child:
    """A process at work.

    It gets no rank of the run and nothing of its memory, ignores what the terminal sends to the run, and ends
    when the run does. Where memory runs out, the kernel ends it first.

    Attributes:
        folder: of the job, the outcome, and what it says.

    Example:
        >>> child = Child.start(job, Path("work"), Process("mine:build"))   # doctest: +SKIP
        >>> child.poll() is None        # at work                           # doctest: +SKIP
        True
    """

    folder: Path
    _asked: int
    _limit: float | None
    _running: subprocess.Popen[bytes] = field(repr=False)
    _started: float = field(default_factory=time.monotonic)
    _over: bool = False

    @classmethod
    def start(cls, job: Job, folder: Path, process: Process) -> Child:
        """Write the job into a folder, and start a process that does it.

        Raises:
            StagewiseError: the folder cannot be written, or the process not be started.
        """
        if not sys.executable:
            raise StagewiseError("process: where Python is, is not known; evaluate without a process")
        try:
            remove(folder / OUTCOME)
            job.write(folder / JOB)
            command = [sys.executable, "-P", "-m", "evalsuite.worker", str(folder / JOB), str(os.getpid())]
            with open(folder / SAID, "wb") as said:
                running = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_environment(process),
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise StagewiseError(f"{folder}: no process could be started: {error}") from error
        return cls(folder, len(job.asked), process.limit, running)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._running.pid

    def poll(self) -> Outcome | None:
        """What became of the job; None while it is at work. Never waits."""
        if (code := self._running.poll()) is not None:
            return self._outcome(code)
        if self._limit is not None and time.monotonic() - self._started > self._limit and not self._over:
            self._over = True
            self._signal()
        return None

    def wait(self, seconds: float | None = None) -> Outcome | None:
        """As `poll`, after so many seconds at most; None for as many as it may take."""
        until = None if seconds is None else time.monotonic() + seconds
        while (found := self.poll()) is None and (until is None or time.monotonic() < until):
            with suppress(subprocess.TimeoutExpired):
                self._running.wait(0.1)
        return found

    def kill(self) -> None:
        """End it now."""
        self._signal()
        with suppress(subprocess.TimeoutExpired):
            self._running.wait(5.0)

    def _signal(self) -> None:
        """End it and all it has started."""
        if self._running.poll() is None:
            with suppress(OSError):
                os.killpg(self._running.pid, signal.SIGKILL)

    def _outcome(self, code: int) -> Outcome:
        """What it wrote; of what it did not reach, the reason."""
        try:
            found = Outcome.read(self.folder / OUTCOME)
        except StagewiseError:
            found = Outcome()
        if found.ended:
            return found
        if self._over:
            why = f"took longer than its limit of {self._limit:g} s"
        elif code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            why = f"was ended by {name}"
            why += ", as the kernel does where memory runs out" if -code == signal.SIGKILL else ""
        else:
            why = f"ended with exit code {code}"
        why = f"the process that evaluates {why}; its last words: {self._said() or 'none'}"
        rest = (Scored(why=why),) * (self._asked - len(found.scored))
        return Outcome(scored=(*found.scored, *rest), why=why)

    def _said(self) -> str:
        """The end of what it said, in one line."""
        try:
            with open(self.folder / SAID, "rb") as handle:
                handle.seek(-min(4096, handle.seek(0, os.SEEK_END)), os.SEEK_END)
                lines = handle.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        told = " ".join(" ".join(line.split()) for line in lines if line.strip(" ^~"))
        return told if len(told) <= _TAIL else f"...{told[-_TAIL:]}"


def _environment(process: Process) -> dict[str, str]:
    """That of the run, without what makes it a rank, and with where it imports from."""
    threads = str(process.threads)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _RANKS and not name.startswith(_LAUNCHERS)
    }
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    paths = [os.path.abspath(path) for path in sys.path if os.pathsep not in path]
    kept |= dict.fromkeys(names, threads) | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    return kept if process.devices is None else kept | {"CUDA_VISIBLE_DEVICES": process.devices}
