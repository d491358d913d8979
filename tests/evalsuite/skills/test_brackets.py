"""Brackets: each item solved by taking closed pairs out of its text until none is left."""

from __future__ import annotations

import re

import pytest

from evalsuite.skills import brackets
from tests.evalsuite.skills.oracle import check, drawn, unsolved

CLOSERS = str.maketrans("([{<", ")]}>")


def open_ones(context: str) -> str:
    """The brackets that are still open; a pair side by side is closed."""
    text = context.split(": ")[1].removesuffix("->").replace(" ", "")
    while (shorter := re.sub(r"\(\)|\[\]|\{\}|<>", "", text)) != text:
        text = shorter
    assert set(text) <= set("([{<"), context
    return text


SOLVERS = {
    "skill_bracket_next": lambda context, choices: open_ones(context)[-1].translate(CLOSERS),
    "skill_brackets": lambda context, choices: " ".join(open_ones(context)[::-1].translate(CLOSERS)),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(brackets, SOLVERS)


def test_depth_is_two_to_four():
    for name in SOLVERS:
        assert {len(open_ones(item.context)) for item in drawn(name).items} == {2, 3, 4}


def test_the_bracket_opened_last_says_nothing_about_the_next():
    """Oracle: chance, within 4 standard errors."""
    items = [item for seed in (0, 1) for item in drawn("skill_bracket_next", seed).items]
    guesses = [re.findall(r"[(\[{<]", item.context)[-1].translate(CLOSERS) for item in items]
    right = sum(guess == item.answer for guess, item in zip(guesses, items, strict=True)) / len(items)
    assert abs(right - 0.25) < 4 * (0.25 * 0.75 / len(items)) ** 0.5
