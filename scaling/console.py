"""How commands speak: results on stdout, everything else on stderr, errors without a traceback."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from scaling.errors import StagewiseError


class Commands(TyperGroup):
    """A group of commands in which a `StagewiseError` is its message and its exit code, not a traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except StagewiseError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough; click knows what to do
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error


@contextmanager
def leaving(prefix: str = "") -> Iterator[None]:
    """Run a command; an error of its user is its message on stderr and its exit code, not a traceback.

    Args:
        prefix: put before the messages of errors.

    Example:
        >>> with leaving("error: "):                             # doctest: +SKIP
        ...     app()
    """
    try:
        yield
    except StagewiseError as error:
        note(f"{prefix}{error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        note("stopped")
        sys.exit(130)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            where = error.filename2 or error.filename or "a file"
            note(f"{prefix}{where}: {error.strerror or error}; give a path that can be used")
            sys.exit(1)
        # The reader of our output (head, less) has left; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def note(text: str) -> None:
    """Say something that is no result, on stderr."""
    typer.echo(text, err=True)


def print_json(data: Any) -> None:
    """Print strict JSON: what is not a finite number becomes null.

    Example:
        >>> print_json({"a": float("inf")})
        {
          "a": null
        }
    """
    typer.echo(json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def plain(data: Any) -> Any:
    """`data` in the types that JSON has; a number that is not finite, or missing, is None."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    if data is None or isinstance(data, bool | str):
        return data
    if hasattr(data, "item"):  # a numpy scalar
        return plain(data.item())
    if isinstance(data, int):
        return data
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return None if type(data).__name__ in ("NAType", "NaTType") else str(data)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    styles: Mapping[str, str] | None = None,
    styled: str | None = None,
) -> None:
    """Print a table that fits the terminal; off a terminal, one that is as wide as its content.

    Args:
        columns: headings; the first is never dropped, later ones are where the terminal is too narrow.
        rows: cells as text.
        right: columns set flush right.
        styles: value -> rich style, for the column `styled`.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    console = Console(file=sys.stdout, highlight=False, emoji=False)
    widths = [max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(columns)]
    kept = list(range(len(columns)))
    if console.is_terminal:
        while len(kept) > 1 and sum(widths[i] + 3 for i in kept) > max(console.width, 60):
            kept.pop()
    else:
        console = Console(file=sys.stdout, highlight=False, emoji=False, width=sum(widths) + 2 * len(columns))
    lines = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=lines, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for i in kept:
        side = "right" if columns[i] in set(right) else "left"
        table.add_column(columns[i], justify=side, no_wrap=True, overflow="ellipsis")
    for row in rows:
        cells = []
        for i in kept:
            style = (styles or {}).get(row[i], "") if columns[i] == styled else ""
            cells.append(Text(row[i], style=style))
        table.add_row(*cells)
    console.print(table)
    if len(kept) < len(columns):
        note(f"left out for width: {', '.join(columns[len(kept) :])} (widen the terminal, or use --json)")


def print_omissions(omissions: Sequence[Any], most: int = 12) -> None:
    """Say on stderr what was left out; `omissions` are `scaling.scores.Omission`."""
    ordered = sorted(omissions, key=lambda one: -one.count)
    for one in ordered[:most]:
        note(f"left out: {one.count:,} x {one.what} [{one.where}]")
    if len(ordered) > most:
        note(f"left out: {len(ordered) - most} more kinds (all of them with --json)")


def flops(value: float) -> str:
    """A number of FLOPs for a table; "" where there is none.

    Example:
        >>> flops(1.76e20), flops(float("inf")), flops(float("nan"))
        ('1.8e20', 'beyond', '')
    """
    if math.isnan(value):
        return ""
    return "beyond" if math.isinf(value) else f"{value:.1e}".replace("e+", "e").replace(".0e", "e")
