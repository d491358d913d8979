"""The process that evaluates beside a training run: `python -m evalsuite.worker JOB.json [PARENT]`.

It puts the mean of snapshots into a model of its own, scores suites on it, and writes what became of them
into `outcome.json` beside the job. It ends when the process does that it works for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalsuite.evaluator import Evaluator
    from evalsuite.job import Asked, Job, Scored

_LOOK = 0.5  # seconds between looks for the parent
_FIRST = "1000"  # to the kernel: where memory runs out, this process ends and not the training


def main(arguments: list[str]) -> None:
    """Do a job.

    Args:
        arguments: path of the job, and the id of the process it is for, if it is to end with that.
    """
    path = Path(arguments[0])
    if len(arguments) > 1:
        threading.Thread(target=_follow, args=(int(arguments[1]),), daemon=True).start()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST)

    from evalsuite.job import OUTCOME, Job, Outcome, Scored

    job = Job.read(path)
    with suppress(OSError):
        os.nice(job.nice)
    model, tokenizer = _function(job.loader)(job.argument)
    score = _scoring(job, model, tokenizer)
    scored: tuple[Scored, ...] = ()
    for one in job.asked:
        started = time.perf_counter()
        try:
            found = score(one)
        except Exception as error:  # of this one; the others go on
            found = Scored(why=f"{type(error).__name__}: {error}")
        scored += (found.model_copy(update={"seconds": time.perf_counter() - started}),)
        Outcome(scored=scored, ended=len(scored) == len(job.asked)).write(path.with_name(OUTCOME))


def _follow(parent: int) -> None:
    """End with the parent, and whatever was started here with it.

    A signal at its death (PR_SET_PDEATHSIG) would come when the thread ends that started this process, and
    the end of a pipe not before all processes are gone that the parent has forked.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _function(name: str) -> Callable[[Any], tuple[Any, Any]]:
    """The function of a name `package.module:function`."""
    import importlib

    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _scoring(job: Job, model: Any, tokenizer: Any) -> Callable[[Asked], Scored]:
    """What scores one after the other; the mean is computed where it changes."""
    import torch

    from evalsuite.evaluator import Evaluator
    from evalsuite.registry import Registry
    from evalsuite.snapshots import Snapshots
    from evalsuite.tasks import TaskFolder

    torch.set_num_threads(job.threads)
    registry = Registry(tuple(map(TaskFolder.open, job.tasks)), job.seed)
    evaluator = Evaluator(
        tokenizer, registry, max_length=job.max_length, budget=job.batch_tokens, gold_only=job.gold_only,
        autocast=None if job.autocast is None else getattr(torch, job.autocast),
    )  # fmt: skip
    snapshots = Snapshots.open(job.snapshots, lambda line: print(line, file=sys.stderr, flush=True))
    put: tuple[Any, Any] | None = None

    def score(one: Asked) -> Scored:
        nonlocal put
        if put != (one.members, one.weights):
            put = None
            _put(snapshots.mean(one.members, one.weights, model), model)
            put = (one.members, one.weights)
        return _score(one, evaluator, model, Path(job.results))

    return score


def _put(values: Any, model: Any) -> None:
    """Copy values into a model for good."""
    import torch

    from evalsuite.swap import named_tensors

    with torch.no_grad():
        for name, tensor in named_tensors(model).items():
            tensor.copy_(values[name])


def _score(one: Asked, evaluator: Evaluator, model: Any, results: Path) -> Scored:
    from evalsuite.job import Scored
    from evalsuite.programme import Part, Programme
    from evalsuite.suite import Suite

    suite = None if one.text is None else Suite.parse(one.text, one.suite)
    parts = tuple(Part(each, "", 0.0, "") for each in one.wanted)
    found = Programme(one.suite, 0.0, float("inf"), parts, suite)
    _, lost = evaluator.evaluate(found, one.wanted, model, results / one.folder, one.identity)
    return Scored(missing=tuple(dict(each) for each in lost))


if __name__ == "__main__":
    main(sys.argv[1:])
