"""How large one item of a task is, in bytes, so that what it costs can be told before it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from statistics import median
from typing import Literal

from scaling.facts.tables import rows
from scaling.tasks import TaskInfo, known_tasks, task_info

Basis = Literal["measured", "estimate", "assumed"]


@dataclass(frozen=True)
class ItemSize:
    """Mean size of one item, in UTF-8 bytes as they are sent to a model.

    Attributes:
        context: the question with all that stands before the answer, without solved examples. 0 where each
            choice is a whole text of its own, such as a pair of sentences.
        answer: one answer, with the blank before it: the mean over choices, or the answer that is right
            where answers are free.
        choices: answers scored per item, the mean where that varies; 1 where answers are free.
        items: how many items; None where unknown.
        basis: `measured` from items, `estimate` from what the benchmark is known to look like, or `assumed`
            from other tasks.
        reference: what was measured, or what the estimate is made of.
        prefix: the solved examples that come with the task, all of them together.

    Example:
        >>> ItemSize(context=400, answer=2, choices=4, items=100, basis="measured").context
        400
    """

    context: float
    answer: float
    choices: float
    items: int | None
    basis: Basis
    reference: str = ""
    prefix: float = 0.0


def item_size(info: TaskInfo) -> ItemSize:
    """Size of the items of a task, by `scaling/facts/item_sizes.csv`.

    The first row whose name or pattern fits the task holds, and only for tasks that
    `scaling/facts/benchmarks.csv` describes: a task of like name is another task.

    Args:
        info: the task. Its numbers of choices and of items are used where the row gives none.

    Returns:
        The size. For a task without a row: the median over tasks of its answer format, or over all tasks
        where the format is unknown, with the basis `assumed`.

    Example:
        >>> item_size(task_info("copa")).choices, item_size(TaskInfo("never_heard_of_it")).basis
        (2, 'assumed')
    """
    known = _listed(info.name) if info.name in known_tasks() else None
    if known is not None:
        return ItemSize(
            context=known.context,
            answer=known.answer,
            choices=known.choices or info.n_choices or 1,
            items=info.n_items or known.items,
            basis=known.basis,
            reference=known.reference,
        )
    typical, of = _typical(info.format)
    return ItemSize(
        context=typical.context,
        answer=typical.answer,
        choices=info.n_choices or typical.choices,
        items=info.n_items,
        basis="assumed",
        reference=f"median over {of}",
    )


def typical_items(format: str | None) -> int:
    """Median number of items of the tasks of an answer format, of all tasks where the format is unknown.

    Example:
        >>> typical_items("minimal_pair")
        1000
    """
    items = _typical(format)[0].items
    return 1000 if items is None else items


@dataclass(frozen=True)
class _Row:
    pattern: str
    context: float
    answer: float
    choices: float | None
    items: int | None
    basis: Basis
    reference: str


@cache
def _rows() -> tuple[_Row, ...]:
    return tuple(
        _Row(
            pattern=row["task"],
            context=float(row["context_bytes"]),
            answer=float(row["answer_bytes"]),
            choices=float(row["choices"]) if row["choices"] else None,
            items=int(row["items"]) if row["items"] else None,
            basis=row["basis"],  # pyright: ignore[reportArgumentType]
            reference=row["reference"],
        )
        for row in rows("item_sizes.csv")
    )


def _listed(task: str) -> _Row | None:
    return next((row for row in _rows() if fnmatchcase(task, row.pattern)), None)


@cache
def _typical(format: str | None) -> tuple[ItemSize, str]:
    """The medians over tasks of a format (over all where there is none such), and over what they are."""
    infos = [task_info(name) for name in known_tasks() if _listed(name) is not None]
    same = [info for info in infos if info.format == format]
    sizes = [item_size(info) for info in same or infos]
    counted = [size.items for size in sizes if size.items is not None]
    found = ItemSize(
        context=median(size.context for size in sizes),
        answer=median(size.answer for size in sizes),
        choices=median(size.choices for size in sizes),
        items=round(median(counted)) if counted else None,
        basis="assumed",
    )
    return found, f"{len(sizes)} tasks" + (f" of the format {format}" if same else "")
