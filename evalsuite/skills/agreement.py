"""One or several: verbs that agree with their subject, nouns that agree with their determiner."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill
from evalsuite.skills.words import ADJECTIVES, FITTING, NOUNS, OBJECTS, SUBJECTS, VERBS

_PREPOSITIONS = ("near", "behind", "with", "beside", "in front of", "next to")
# Determiners of one thing, and of several.
DETERMINERS = (
    ("one", "this", "another", "every", "each"),
    ("two", "three", "these", "many", "several"),
)
_OPENINGS = ("We saw", "They know", "I remember", "She likes", "He found", "You noticed", "We drew", "I lost")


def _verb(rng: random.Random, number: int) -> tuple[str, tuple[str]]:
    forms = rng.choice(VERBS)
    return forms[number], (forms[1 - number],)


def agreement(rng: random.Random) -> Question:
    """The subject stands right before its verb."""
    number = rng.randrange(2)
    one, other = rng.sample(ADJECTIVES, 2)
    noun = rng.choice(SUBJECTS)[number]
    return Question(f"The {one} {other} {noun}", *_verb(rng, number))


def agreement_attractor(rng: random.Random) -> Question:
    """A second noun, of one or several things by chance, stands between subject and verb."""
    number, between = rng.randrange(2), rng.randrange(2)
    subject = rng.choice(SUBJECTS)[number]
    attractor = rng.choice(OBJECTS)[between]
    context = f"The {rng.choice(ADJECTIVES)} {subject} {rng.choice(_PREPOSITIONS)} the {attractor}"
    return Question(context, *_verb(rng, number))


def noun_number(rng: random.Random) -> Question:
    """The determiner says how many."""
    number = rng.randrange(2)
    forms = rng.choice(NOUNS)
    one, other = rng.sample(FITTING, 2)
    context = f"{rng.choice(_OPENINGS)} {rng.choice(DETERMINERS[number])} {one} {other}"
    return Question(context, forms[number], (forms[1 - number],))


SKILLS = (
    Skill(
        "skill_agreement", "language", "verb form after its subject",
        agreement, choices=2, prefix_shots=0,
    ),
    Skill(
        "skill_agreement_attractor", "language", "verb form with another noun in between",
        agreement_attractor, choices=2, prefix_shots=0,
    ),
    Skill(
        "skill_noun_number", "language", "noun form after a determiner",
        noun_number, choices=2, prefix_shots=0,
    ),
)  # fmt: skip
