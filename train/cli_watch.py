"""The command `train watch`."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from train.options import Json


def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of the EvalHook of another trainer.")],
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Print what there is, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Show a run as it trains: each capability against what was expected of it, and alarms.

    Ends with the run, or at Ctrl-C. Off a terminal it prints once.

    Example: [bold]train watch runs/a[/bold]
    """
    from rich.console import Console

    from evalsuite.overview import Overview
    from scaling.console import print_json
    from train.watch import follow, picture, plain

    # Through a pipe nobody knows the width; wide enough that no cell is folded.
    width = None if sys.stdout.isatty() else 400
    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False, width=width)
    if as_json:
        print_json(plain(Overview.open(run)))
    elif once or not console.is_terminal:
        console.print(picture(Overview.open(run), width=console.width))
    else:
        with suppress(KeyboardInterrupt):  # also while it reads for the first time
            follow(run, every, console)
