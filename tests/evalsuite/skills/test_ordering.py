"""Alphabet, larger and smaller, sorting: each item solved from its text."""

from __future__ import annotations

import re

import pytest

from evalsuite.skills import ordering
from tests.evalsuite.skills.oracle import between, check, drawn, unsolved


def alphabet(context, choices):
    place, words = between(context, "the", "is").split(" of ")
    return sorted(words.split(", "))[{"first": 0, "second": 1, "third": 2, "last": -1}[place]]


def larger(context, choices):
    numbers = map(int, re.findall(r"\d+", context))
    return str(max(numbers) if "larger" in context else min(numbers))


def sort_numbers(context, choices):
    return " ".join(map(str, sorted(map(int, between(context, "Sort:", "->").split()))))


SOLVERS = {"skill_alphabet": alphabet, "skill_larger": larger, "skill_sort_numbers": sort_numbers}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(ordering, SOLVERS)


@pytest.mark.parametrize("name", ["skill_alphabet", "skill_larger"])
def test_choices_are_of_one_length(name):
    assert all(len({len(choice) for choice in item.choices}) == 1 for item in drawn(name).items)


def test_the_alphabet_is_told_by_the_first_letter():
    assert all(len({choice[0] for choice in item.choices}) == 4 for item in drawn("skill_alphabet").items)
