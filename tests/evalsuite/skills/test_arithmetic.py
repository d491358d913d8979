"""Arithmetic: each item solved from the numbers in its text."""

from __future__ import annotations

import re

import pytest

from evalsuite.skills import arithmetic
from tests.evalsuite.skills.oracle import check, drawn, unsolved


def numbers(context: str) -> list[int]:
    return [int(one) for one in re.findall(r"\d+", context)]


def total(context, choices):
    return str(sum(numbers(context)))


def subtract(context, choices):
    a, b = numbers(context)
    return str(a - b)


def multiply(context, choices):
    a, b = numbers(context)
    return str(sum(b for _ in range(a)))


def word_problem(context, choices):
    has, gets, gives = numbers(context)
    return str(has + gets - gives)


SOLVERS = {
    "skill_add_1_digit": total,
    "skill_add_2_digits": total,
    "skill_add_3_digits": total,
    "skill_subtract": subtract,
    "skill_multiply": multiply,
    "skill_word_problem": word_problem,
}
DIGITS = {
    "skill_add_1_digit": {(1, 1)},
    "skill_add_2_digits": {(2, 2)},
    "skill_add_3_digits": {(3, 3)},
    "skill_subtract": {(2, 2)},
    "skill_multiply": {(2, 1)},
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(arithmetic, SOLVERS)


@pytest.mark.parametrize("name", DIGITS)
def test_operands_have_the_digits_that_the_name_says(name):
    found = {tuple(len(str(one)) for one in numbers(item.context)) for item in drawn(name).items}
    assert found == DIGITS[name]


@pytest.mark.parametrize("name", SOLVERS)
def test_choices_have_equally_many_digits(name):
    for item in drawn(name).items:
        assert len({len(choice) for choice in item.choices}) == 1, item


def test_products_to_choose_from_are_all_multiples_of_the_second_factor():
    for item in drawn("skill_multiply").items:
        factor = numbers(item.context)[1]
        assert all(int(choice) % factor == 0 for choice in item.choices), item
