"""Counting: each item solved by counting."""

from __future__ import annotations

import pytest

from evalsuite.skills import counting
from tests.evalsuite.skills.oracle import between, check, drawn, unsolved


def count(context, choices):
    letter, row = between(context, "Count", "->").split(" in: ")
    return str(row.count(letter))


SOLVERS = {"skill_count": count}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(counting, SOLVERS)


def test_one_to_nine_are_counted():
    assert {item.answer for item in drawn("skill_count").items} == set("123456789")
