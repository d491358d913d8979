"""Runs of some tenths of a second, here or in children that share one import of torch."""

from __future__ import annotations

import gc
import json
import multiprocessing as mp
import os
import random
import resource
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from data.prepare import prepare
from data.sources import Source
from evalsuite.run_log import read
from train import run as running
from train.checkpoint import checkpoint_name, checkpoints
from train.config import RunConfig, read_config
from train.loop import CHECKPOINTS, LOG, Outcome
from train.run import CONFIG

# A domain each, with words of its own so that mixtures differ.
WORDS = {
    "code": "def return import class yield while lambda pass self none".split(),
    "maths": "1 2 3 5 7 11 plus minus times equals therefore".split(),
    "prose": "the a sea old house wind slowly walked remembered evening".split(),
}
STEPS, EVERY = 18, 3
SMALL: dict[str, Any] = {
    "steps": STEPS, "model.preset": "0.1m", "model.layers": 1, "model.width": 16, "model.heads": 2,
    "model.head_width": 8, "model.context": 16, "batch.rows": 4, "checkpoint.every": EVERY,
    "validation.every": 6, "validation.tokens": 100, "schedule.warmup": 2.0, "device.device": "cpu",
    "device.threads": 1,
}  # fmt: skip
# The mixture changes at step 8, the weight of the deeper losses at 13.
CHANGING: dict[str, Any] = {
    "mixture.code": "0.6 until 40%, then 0.1", "mixture.maths": 0.3,
    "mixture.prose": "0.1 until 40%, then 0.6", "mtp.depth": 1, "mtp.weight": "0.3 until 67%, then 0.1",
}  # fmt: skip
# What a run imports, also late: once for all children.
PRELOADED = ["pytest", "torch._dynamo", "torch.distributed.fsdp", "tokenizers", "tomli_w", "tests.train.runs"]
CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink")


def corpus(path: Path, seed: int = 0, documents: int = 60) -> Path:
    """A file of rows with text of all domains."""
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as handle:
        for i in range(documents):
            domain = tuple(WORDS)[i % len(WORDS)]
            text = " ".join(draw.choices(WORDS[domain], k=30))
            handle.write(json.dumps({"text": text, "domain": domain}) + "\n")
    return path


def tokens(folder: Path, seed: int = 0, tokenizer: str | int = "bytes", held_out: float = 0.1) -> Path:
    """A folder of tokens."""
    text = corpus(folder.with_suffix(".jsonl"), seed)
    size = tokenizer if isinstance(tokenizer, int) else None
    name = None if isinstance(tokenizer, int) else tokenizer
    prepare([Source(str(text))], folder, tokenizer=name, size=size, held_out=held_out)
    return folder


def config(data: Path | None, **more: Any) -> RunConfig:
    """Settings of a small run; `__` stands for the dot of a name."""
    told = SMALL | {key.replace("__", "."): value for key, value in more.items()}
    if data is not None:
        told["data.folder"] = str(data)
    return read_config(settings=told)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Tokens of three domains, to be read only."""
    return tokens(tmp_path_factory.mktemp("data") / "tokens")


@contextmanager
def no_measuring() -> Iterator[None]:
    """Without the fifth of a second in which a run measures the machine; only `speed` is of it."""
    with patch("train.loop.peak_rate", lambda *_: (1e12, "measured")):
        yield


def start(folder: Path, config: RunConfig, **more: Any) -> Outcome:
    with no_measuring():
        return running.start(folder, config, **more)


def resume(folder: Path, **more: Any) -> Outcome:
    with no_measuring():
        return running.resume(folder, **more)


def anneal(checkpoint: Path, steps: int, folder: Path, **more: Any) -> Outcome:
    with no_measuring():
        return running.anneal(checkpoint, steps, folder, **more)


def finish(folder: Path, config: RunConfig, **more: Any) -> Outcome:
    """What a user does after a kill: resume, or start again where nothing had begun."""
    return resume(folder, **more) if (folder / CONFIG).is_file() else start(folder, config, **more)


def at(folder: Path, step: int) -> Path:
    """The folder of a checkpoint."""
    return folder / CHECKPOINTS / checkpoint_name(step)


def steps_of(folder: Path) -> list[int]:
    """The checkpoints of a run."""
    return [one.step for one in checkpoints(folder / CHECKPOINTS)]


def files(folder: Path) -> dict[str, bytes]:
    """Name and bytes of every file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [{k: v for k, v in line.items() if k != "speed"} for line in read(folder / LOG)]


def losses(folder: Path) -> list[list[float]]:
    """Of each step: the loss and those of deeper predictions."""
    return [[one["loss"], *one.get("mtp", [])] for one in lines(folder) if one["kind"] == "train"]


def same(one: Path, other: Path, step: int = STEPS) -> None:
    """Fail unless two runs ended alike: every byte of the last checkpoint, every line of the log."""
    assert steps_of(one)[-1:] == steps_of(other)[-1:] == [step]
    ours, theirs = files(at(one, step)), files(at(other, step))
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert lines(one) == lines(other)


# --- children -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Harm:
    """What befalls a run.

    Attributes:
        call: kill it at its n-th call that changes the disk, from 1; `late`: after it instead of before.
        event: kill it at the n-th call or return of any function.
        at: step of what follows. signals: sent to itself. hold: tell the parent, and wait for its answer.
        room: bytes that a file may have from there on, as on a full disk. rank: the only one it befalls.
    """

    call: int = 0
    late: bool = False
    event: int = 0
    at: int = 0
    signals: tuple[str, ...] = ()
    hold: bool = False
    room: int = 0
    rank: int | None = None


@dataclass(frozen=True)
class End:
    """How a child ended: exit code (negative: of a signal), what it returned, its error, and complaints."""

    code: int | None
    value: Any = None
    error: str = ""
    complaints: tuple[str, ...] = ()


class Child:
    """A process that runs `job(pipe, *args)`."""

    def __init__(self, job: Callable[..., Any], *args: Any, **env: str) -> None:
        self.pipe, theirs = _forks().Pipe()
        self.process = _forks().Process(target=_live, args=(theirs, job, args, env), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self, seconds: float = 60) -> Any:
        """The next thing it says, which is not its end."""
        if not self.pipe.poll(seconds):
            raise TimeoutError(f"process {self.process.pid} says nothing")
        kind, value = self.pipe.recv()
        assert kind == "said", value
        return value

    def end(self, seconds: float = 180) -> End:
        """Wait for it; one that hangs is killed, and its end says so."""
        found: dict[str, Any]
        found = hangs = {"error": f"hangs: no end within {seconds:.0f} s"}
        end = time.monotonic() + seconds
        try:
            while self.pipe.poll(max(0.0, end - time.monotonic())):
                kind, value = self.pipe.recv()
                if kind == "end":
                    found = value
        except EOFError:  # it is gone, by its own end or killed
            self.process.join(max(1.0, end - time.monotonic()))
            found = {} if hangs is found else found
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        self.process.close()
        self.pipe.close()
        return End(code, **found)


def ran(job: Callable[..., Any], *args: Any, **env: str) -> Any:
    """What a child returned, which has to end well."""
    end = Child(job, *args, **env).end()
    assert (end.code, end.error, end.complaints) == (0, "", ()), end
    return end.value


def ranks(count: int, job: Callable[..., Any], *args: Any) -> list[End]:
    """Several children that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [Child(job, *args, RANK=str(i), LOCAL_RANK=str(i), **common) for i in range(count)]
    end = time.monotonic() + 180
    return [one.end(max(1.0, end - time.monotonic())) for one in children]


@cache
def _forks() -> Any:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _live(pipe: Any, job: Callable[..., Any], args: tuple[Any, ...], env: dict[str, str]) -> None:
    """The life of a child. What would be a warning elsewhere is an error here."""
    import torch

    gc.freeze()  # what is shared with the other children is not looked through, nor copied
    torch.set_num_threads(1)
    # A shell that starts the tests in the background has told them to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(env)
    complaints: list[str] = []
    sys.unraisablehook = lambda one: complaints.append(f"{one.exc_value!r} in {one.object!r}")
    found: dict[str, Any] = {}
    code = 0
    with warnings.catch_warnings(), no_measuring():
        warnings.simplefilter("error")
        try:
            found["value"] = job(pipe, *args)
        except Exception as error:
            code, found["error"] = 1, f"{type(error).__name__}: {error}"
        except KeyboardInterrupt:
            code, found["error"] = 130, "KeyboardInterrupt"
        gc.collect()
    pipe.send(("end", found | {"complaints": tuple(complaints)}))
    pipe.close()
    os._exit(code)  # as fast as can be; what happens at an orderly exit is not of the run


def train(
    pipe: Any, folder: Path, config: RunConfig | None, harm: Harm | None = None, spy: bool = False
) -> dict[str, Any]:
    """Start a run (with a config) or resume it; a job.

    Returns:
        step, stopped, skipped, said; calls and events counted where harm asks for it; with `spy` the rows
        that were trained on here, by step.
    """
    harm = harm or Harm()
    if harm.rank is not None and harm.rank != int(os.environ["RANK"]):
        harm = Harm()
    counted = {"calls": 0, "events": 0}
    rows: dict[int, list[bytes]] = {}
    said: list[str] = []
    if harm.call:
        for name in CALLS:
            setattr(os, name, _guarded(getattr(os, name), harm, counted))

    def progress(done: int, total: int, text: str) -> None:
        if text and done == harm.at:
            for name in harm.signals:
                signal.raise_signal(getattr(signal, name))
            if harm.hold:
                pipe.send(("said", done))
                pipe.recv()
            if harm.room:
                resource.setrlimit(resource.RLIMIT_FSIZE, (harm.room, resource.RLIM_INFINITY))

    def event(*_: object) -> None:
        counted["events"] += 1
        if counted["events"] == harm.event:
            os.kill(os.getpid(), signal.SIGKILL)

    with spied(rows) if spy else patch.dict({}):
        if harm.event:
            sys.setprofile(event)
        try:
            told = {"progress": progress, "say": said.append}
            if config is None:
                outcome = running.resume(folder, **told)
            else:
                outcome = running.start(folder, config, **told)
        finally:
            sys.setprofile(None)
    return {
        "step": outcome.step, "stopped": outcome.stopped, "skipped": outcome.skipped, "said": said,
        "rows": rows, **counted,
    }  # fmt: skip


def compiled(pipe: Any, folder: Path, config: RunConfig, backend: str) -> dict[str, Any]:
    """`train`, where torch compiles, and warns of what it does itself; a job."""
    from torch.nn import Module

    warnings.simplefilter("ignore")
    compile = Module.compile
    with patch.object(Module, "compile", lambda self: compile(self, backend=backend)):
        return train(pipe, folder, config)


def branch(pipe: Any, checkpoint: Path, steps: int, folder: Path) -> dict[str, Any]:
    """Branch a run off; a job."""
    return {"step": running.anneal(checkpoint, steps, folder).step}


def late(pipe: Any, folder: Path, config: RunConfig) -> dict[str, Any]:
    """`train`, where ranks after the first dawdle once they know that the folder is theirs; a job."""
    from train.distributed import World

    told = World.told

    def dawdling(self: World, value: Any = None) -> Any:
        found = told(self, value)
        if not self.first:
            time.sleep(0.5)
        return found

    with patch.object(World, "told", dawdling):
        return train(pipe, folder, config)


def environment() -> dict[str, str]:
    """That of this process, without what would make another one a rank."""
    mine = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in mine}


def _guarded(real: Callable[..., Any], harm: Harm, counted: dict[str, int]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        counted["calls"] += 1
        mine = counted["calls"] == harm.call
        if mine and not harm.late:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*args, **kwargs)
        finally:
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)

    return call


@contextmanager
def spied(rows: dict[int, list[bytes]]) -> Iterator[None]:
    """Note the rows that the model is trained on, by step; one that is there twice to fill up counts once."""
    from data.batches import Batches
    from train.mtp import TrainedModel

    batch, forward = Batches.batch, TrainedModel.forward
    now = [0]

    def asked(self: Batches, step: int, *more: Any) -> Any:
        now[0] = step
        return batch(self, step, *more)

    def passed(self: TrainedModel, input_ids: Any, *more: Any, **named: Any) -> Any:
        if named.get("losses") == "sums":
            seen = rows.setdefault(now[0], [])
            seen += [row for row in (one.numpy().tobytes() for one in input_ids) if row not in seen]
        return forward(self, input_ids, *more, **named)

    with patch.object(Batches, "batch", asked), patch.object(TrainedModel, "forward", passed):
        yield


def text_of(row: bytes) -> bytes:
    """The bytes of a row of byte tokens; the end of a document is a word of its own, 0xff."""
    ids = np.frombuffer(row, np.int64).tolist()
    return b"".join(b" \xff " if one == 256 else bytes([one]) for one in ids)
