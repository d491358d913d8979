"""What it costs to score a task: the tokens one model has to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

from evalsuite.tasks import Task, TaskFolder
from scaling.errors import UsageError
from scaling.item_sizes import ItemSize, item_size, typical_items
from scaling.metrics import metric_info
from scaling.series import Key
from scaling.tasks import TaskInfo

Basis = Literal["measured", "facts", "assumed"]

# English text in BPE vocabularies of 32k to 100k, rounded: GPT-NeoX's has 3.81 bytes a token on the Pile, a
# quarter of which is code and formulas (`scaling/facts/models.csv`: Black et al. 2022, arXiv:2204.06745).
# Costs are compared with each other, where most of an error in this figure cancels.
BYTES_PER_TOKEN = 4.0


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
        folder: one `<task>.jsonl` per task, and a `tasks.json`: see `evalsuite.tasks.TaskFolder`.

    Returns:
        Sizes by task.

    Raises:
        StagewiseError: no such folder, no task in it, or broken lines: all of them, by file and line.

    Example:
        >>> measure_items("tasks")["piqa"].context            # doctest: +SKIP
        50.6
    """
    return {name: _measured(task) for name, task in TaskFolder.open(folder).all().items()}


def _measured(task: Task) -> ItemSize:
    """The mean sizes of a task."""
    scored = [text for item in task.items for text in item.choices or (item.answer,)]
    count = len(task.items)
    return ItemSize(
        context=sum(_bytes(item.context) for item in task.items) / count,
        answer=_bytes(task.delimiter) + sum(map(_bytes, scored)) / len(scored),
        choices=len(scored) / count,
        items=count,
        basis="measured",
        reference=f"{task.origin}, {count} items",
        prefix=float(_bytes(task.prefix)),
    )


def _bytes(text: str) -> int:
    return len(text.encode())
