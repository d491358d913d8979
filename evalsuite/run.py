"""Run a suite on a model."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version

from evalsuite.likelihoods import Likelihoods
from evalsuite.loading import model_digest, tokenizer_digest
from evalsuite.registry import Registry
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
from evalsuite.tasks import Task
from scaling.errors import StagewiseError, UsageError

Progress = Callable[[int, int, str], None]


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
    assert scorer.ranks is not None and scorer.max_length is not None
    writes = scorer.ranks.rank == 0
    reference = suite and SuiteRef(
        stage=str(suite.stage), digest=suite.digest, tasks=len(suite.tasks),
        held_out=any(one.role == "held out" for one in wanted),
    )  # fmt: skip
    params = float(sum(p.numel() for p in scorer.engine.inner.parameters()))
    manifest = Manifest(
        suite=reference,
        model=ModelRef(
            digest=model_digest(scorer.engine.inner), tokenizer=tokenizer_digest(scorer.encoder.tokenizer),
            dtype=str(scorer.engine.dtype).removeprefix("torch."), max_length=scorer.max_length,
        ),
        identity=identity.model_copy(update={"params": identity.params or params}),
        settings={"gold_only": gold_only, "at_hand": at_hand, "seed": registry.seed},
        versions=_versions(),
    )  # fmt: skip
    results = Results.begin(folder, manifest)
    known = {one.key: one for one in results.manifest.tasks}
    missing: list[Missing] = []
    prepared = []
    for one in wanted:
        try:
            if one.task.startswith("lm_eval:"):
                prepared.append((one, None, None, 0))
                continue
            task = _chosen(registry.task(one.task), one, at_hand)
            if (done := known.get(one.key)) is not None and done.digest == task.digest:
                continue
            only = gold_only and one.metric in ("bpb", "bpb_bytes", "gold_ce_loss")
            asked = scorer.prepare(task, one.shots, gold_only=only)
            prepared.append((one, task, asked, sum(map(len, asked.requests.inputs))))
        except StagewiseError as error:
            missing.append(Missing(**one.model_dump(), why=" ".join(str(error).split())))
    total, before = sum(size for *_, size in prepared), 0
    for one, task, asked, size in prepared:

        def step(done: int, of: int, start=before, size=size, name=one.task) -> None:
            if progress:
                progress(start + round(size * done / max(of, 1)), total, name)

        started = time.perf_counter()
        try:
            if task is None or asked is None:
                done, found = _by_lm_eval(one, scorer, include)
            else:
                found = scorer.score(asked, progress=step)
                done = _done(one, task, found, scorer)
        except StagewiseError as error:
            missing.append(Missing(**one.model_dump(), why=" ".join(str(error).split())))
        else:
            seconds = round(time.perf_counter() - started, 3)
            if writes:
                results = results.add(done.model_copy(update={"seconds": seconds}), found)
        before += size
    return results.end(tuple(wanted), tuple(missing)) if writes else results


def _chosen(task: Task, one: Wanted, at_hand: bool) -> Task:
    """The items of a task that are wanted."""
    count = one.items
    if at_hand and count is not None:
        count = min(count, len(task.items))
    return task.take(count, one.item_ids)


def _done(one: Wanted, task: Task, found: Likelihoods, scorer: Scorer) -> Done:
    guess = beaten = None
    if found.chosen.all() and not task.free:
        against = above_surface(found, surface(task.items), one.metric if one.metric[:3] == "acc" else "acc")
        guess, beaten = float(against.against.a), bool(against.above)
    return Done(
        **one.model_dump(), digest=task.digest, file=item_file(one.task, one.shots),
        examples=found.shots or 0, answered=found.n_items,
        truncated=int(found.truncated.sum()), chance=task.chance, surface=guess, beaten=beaten,
        baselines={name: value for name, value in task.baselines.items() if name.startswith("ngram")},
        mode=str(scorer.parity.mode) if scorer.parity else "", seconds=0.0,
    )  # fmt: skip


def _by_lm_eval(one: Wanted, scorer: Scorer, include: Iterable[str]) -> tuple[Done, Likelihoods]:
    raise StagewiseError(f"task {one.task}: not yet")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("stagewise", "torch", "transformers", "tokenizers", "numpy", "lm_eval"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
