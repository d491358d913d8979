"""Which comes first, which is larger, and putting in order."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill
from evalsuite.skills.words import NOUNS

PLACES = ("first", "second", "third", "last")


def alphabet(rng: random.Random) -> Question:
    """Four words of one length with different first letters; any of the four places is asked for."""
    length = rng.choice((4, 5, 6))
    fitting = [one for one, _ in NOUNS if len(one) == length]
    by_letter = {word[0]: word for word in rng.sample(fitting, len(fitting))}
    words = rng.sample(list(by_letter.values()), 4)
    place = rng.randrange(4)
    answer = sorted(words)[place]
    context = f"In alphabetical order, the {PLACES[place]} of {', '.join(words)} is"
    return Question(context, answer, tuple(word for word in words if word != answer))


def larger(rng: random.Random) -> Question:
    """Two numbers of equally many digits; either the larger or the smaller is asked for."""
    digits = rng.choice((2, 3))
    one, other = rng.sample(range(10 ** (digits - 1), 10**digits), 2)
    small, large = sorted((one, other))
    asked, answer, wrong = rng.choice((("larger", large, small), ("smaller", small, large)))
    return Question(f"Which is {asked}, {one} or {other}? Answer:", str(answer), (str(wrong),))


def sort_numbers(rng: random.Random) -> Question:
    """Free, since a sorted list among choices is known without the context."""
    numbers = rng.sample(range(1, 100), 4)
    return Question(f"Sort: {' '.join(map(str, numbers))} ->", " ".join(map(str, sorted(numbers))))


SKILLS = (
    Skill("skill_alphabet", "symbolic", "which of four words stands at a place of the alphabet", alphabet),
    Skill("skill_larger", "math", "the larger or the smaller of two numbers", larger, choices=2),
    Skill("skill_sort_numbers", "symbolic", "sort four numbers", sort_numbers, choices=0),
)
