"""Agreement: number read from the words themselves, by spelling and a list of exceptions."""

from __future__ import annotations

import re

import pytest

from evalsuite.skills import agreement
from tests.evalsuite.skills.oracle import check, drawn, unsolved

IRREGULAR = {"children", "men", "women", "feet", "teeth", "mice", "geese"}
SIBILANT = {"boss", "bus", "glass", "dress"}  # end in s and are one
SEVERAL = {"two", "three", "these", "many", "several"}
BREAK = re.compile(r" (?:near|behind|with|beside|in front of|next to) ")


def is_several(noun: str) -> bool:
    return noun in IRREGULAR or (noun.endswith("s") and noun not in SIBILANT)


def verb_for(noun: str, choices) -> str:
    (answer,) = [verb for verb in choices if verb.endswith("s") != is_several(noun)]
    return answer


def noun_number(context, choices):
    (answer,) = [noun for noun in choices if is_several(noun) == (context.split()[2] in SEVERAL)]
    return answer


SOLVERS = {
    "skill_agreement": lambda context, choices: verb_for(context.split()[-1], choices),
    "skill_agreement_attractor": lambda context, choices: verb_for(
        BREAK.split(context)[0].split()[-1], choices
    ),
    "skill_noun_number": noun_number,
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(agreement, SOLVERS)


def test_the_nearest_noun_says_nothing_about_the_verb():
    """Oracle: chance, within 4 standard errors."""
    items = [item for seed in (0, 1) for item in drawn("skill_agreement_attractor", seed).items]
    right = sum(verb_for(item.context.split()[-1], item.choices) == item.answer for item in items) / len(
        items
    )
    assert abs(right - 0.5) < 4 * (0.25 / len(items)) ** 0.5
