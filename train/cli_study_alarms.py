"""The command `train study alarms`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.console import print_json, print_table
from train.cli_study import SMALL, TINY, write_tables
from train.options import Config, Json, Settings, Sources, read, say, seeds_of, source_of, work

_DEFAULTS = SMALL | {"steps": 600, "validation.tokens": 8192}
_SMOKE = TINY | {"steps": 36, "model.context": 64}


def alarms(
    config: Config = None,
    source: Sources = None,
    steps: Annotated[int | None, typer.Option(min=20, help="Of a run; 600 where absent.")] = None,
    preset: Annotated[str | None, typer.Option(help="Size of the model; 0.3m where absent.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,...", help="Runs with a loss; 0,1,2.")] = None,
    controls: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Seeds of runs without one; 0 to 9.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOMAIN=INSTEAD", help="What is dropped half way, for what; or with :CAPABILITY."
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="Instead of held-out text; * and ? match."),
    ] = None,
    items: Annotated[Path | None, typer.Option("--items", help="Folder of tasks, for --task.")] = None,
    most: Annotated[int | None, typer.Option("--most", min=1, help="Items of a task; 48.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Keep runs and tables here; go on from there.")
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny, to see that it works.")] = False,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Is a capability that a run loses noticed, and how soon?

    Runs whose mixture drops code, or maths, half way, and runs that go on as they were, all watched by the
    hook: delay of the alarm and false alarms, beside a threshold on raw accuracy.

    Example: [bold]train study alarms --jobs 2 -o alarms/[/bold]
    """
    flags: dict[str, Any] = {"steps": steps, "model.preset": preset}
    if source:
        flags["data.sources"] = [source_of(one) for one in source]
    told = read(config, settings, flags, _SMOKE if smoke else _DEFAULTS)

    from train.studies.planted import DROPS, LOOKS, Drop, planted

    with work("alarms") as progress:
        found = planted(
            told, seeds=seeds_of(seeds or ("0" if smoke else "0,1,2")),
            controls=seeds_of(controls or ("0" if smoke else ",".join(map(str, range(10))))),
            drops=[Drop.parse(one) for one in drop] if drop else DROPS,
            tasks=task or (),
            items=most or (4 if smoke else 48), folders=[str(items.resolve())] if items else (),
            looks=6 if smoke else LOOKS, folder=output, jobs=jobs, progress=progress, say=say,
        )  # fmt: skip
    if output is not None:
        write_tables(found.tables, output, "the runs")
    if as_json:
        print_json({name: one.to_dict("records") for name, one in found.tables.items()})
        return
    for name, table in found.tables.items():
        typer.echo(f"{name}:")
        columns = [str(column).replace("_", " ") for column in table.columns]
        rows = [tuple(map(_cell, row)) for row in table.itertuples(index=False)]
        text = [c for c in columns if c not in ("arm", "detector", "capability")]
        print_table(columns, rows, right=text)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return ""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"
