"""Runs in their folders: started, taken up again, branched off."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from data.prepared import RECORD as TOKENS
from evalsuite.run_log import RunLog
from evalsuite.sinks import Several, Sink, TensorBoard
from evalsuite.trackers import Wandb
from scaling.errors import StagewiseError, UsageError
from scaling.files import replacing
from train import rng
from train.checkpoint import Checkpoint, checkpoints, latest
from train.config import RunConfig, TrackConfig, read_config, write_config
from train.distributed import World, world
from train.evaluation import check_eval, hook_of
from train.lock import locked
from train.loop import CHECKPOINTS, LOG, Outcome, Trainer, fits
from train.plan import Plan, shape_of
from train.record import course_of, settle, text_of
from train.stopping import stopping
from train.text import tokens_of

CONFIG, DATA = "config.toml", "data"

Progress = Callable[[int, int, str], None]
Say = Callable[[str], None]


def start(
    folder: Path, config: RunConfig, *, progress: Progress | None = None, say: Say = lambda _: None
) -> Outcome:
    """Train a new run in a folder of its own.

    The folder gets config.toml (all settings), data/ (tokens, where the config names none), log.jsonl and
    checkpoints/. A folder that holds a run is refused.

    Args:
        folder: of the run. config: its settings. progress: `step(done, total, text)`. say: told what to know.

    Raises:
        UsageError, StagewiseError, DataError: bad settings, text or data; a run that cannot go on.

    Example:
        >>> start(Path("runs/a"), RunConfig(steps=100)).step             # doctest: +SKIP
        100
    """
    with world(config.device.device, config.device.threads) as ranks, _held(folder, ranks):
        with ranks.first_alone() as first:
            if first:
                _check_new(folder)
                # What can be wrong shows before the work of making tokens.
                check_trackers(config.track)
                check_eval(config.eval)
                shape_of(config, 1)
                if config.data.folder is None:
                    made = (folder / DATA / TOKENS).is_file()
                    settle(folder, "text", text_of(config), anew=not made)
                tokens_of(config.data, folder / DATA, config.seed, progress)
        prepared = tokens_of(config.data, folder / DATA, config.seed)
        plan = Plan.of(config, prepared)
        trainer = Trainer(folder, plan, ranks)
        with ranks.first_alone() as first:
            if first:
                settle(folder, "course", course_of(plan.config), anew=True)
                write_config(plan.config, folder / CONFIG)
        return _train(trainer, 0, progress, say)


def resume(folder: Path, *, progress: Progress | None = None, say: Say = lambda _: None) -> Outcome:
    """Go on with a run from its newest whole checkpoint, to the bit as if it had never stopped.

    On another number of ranks the order of the text is the same; sums over ranks may differ in their last
    bits.

    Raises:
        StagewiseError: no run, a run that is at work, only broken checkpoints, other data than it had.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder}: holds no {CONFIG}; give the folder of a run")
    config = read_config(folder / CONFIG)
    with world(config.device.device, config.device.threads) as ranks, _held(folder, ranks):
        return _resumed(folder, config, ranks, progress, say)


def _resumed(folder: Path, config: RunConfig, ranks: World, progress: Progress | None, say: Say) -> Outcome:
    """`resume`, in a folder that is held."""
    place = folder / CHECKPOINTS
    found = None
    with ranks.first_alone() as first:
        if first:
            check_trackers(config.track)
            check_eval(config.eval)
            settle(folder, "course", course_of(config))
            tokens_of(config.data, folder / DATA, config.seed, progress)  # made again where they were lost
            newest = latest(place, say)
            if newest is None and checkpoints(place):
                raise StagewiseError(
                    f"{place}: every checkpoint is broken; start the run again in another folder, or "
                    "copy a whole one here"
                )
            found = newest.step if newest is not None else None
    step = ranks.told(found)
    prepared = tokens_of(config.data, folder / DATA, config.seed)
    trainer = Trainer(folder, Plan.of(config, prepared), ranks)
    if step is not None:
        trainer.load(next(one for one in checkpoints(place) if one.step == step))
    say(f"{folder}: goes on after step {trainer.step} of {config.length}")
    return _train(trainer, trainer.step, progress, say)


def anneal(
    checkpoint: Path, steps: int, folder: Path, *, mixture: dict[str, float | str] | None = None,
    progress: Progress | None = None, say: Say = lambda _: None,
) -> Outcome:  # fmt: skip
    """Branch a run off at a checkpoint: from there the learning rate falls to its lowest in some steps.

    The branch reads the text that the run would have read next, unless given a mixture. It is a run of its
    own, in its own folder, which holds a copy of the checkpoint.

    Args:
        checkpoint: its folder, within the folder of its run. steps: of the branch. folder: of the branch.
        mixture: weights by domain, from here on.

    Raises:
        UsageError, StagewiseError: no checkpoint, a broken one, a rate that is at its lowest already.
    """
    base = checkpoint.resolve().parent.parent
    if not (base / CONFIG).is_file():
        raise UsageError(f"{checkpoint}: no checkpoint of a run; give RUN/{CHECKPOINTS}/step-N")
    config = read_config(base / CONFIG)
    with world(config.device.device, config.device.threads) as ranks:
        with ranks.first_alone() as first:
            if first:
                found, branch = _branch(checkpoint, config, steps, folder, mixture)
        with _held(folder, ranks):
            with ranks.first_alone() as first:
                if first:
                    _check_new(folder)
                    settle(folder, "course", course_of(branch), anew=True)
                    _copy(found, folder / CHECKPOINTS)
                    write_config(branch, folder / CONFIG)
            return _resumed(folder, read_config(folder / CONFIG), ranks, progress, say)


def _branch(
    checkpoint: Path, config: RunConfig, steps: int, folder: Path, mixture: dict[str, float | str] | None
) -> tuple[Checkpoint, RunConfig]:
    """Where a branch begins, and its settings, off a run of these; nothing is written yet."""
    path = checkpoint.resolve()
    found = next((one for one in checkpoints(path.parent) if one.path.name == path.name), None)
    if found is None:
        raise UsageError(f"{checkpoint}: no checkpoint of a run; give RUN/{CHECKPOINTS}/step-N")
    _check_new(folder)
    found.verify()
    plan = Plan.of(config, tokens_of(config.data, path.parent.parent / DATA, config.seed))
    fits(found, plan.prepared)
    branch = plan.branched(found.step, steps, mixture)
    return found, Plan.of(branch, plan.prepared).config


def _check_new(folder: Path) -> None:
    if (folder / CONFIG).exists() or checkpoints(folder / CHECKPOINTS):
        raise UsageError(f"{folder}: holds a run; go on with `train resume {folder}`, or give another folder")


def _train(trainer: Trainer, done: int, progress: Progress | None, say: Say) -> Outcome:
    """Train, with trackers, until the end or a signal."""
    ranks, folder = trainer.world, trainer.folder
    if not done:
        rng.seeded(trainer.plan.config.seed)
        for line in trainer.plan.told():
            say(line)
    with ranks.first_alone() as first:
        if first:
            with RunLog(folder / LOG) as log:
                log.rewind(done)
            trainer.sink = _sinks(folder, trainer.plan.config, done)
    ended = False
    try:
        trainer.hook = hook_of(trainer, say)
        with stopping() as stop:
            outcome = trainer.run(stop, progress)
        ended = not outcome.stopped
    finally:
        if trainer.hook is not None:
            trainer.hook.close(wait=ended)  # a run that was stopped has little time
        if trainer.sink is not None:
            trainer.sink.close()
    if outcome.stopped and ranks.first:
        say(f"stopped by {outcome.stopped} at step {outcome.step}; go on with: train resume {folder}")
    return outcome


def check_trackers(told: TrackConfig) -> None:
    """Refuse trackers that are not installed, before there is a run to track.

    Raises:
        UsageError: which, and how to get it.
    """
    wanted = {"tensorboard": told.tensorboard, told.wandb or "": told.wandb is not None}
    for name, on in wanted.items():
        if on and find_spec(name) is None:
            raise UsageError(f"track: {name} is not installed; pip install {name}, or leave it out")


def _sinks(folder: Path, config: RunConfig, done: int) -> Sink | None:
    """The trackers that were asked for."""
    told: TrackConfig = config.track
    found: list[Sink] = []
    if told.tensorboard:
        found.append(TensorBoard(folder / "tensorboard", resumed=done or None))
    if told.wandb is not None:
        kept = folder / f"{told.wandb}.id"
        id = kept.read_text(encoding="utf-8").strip() if kept.is_file() else None
        tracker = Wandb(told.wandb, project=told.project, name=folder.resolve().name, id=id)
        with replacing(kept) as part:
            part.write_text(f"{tracker.id}\n", encoding="utf-8")
        found.append(tracker)
    return Several(found) if found else None


@contextmanager
def _held(folder: Path, ranks: World) -> Iterator[None]:
    """The folder of a run, held by the first rank against every other run."""
    with ExitStack() as stack:
        with ranks.first_alone() as first:
            if first:
                stack.enter_context(locked(folder))
        yield


def _copy(one: Checkpoint, place: Path) -> None:
    """A copy whose manifest comes last, as in writing."""
    part = place / (one.path.name + ".tmp")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(one.path, part)
    part.rename(place / one.path.name)
