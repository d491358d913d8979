"""Commands about results: `evalsuite score`, `compare` and `export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.cli_run import Folders, Json, read_suite
from evalsuite.display import print_frames, say
from scaling.errors import StagewiseError

if TYPE_CHECKING:
    from evalsuite.likelihoods import Likelihoods
    from evalsuite.results import Results
    from evalsuite.suite import Suite


class Target(StrEnum):
    """What a suite is exported for."""

    lm_eval = "lm-eval"


def score(
    results: Annotated[Path, typer.Argument(help="Folder that `evalsuite run` wrote.")],
    suite: Annotated[Path, typer.Argument(help="The suite that was run.")],
    as_json: Json = False,
) -> None:
    """The weighted headline of a suite, with its interval; a partial suite has none.

    Example: [bold]evalsuite score results/ suites/mid.yaml[/bold]
    """
    from evalsuite.headline import headline

    found, wanted = _of_suite(results, suite)
    line = headline(wanted, found.all())
    print_frames({"parts": line.to_frame(), "tasks": line.tasks}, as_json)


def compare(
    a: Annotated[Path, typer.Argument(help="Results of one model.")],
    b: Annotated[Path, typer.Argument(help="Results of another, on the same items.")],
    metric: Annotated[
        str | None, typer.Option(help="One metric for all tasks; the suite's own where absent.")
    ] = None,
    suite: Annotated[Path | None, typer.Option(help="Compare the headlines too.")] = None,
    as_json: Json = False,
) -> None:
    """Is model B better than A, and on which tasks? Paired tests, corrected for their number.

    Example: [bold]evalsuite compare results/step-1000 results/step-2000[/bold]
    """
    from evalsuite.comparison import Where
    from evalsuite.comparison import compare as compare_tasks
    from evalsuite.results import Results

    first, second = Results.open(a), Results.open(b)
    sides: list[dict[Where, Likelihoods]] = [
        {(done.task, done.examples): one.likelihoods(done) for done in one.manifest.tasks if done.file}
        for one in (first, second)
    ]
    metrics: str | dict[Where, str] = metric or {
        (done.task, done.examples): done.metric for done in first.manifest.tasks
    }
    found = compare_tasks(sides[0], sides[1], metrics)
    for where, lost in ((b, found.only_a), (a, found.only_b)):
        for name, count in lost:
            say(f"{where}: holds no {name}" + ("" if count is None else f" at {count} shots"))
    frame = found.to_frame()
    roles = {(done.task, done.examples): done.role for done in first.manifest.tasks}
    if "held out" in roles.values():
        names = zip(frame["task"], frame["shots"], strict=True)
        frame.insert(2, "role", [roles[task, int(shots)] for task, shots in names])
    rest, problem = None, None
    if suite is not None:
        from evalsuite.headline import headline_difference

        try:
            one, wanted = _of_suite(a, suite)
            rest = headline_difference(wanted, one.all(), _of_suite(b, suite)[0].all()).to_frame()
        except StagewiseError as error:
            problem = error
    print_frames({"tasks": frame, "headline": rest}, as_json)
    if problem is not None:
        raise problem


def export(
    suite: Annotated[Path, typer.Argument(help="A suite file.")],
    folder: Annotated[Path, typer.Argument(help="Where to write.")],
    to: Annotated[Target, typer.Option(help="The harness.")] = Target.lm_eval,
    folders: Folders = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="What the suite keeps aside, too.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of generated items.")] = 0,
) -> None:
    """Write a suite as tasks that the plain lm_eval command runs.

    lm-eval shows a plain mean for each task; the suite's weights stand under `metadata`.

    Example: [bold]evalsuite export suites/mid.yaml exported/ --to lm-eval[/bold]
    """
    from evalsuite.export import export_lm_eval
    from evalsuite.registry import Registry

    found, registry = read_suite(suite), Registry.open(folders or (), seed=seed)
    named = (*found.tasks, *(found.held_out if held_out else ()))
    there = registry.names()
    tasks = {one.task: registry.task(one.task) for one in named if one.task in there}
    for path in export_lm_eval(found, tasks, folder, held_out=held_out):
        print(path)


def _of_suite(folder: Path, path: Path) -> tuple[Results, Suite]:
    """Results, after a look whether they are of this suite; and the suite."""
    from evalsuite.results import Results

    found, suite = Results.open(folder), read_suite(path)
    of = found.manifest.suite
    if of is None or of.digest != suite.digest:
        was = "tasks by name" if of is None else f"another suite ({of.stage}, {of.digest[:12]})"
        raise StagewiseError(
            f"{folder}: holds results of {was}, not of {path} ({suite.digest[:12]}); run this suite: "
            f"evalsuite run {path} --model ... -o DIR"
        )
    if found.manifest.missing and any(one.role == "scored" for one in found.manifest.missing):
        lost = [f"  {one.why}" for one in found.manifest.missing if one.role == "scored"]
        raise StagewiseError(
            "\n".join([f"{folder}: {len(lost)} task(s) of the suite missing: no headline", *lost])
        )
    return found, suite
