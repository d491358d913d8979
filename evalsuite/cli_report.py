"""The command `evalsuite report`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.cli_run import Json
from evalsuite.display import say
from scaling.errors import StagewiseError, UsageError
from scaling.progress import progress_bar

if TYPE_CHECKING:
    from evalsuite.report import Report
    from evalsuite.report_scores import ScoreReport
    from scaling.scores import ScoreTable


def report(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...",
            help="Scores (parquet, CSV, any results a reader knows, or ladder for those that come with the "
            "package), a run that was watched (its folder, or that of its EvalHook), or one of each.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The page to write.")] = None,
    suite: Annotated[
        Path | None, typer.Option(help="Show this suite; one is built for the stage where absent.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="LO..HI in FLOPs, or a name; of --suite, else the middle third of the compute, where absent."
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            help="YAML: thresholds, named stages, overrides with reasons; ladder, also where absent and all "
            "scores are the ladder's, for the settings that come with those."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Show these metrics; * and ? match. bpb and accuracy where absent. Repeatable.",
        ),
    ] = None,
    replicates: Annotated[int, typer.Option(min=20, help="Bootstrap draws per curve.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    drop_bad: Annotated[bool, typer.Option("--drop-bad", help="Leave out bad rows, and count them.")] = False,
    as_json: Json = False,
) -> None:
    """Write a page about scores, a run, or both.

    Of scores: windows, tasks and their curves, clusters, a suite, and why each task is in it or not.
    Of a run: alarms, capabilities, tasks, what is missing, and what evaluation cost.

    One file, which needs no network. With --json everything on it but the curves goes to stdout as data.

    Example: [bold]evalsuite report scores.parquet --stage 1e19..1e21 -o report.html[/bold]

    Example: [bold]evalsuite report runs/a -o report.html[/bold]
    """
    if output is None and not as_json:
        raise UsageError("report: no place to write to; give -o report.html, or --json")
    from evalsuite.report_page import page
    from scaling.console import print_json
    from scaling.files import replacing

    runs = [one for one in targets if _is_run(one)]
    tables = [one for one in targets if one not in runs]
    if len(runs) > 1:
        raise UsageError(f"report: {len(runs)} runs ({', '.join(map(str, runs))}); valid is one to a page")
    asked = {"suite": suite, "stage": stage, "settings": settings, "metric": metric}
    if not tables and any(asked.values()):
        name = next(name for name, value in asked.items() if value)
        raise UsageError(f"--{name}: is about scores, and none are given; add them, or leave it out")
    found = _run(runs[0]) if runs else None  # in a moment, before minutes of fitting
    scores = None
    if tables:
        command = _command(
            targets, **asked, replicates=None if replicates == 200 else replicates, seed=seed or None,
            drop_bad=drop_bad,
        )  # fmt: skip
        scores = _scores(tables, suite, stage, settings, metric, replicates, seed, drop_bad, command)
    if output is not None:
        with replacing(output) as part:
            part.write_text(page(found, scores), encoding="utf-8")
        say(f"{output}: {'; '.join(_told(found, scores))}")
    for problem in found.overview.problems if found else ():
        say(problem)
    if as_json:
        told = found.to_dict() if found else {}
        print_json(told if scores is None else {**told, "scores": scores.to_dict()})


def _is_run(text: str) -> bool:
    """Whether there is the folder of a run, or of a hook; a name that stands for scores is none."""
    from evalsuite.run_state import RunState
    from evalsuite.settings import PACKAGED

    if text in PACKAGED or not Path(text).is_dir():
        return False
    try:
        RunState.read(Path(text))
    except StagewiseError:
        return False
    return True


def _run(folder: str) -> Report:
    from evalsuite.report import Report

    return Report.of(folder)


def _scores(
    tables: Sequence[str], suite: Path | None, stage: str | None, settings: str | None,
    metric: list[str] | None, replicates: int, seed: int, drop_bad: bool, command: str,
) -> ScoreReport:  # fmt: skip
    from evalsuite.report_scores import ScoreReport
    from evalsuite.settings import PACKAGED, find_settings, find_stage
    from evalsuite.suite import Suite
    from scaling.cli_files import named

    if settings is None and suite is None and all(one.partition(":")[0] in PACKAGED for one in tables):
        settings = PACKAGED[0]
    chosen = find_settings(settings) if settings else None
    shown = Suite.read(suite) if suite else None
    if stage:
        find_stage(stage, chosen)  # what is no stage stops before minutes of reading
    table = _read(tables, drop_bad)
    names = named(table, "metric", metric)
    with progress_bar("fitting") as step:
        return ScoreReport.of(
            table, stage=stage, suite=shown, settings=chosen, metrics=names,
            name=", ".join(Path(one).stem for one in tables), command=command, replicates=replicates,
            seed=seed, progress=step,
        )  # fmt: skip


def _read(tables: Sequence[str], drop_bad: bool) -> ScoreTable:
    from evalsuite.settings import PACKAGED
    from scaling.cli_files import load

    try:
        return load(tables, drop_bad)
    except StagewiseError as error:
        files = [one for one in tables if one.partition(":")[0] not in PACKAGED]
        lost = next((one for one in files if not Path(one).is_file()), None)
        if lost is None:
            raise
        raise StagewiseError(
            f"{lost}: no run here, and no scores ({error}); give the folder of a run, or scores"
        ) from error


def _told(found: Report | None, scores: ScoreReport | None) -> list[str]:
    """What the page holds, in a few words."""
    told = []
    if scores is not None:
        counts = scores.classification.counts()
        told.append(
            f"{len(scores.series):,} curves, " + ", ".join(f"{n} {name}" for name, n in counts.items())
        )
        if scores.suite is None:
            told.append(f"no suite: {scores.unbuilt}")
        else:
            told.append(f"suite of {len(scores.suite.tasks)} task(s), {len(scores.suite.held_out)} held out")
    if found is not None:
        alarms = () if found.overview.watched is None else found.overview.watched.alarms
        told.append(
            f"{found.overview.run.told}; {len(found.cost)} evaluations, {len(alarms)} alarm(s), "
            f"{len(found.missing)} thing(s) missing"
        )
    return told


def _command(targets: Sequence[str], **options: object) -> str:
    """The call that writes the page again, without `-o`: the page may be moved."""
    from evalsuite.command import relative

    parts = ["evalsuite", "report", *(relative(one) for one in targets)]
    for name, value in options.items():
        if value is None or value is False:
            continue
        for one in value if isinstance(value, list) else [value]:
            text = [] if one is True else [relative(str(one)) if name in ("suite", "settings") else str(one)]
            parts += ["--" + name.replace("_", "-"), *text]
    return shlex.join(parts)
