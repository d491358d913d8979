"""Is the loss of a capability noticed, and how soon? Runs whose mixture drops a domain, and controls."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from joblib import Parallel, delayed

from data.prepared import Prepared
from evalsuite.evaluations import Evaluations
from scaling.errors import UsageError
from train.config import CheckpointConfig, EvalConfig, RunConfig, ScheduleConfig
from train.evaluation import EVALS, check_eval
from train.lock import workplace
from train.loop import LOG
from train.record import course_of, settle, text_of
from train.studies.continuations import PREFIX, write_continuations
from train.studies.detection import Detection, Watch
from train.studies.runs import finished
from train.text import tokens_of

Progress = Callable[[int, int, str], None]
Say = Callable[[str], None]

LOOKS = 30  # evaluations of a run
TASKS = "tasks"


@dataclass(frozen=True)
class Drop:
    """A domain that a run stops reading.

    Attributes:
        domain: of the text. instead: the domain that gets its share. capability: that is to suffer.

    Example:
        >>> Drop.parse("maths=code:math"), Drop.parse("maths=code").capability
        (Drop(domain='maths', instead='code', capability='math'), 'maths')
    """

    domain: str
    instead: str
    capability: str

    @classmethod
    def parse(cls, text: str) -> Drop:
        """DOMAIN=INSTEAD, or DOMAIN=INSTEAD:CAPABILITY where tasks call it otherwise.

        Raises:
            UsageError: anything else.
        """
        domain, _, rest = text.partition("=")
        instead, named, capability = rest.partition(":")
        if not (domain and instead) or domain == instead or (named and not capability):
            raise UsageError(
                f"--drop {text!r}: valid is DOMAIN=INSTEAD:CAPABILITY, such as maths=code:math: the text "
                "dropped, the text read in its place, and the capability of tasks that depends on it"
            )
        return cls(domain, instead, capability or domain)


DROPS = (Drop("code", "maths", "code"), Drop("maths", "code", "maths"))


def planted(
    config: RunConfig,
    *,
    seeds: Sequence[int],
    controls: Sequence[int],
    drops: Sequence[Drop] = DROPS,
    at: float = 0.5,
    looks: int = LOOKS,
    tasks: Sequence[str] = (),
    items: int = 48,
    folders: Sequence[str] = (),
    folder: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> Detection:
    """Train runs that lose a domain half way, and runs that do not, each watched by an `EvalHook`.

    Args:
        config: of the runs. Mixture (even, but for what is given), seed, checkpoints and evaluation are the
            study's.
        seeds: of the runs with a loss, each for every drop. controls: of those without.
        drops: what is dropped. at: share of the run at which. looks: evaluations of a run.
        tasks, items: names or patterns, and how many items of each; continuations of held-out text, a task
            for each domain, where none is named: at this size what models can do at all. folders: where
            tasks are.
        folder: keeps the runs; the same call goes on from there. A temporary folder where absent.
        jobs: runs at a time. progress: of a run, with one job. say: told the plan, and what is done.

    Raises:
        UsageError, StagewiseError, DataError: wrong settings, a folder of another study, a run that stopped.

    Example:
        >>> planted(RunConfig(steps=600), seeds=(0, 1, 2), controls=range(10)).summary   # doctest: +SKIP
    """
    if not seeds or not controls or not 0 < at < 1:
        raise UsageError(
            "planted: give at least one seed, one control, and a share of the run between 0 and 1"
        )
    if len({one.domain for one in drops}) < len(drops):
        raise UsageError("drop: a domain is named twice; give each once, or another folder for the second")
    steps = config.length
    told = EvalConfig(
        tasks=tuple(tasks), items=items, folders=tuple(map(str, folders)), raw=1, budget=0.0,
        every=max(1, steps // looks),
        least=1,  # short windows in a short run: more of them share no snapshot
    )  # fmt: skip
    check_eval(told)
    config = replace(
        config, steps=steps, tokens=None, seed=0, mixture={},
        checkpoint=CheckpointConfig(every=max(1, steps // 4)),
        schedule=ScheduleConfig(kind="constant", warmup=config.schedule.warmup, decay=0.0),
        validation=replace(config.validation, every=max(1, steps // 10)),
    )  # fmt: skip
    with workplace(folder) as place:
        prepared = tokens_of(config.data, place / "tokens", 0, progress)
        domains = sorted(prepared.tokens("train"))
        for drop in drops:
            for name in (drop.domain, drop.instead):
                if name not in domains:
                    raise UsageError(f"drop: there is no domain {name!r}; valid are {', '.join(domains)}")
        study = {"text": text_of(config), "steps": steps, "at": at, "drops": [asdict(one) for one in drops]}
        study["looks"] = looks
        settle(place, "study", study | {"tasks": list(tasks), "items": items} | course_of(config))
        if not tasks:
            write_continuations(prepared, place / TASKS, items)
            own = (*told.folders, str((place / TASKS).resolve()))
            told = replace(told, tasks=(f"{PREFIX}*",), folders=own)
        base = replace(config, data=replace(config.data, folder=str(prepared.folder), sources=()), eval=told)
        runs = [(None, seed) for seed in controls] + [(drop, seed) for drop in drops for seed in seeds]
        left = [one for one in runs if not _done(_home(place, *one), steps)]
        say(f"{len(runs)} runs of {steps:,} steps ({len(left)} to do): {len(controls)} without a loss")
        if jobs == 1:
            for drop, seed in left:
                say(_run(place, base, prepared, drop, seed, at, progress))
        else:
            made = Parallel(n_jobs=jobs, return_as="generator_unordered")(
                delayed(_run)(place, base, prepared, drop, seed, at, None) for drop, seed in left
            )
            for line in made:
                say(str(line))
        watches = [
            Watch.of(
                Evaluations.open(_home(place, drop, seed) / EVALS), _home(place, drop, seed) / LOG,
                arm=_arm(drop), seed=seed, capability=drop.capability if drop else "",
                domain=drop.domain if drop else "", at=round(at * steps), steps=steps,
            )
            for drop, seed in runs
        ]  # fmt: skip
    return Detection.of(watches)


def _arm(drop: Drop | None) -> str:
    return "control" if drop is None else f"without {drop.domain}"


def _home(place: Path, drop: Drop | None, seed: int) -> Path:
    return place / f"{_arm(drop).replace(' ', '-')}-{seed}"


def _done(run: Path, steps: int) -> bool:
    """Whether a run has ended: its last checkpoint is there, which is written after its last evaluation."""
    from train.checkpoint import checkpoints
    from train.loop import CHECKPOINTS

    there = checkpoints(run / CHECKPOINTS)
    return bool(there) and there[-1].step == steps and (run / EVALS).is_dir()


def _run(
    place: Path, base: RunConfig, prepared: Prepared, drop: Drop | None, seed: int, at: float,
    progress: Progress | None,
) -> str:  # fmt: skip
    """Train one of the runs; what to say of it."""
    mixture: dict[str, float | str] = {name: 1.0 for name in sorted(prepared.tokens("train"))}
    if drop is not None:
        mixture[drop.domain] = f"1.0 until {at:.6%}, then 0.0"
        mixture[drop.instead] = f"1.0 until {at:.6%}, then 2.0"
    finished(_home(place, drop, seed), replace(base, seed=seed, mixture=mixture), progress)
    return f"{_arm(drop)}, seed {seed}: done"
