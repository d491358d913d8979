"""Run a suite on a model."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from evalsuite.likelihoods import Likelihoods
from evalsuite.loading import model_digest, tokenizer_digest
from evalsuite.measures import METRICS
from evalsuite.registry import Registry
from evalsuite.requests import TaskRequests
from evalsuite.results import (
    Done,
    Identity,
    Manifest,
    Missing,
    ModelRef,
    Results,
    SuiteRef,
    Wanted,
    item_file,
)
from evalsuite.scorer import Scorer
from evalsuite.suite import HeldOut, Suite
from evalsuite.suite import Task as SuiteTask
from evalsuite.surface import above_surface, surface
from evalsuite.tasks import LM_EVAL, Task
from scaling.errors import StagewiseError, UsageError
from scaling.versions import versions

Progress = Callable[[int, int, str], None]
GOLD = ("bpb", "bpb_bytes", "gold_ce_loss")  # metrics of the right answer alone
_NAMING = 0.05  # share of the time that naming what is done may take


def wanted_of(suite: Suite, *, held_out: bool = False) -> tuple[Wanted, ...]:
    """The tasks of a suite, as they are to be scored; those it keeps aside only where asked for.

    Example:
        >>> wanted_of(Suite.read("suites/mid.yaml"))[0].task       # doctest: +SKIP
        'arc_easy'
    """

    def one(task: SuiteTask | HeldOut) -> Wanted:
        chosen = task.item_ids if isinstance(task, SuiteTask) else None
        role = "scored" if isinstance(task, SuiteTask) else "held out"
        count = None if chosen else task.items
        return Wanted(
            task=task.task, metric=task.metric, shots=task.shots, items=count, item_ids=chosen, role=role
        )

    return tuple(map(one, (*suite.tasks, *(suite.held_out if held_out else ()))))


def run(
    wanted: Sequence[Wanted],
    registry: Registry,
    scorer: Scorer,
    folder: str | os.PathLike[str],
    identity: Identity,
    *,
    suite: Suite | None = None,
    gold_only: bool = False,
    at_hand: bool = False,
    include: Iterable[str] = (),
    progress: Progress | None = None,
) -> Results:
    """Score tasks on a model and write what it said.

    A task that cannot be scored is listed as missing, with the reason, and the others go on. A folder in
    which a run was cut off is taken up where it was left. Under torchrun every rank calls this; the first
    writes.

    Args:
        wanted: the tasks, of `wanted_of` or by name.
        registry: where they are found. scorer: the model. folder: of the results.
        identity: whose scores they are.
        suite: that `wanted` comes from.
        gold_only: score the right answers alone, for tasks that a suite scores by bits.
        at_hand: where a task has fewer items than wanted, score those; there is no headline then.
        include: folders of lm-eval tasks (`lm_eval:NAME`).
        progress: called with tokens done, tokens in all and the present task.

    Returns:
        The results, as they stand in the folder.

    Raises:
        StagewiseError: the folder holds results of something else. UsageError: nothing to score.

    Example:
        >>> run(wanted_of(suite), Registry.open(), scorer, "results", Identity(model="m"),
        ...     suite=suite)                                          # doctest: +SKIP
    """
    if not wanted:
        raise UsageError("run: no task to score; give a suite, or name tasks")
    assert scorer.ranks is not None
    settings = {"gold_only": gold_only, "at_hand": at_hand, "seed": registry.seed}
    results = Results.begin(folder, _manifest(scorer, identity, suite, settings))
    results = replace(results, writes=scorer.ranks.rank == 0)
    scorer.ranks.wait()  # all have looked into the folder before one writes
    results = _together(scorer, results.folder, results.start)
    jobs, missing = _jobs(wanted, results, registry, scorer)
    if not all(job.there for job in jobs):
        with suppress(StagewiseError):  # told again by the task that it is of
            # Tasks that are done take part: a run that was cut off goes on in the same mode.
            scorer.check([job.asked for job in jobs if job.asked is not None])
    by_harness = _harness(scorer, include)
    total, before, due = sum(job.size for job in jobs), 0, 0.0
    for job in (one for one in jobs if not one.there):

        def step(done: int, of: int, start=before, job=job) -> None:
            if progress:
                progress(start + round(job.size * done / max(of, 1)), total, job.wanted.task)

        started = time.perf_counter()
        made: list[tuple[Done, Likelihoods | None]] = []
        try:
            if job.task is None or job.asked is None:
                made = by_harness(job.wanted)
            else:
                found = scorer.score(job.asked, progress=step)
                made = [(_done(job.wanted, job.task, found, scorer), found)]
        except Exception as error:  # out of memory on one rank is a StagewiseError on the others
            missing.append(_missing(job.wanted, error))
        seconds = round((time.perf_counter() - started) / max(len(made), 1), 3)

        started = time.monotonic()
        name = started >= due

        def written(results=results, made=made, seconds=seconds, name=name) -> Results:
            for done, likelihoods in made:
                results = results.add(done.model_copy(update={"seconds": seconds}), likelihoods, name=name)
            return results

        results = _together(scorer, results.folder, written)
        before += job.size
        # The manifest grows with the tasks: after each, it would cost more than scoring small models.
        if name:
            due = time.monotonic() + (time.monotonic() - started) / _NAMING
    return _together(scorer, results.folder, lambda: results.end(tuple(wanted), tuple(missing)))


def _together(scorer: Scorer, folder: Path, write: Callable[[], Results]) -> Results:
    """What one rank writes; where it cannot, all of them fail, and none waits."""
    assert scorer.ranks is not None
    problem: Exception | None = None
    made: Results | None = None
    try:
        made = write()
    except OSError as error:
        problem = StagewiseError(f"{folder}: cannot be written: {error}; make room, or give another folder")
    except Exception as error:
        problem = error
    scorer.ranks.agree(problem)
    assert made is not None
    return made


@dataclass(frozen=True)
class _Job:
    """A task to score; one of lm-eval has no requests yet.

    Attributes:
        size: tokens to read. there: scored already.
    """

    wanted: Wanted
    task: Task | None = None
    asked: TaskRequests | None = None
    size: int = 0
    there: bool = False


def _jobs(
    wanted: Sequence[Wanted], results: Results, registry: Registry, scorer: Scorer
) -> tuple[list[_Job], list[Missing]]:
    """What is left to do, tokenised, and what cannot be done."""
    jobs: list[_Job] = []
    missing: list[Missing] = []
    settings = results.manifest.settings
    known = {one.key: one for one in results.manifest.tasks}
    assert scorer.ranks is not None
    for one in wanted:
        if one.task.startswith(LM_EVAL):
            jobs += [] if one.key in known else [_Job(one)]
            continue
        problem: Exception | None = None
        try:
            if one.metric not in METRICS:
                raise StagewiseError(
                    f"task {one.task}: {one.metric} cannot be told from the likelihoods of answers; valid "
                    f"are {', '.join(METRICS)}, or a task of lm-eval ({LM_EVAL}NAME)"
                )
            task = _chosen(registry.task(one.task), one, bool(settings["at_hand"]))
            gold_only = bool(settings["gold_only"]) and one.metric in GOLD
            asked = scorer.prepare(task, one.shots, gold_only=gold_only)
            done = known.get(one.key)
            there = done is not None and done.digest == task.digest and results.holds(done)
            job = _Job(one, task, asked, 0 if there else sum(map(len, asked.requests.inputs)), there)
        except StagewiseError as error:
            problem = error
        try:
            scorer.ranks.agree(problem)  # the ranks score the same tasks, or wait for ever
            jobs.append(job)
        except StagewiseError as error:
            missing.append(_missing(one, error))
    return jobs, missing


def _missing(one: Wanted, error: Exception) -> Missing:
    told = f"{error}" if isinstance(error, StagewiseError) else f"{type(error).__name__}: {error}"
    lines = [" ".join(line.split()) for line in told.splitlines()]
    return Missing(**one.model_dump(), why="; ".join(line.removesuffix(";") for line in lines if line))


def _harness(scorer: Scorer, include: Iterable[str]) -> Callable[[Wanted], list]:
    """Tasks of lm-eval; it is loaded, and looks for its tasks, once, when the first is asked for."""
    held: list = []

    def by_harness(one: Wanted) -> list[tuple[Done, Likelihoods | None]]:
        from evalsuite.harness import by_lm_eval
        from evalsuite.lm_tasks import HarnessTasks

        if not held:
            held.append(HarnessTasks(tuple(include)))
        return list(by_lm_eval(one, scorer, held[0]))

    return by_harness


def _manifest(scorer: Scorer, identity: Identity, suite: Suite | None, settings: dict) -> Manifest:
    """What the results are of, before there are any."""
    assert scorer.max_length is not None
    model = scorer.engine.inner
    reference = suite and SuiteRef(stage=str(suite.stage), digest=suite.digest, tasks=len(suite.tasks))
    params = identity.params or float(sum(p.numel() for p in model.parameters()))
    return Manifest(
        suite=reference,
        model=ModelRef(
            digest=model_digest(model), tokenizer=tokenizer_digest(scorer.encoder.tokenizer),
            dtype=str(scorer.engine.dtype).removeprefix("torch."), max_length=scorer.max_length,
        ),
        identity=identity.model_copy(update={"params": params}), settings=settings, versions=_computed_by(),
    )  # fmt: skip


def _chosen(task: Task, one: Wanted, at_hand: bool) -> Task:
    """The items of a task that are wanted."""
    count, ids = one.items, one.item_ids
    if at_hand and count is not None:
        count = min(count, len(task.items))
    if at_hand and ids is not None:
        there = {item.id for item in task.items} | {str(i) for i in range(len(task.items))}
        ids = tuple(name for name in ids if name in there) or ids
    return task.take(count, ids)


def _done(one: Wanted, task: Task, found: Likelihoods, scorer: Scorer) -> Done:
    guess = beaten = None
    if found.chosen.all() and not task.free:
        right = one.metric if one.metric in ("acc_norm", "acc_bytes") else "acc"
        against = above_surface(found, surface(task.items), right)
        guess, beaten = float(against.against.a), bool(against.above)
    return Done(
        **one.model_dump(), digest=task.digest, file=item_file(one.task, one.shots),
        examples=found.shots or 0, answered=found.n_items,
        truncated=int(found.truncated.sum()), chance=task.chance, surface=guess, beaten=beaten,
        baselines={name: value for name, value in task.baselines.items() if name.startswith("ngram")},
        mode=str(scorer.parity.mode) if scorer.parity else "", seconds=0.0,
    )  # fmt: skip


def _computed_by() -> dict[str, str]:
    names = ("stagewise", "torch", "transformers", "tokenizers", "numpy", "lm_eval")
    return {"python": platform.python_version(), **versions(names)}
