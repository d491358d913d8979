"""Saying again what was said: copying, reversing, looking up, going on with what is repeated."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick
from evalsuite.skills.words import made_up_words

_LETTERS = "bcdfghjklmnpqrstvwxz"


def copy(rng: random.Random) -> Question:
    """Four strings that differ at two places; the context holds one of them."""
    count = rng.randint(4, 6)
    *letters, one, other = rng.sample(_LETTERS, count + 2)
    first, second = rng.sample(range(count), 2)
    four = []
    for change_first in (False, True):
        for change_second in (False, True):
            changed = list(letters)
            if change_first:
                changed[first] = one
            if change_second:
                changed[second] = other
            four.append(" ".join(changed))
    answer, wrong = pick(rng, four)
    return Question(f"Copy: {answer} ->", answer, wrong)


def reverse(rng: random.Random) -> Question:
    """The other choices have one or both of two pairs of neighbours swapped."""
    count = rng.randint(4, 6)
    letters = rng.sample(_LETTERS, count)
    first = rng.randint(0, count - 4)
    second = rng.randint(first + 2, count - 2)
    four = []
    for swaps in ((), (first,), (second,), (first, second)):
        swapped = list(letters)
        for at in swaps:
            swapped[at : at + 2] = swapped[at + 1], swapped[at]
        four.append(swapped)
    answer, wrong = pick(rng, four)
    return Question(f"Reverse: {' '.join(answer[::-1])} ->", " ".join(answer), tuple(map(" ".join, wrong)))


def recall(rng: random.Random) -> Question:
    """Every choice is the code of some key in the context."""
    keys = made_up_words(rng, 4, 3)
    codes = [str(code) for code in rng.sample(range(10, 100), 4)]
    answer, wrong = pick(rng, codes)
    listed = ", ".join(f"{key} {code}" for key, code in zip(keys, codes, strict=True))
    return Question(f"Codes: {listed}. The code of {keys[codes.index(answer)]} is", answer, wrong)


def induction(rng: random.Random) -> Question:
    """Eight words, three of which come again. Every choice was said once, none of them twice.

    What comes next is as often early as late among the words that were said once.
    """
    words = made_up_words(rng, 8, 3)
    start = rng.randint(0, 4)
    again = words[start : start + 3]
    answer = words[start + 3]
    others = [word for word in words if word != answer and word not in again]
    return Question(" ".join(words + again), answer, tuple(rng.sample(others, 3)))


SKILLS = (
    Skill("skill_copy", "symbolic", "copy four to six letters", copy),
    Skill("skill_induction", "symbolic", "go on with words that were said before", induction, prefix_shots=0),
    Skill("skill_recall", "symbolic", "look up the value of a key that was just given", recall),
    Skill("skill_reverse", "symbolic", "say four to six letters backwards", reverse),
)
