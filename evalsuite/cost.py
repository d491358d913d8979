"""What it costs to score a task: the tokens one model has to read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from scaling.errors import StagewiseError, UsageError
from scaling.item_sizes import ItemSize, item_size, typical_items
from scaling.metrics import metric_info
from scaling.series import Key
from scaling.tasks import TaskInfo, find_alias, known_tasks

Basis = Literal["measured", "facts", "assumed"]

# English text in BPE vocabularies of 32k to 100k, rounded: GPT-NeoX's has 3.81 bytes a token on the Pile, a
# quarter of which is code and formulas (`scaling/facts/models.csv`: Black et al. 2022, arXiv:2204.06745).
# Costs are compared with each other, where most of an error in this figure cancels.
BYTES_PER_TOKEN = 4.0
# Whose names a file of items may bear; what one publication calls a task says nothing of the items in a file.
_HARNESSES = ("lm-eval-0.4", "lm-eval-0.3")
_SHOWN = 20  # problems printed in a message


@dataclass(frozen=True)
class Cost:
    """Tokens that one model reads to be scored on a task.

    Attributes:
        per_item: tokens of one item, solved examples included.
        items: how many items.
        basis: `measured` where sizes come from the items themselves, `facts` where they come from
            `scaling/facts/item_sizes.csv`, `assumed` where they, or the number of items, come from other
            tasks. Bytes are what is measured; tokens are always bytes / `BYTES_PER_TOKEN`.

    Example:
        >>> Cost(per_item=250.0, items=1000, basis="facts").words
        '250,000 tokens per model: 1,000 items of 250 (facts)'
    """

    per_item: float
    items: int
    basis: Basis

    @property
    def tokens(self) -> int:
        """Tokens per model, over all items."""
        return round(self.per_item * self.items)

    @property
    def words(self) -> str:
        """The cost as one line of a suite file."""
        return (
            f"{self.tokens:,} tokens per model: {self.items:,} items of {self.per_item:,.0f} ({self.basis})"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([{"tokens": self.tokens, **asdict(self)}])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def cost_of(
    key: Key, info: TaskInfo, items: int | None = None, measured: Mapping[str, ItemSize] | None = None
) -> Cost:
    """What it costs to score one (task, metric, shots).

    Every item is a request of its own, and a token is counted once however many answers share it:

        tokens = items * (shots * (context + answer) + context + scored * answer)

    - `scored` is the number of choices: one packed row holds the context once and each choice after it.
      Free answers are one, whether generated or scored.
    - Metrics of the families bits and loss look at the right answer alone, so they score one answer on a
      task with choices too. That makes them the cheaper ones on long choices.
    - A choice is a token at least. Where the facts say that the answer is a letter it is one exactly; the
      options stand in the context.
    - Unknown `shots` count as none, unless the items at hand come with solved examples: then those.

    Args:
        key: task, metric, shots.
        info: facts about the task.
        items: how many items are asked; where None, those at hand, else what the facts say.
        measured: sizes by task, of `measure_items`; they win over the facts.

    Returns:
        The cost and what it rests on.

    Raises:
        UsageError: `items` below 1, or negative shots.

    Example:
        >>> from scaling.tasks import task_info
        >>> cost_of(Key("copa", "acc", 0), task_info("copa")).words
        '2,475 tokens per model: 100 items of 25 (facts)'
    """
    if items is not None and items < 1:
        raise UsageError(f"items of {key}: got {items}, valid is 1 or more, or None where unknown")
    if key.shots is not None and key.shots < 0:
        raise UsageError(f"shots of {key}: got {key.shots}, valid is 0 or more, or None where unknown")
    size = (measured or {}).get(key.task)
    basis: Basis = "measured"
    if size is None:
        size = item_size(info)
        basis = "assumed" if size.basis == "assumed" else "facts"
    count = items or size.items
    if count is None:
        count, basis = typical_items(info.format), "assumed"
    context = size.context / BYTES_PER_TOKEN
    letter = info.format == "choice_letter" and basis != "measured"
    answer = 1.0 if letter else max(1.0, size.answer / BYTES_PER_TOKEN)
    gold_only = metric_info(key.metric).family in ("bits", "loss")
    scored = 1.0 if gold_only else max(1.0, size.choices)
    examples = size.prefix / BYTES_PER_TOKEN if key.shots is None else key.shots * (context + answer)
    return Cost(per_item=examples + context + scored * answer, items=int(count), basis=basis)


def measure_items(folder: str | os.PathLike[str]) -> dict[str, ItemSize]:
    """Measure the items of every task in a folder.

    Args:
        folder: one `<task>.jsonl` per task, each line an object with `id`, `context` (text), `choices`
            (texts, none where the answer is free), `gold` (index of the right choice) and `answer` (the right
            answer as text); other fields are ignored. A `tasks.json` beside them, a list of objects,
            may give `target_delimiter` (between context and answer; a blank where absent) and
            `fewshot_prefix` (solved examples) for each `task`.

    Returns:
        Sizes by task. A task is called as its file, or by our name where `scaling/facts/tasks.csv` says
        what lm-eval means by the file's name.

    Raises:
        StagewiseError: no such folder, no task in it, or broken lines: all of them, by file and line.

    Example:
        >>> measure_items("tasks")["piqa"].context            # doctest: +SKIP
        50.6
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StagewiseError(f"{folder}: no such folder; give one that holds a <task>.jsonl per task")
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise StagewiseError(
            f"{folder}: no *.jsonl file in it; give a folder that holds a <task>.jsonl per task"
        )
    settings = _settings(folder / "tasks.json")
    problems: list[str] = []
    found = {path.stem: _measured(path, settings.get(path.stem, {}), problems) for path in files}
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        told = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        raise StagewiseError(
            f"{folder}: {len(problems):,} problem(s)\n{told}{more}\n"
            "correct the lines, or take the files out of the folder"
        )
    names = _our_names(found)
    return {names[name]: size for name, size in found.items() if size is not None}


def _measured(path: Path, settings: Mapping[str, Any], problems: list[str]) -> ItemSize | None:
    """The mean sizes of one file; None, with its problems told, where it is broken."""
    before = _bytes(settings.get("target_delimiter", " "))
    context = answers = scored = items = 0
    broken = len(problems)
    for number, line in _lines(path, problems):
        item = _item(line, f"{path.name}:{number}", problems)
        if item is not None:
            texts = item["choices"] or [item["answer"]]
            context += _bytes(item["context"])
            answers += sum(before + _bytes(text) for text in texts)
            scored += len(texts)
            items += 1
    if len(problems) > broken:
        return None
    if not items:
        problems.append(f"{path.name}: empty file; a task has at least one item")
        return None
    return ItemSize(
        context=context / items,
        answer=answers / scored,
        choices=scored / items,
        items=items,
        basis="measured",
        reference=f"{path.name}, {items} items",
        prefix=float(_bytes(settings.get("fewshot_prefix", ""))),
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


def _item(line: str, where: str, problems: list[str]) -> dict[str, Any] | None:
    """The item of a line; None, with its problem told, where it is none."""
    try:
        item = json.loads(line)
    except ValueError as error:
        problems.append(f"{where}: not JSON ({error}); valid is one object per line")
        return None
    problem = _problem(item)
    if problem:
        problems.append(f"{where}: {problem}")
        return None
    return item


def _problem(item: Any) -> str:
    """What is wrong with an item, in words; empty when nothing is."""
    if not isinstance(item, dict):
        return f"got {type(item).__name__}, valid is an object with id, context, choices, gold and answer"
    missing = [name for name in ("id", "context", "choices", "gold", "answer") if name not in item]
    if missing:
        return f"missing field(s) {', '.join(missing)}"
    choices, gold = item["choices"], item["gold"]
    for name in ("context", "answer"):
        if not isinstance(item[name], str):
            return f"field {name}: got {item[name]!r:.60}, valid is text"
    if not isinstance(choices, list) or not all(isinstance(text, str) for text in choices):
        return f"field choices: got {choices!r:.60}, valid is a list of texts"
    if choices and (type(gold) is not int or not 0 <= gold < len(choices)):
        return (
            f"field gold: got {gold!r:.60}, valid is 0 to {len(choices) - 1}, the index of the right choice"
        )
    if not any(choices or [item["answer"]]):
        return "no answer to score: choices (or answer, where there are none) hold no text"
    return ""


def _settings(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of `tasks.json` by task; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad JSON and bad UTF-8 are both of these
        raise StagewiseError(f"{path}: not JSON ({error}); correct it, or take it away") from error
    valid = "valid is a list of objects with the texts task, target_delimiter and fewshot_prefix"
    if not isinstance(entries, list):
        raise StagewiseError(f"{path}: got {type(entries).__name__}, {valid}")
    for number, entry in enumerate(entries, 1):
        texts = ("task", "target_delimiter", "fewshot_prefix")
        if not isinstance(entry, dict) or not isinstance(entry.get("task"), str):
            raise StagewiseError(f"{path}: entry {number}: got {entry!r:.60}, {valid}")
        wrong = [name for name in texts if not isinstance(entry.get(name, ""), str)]
        if wrong:
            raise StagewiseError(f"{path}: entry {number}: {wrong[0]}: got {entry[wrong[0]]!r:.60}, {valid}")
    return {entry["task"]: entry for entry in entries}


def _our_names(names: Iterable[str]) -> dict[str, str]:
    """What each file's task is called here; two files never share a name."""
    ours = {name: name if name in known_tasks() else _meant(name) for name in names}
    meant = list(ours.values())
    return {name: our if name == our or meant.count(our) == 1 else name for name, our in ours.items()}


def _meant(name: str) -> str:
    alias = find_alias(name, *_HARNESSES)
    return name if alias is None else alias.task


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))
