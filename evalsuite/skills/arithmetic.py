"""Sums, differences and products by the number of their digits, and short stories about them.

The four choices are drawn first (`evalsuite.skills.generator.square`), the operands last, given the result.
"""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick, square
from evalsuite.skills.words import PEOPLE

_SUMS = ("{a} + {b} =", "{a} plus {b} is", "The sum of {a} and {b} is", "Add {a} and {b}:")
_GOODS = ("apples", "pens", "coins", "cards", "books", "stones", "shells", "beads")


def _numbers(rng: random.Random, four: list[int]) -> tuple[int, str, tuple[str, ...]]:
    answer, wrong = pick(rng, four)
    return answer, str(answer), tuple(map(str, wrong))


def add_1_digit(rng: random.Random) -> Question:
    """Four wordings, since there are only a hundred sums."""
    total, answer, wrong = _numbers(rng, square(rng, 0, 18, 1, 2))
    a = rng.randint(max(0, total - 9), min(9, total))
    return Question(rng.choice(_SUMS).format(a=a, b=total - a), answer, wrong)


def add_2_digits(rng: random.Random) -> Question:
    """Sums of 20 to 198."""
    total, answer, wrong = _numbers(rng, square(rng, 20, 198, 1, 10))
    a = rng.randint(max(10, total - 99), min(99, total - 10))
    return Question(f"{a} + {total - a} =", answer, wrong)


def add_3_digits(rng: random.Random) -> Question:
    """Sums of 200 to 1998."""
    small, large = rng.choice(((1, 10), (1, 100), (10, 100)))
    total, answer, wrong = _numbers(rng, square(rng, 200, 1998, small, large))
    a = rng.randint(max(100, total - 999), min(999, total - 100))
    return Question(f"{a} + {total - a} =", answer, wrong)


def subtract(rng: random.Random) -> Question:
    """Two numbers of two digits, and so has the difference."""
    rest, answer, wrong = _numbers(rng, square(rng, 10, 89, 1, 10))
    b = rng.randint(10, 99 - rest)
    return Question(f"{rest + b} - {b} =", answer, wrong)


def multiply(rng: random.Random) -> Question:
    """Two digits by one. Every choice is a multiple of the second factor, of equally many digits."""
    b = rng.randint(3, 9)
    while True:
        factors = square(rng, 10, 99, 1, 10)
        if len({len(str(a * b)) for a in factors}) == 1:
            break
    a, wrong = pick(rng, factors)
    return Question(f"{a} * {b} =", str(a * b), tuple(str(other * b) for other in wrong))


def word_problem(rng: random.Random) -> Question:
    """First more, then fewer."""
    small, large = rng.choice(((1, 2), (1, 5), (1, 10), (2, 10)))
    left, answer, wrong = _numbers(rng, square(rng, 10, 60, small, large))
    gets, gives = rng.sample(range(2, 10), 2)
    who, goods = rng.choice(PEOPLE), rng.choice(_GOODS)
    story = f"{who} has {left - gets + gives} {goods}, gets {gets} more and gives {gives} away."
    return Question(f"{story} Number of {goods} left:", answer, wrong)


SKILLS = (
    Skill("skill_add_1_digit", "math", "sums of two digits", add_1_digit, n_items=250),
    Skill("skill_add_2_digits", "math", "sums of numbers of two digits", add_2_digits),
    Skill("skill_add_3_digits", "math", "sums of numbers of three digits", add_3_digits),
    Skill("skill_multiply", "math", "products of two digits by one", multiply, n_items=300),
    Skill("skill_subtract", "math", "differences of numbers of two digits", subtract),
    Skill("skill_word_problem", "math", "a story with a sum and a difference", word_problem),
)
