"""One progress bar for every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Show how far a piece of work is, and when it will be done, on stderr.

    Off a terminal nothing is written. The bar is gone when the work is.

    Args:
        what: the work, in a word or two.

    Yields:
        `step(done, total, text="")`, which the work calls as it goes.

    Example:
        >>> with progress_bar("fitting") as step:
        ...     for i in range(3):
        ...         step(i + 1, 3)
    """
    # Rich takes a while to load, and --help needs none of it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total, text="": None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[text]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None, text="")

        def step(done: int, total: int, text: str = "") -> None:
            # The end of a path says more than its beginning.
            bar.update(task, completed=done, total=total, text=text[-40:])

        yield step
