"""Commands that look ahead: `scaling forecast`, and `scaling backtest`, its record."""

from __future__ import annotations

from typing import Annotated

import typer

from scaling.cli_files import PICTURES, asked_for, check_suffix, load, named, write_picture, write_rows
from scaling.console import print_json
from scaling.errors import StagewiseError, UsageError
from scaling.options import (
    Axis,
    By,
    DropBad,
    Jobs,
    Json,
    Level,
    Metric,
    Picture,
    Rows,
    Scores,
    Seed,
    Source,
    Task,
    interval,
)
from scaling.progress import progress_bar


def forecast(
    scores: Scores,
    target: Annotated[
        list[float], typer.Option("--target", metavar="FLOPS", help="Compute to forecast; several are fine.")
    ],
    tokens_per_param: Annotated[
        float | None, typer.Option(help="Of the target; that of the largest runs where absent.")
    ] = None,
    axis: Annotated[
        Axis, typer.Option(help="bytes counts data in bytes of text, for runs of unlike tokenizers.")
    ] = Axis.flops,
    bytes_per_token: Annotated[
        float | None, typer.Option(help="Of the target's tokenizer; --axis bytes needs it.")
    ] = None,
    level: Level = 0.95,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    jobs: Jobs = None,
    drop_bad: DropBad = False,
    as_json: Json = False,
    picture: Picture = None,
    out: Rows = None,
) -> None:
    """Forecast every task at larger compute, with an interval where one can be told.

    --metric and --task choose what is printed; a task's other metrics and the losses on text still help to
    forecast it. --json adds the methods behind each figure and their weights.

    Example: scaling forecast scores.parquet --target 1e23 --metric acc
    """
    from dataclasses import replace

    from scaling import report_ahead
    from scaling.forecasts import forecast_all

    check_suffix(out)
    check_suffix(picture, PICTURES)
    if bytes_per_token is not None and axis is not Axis.bytes:
        raise UsageError("--bytes-per-token: means something with --axis bytes alone")
    table = load(scores, drop_bad, source=source)
    metrics, tasks = named(table, "metric", metric), named(table, "task", task)
    with progress_bar("forecasting") as step:
        found = forecast_all(
            table, target, tokens_per_param=tokens_per_param, axis=axis.value,
            bytes_per_token=bytes_per_token, level=level, jobs=jobs, progress=step,
        )  # fmt: skip
    wanted = [
        one
        for one in found
        if (metrics is None or one.key.metric in metrics) and (tasks is None or one.key.task in tasks)
    ]
    if not wanted:
        _nothing_left("forecast", found.omissions)
    if picture is not None and len(wanted) > 1:
        keys = ", ".join(str(one.key) for one in wanted[:6]) + (" ..." if len(wanted) > 6 else "")
        raise UsageError(f"--plot: draws one task; choose --task and --metric so that one is left of {keys}")
    found = replace(found, forecasts=tuple(wanted))
    settings = {
        "targets": target, "tokens_per_param": tokens_per_param, "axis": axis.value,
        "bytes_per_token": bytes_per_token, "level": level,
    }  # fmt: skip
    if out is not None:
        write_rows(report_ahead.forecast_rows(found, settings), out)
    if picture is not None:
        write_picture(found.forecasts[0].plot(), picture)
    if as_json:
        print_json(report_ahead.forecasts_json(found, settings))
    else:
        report_ahead.print_forecasts(found, settings)


def backtest(
    scores: Scores,
    cut: Annotated[
        float | None, typer.Option("--cut", metavar="FLOPS", help="Learn from runs of at most this compute.")
    ] = None,
    cut_params: Annotated[
        float | None, typer.Option(metavar="N", help="Learn from models of at most this size instead.")
    ] = None,
    target_params: Annotated[
        str | None, typer.Option(metavar="LO..HI", help="Forecast only models of this size.")
    ] = None,
    by: Annotated[
        By | None, typer.Option(help="Forecast each from its own runs alone; all are pooled where absent.")
    ] = None,
    per_task: Annotated[bool, typer.Option("--tasks", help="Print the errors of every task too.")] = False,
    level: Level = 0.95,
    metric: Metric = None,
    task: Task = None,
    source: Source = None,
    jobs: Jobs = None,
    seed: Seed = 0,
    drop_bad: DropBad = False,
    as_json: Json = False,
    picture: Picture = None,
    out: Rows = None,
) -> None:
    """Forecast runs that are known already, and say whether that beats plain ways to guess.

    --metric and --task choose what is counted and printed; what helps to forecast it stays.

    Example: scaling backtest scores.parquet --cut 1e21
    """
    from dataclasses import replace

    from scaling import report_ahead
    from scaling.backtests import backtest as tested

    check_suffix(out)
    check_suffix(picture, PICTURES)
    size = None if target_params is None else interval("--target-params", target_params, "parameters")
    table = load(scores, drop_bad, source=source)
    metrics, tasks = named(table, "metric", metric), named(table, "task", task)
    with progress_bar("back-testing") as step:
        found = tested(
            table, cut_flops=cut, cut_params=cut_params, target_params=size,
            by=None if by is None else by.value, level=level, jobs=jobs, progress=step,
        )  # fmt: skip
    kept = found.rows[asked_for(found.rows, metrics, tasks)].reset_index(drop=True)
    if kept.empty:
        _nothing_left("back-test", found.omissions)
    found = replace(found, rows=kept)
    settings = {
        "cut": cut, "cut_params": cut_params, "target_params": size, "by": None if by is None else by.value,
        "level": level, "seed": seed,
    }  # fmt: skip
    if out is not None:
        write_rows(report_ahead.backtest_rows(found), out)
    if picture is not None:
        write_picture(found.plot(), picture)
    if as_json:
        print_json(report_ahead.backtest_json(found, settings))
    else:
        report_ahead.print_backtest(found, settings, per_task=per_task)


def _nothing_left(what: str, omissions) -> None:
    reasons = "; ".join(f"{one.count} x {one.what} [{one.where}]" for one in omissions[:6])
    raise StagewiseError(
        f"{what}: nothing of the metrics and tasks asked for can be forecast ({reasons or 'no law'}); "
        "loosen --metric or --task, or give runs of more computes"
    )
