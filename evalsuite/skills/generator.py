"""What a generated task is, and how its items follow from a seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

from evalsuite.items import Item
from scaling.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 2000  # draws in a row without a new question, after which the task is taken to have no more
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it is drawn: `wrong` holds the other choices, none where the answer is free."""

    context: str
    answer: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skill:
    """A generated task: facts, and how one question is drawn.

    Attributes:
        name: `skill_...`. capability: the family it counts for. description: one line.
        draw: a question from a source of chance; it uses nothing else.
        choices: answers to choose from, the same number in every item; 0 where the answer is free.
        delimiter: what stands between context and answer.
        prefix_shots: solved examples before each item. n_items: how many items by default.
    """

    name: str
    capability: str
    description: str
    draw: Callable[[random.Random], Question] = field(repr=False)
    choices: int = 4
    delimiter: Literal[" ", ""] = " "
    prefix_shots: int = 4
    n_items: int = 400

    @property
    def kind(self) -> Literal["mc", "free"]:
        """`mc`: choose between answers. `free`: the likelihood of the one answer is scored."""
        return "mc" if self.choices else "free"

    @property
    def chance(self) -> float:
        """Accuracy of guessing: the mean of 1 / choices; 0 where the answer is free."""
        return 1.0 / self.choices if self.choices else 0.0

    @cached_property
    def examples(self) -> tuple[Question, ...]:
        """The questions of the solved examples: the same for every seed, and no item of any."""
        found: dict[str, Question] = {}
        before = ""
        for question in self._draws("prefix"):
            if len(found) == self.prefix_shots:
                break
            # Two equal answers in a row would teach a small model to repeat itself.
            if question.context not in found and question.answer != before:
                found[question.context] = question
                before = question.answer
        return tuple(found.values())

    @property
    def prefix(self) -> str:
        """The solved examples as text, to be put before each context; empty without shots."""
        return "".join(f"{one.context}{self.delimiter}{one.answer}\n" for one in self.examples)

    def items(self, seed: int = 0, n_items: int | None = None) -> SkillItems:
        """The items of a seed; fewer of them are the first of more.

        Raises:
            UsageError: a seed below 0, a count below 1 or above what the task can yield.
        """
        count = self.n_items if n_items is None else n_items
        if type(count) is not int or count < 1:
            raise UsageError(f"{self.name}: n_items: got {count!r}, valid is a whole number of 1 or more")
        if type(seed) is not int or seed < 0:
            raise UsageError(
                f"{self.name}: seed: got {seed!r}, valid is a whole number of 0 or more; those below 0 are "
                "for training text, which has its own templates"
            )
        seen = {one.context for one in self.examples}
        items: list[Item] = []
        idle = 0
        for number, question in enumerate(self._draws(seed)):
            if len(items) == count:
                break
            if idle == PATIENCE:
                raise UsageError(
                    f"{self.name}: n_items: got {count:,}, but seed {seed} gave {len(items):,} different "
                    f"questions and then {PATIENCE:,} repeats; ask for {len(items):,} or fewer"
                )
            if question.context in seen:
                idle += 1
                continue
            seen.add(question.context)
            idle = 0
            order = source(self.name, f"{seed}/order", number)
            items.append(self._item(question, order, len(items), seed))
        return SkillItems(self, seed, tuple(items))

    def _draws(self, seed: int | str) -> Iterator[Question]:
        number = 0
        while True:
            yield self.draw(source(self.name, seed, number))
            number += 1

    def _item(self, question: Question, rng: random.Random, number: int, seed: int) -> Item:
        choices = [question.answer, *question.wrong] if self.choices else []
        rng.shuffle(choices)
        return Item(
            id=f"{self.name}/{number:04d}", context=question.context, choices=tuple(choices),
            gold=choices.index(question.answer) if choices else -1, answer=question.answer,
            family=self.capability, source=f"generated, seed {seed}",
        )  # fmt: skip


@dataclass(frozen=True)
class SkillItems:
    """The items of a generated task for one seed.

    Attributes:
        skill: the facts: name, capability, kind, delimiter, prefix, chance. seed: of the items.
        items: no two with one context, and none with that of a solved example in the prefix.
    """

    skill: Skill
    seed: int
    items: tuple[Item, ...] = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of all that a model gets to read: delimiter, prefix and items."""
        head = [self.skill.name, self.skill.delimiter, self.skill.prefix]
        lines = [json.dumps(part) for part in (head, *(item.record() for item in self.items))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """One row per item."""
        import pandas as pd

        return pd.DataFrame([item.record() for item in self.items])

    def _repr_html_(self) -> str:
        return self.to_frame().head(10).to_html(index=False)


def source(name: str, seed: int | str, number: int) -> random.Random:
    """The source of chance of one draw: a function of its arguments, with no state between draws.

    Example:
        >>> source("skill_copy", 0, 7).random() == source("skill_copy", 0, 7).random()
        True
    """
    return random.Random(int.from_bytes(hashlib.sha256(f"{name}:{seed}:{number}".encode()).digest(), "big"))


def pick(rng: random.Random, options: Sequence[T]) -> tuple[T, tuple[T, ...]]:
    """One of the options, each as likely as the next, and the others in their order."""
    at = rng.randrange(len(options))
    return options[at], (*options[:at], *options[at + 1 :])


def square(rng: random.Random, low: int, high: int, small: int, large: int) -> list[int]:
    """Four numbers s, s + small, s + large, s + small + large within low..high, of equally many digits.

    Each differs from two others in one step and from the third in both, so that none looks like the one the
    rest were made from; a model that gets one of two digits right still has two left to choose between.
    """
    while True:
        start = rng.randint(low, high - small - large)
        four = [start, start + small, start + large, start + small + large]
        if len({len(str(one)) for one in four}) == 1:
            return four
