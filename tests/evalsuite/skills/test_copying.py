"""Copying, reversing, looking up, going on: each item solved from its text."""

from __future__ import annotations

import pytest

from evalsuite.skills import copying
from tests.evalsuite.skills.oracle import between, check, drawn, unsolved


def recall(context, choices):
    listed, asked = between(context, "Codes:", "is").split(". The code of ")
    return dict(pair.split() for pair in listed.split(", "))[asked]


def induction(context, choices):
    """What followed the last two words when they stood together before."""
    *words, one, other = context.split()
    (at,) = [i for i in range(len(words) - 1) if words[i : i + 2] == [one, other]]
    return words[at + 2]


SOLVERS = {
    "skill_copy": lambda context, choices: between(context, "Copy:", "->"),
    "skill_reverse": lambda context, choices: between(context, "Reverse:", "->")[::-1],
    "skill_recall": recall,
    "skill_induction": induction,
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(copying, SOLVERS)


def test_each_choice_of_a_copy_is_as_near_to_the_others():
    """Oracle: Hamming distance, by hand: each differs at one, one and two places from the rest."""
    for item in drawn("skill_copy").items:
        for one in item.choices:
            far = sorted(sum(a != b for a, b in zip(one, other, strict=True)) for other in item.choices)
            assert far == [0, 1, 1, 2], item


def test_all_choices_of_an_induction_were_said_exactly_once():
    for item in drawn("skill_induction").items:
        assert {item.context.split().count(choice) for choice in item.choices} == {1}, item
