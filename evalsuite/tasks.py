"""Tasks that can be scored: items, how they are put to a model, and what is known about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evalsuite.items import Item, read_items, told
from scaling.errors import StagewiseError, UsageError
from scaling.tasks import TaskInfo, find_alias, known_tasks, task_info

LM_EVAL = "lm_eval:"  # before the name of a task that lm-eval brings
# Whose names a file of items may bear; what one publication calls a task says nothing of the items in a file.
_HARNESSES = ("lm-eval-0.4", "lm-eval-0.3")
_TEXTS = ("target_delimiter", "fewshot_prefix", "family", "licence", "note", "unsafe")
_NUMBERS = {
    "chance": lambda value: isinstance(value, int | float) and type(value) is not bool and 0 <= value <= 1,
    "fewshot_shots": lambda value: type(value) is int and value >= 0,
}


@dataclass(frozen=True)
class Task:
    """A benchmark at hand.

    The text put to the model is `prefix + context`, and what is scored after it `delimiter + choice`.

    Attributes:
        name: as in the `task` column of a score table.
        items: the questions.
        info: facts about it.
        delimiter: between context and answer.
        prefix: solved examples, each ended by what separates it from the next; "" where there are none.
        prefix_shots: how many examples the prefix holds.
        origin: the file or generator it comes from. licence: of the items.
        baselines: what scores without understanding reach, as its publisher states them.
        unsafe: why it must not be scored; "" where nothing stands against it.

    Example:
        >>> task = read_task("tasks/piqa.jsonl")                  # doctest: +SKIP
        >>> task.name, len(task.items), task.shots                # doctest: +SKIP
        ('piqa', 500, (0, 5))
    """

    name: str
    items: tuple[Item, ...] = field(repr=False)
    info: TaskInfo
    delimiter: str = " "
    prefix: str = field(default="", repr=False)
    prefix_shots: int = 0
    origin: str = ""
    licence: str = ""
    baselines: Mapping[str, float] = field(default_factory=dict, repr=False)
    unsafe: str = ""

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of solved examples it can be asked with."""
        return (0, self.prefix_shots) if self.prefix else (0,)

    @property
    def free(self) -> bool:
        """Whether answers are free: no item has choices."""
        return not any(item.choices for item in self.items)

    @property
    def chance(self) -> float:
        """Score of a guesser: mean of 1/choices; 0 where answers are free."""
        return sum(1 / len(item.choices) for item in self.items if item.choices) / len(self.items)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over items and prompt: equal where a model is asked the same."""
        data = [self.delimiter, self.prefix, [item.record() for item in self.items]]
        text = json.dumps(data, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def prompt(self, shots: int | None) -> str:
        """The solved examples to put before each item.

        Args:
            shots: how many; None for what the task has.

        Raises:
            StagewiseError: a number of shots it has no examples for.
        """
        if shots is None or shots == self.prefix_shots:
            return self.prefix
        if shots == 0:
            return ""
        advice = "; or add examples to fewshot_prefix in its tasks.json" if ".jsonl" in self.origin else ""
        raise StagewiseError(
            f"task {self.name}: {shots} solved examples asked for, valid is "
            f"{' or '.join(map(str, self.shots))}{advice}"
        )

    def take(self, count: int | None = None, ids: Iterable[str] | None = None) -> Task:
        """The task with some of its items only: those named, or the first `count` by hash.

        The order by sha256 of the id is the same in every process and has nothing to do with the order of the
        file, so that 100 items of two runs are the same 100, and 50 are half of them.

        Raises:
            StagewiseError: a named item that it lacks, or more items than it has.
        """
        items = self.items
        if ids is not None:
            ids = list(ids)
            there = {item.id: item for item in items}
            # Per-item results of other harnesses number the items.
            there |= {str(i): item for i, item in enumerate(items) if str(i) not in there}
            lost = [name for name in ids if name not in there]
            if lost:
                raise StagewiseError(
                    f"task {self.name}: has no item {lost[0]!r} ({len(lost)} missing); its items are named "
                    f"like {items[0].id!r}; build the suite again with the items at hand"
                )
            chosen = tuple(there[name] for name in ids)
            if len({item.id for item in chosen}) != len(chosen) or not chosen:
                twice = next((item.id for i, item in enumerate(chosen) if item in chosen[:i]), None)
                got = f"item {twice!r} named twice" if chosen else "no item named"
                raise StagewiseError(
                    f"task {self.name}: {got}, valid is each item once and one at least; build the suite "
                    "again with the items at hand"
                )
            return replace(self, items=chosen)
        if count is None or count == len(items):
            return self
        if not 1 <= count <= len(items):
            raise StagewiseError(
                f"task {self.name}: {count:,} items asked for, {len(items):,} at hand; build the suite from "
                "what can be run here (--items DIR --runnable), or score those at hand (--at-hand)"
            )
        return replace(self, items=self.ranked[:count])

    @property
    def ranked(self) -> tuple[Item, ...]:
        """The items in the order that `take` takes them."""
        return tuple(sorted(self.items, key=lambda item: hashlib.sha256(item.id.encode()).hexdigest()))

    def to_frame(self):
        """One row per item."""
        import pandas as pd

        return pd.DataFrame([asdict(item) for item in self.items])

    def _repr_html_(self) -> str:
        return self.to_frame().head(10).to_html(index=False)


@dataclass(frozen=True)
class TaskFolder:
    """A folder of tasks: `<task>.jsonl` each, and a `tasks.json` with what is known about them.

    `tasks.json` is a list of objects with the text `task` and, each where it is known: `target_delimiter` (a
    blank where absent), `fewshot_prefix`, `fewshot_shots` (else its examples are counted: what blank lines
    separate), `chance`, `family`, `licence`, `note`, numbers `base_*` and `ngram*` (what needs no
    understanding), and `unsafe`, a reason why the task must not be scored.

    Attributes:
        path: the folder. files: the file of each task, by our name of it.
        entries: the object of `tasks.json` for each task, by our name.
    """

    path: Path
    files: Mapping[str, Path] = field(repr=False)
    entries: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TaskFolder:
        """Look into a folder; its items are read when they are asked for.

        A task is called as its file, or by our name where `scaling/facts/tasks.csv` says what lm-eval means
        by the file's name.

        Raises:
            StagewiseError: no such folder, no task in it, or a broken `tasks.json`.
        """
        path = Path(path)
        if not path.is_dir():
            raise StagewiseError(f"{path}: no such folder; give one that holds a <task>.jsonl per task")
        files = sorted(path.glob("*.jsonl"))
        if not files:
            raise StagewiseError(
                f"{path}: no *.jsonl file in it; give a folder that holds a <task>.jsonl per task"
            )
        entries = _entries(path / "tasks.json")
        names = _our_names(file.stem for file in files)
        return cls(
            path,
            {names[file.stem]: file for file in files},
            {names[file.stem]: entries.get(file.stem, {}) for file in files},
        )

    def task(self, name: str) -> Task:
        """Read one task.

        Raises:
            StagewiseError: broken lines, all of them; UsageError for a name it does not hold.
        """
        if name not in self.files:
            raise UsageError(f"task {name!r}: not in {self.path}; it holds {', '.join(self.files)}")
        return _task(name, self.files[name], read_items(self.files[name]), self.entries[name])

    def all(self) -> dict[str, Task]:
        """Read every task.

        Raises:
            StagewiseError: broken lines of all files.
        """
        problems: list[str] = []
        items = {name: read_items(file, problems) for name, file in self.files.items()}
        if problems:
            raise StagewiseError(told(str(self.path), problems))
        return {name: _task(name, self.files[name], items[name], self.entries[name]) for name in self.files}


def read_task(path: str | os.PathLike[str]) -> Task:
    """One task from its JSONL file, with what a `tasks.json` beside it says.

    Raises:
        StagewiseError: no such file, or every broken line.

    Example:
        >>> read_task("tasks/piqa.jsonl").delimiter        # doctest: +SKIP
        ' '
    """
    path = Path(path)
    if not path.is_file():
        raise StagewiseError(f"{path}: no such file; give the JSONL file of a task")
    if path.suffix != ".jsonl":  # no task of its folder, so that nothing in there stands for it
        return _task(path.stem, path, read_items(path), {})
    folder = TaskFolder.open(path.parent)
    return folder.task(next(name for name, file in folder.files.items() if file.name == path.name))


def _task(name: str, path: Path, items: tuple[Item, ...], entry: Mapping[str, Any]) -> Task:
    prefix = entry.get("fewshot_prefix", "")
    info = task_info(name)
    counts = {len(item.choices) for item in items}
    chance = entry.get("chance", info.chance)
    info = replace(
        info,
        chance=chance if any(counts) else info.chance,
        n_choices=info.n_choices or (counts.pop() if len(counts) == 1 else 0) or None,
        n_items=len(items),
        capability=info.capability or entry.get("family") or items[0].family or None,
        note=info.note or entry.get("note", ""),
    )
    stated = {
        key: float(value)
        for key, value in entry.items()
        if key.startswith(("base_", "ngram")) and isinstance(value, int | float)
    }
    shots = entry.get("fewshot_shots", len([part for part in prefix.split("\n\n") if part.strip()]))
    return Task(
        name, items, info, delimiter=entry.get("target_delimiter", " "), prefix=prefix,
        prefix_shots=int(shots), origin=path.name, licence=entry.get("licence", ""), baselines=stated,
        unsafe=entry.get("unsafe", ""),
    )  # fmt: skip


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of `tasks.json` by task; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are both of these
        raise StagewiseError(f"{path}: not JSON ({error}); correct it, or take it away") from error
    valid = (
        f"valid is a list of objects with the text task, texts {', '.join(_TEXTS)} "
        f"and numbers {', '.join(_NUMBERS)} (0 to 1, and a whole one) where known, each task once"
    )
    if not isinstance(entries, list):
        raise StagewiseError(f"{path}: got {type(entries).__name__}, {valid}")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("task"), str):
            raise StagewiseError(f"{path}: entry {number}: got {entry!r:.60}, {valid}")
        wrong = [name for name in _TEXTS if not isinstance(entry.get(name, ""), str)]
        wrong += [name for name, number in _NUMBERS.items() if not number(entry.get(name, 0))]
        if wrong:
            raise StagewiseError(f"{path}: entry {number}: {wrong[0]}: got {entry[wrong[0]]!r:.60}, {valid}")
        if any(entry["task"] == before["task"] for before in entries[: number - 1]):
            raise StagewiseError(
                f"{path}: entry {number}: task {entry['task']!r} stands above already, {valid}"
            )
    return {entry["task"]: entry for entry in entries}


def _our_names(names: Iterable[str]) -> dict[str, str]:
    """What each file's task is called here; two files never share a name."""
    ours = {name: name if name in known_tasks() else _meant(name) for name in names}
    meant = list(ours.values())
    return {name: our if name == our or meant.count(our) == 1 else name for name, our in ours.items()}


def _meant(name: str) -> str:
    alias = find_alias(name, *_HARNESSES)
    return name if alias is None else alias.task
