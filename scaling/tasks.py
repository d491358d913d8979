"""What is known about a task, and which names of which source mean the same test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from scaling.facts.tables import rows


@dataclass(frozen=True)
class TaskInfo:
    """Facts about one task; None where unknown.

    Attributes:
        name: as in the `task` column.
        chance: score of a guesser who knows the answer format only.
        majority_rate: score of a guesser who also knows the commonest answer.
        ceiling: 1 minus the share of wrongly labelled items, where that was measured.
        n_choices: answers to choose from; None where it varies or answers are free.
        n_items: how many questions the split has.
        capability: such as `commonsense`, `knowledge`, `science`, `language`.
        format: how the answer is scored, such as `choice_text`, `choice_letter`, `generation`.
        reference: where the figures stand.
        note: what a reader of the figures should know, such as a source that states another chance.

    Example:
        >>> task_info("boolq").majority_rate
        0.6217
    """

    name: str
    chance: float | None = None
    majority_rate: float | None = None
    ceiling: float | None = None
    n_choices: int | None = None
    n_items: int | None = None
    capability: str | None = None
    format: str | None = None
    reference: str = ""
    note: str = ""


@dataclass(frozen=True)
class TaskAlias:
    """One row of `scaling/facts/tasks.csv`: what a source's name for a task means.

    Attributes:
        source: a source name, or a harness dialect (its rows hold for every source it wrote).
        name: the name used there; `name@version` where the harness changed the test.
        task: our name, the same for the same items in the same answer format.
        benchmark, split, format: what is asked, which part of it, how answers are scored.
        shots: the number of shots where the source's name is what says it; else None.
        metric: the metric where the source does not name it; else None.
        reference: why these are the same test.
    """

    source: str
    name: str
    task: str
    benchmark: str
    split: str
    format: str
    shots: int | None
    metric: str | None
    reference: str


@cache
def _aliases() -> dict[tuple[str, str], TaskAlias]:
    return {
        (row["source"], row["name"]): TaskAlias(
            source=row["source"],
            name=row["name"],
            task=row["task"],
            benchmark=row["benchmark"],
            split=row["split"],
            format=row["format"],
            shots=int(row["shots"]) if row["shots"] else None,
            metric=row["metric"] or None,
            reference=row["reference"],
        )
        for row in rows("tasks.csv")
    }


@cache
def _infos() -> dict[str, TaskInfo]:
    def number(text: str) -> float | None:
        return float(text) if text else None

    def whole(text: str) -> int | None:
        return int(text) if text else None

    return {
        row["task"]: TaskInfo(
            name=row["task"],
            chance=number(row["chance"]),
            majority_rate=number(row["majority_rate"]),
            ceiling=number(row["ceiling"]),
            n_choices=whole(row["n_choices"]),
            n_items=whole(row["n_items"]),
            capability=row["capability"] or None,
            format=row["format"] or None,
            reference=row["reference"],
            note=row["note"],
        )
        for row in rows("benchmarks.csv")
    }


def find_alias(name: str, *sources: str, version: object = None) -> TaskAlias | None:
    """What `name` means in the first of `sources` (source names and dialects) that lists it.

    Example:
        >>> find_alias("coqa", "gemstones").task
        'commonsense_qa'
    """
    for source in sources:
        for candidate in ([f"{name}@{version}"] if version is not None else []) + [name]:
            if (source, candidate) in _aliases():
                return _aliases()[(source, candidate)]
    return None


def task_info(task: str, source: str | None = None) -> TaskInfo:
    """Facts about a task, by our name, or by the name `source` gives it.

    Args:
        task: a name from the `task` column; with `source`, the source's own name works too.
        source: a source name or harness dialect from `scaling/facts/tasks.csv`.

    Returns:
        The facts; all None for a task the table does not hold.

    Example:
        >>> task_info("commonsense_qa").chance, task_info("never_heard_of_it").chance
        (0.2, None)
    """
    if source is not None and (alias := find_alias(task, source)) is not None:
        task = alias.task
    return _infos().get(task) or TaskInfo(task)


def known_tasks() -> tuple[str, ...]:
    """The names that `scaling/facts/benchmarks.csv` describes."""
    return tuple(_infos())


@cache
def _benchmarks() -> dict[str, str]:
    """Benchmark of each task; a part (`MMLU anatomy`) belongs to the whole where the table has the whole."""
    named = {row["task"]: row["benchmark"] for row in rows("tasks.csv")}
    known = set(named.values())

    def whole(name: str) -> str:
        words = name.split(" ")
        return next(head for i in range(len(words)) if (head := " ".join(words[: i + 1])) in known)

    return {task: whole(name) for task, name in named.items()}


def benchmark_of(task: str) -> str:
    """Whose questions a task asks, by `scaling/facts/tasks.csv`; the task's own name where unknown.

    Splits, answer formats and subjects of one benchmark share their benchmark.

    Example:
        >>> benchmark_of("arc_easy"), benchmark_of("never_heard_of_it")
        ('ARC-Easy', 'never_heard_of_it')
    """
    return _benchmarks().get(task, task)
