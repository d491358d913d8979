"""True or false, and what follows from comparisons."""

from __future__ import annotations

import random
from itertools import pairwise

from evalsuite.skills.generator import Question, Skill, pick
from evalsuite.skills.words import PEOPLE

RANKS = ("tallest", "second tallest", "second shortest", "shortest")


def boolean(rng: random.Random) -> Question:
    """Two brackets of two values each; true as often as false, whatever joins the brackets."""
    wanted, join, negated = rng.random() < 0.5, rng.choice(("and", "or")), rng.random() < 0.5
    while True:
        one, other = _bracket(rng), _bracket(rng)
        left = one[1] != negated
        value = (left and other[1]) if join == "and" else (left or other[1])
        if value == wanted:
            break
    context = f"{'not ' if negated else ''}{one[0]} {join} {other[0]} is"
    return Question(context, str(value), (str(not value),))


def _bracket(rng: random.Random) -> tuple[str, bool]:
    left, right, join = rng.random() < 0.5, rng.random() < 0.5, rng.choice(("and", "or"))
    negated = rng.random() < 0.5
    value = (left and right != negated) if join == "and" else (left or right != negated)
    return f"({left} {join} {'not ' if negated else ''}{right})", value


def transitive(rng: random.Random) -> Question:
    """Four people in a row by three comparisons in any order; any of the four places is asked for."""
    people = rng.sample(PEOPLE, 4)
    facts = []
    for above, below in pairwise(people):
        taller = rng.random() < 0.5
        facts.append(f"{above} is taller than {below}." if taller else f"{below} is shorter than {above}.")
    rng.shuffle(facts)
    answer, wrong = pick(rng, people)
    return Question(f"{' '.join(facts)} The {RANKS[people.index(answer)]} is", answer, wrong)


SKILLS = (
    Skill("skill_boolean", "symbolic", "the value of and, or, not", boolean, choices=2),
    Skill("skill_transitive", "symbolic", "who is tallest, from comparisons of two", transitive),
)
