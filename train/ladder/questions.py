"""The items that a ladder asks: as many of a task as a standard error needs, none longer than it can read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from data.tokenizer import Tokenizer
from evalsuite.registry import Registry
from evalsuite.tasks import Task
from scaling.files import replacing

_FREE = 0.5  # standard deviation of an item whose answer is free, as of a coin
_PREFIX = 4  # solved examples may take one in so many tokens of the context


@dataclass(frozen=True)
class Asked:
    """A task of a ladder.

    Attributes:
        task: its name. items: asked. there: that the task has. long: left out, since an answer is longer than
            the context. shots: solved examples before each. tokens: that a model reads for all items asked.
    """

    task: str
    items: int
    there: int
    long: int
    shots: int
    tokens: int


@dataclass(frozen=True)
class Questions:
    """What a ladder asks.

    Attributes:
        folder: with the items asked. tasks: in order.
    """

    folder: Path
    tasks: tuple[Asked, ...]

    @property
    def tokens(self) -> int:
        """That a model reads for all of it, once."""
        return sum(one.tokens for one in self.tasks)

    def to_frame(self) -> pd.DataFrame:
        """One row per task."""
        return pd.DataFrame([asdict(one) for one in self.tasks])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def items_for(stderr: float, choices: float) -> int:
    """Items so that the accuracy of a guesser has a standard error: n = p (1 - p) / SE^2.

    Args:
        stderr: wanted, such as 0.05. choices: of an item; 0 where answers are free, which counts as p = 1/2.

    Example:
        >>> items_for(0.1, 2), items_for(0.1, 4), items_for(0.05, 0)
        (25, 19, 100)
    """
    variance = (choices - 1) / choices**2 if choices else _FREE**2
    return max(2, math.ceil(round(variance / stderr**2, 9)))


def choose(
    registry: Registry,
    patterns: Sequence[str],
    tokenizer: Tokenizer,
    context: int,
    stderr: float,
    folder: Path,
) -> Questions:
    """Choose items and write them as a folder of tasks; what a folder holds already is read.

    Of each task the first items by hash are taken (`Task.take`) that the models can read: no answer longer
    than their context. Solved examples are kept where they take a quarter of the context or less.

    Args:
        registry: where tasks are. patterns: of their names; all where empty. tokenizer: of the models.
        context: tokens that they read. stderr: see `items_for`. folder: to write.

    Raises:
        UsageError, StagewiseError: a pattern that fits none, broken items.
    """
    record = folder / "asked.json"
    if record.is_file():
        told = json.loads(record.read_text(encoding="utf-8"))
        return Questions(folder, tuple(Asked(**one) for one in told))
    folder.mkdir(parents=True, exist_ok=True)
    names = [one for each in patterns for one in registry.matching(each)] if patterns else registry.names()
    asked, about = [], []
    for name in dict.fromkeys(names):
        task = registry.task(name)
        chosen = _chosen(task, tokenizer, context, stderr)
        if chosen is None:
            continue
        one, kept = chosen
        asked.append(one)
        entry = {
            "task": name, "target_delimiter": task.delimiter, "family": task.info.capability or "",
            "licence": task.licence, "chance": task.chance, **task.baselines,
        }  # fmt: skip
        if kept.prefix:
            entry |= {"fewshot_prefix": kept.prefix, "fewshot_shots": kept.prefix_shots}
        if task.unsafe:
            entry["unsafe"] = task.unsafe
        about.append(entry)
        with replacing(folder / f"{name}.jsonl") as part, open(part, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(item.record(), ensure_ascii=False) + "\n" for item in kept.items)
    for path, rows in ((folder / "tasks.json", about), (record, [asdict(one) for one in asked])):
        with replacing(path) as part:
            part.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return Questions(folder, tuple(asked))


def _chosen(task: Task, tokenizer: Tokenizer, context: int, stderr: float) -> tuple[Asked, Task] | None:
    """The items of a task that are asked; None where the models can read none."""

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer.encode(texts)]

    (before,) = count([task.prefix])
    shots = task.prefix_shots if 0 < before * _PREFIX <= context else 0
    wanted = items_for(stderr, 0 if task.free else 1 / task.chance)
    items, long, tokens = [], 0, 0
    for item in task.ranked:
        if len(items) == wanted:
            break
        answers = [task.delimiter + one for one in item.choices or (item.answer,)]
        if item.option_contexts:
            answers = [one + item.continuation for one in item.option_contexts]
        read, *sizes = count([item.context, *answers])
        if max(sizes) >= context:
            long += 1
            continue
        items.append(item)
        tokens += min((before if shots else 0) + read, context - max(sizes)) + sum(sizes)
    if not items:
        return None
    kept = replace(task, items=tuple(items), prefix=task.prefix if shots else "", prefix_shots=shots)
    return Asked(task.name, len(items), len(task.items), long, shots, tokens), kept
