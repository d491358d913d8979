"""The tokens of a run: those of a folder, or made from its sources, checked against the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import DataError
from data.prepare import prepare
from data.prepared import RECORD, Prepared
from scaling.errors import StagewiseError
from train.config import DataConfig

if TYPE_CHECKING:
    from evalsuite.tasks import Task
    from train.overlap import Overlap

Progress = Callable[[int, int, str], None]


def tokens_of(config: DataConfig, out: Path, seed: int = 0, progress: Progress | None = None) -> Prepared:
    """Open the folder of tokens that a config names, or make it at `out` where it is not there yet.

    Args:
        config: the section `data`. out: where to make it. seed: of the split. progress: told of the work.

    Raises:
        DataError: text or tokens that cannot be used.

    Example:
        >>> tokens_of(DataConfig(), Path("runs/a/data")).domains         # doctest: +SKIP
        ('code', 'maths', 'prose')
    """
    if config.folder is not None:
        return Prepared.read(config.folder)
    if (out / RECORD).is_file():
        return Prepared.read(out)
    refuse = None
    if config.overlap:
        refuse = benchmark_overlap().refuse
    told = config.tokenizer
    if isinstance(told, str) and told.isdigit():
        told = int(told)
    return prepare(
        list(config.sources), out, tokenizer=told if isinstance(told, str) else None,
        size=told if isinstance(told, int) else None, held_out=config.held_out, refuse=refuse, seed=seed,
        step=progress,
    )  # fmt: skip


def benchmark_overlap() -> Overlap:
    """A check against all items of the tasks that are registered here, the generated ones included.

    Raises:
        DataError: a registered task that cannot be read: what it holds could be trained on.
    """
    from evalsuite.registry import Registry
    from train.overlap import Overlap

    registry = Registry.open()
    tasks: list[Task] = []
    for name in registry.names():
        try:
            tasks.append(registry.task(name))
        except StagewiseError as error:
            raise DataError(
                f"{error}; the text cannot be checked against it: mend it, take its folder off the list "
                "(evalsuite tasks --remove), or train without the check (data.overlap = false)"
            ) from error
    return Overlap.of(tasks)
