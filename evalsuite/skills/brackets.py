"""Closing brackets of four kinds, nested."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill

PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_OPEN = tuple(PAIRS)


def _closed(rng: random.Random, depth: int) -> list[str]:
    """A group that is closed already, nested `depth` deep."""
    opened = rng.choices(_OPEN, k=depth)
    return opened + [PAIRS[one] for one in reversed(opened)]


def next_bracket(rng: random.Random) -> Question:
    """Two to four brackets are open. A closed group comes last, so that the last one opened says nothing."""
    opened = rng.choices(_OPEN, k=rng.randint(2, 4))
    text: list[str] = []
    for one in opened[:-1]:
        text.append(one)
        if rng.random() < 0.3:
            text += _closed(rng, 1)
    text += [opened[-1], *_closed(rng, rng.randint(1, 2))]
    answer = PAIRS[opened[-1]]
    wrong = tuple(one for one in PAIRS.values() if one != answer)
    return Question(f"Next bracket: {' '.join(text)} ->", answer, wrong)


def all_brackets(rng: random.Random) -> Question:
    """Two to four brackets are open, with closed groups between them."""
    opened = rng.choices(_OPEN, k=rng.randint(2, 4))
    text: list[str] = []
    for one in opened:
        text.append(one)
        if rng.random() < 0.4:
            text += _closed(rng, rng.randint(1, 2))
    return Question(f"Close: {' '.join(text)} ->", " ".join(PAIRS[one] for one in reversed(opened)))


SKILLS = (
    Skill("skill_bracket_next", "symbolic", "the bracket that closes the innermost open one", next_bracket),
    Skill("skill_brackets", "symbolic", "close all open brackets in order", all_brackets, choices=0),
)
