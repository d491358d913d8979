"""How many there are."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick

_LETTERS = "bcdfghjklmnpqrstvwxz"
LENGTH = 10


def count(rng: random.Random) -> Question:
    """One letter among ten; the choices are four counts in a row."""
    start = rng.randint(1, 6)
    number, wrong = pick(rng, range(start, start + 4))
    letter, *others = rng.sample(_LETTERS, 4)
    row = [letter] * number + rng.choices(others, k=LENGTH - number)
    rng.shuffle(row)
    return Question(f"Count {letter} in: {' '.join(row)} ->", str(number), tuple(map(str, wrong)))


SKILLS = (Skill("skill_count", "symbolic", "how often a letter stands among ten", count),)
