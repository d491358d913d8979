"""Does the mean of the last snapshots replace the anneal? Both, at points of runs at constant rate."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from joblib import Parallel, delayed
from torch import Tensor

from evalsuite.averaging import Averaging
from evalsuite.mean import mean_of
from evalsuite.registry import Registry
from evalsuite.swap import named_tensors, swapped
from scaling.console import plain
from scaling.errors import UsageError
from scaling.files import replacing
from train.checkpoint import Checkpoint, checkpoint_name
from train.config import CheckpointConfig, EvalConfig, RunConfig, ScheduleConfig
from train.load import load
from train.lock import workplace
from train.loop import CHECKPOINTS
from train.plan import Plan
from train.record import course_of, settle, text_of
from train.short_runs import affordable
from train.studies.blends import COUNTS, HALF_LIVES, SPANS, Blend, blends
from train.studies.held_out import HeldOut
from train.studies.recovery import Measured, Recovery
from train.studies.runs import Progress, annealed, finished
from train.studies.tasks import TaskScores
from train.text import tokens_of

POINTS = (0.3, 0.6, 1.0)
ANNEAL = 0.15
SKILLS = (
    "skill_agreement", "skill_bracket_next", "skill_copy", "skill_induction", "skill_next_number",
    "skill_recall", "skill_reverse", "skill_word_problem",
)  # fmt: skip
_GRID = 480  # snapshots of a run, at most
_SCORED = ("raw", "default", "annealed", "later", "later default")  # what answers tasks

Say = Callable[[str], None]


@dataclass(frozen=True)
class Course:
    """The steps of a run of the study.

    Attributes:
        points: where the weights are looked at, the last at the end. after: steps that the anneal takes at
            each. grid: between snapshots. every: between evaluations of a hook, for the default window.

    Example:
        >>> Course.of(1440)
        Course(points=(432, 864, 1440), after=(66, 129, 216), grid=3, every=72)
    """

    points: tuple[int, ...]
    after: tuple[int, ...]
    grid: int
    every: int

    @classmethod
    def of(cls, steps: int, points: Sequence[float] = POINTS, anneal: float = ANNEAL) -> Course:
        """Whole steps on one grid, from shares of the run and of the steps so far.

        Raises:
            UsageError: shares out of range, a run too short for its points.
        """
        if not points or list(points) != sorted(set(points)) or not 0 < points[0] <= points[-1] <= 1:
            raise UsageError(f"points: got {list(points)}, valid are shares of the run, ascending, up to 1")
        if not 0 < anneal < 1:
            raise UsageError(f"anneal: got {anneal}, valid is a share of the steps so far, above 0, below 1")
        grid = max(1, steps // _GRID)

        def whole(part: float) -> int:
            return grid * round(part / grid)

        places = tuple(whole(share * steps) for share in points)
        after = tuple(whole(anneal * place) for place in places)
        if not min(after) or places[0] < 20 * grid:
            raise UsageError(
                f"steps: got {steps}, too few for an anneal of {anneal:.0%} at {places[0]} steps"
            )
        return cls(places, after, grid, max(1, round(steps / 20 / grid)) * grid)

    @property
    def total(self) -> int:
        """Steps of the run at constant rate: it goes on for as long as its last branch."""
        return max(point + after for point, after in zip(self.points, self.after, strict=True))

    @property
    def branches(self) -> int:
        """Steps of all branches."""
        return sum(self.after)

    def blends(self, i: int) -> list[Blend]:
        """What is measured at a point."""
        return blends(self.points[i], self.after[i], self.grid, self.every)


def averaging(
    config: RunConfig,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    points: Sequence[float] = POINTS,
    anneal: float = ANNEAL,
    tasks: Sequence[str] = SKILLS,
    items: int = 100,
    registry: Registry | None = None,
    folder: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> Recovery:
    """Measure how much of the anneal's gain the mean of snapshots recovers.

    For every seed a run at constant rate is made, with a snapshot every 480th of it. At each point a branch
    is annealed to zero; then the loss of held-out text is measured of the raw weights, of means of
    n in 2, 4, 8, 16 snapshots over 2% to 40% of the steps so far (uniform; of 4 also linear and ema), of
    running exponential means, and of the branch. Of them the raw weights, the mean that a hook would use by
    default, and the branch answer tasks. The branch has read more text than the weights it left; so the same
    is measured of the run at constant rate when it has read as much ("later").

        share recovered = (raw - mean) / (raw - annealed), in bits per byte

    Args:
        config: of the runs; its steps are those to the last point. Schedule (but for warmup), checkpoints
            and seed are the study's, and no suites are run along the way.
        seeds: a run each. points: shares of the run. anneal: share of the steps so far that the branch takes.
        tasks, items: names, and how many of each. registry: where they are; generated skills, if absent.
        folder: keeps tokens and figures, and checkpoints until a seed is measured; the same call goes on from
            there, and more seeds may be added. A temporary folder where absent.
        jobs: seeds at a time. progress: of a run, with one job. say: told the plan, and what is done.

    Raises:
        UsageError, StagewiseError, DataError: wrong settings; a folder of another study; a run that cannot
            go on, or was stopped by a signal.

    Example:
        >>> averaging(RunConfig(steps=1440)).points                       # doctest: +SKIP
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds: got {list(seeds)}, valid is at least one, each once")
    course = Course.of(config.length, points, anneal)
    config = replace(
        config, steps=course.total, tokens=None, seed=0,
        schedule=ScheduleConfig(kind="constant", warmup=config.span(config.schedule.warmup), decay=0.0),
        checkpoint=CheckpointConfig(every=course.grid, keep_every=course.grid),
        validation=replace(config.validation, every=0), eval=EvalConfig(),
    )  # fmt: skip
    registry = registry or Registry()
    asked = [registry.task(name).name for name in tasks]  # an unknown name shows before the work
    with workplace(folder) as place:
        told = {"text": text_of(config), "run": course_of(config), "held_out": config.validation.tokens}
        told |= {"course": asdict(course), "tasks": asked, "items": items}
        told |= {"sweep": [COUNTS, SPANS, HALF_LIVES], "default": asdict(Averaging())}
        settle(place, "study", told)
        prepared = tokens_of(config.data, place / "tokens", 0, progress)
        config = replace(config, data=replace(config.data, folder=str(prepared.folder), sources=()))
        study = _Study(place, course, Plan.of(config, prepared), registry, tuple(asked), items)
        left = [seed for seed in seeds if not study.done(seed)]
        for seed in set(seeds) - set(left):  # a kill may have come in between
            study.clear(seed)
        for line in study.told(seeds, left, jobs):
            say(line)
        if jobs == 1:
            for seed in left:
                study.measure(seed, progress, say)
        else:
            made = Parallel(n_jobs=jobs, return_as="generator_unordered")(
                delayed(study.measure)(seed, None, say) for seed in left
            )
            for seed in made:
                say(f"seed {seed}: done")
        return Recovery.of([study.read(seed, i) for seed in seeds for i in range(len(course.points))])


@dataclass(frozen=True)
class _Study:
    """One study in its folder.

    Attributes:
        place: the folder. plan: of the run of a seed.
    """

    place: Path
    course: Course
    plan: Plan
    registry: Registry
    tasks: tuple[str, ...]
    items: int

    def told(self, seeds: Sequence[int], left: Sequence[int], jobs: int) -> Iterator[str]:
        """What will be done, and what it costs."""
        course, plan = self.course, self.plan
        yield from plan.told()
        many = ", ".join(map(str, course.after))
        yield (
            f"{len(seeds)} seeds ({len(left)} to do), each {course.total:,} steps at constant rate and "
            f"branches of {many} at {', '.join(map(str, course.points))}"
        )
        if not left:
            return
        rows = HeldOut.of(plan.validation())
        read = sum(len(course.blends(i)) for i in range(len(course.points)))
        step = plan.tokens_per_step * plan.size.training
        training = (course.total + course.branches) * step
        held_out = sum(int(one[:, 1:].size) for _, batches in rows.validation.parts for one in batches)
        measuring = read * held_out * plan.size.forward
        # Of a plan of some steps, which have no room for the warmup.
        timed = replace(plan.config, schedule=ScheduleConfig(kind="constant", warmup=0.0))
        rate = affordable(self.place, {"of the study": replace(plan, config=timed)}, 1.0, None)
        disk = course.total // course.grid * 12 * plan.size.params / 1e9
        yield (
            f"a seed: {training:.3g} FLOPs to train, {measuring:.3g} to measure {read} means and branches on "
            f"{held_out:,} held-out tokens; {disk:.2g} GB of checkpoints until it is measured"
        )
        minutes = (training + measuring) * -(-len(left) // jobs) / rate / 60
        yield f"about {minutes:.1f} minutes and what tasks take ({len(self.tasks)} of {self.items} items)"

    def done(self, seed: int) -> bool:
        """Whether there is nothing left to do for a seed."""
        return all(self._kept(seed, i).is_file() for i in range(len(self.course.points)))

    def measure(self, seed: int, progress: Progress | None = None, say: Say = lambda _: None) -> int:
        """Train and measure a seed; its checkpoints are gone when all is measured."""
        run = self.place / f"seed-{seed}-run"
        finished(run, replace(self.plan.config, seed=seed), progress)
        say(f"seed {seed}: trained")
        for i, point in enumerate(self.course.points):
            if self._kept(seed, i).is_file():
                continue
            branch = self.place / f"seed-{seed}-annealed-{point}"
            annealed(_checkpoint(run, point).path, self.course.after[i], branch, progress)
            found = self._measured(seed, i, run, branch)
            with replacing(self._kept(seed, i)) as part:
                part.write_text(json.dumps(plain(asdict(found)), allow_nan=False), encoding="utf-8")
            say(f"seed {seed}: measured at step {point:,}")
        self.clear(seed)
        return seed

    def clear(self, seed: int) -> None:
        """Delete the checkpoints of a seed."""
        for one in self.place.glob(f"seed-{seed}-*"):
            if one.is_dir():
                shutil.rmtree(one)

    def read(self, seed: int, i: int) -> Measured:
        """What was measured at a point."""
        return Measured.parse(json.loads(self._kept(seed, i).read_text(encoding="utf-8")))

    def _kept(self, seed: int, i: int) -> Path:
        return self.place / f"seed-{seed}-step-{self.course.points[i]}.json"

    def _measured(self, seed: int, i: int, run: Path, branch: Path) -> Measured:
        course, rows = self.course, HeldOut.of(self.plan.validation())
        loaded = load(branch)
        suite = TaskScores.of(loaded.model, loaded.tokenizer, self.registry, self.tasks, self.items)
        found = []
        for one in course.blends(i):
            values = named_tensors(loaded.model) | _mean(run, one.shares)
            with swapped(loaded.model, values) if one.shares else nullcontext():
                scores = suite.scores() if one.kind in _SCORED and self.tasks else {}
                found.append((one, rows.bits(loaded.model).tolist(), scores))
        step = self.plan.tokens_per_step * self.plan.size.training
        return Measured(
            seed, course.points[i], course.after[i], step, 4 * self.plan.size.params,
            rows.domain.tolist(), rows.bytes.tolist(),
            tuple(one for one, _, _ in found), tuple(bits for _, bits, _ in found),
            tuple(scores for _, _, scores in found),
        )  # fmt: skip


def _mean(run: Path, shares: Mapping[int, float]) -> dict[str, Tensor]:
    """The weighted mean of snapshots of a run."""
    parts = [_checkpoint(run, step).tensors("model") for step in shares]
    names = parts[0] if parts else ()
    return {name: mean_of([one[name] for one in parts], list(shares.values())) for name in names}


def _checkpoint(run: Path, step: int) -> Checkpoint:
    return Checkpoint(run / CHECKPOINTS / checkpoint_name(step), step)
