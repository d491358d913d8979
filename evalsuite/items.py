"""Items of a benchmark: one question each, read from a JSONL file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import StagewiseError

SHOWN = 20  # problems printed in a message
_NEEDED = ("id", "context", "choices", "gold", "answer")
_TEXTS = ("family", "source", "group", "continuation")


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id: unique within its task.
        context: what the model reads first; may be empty.
        choices: the answers to choose from; empty where the answer is free.
        gold: index of the right choice; -1 where the answer is free.
        answer: the right answer as text.
        family: the capability it asks for. source: where it comes from. group: a part of the task, or "".
        option_contexts: one context per choice, where the choices differ in what comes before a common
            `continuation` (partial scoring, as Winogrande is scored); empty else.

    Example:
        >>> Item("sum/1", "1 + 1 =", ("2", "3"), 0, "2").answer
        '2'
    """

    id: str
    context: str
    choices: tuple[str, ...]
    gold: int
    answer: str
    family: str = ""
    source: str = ""
    group: str = ""
    option_contexts: tuple[str, ...] = ()
    continuation: str = ""

    def __post_init__(self) -> None:
        if problem := _problem(self.record()):
            raise StagewiseError(f"item {self.id!r}: {problem}")

    def record(self) -> dict[str, Any]:
        """The item as the object of a JSONL line, without the fields that are empty and may be."""
        full = {
            "id": self.id, "context": self.context, "choices": list(self.choices), "gold": self.gold,
            "answer": self.answer, "family": self.family, "source": self.source, "group": self.group,
            "option_contexts": list(self.option_contexts), "continuation": self.continuation,
        }  # fmt: skip
        return {name: value for name, value in full.items() if value or name in _NEEDED}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Item:
        """An item from the object of a JSONL line; fields it does not know are left out."""
        return cls(
            id=record["id"], context=record["context"], choices=tuple(record["choices"]),
            gold=record["gold"], answer=record["answer"],
            option_contexts=tuple(record.get("option_contexts") or ()),
            **{name: record[name] for name in _TEXTS if record.get(name)},
        )  # fmt: skip


def read_items(path: str | os.PathLike[str], problems: list[str] | None = None) -> tuple[Item, ...]:
    """The items of a JSONL file: one object per line, with the fields of `Item`.

    Args:
        path: the file.
        problems: where given, what is wrong is added here, by file and line, instead of raised.

    Returns:
        The items in the order of the file; none of a file with problems.

    Raises:
        StagewiseError: every problem, by file and line.

    Example:
        >>> read_items("piqa.jsonl")[0].gold        # doctest: +SKIP
        1
    """
    path = Path(path)
    found: list[str] = []
    items: list[Item] = []
    lines: dict[str, int] = {}
    for number, line in _lines(path, found):
        record = _record(line, f"{path.name}:{number}", found)
        if record is None:
            continue
        name = record["id"]
        if name in lines:
            found.append(f"{path.name}:{number}: id {name!r} stands in line {lines[name]} already")
        lines.setdefault(name, number)
        items.append(Item.of(record))
    if not items and not found:
        found.append(f"{path.name}: empty file; a task has at least one item")
    if not found:
        return tuple(items)
    if problems is None:
        raise StagewiseError(told(str(path), found))
    problems += found
    return ()


def told(where: str, problems: list[str]) -> str:
    """A message of many problems."""
    more = f"\n  ... and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    lines = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
    return (
        f"{where}: {len(problems):,} problem(s)\n{lines}{more}\n"
        "correct the lines, or take the files out of the folder"
    )


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, str]]:
    try:
        # Not splitlines: JSON strings may hold the other line ends of Unicode.
        with open(path, encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: not UTF-8 text ({error.reason} at byte {error.start})")
    except OSError as error:
        problems.append(f"{path.name}: cannot be read ({error.strerror})")


def _record(line: str, where: str, problems: list[str]) -> dict[str, Any] | None:
    """The object of a line; None, with its problem told, where it is no item."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        problems.append(f"{where}: not JSON ({error}); valid is one object per line")
        return None
    problem = _problem(record)
    if problem:
        name = record.get("id") if isinstance(record, dict) else None
        problems.append(f"{where}{f' (item {name!r:.60})' if name else ''}: {problem}")
        return None
    return record


def _problem(record: Any) -> str:
    """What is wrong with an item, in words; empty when nothing is."""
    if not isinstance(record, dict):
        return f"got {type(record).__name__}, valid is an object with {', '.join(_NEEDED)}"
    missing = [name for name in _NEEDED if name not in record]
    if missing:
        return f"missing field(s) {', '.join(missing)}"
    choices, gold = record["choices"], record["gold"]
    for name in ("id", "context", "answer"):
        if not isinstance(record[name], str):
            return f"field {name}: got {record[name]!r:.60}, valid is text"
    for name in _TEXTS:
        if not isinstance(record.get(name) or "", str):
            return f"field {name}: got {record[name]!r:.60}, valid is text"
    if not record["id"] or "\0" in record["id"]:
        return f"field id: got {record['id']!r:.60}, valid is a text that names the item, without NUL"
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        return f"field choices: got {choices!r:.60}, valid is a list of texts"
    if choices and (type(gold) is not int or not 0 <= gold < len(choices)):
        return (
            f"field gold: got {gold!r:.60}, valid is 0 to {len(choices) - 1}, the index of the right choice"
        )
    if choices and record["answer"] != choices[gold]:
        return f"field answer: got {record['answer']!r:.60}, valid is the right choice, {choices[gold]!r:.60}"
    if len(choices) == 1:
        return "field choices: got 1, valid is two or more, or none where the answer is free"
    if wrong := _parts_problem(record):
        return wrong
    texts = [record["continuation"]] if record.get("option_contexts") else choices or [record["answer"]]
    for number, text in enumerate(texts):
        if not text.strip(" "):
            what = f"choice {number}" if choices else "answer"
            return f"no answer to score: {what} is {text!r}; valid is text of one byte or more"
    if not choices and gold != -1:
        return f"field gold: got {gold!r:.60}, valid is -1 where the answer is free (no choices)"
    return _encoding_problem(record)


def _parts_problem(record: dict[str, Any]) -> str:
    """What is wrong with the contexts of partial scoring."""
    contexts = record.get("option_contexts")
    if not contexts:
        return ""
    if not isinstance(contexts, list) or not all(isinstance(text, str) for text in contexts):
        return f"field option_contexts: got {contexts!r:.60}, valid is a list of texts"
    if len(contexts) != len(record["choices"]):
        return f"field option_contexts: got {len(contexts)}, valid is one for each of the choices"
    if not isinstance(record.get("continuation"), str):
        return f"field continuation: got {record.get('continuation')!r:.60}, valid is text"
    return ""


def _encoding_problem(record: dict[str, Any]) -> str:
    texts = [record["id"], record["context"], record["answer"], *record["choices"]]
    texts += [*(record.get("option_contexts") or ()), *(record.get(name) or "" for name in _TEXTS)]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        return f"half a surrogate pair at {error.object[error.start]!r}, which is no text; valid is UTF-8"
    return ""
