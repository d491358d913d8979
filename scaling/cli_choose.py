"""Commands that say what to choose by: `scaling decisions`, `signal`, `effective`, `items`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from scaling.cli_files import PICTURES, asked_for, check_suffix, load, named, write_picture, write_rows
from scaling.console import note, print_json
from scaling.errors import StagewiseError, UsageError
from scaling.options import (
    DropBad,
    Json,
    Like,
    Match,
    Metric,
    NoMatch,
    Picture,
    Points,
    PointsOption,
    Recipe,
    Rows,
    RunPoints,
    Scores,
    Seed,
    Source,
    StageOption,
    Task,
    Threshold,
    interval,
    matched,
    scale,
)
from scaling.progress import progress_bar


def decisions(
    scores: Scores,
    small: Annotated[
        str, typer.Option("--small", metavar="FLOPS|LO..HI", help="Compute of the runs that decide.")
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="FLOPS|LO..HI", help="Compute of the runs decided about.")
    ],
    metric_target: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Metric that counts there; the task's own where absent."),
    ] = None,
    by: Recipe = "family,variant",
    like: Like = 1.5,
    match: Match = None,
    no_match: NoMatch = False,
    points: Annotated[
        RunPoints, typer.Option(help="Checkpoints that may stand for a run.")
    ] = RunPoints.final,
    reach: Annotated[float, typer.Option(help="How far from FLOPS a run may lie, as a factor.")] = 2.0,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    seed: Seed = 0,
    drop_bad: DropBad = False,
    as_json: Json = False,
    picture: Picture = None,
    out: Rows = None,
) -> None:
    """How often small runs order two recipes as large runs do, task by task.

    --metric and --task choose what is printed; every task is still set against the mean of all others.

    Example: scaling decisions scores.parquet --small 1e19 --target 1e21 --metric-target acc
    """
    from scaling import report_choose
    from scaling.decisions import decide

    check_suffix(out)
    check_suffix(picture, PICTURES)
    factor = matched(match, no_match)
    scales = scale("--small", small), scale("--target", target)
    table = load(scores, drop_bad, source=source)
    metrics, tasks = named(table, "metric", metric), named(table, "task", task)
    if metric_target is not None and metric_target not in (known := set(table.frame["metric"])):
        raise UsageError(
            f"--metric-target {metric_target!r}: none there; valid is {', '.join(sorted(known))}"
        )
    with progress_bar("comparing") as step:
        found = decide(
            table, small=scales[0], target=scales[1], metric_target=metric_target, like=like, match=factor,
            reach=reach, by=_names(by), points=points.value, seed=seed,
        )  # fmt: skip
        step(1, 1)
    if not len(found.pairs):
        refused = ", ".join(f"{count} x {why}" for why, count in found.pairs.reasons().items())
        raise StagewiseError(
            f"decisions: no pair of recipes to compare; {len(found.small)} recipe(s) at --small, "
            f"{len(found.target)} at --target, {len(found.pairs.recipes)} at both"
            f"{f'; refused: {refused}' if refused else ''}; choose other scales, a larger --like or --reach, "
            "or --no-match"
        )
    kept = found.rows[asked_for(found.rows, metrics, tasks)].reset_index(drop=True)
    if kept.empty:
        raise StagewiseError(
            "decisions: no score of the metrics and tasks asked for at --small; loosen --metric or --task"
        )
    found = replace(found, rows=kept)
    settings = {
        "small": scales[0], "target": scales[1], "metric_target": metric_target, "by": _names(by),
        "like": like, "match": factor, "reach": reach, "points": points.value, "seed": seed,
    }  # fmt: skip
    if out is not None:
        write_rows(found.to_frame(), out)
    if picture is not None:
        write_picture(found.plot(), picture)
    if as_json:
        print_json(report_choose.decisions_json(found, settings))
    else:
        report_choose.print_decisions(found, settings)


def signal(
    scores: Scores,
    by: Recipe = "family,variant",
    like: Like = 1.5,
    match: Match = None,
    no_match: NoMatch = False,
    last: Annotated[int, typer.Option(help="Checkpoints of a run that its noise is read from.")] = 8,
    after: Annotated[float, typer.Option(help="Share of training after which orders count.")] = 0.5,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    drop_bad: DropBad = False,
    as_json: Json = False,
    out: Rows = None,
) -> None:
    """How far each task tells recipes apart: spread over noise, and the criteria of FineTasks.

    Example: scaling signal scores.parquet --metric acc
    """
    from scaling import report_choose
    from scaling.signal import recipe_signal

    check_suffix(out)
    factor = matched(match, no_match)
    table = load(scores, drop_bad, metric=metric, task=task, source=source)
    with progress_bar("measuring") as step:
        found = recipe_signal(table, by=_names(by), like=like, match=factor, last=last, after=after)
        step(1, 1)
    settings = {"by": _names(by), "like": like, "match": factor, "last": last, "after": after}
    if out is not None:
        write_rows(found.to_frame(), out)
    if as_json:
        print_json(report_choose.signal_json(found, settings, table.omissions))
    else:
        report_choose.print_signal(found, settings, table.omissions)


def effective(
    scores: Scores,
    reference: Annotated[
        str | None,
        typer.Option(metavar="FAMILY", help="Whose compute is the unit; the best measured where absent."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="Keep out, with its whole suite: a task to be judged on the axis."),
    ] = None,
    points: PointsOption = Points.auto,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    drop_bad: DropBad = False,
    as_json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Write the scores over effective compute, for any other command."),
    ] = None,
) -> None:
    """Put models of all families on one axis: the compute one family would have needed.

    Example: scaling effective scores.parquet --exclude piqa -o effective.parquet
    """
    from scaling import report_choose
    from scaling.effective import effective_compute

    check_suffix(out)
    table = load(scores, drop_bad, metric=metric, task=task, source=source)
    for name in exclude or ():
        named(table, "task", [name])  # says what is valid
    with progress_bar("fitting") as step, _warnings_as_notes():
        found = effective_compute(table, reference, exclude=exclude or (), points=points.value)
        step(1, 1)
    settings = {"reference": found.reference, "exclude": list(exclude or ()), "points": found.matrix.points}
    if out is not None:
        over = found.apply(table)
        over.write(out)
        note(f"written: {out}, {len(over):,} of {len(table):,} scores")
    if as_json:
        print_json(report_choose.effective_json(found, settings))
    else:
        report_choose.print_effective(found, settings)


def items(
    paths: Annotated[
        list[Path], typer.Argument(metavar="ITEMS...", help="npz files of item scores, one per benchmark.")
    ],
    runs: Annotated[
        list[str],
        typer.Option(metavar="SCORES", help="Scores of the same runs, which say their compute."),
    ],
    stage: StageOption = None,
    se: Annotated[float, typer.Option(help="Standard error to reach, in the unit of the scores.")] = 0.02,
    choose: Annotated[
        int | None, typer.Option(metavar="N", help="Choose the N items that say most within --stage.")
    ] = None,
    threshold: Threshold = 0.8,
    drop_bad: DropBad = False,
    as_json: Json = False,
    out: Rows = None,
) -> None:
    """Which questions of a benchmark speak early and which late, and how many are enough.

    With --stage, items are early that did half of their improving before its end, and counts hold within it;
    else the median item parts early from late, and all of the data counts. -o writes a row per item.

    Example: scaling items items_piqa.npz --runs scores.parquet --stage 1e19..1e20
    """
    import pandas as pd

    from scaling import report_choose
    from scaling.item_reports import item_report
    from scaling.items import ItemScores

    check_suffix(out)
    at = None if stage is None else interval("--stage", stage)
    if choose is not None and at is None:
        raise UsageError("--choose: needs --stage, the compute at which the items are to say most")
    table = load(runs, drop_bad)
    found = []
    with progress_bar("fitting") as step:
        for i, path in enumerate(paths):
            read = ItemScores.read(path, table)
            found.append(item_report(read, se, stage=at, choose=choose, threshold=threshold))
            step(i + 1, len(paths), path.name)
    settings = {"stage": at, "se": se, "choose": choose, "threshold": threshold}
    if out is not None:
        write_rows(pd.concat([one.to_frame() for one in found], ignore_index=True), out)
    if as_json:
        print_json(report_choose.items_json(found, settings))
    else:
        report_choose.print_items(found, settings)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """What the work warns of is said in words, without the line of code that it came from."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            texts = dict.fromkeys(str(one.message) for one in caught)
    for text in texts:
        note(f"warning: {text}")
