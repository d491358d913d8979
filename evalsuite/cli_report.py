"""The command `evalsuite report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.cli_run import Json
from evalsuite.display import say
from scaling.errors import UsageError


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was watched, or of its EvalHook.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The page to write.")] = None,
    as_json: Json = False,
) -> None:
    """Write a page about a run: alarms, capabilities, tasks, what is missing, and what evaluation cost.

    One file, which needs no network. With --json everything on it goes to stdout as data.

    Example: [bold]evalsuite report runs/a -o report.html[/bold]
    """
    if output is None and not as_json:
        raise UsageError("report: no place to write to; give -o report.html, or --json")
    from evalsuite.report import Report
    from scaling.console import print_json

    found = Report.of(run)
    if output is not None:
        found.write(output)
        alarms = () if found.overview.watched is None else found.overview.watched.alarms
        say(
            f"{output}: {found.overview.run.told}; {len(found.cost)} evaluations, {len(alarms)} alarm(s), "
            f"{len(found.missing)} thing(s) missing"
        )
    for problem in found.overview.problems:
        say(problem)
    if as_json:
        print_json(found.to_dict())
