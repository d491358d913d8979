"""What is practised is not what is asked: text of skills against every item of the generated tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

import pytest

from data.embedded import embedded
from evalsuite.registry import Registry
from evalsuite.skills import skill, skill_names
from evalsuite.tasks import Task
from train.overlap import Overlap

Lines = tuple[str, ...]
N = 600  # documents of some 500 bytes


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [one.text for one in islice(embedded("skills")["skills"](), N)]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [Registry().task(name) for name in skill_names()]


@pytest.fixture(scope="module")
def questions(tasks: list[Task]) -> dict[Lines, str]:
    """The lines of each question -> its task: all items, and the solved examples before them."""
    found = {}
    for task in tasks:
        examples = skill(task.name, n_items=1).skill.examples
        for one in (*task.items, *examples):
            found[tuple(one.context.strip().split("\n"))] = task.name
    return found


def held(text: str, questions: dict[Lines, str]) -> set[str]:
    """Tasks of the questions that stand in a text, line by line."""
    lines = text.split("\n")
    sizes = sorted({len(rows) for rows in questions})
    rows = (tuple(lines[at : at + n]) for n in sizes for at in range(len(lines) - n + 1))
    return {questions[row] for row in rows if row in questions}


def masked(lines: Iterable[str]) -> Lines:
    """Lines without what a template is filled with: quoted words and numbers."""
    return tuple(re.sub(r"'\w+'|\d+", "_", line) for line in lines)


def test_no_13_words_are_shared(texts: list[str], tasks: list[Task]):
    """By what refuses documents in training. A question of 8 to 12 words counts whole."""
    overlap = Overlap.of(tasks)
    assert len(overlap.tasks) == len(skill_names())
    assert {hit for text in texts if (hit := overlap.hit(text))} == set()


def test_no_question_stands_in_the_text(texts: list[str], questions: dict[Lines, str]):
    """Short questions too, which 13 words cannot find."""
    assert len(questions) > 10_000
    assert {name for text in texts for name in held(text, questions)} == set()


def test_no_template_of_a_question_stands_in_the_text(texts: list[str], questions: dict[Lines, str]):
    """Whatever word or number it is filled with, and so for items of every seed."""
    templates = {masked(rows): name for rows, name in questions.items()}
    assert {name for text in texts for name in held("\n".join(masked(text.split("\n"))), templates)} == set()


def test_what_stands_there_is_found(tasks: list[Task], questions: dict[Lines, str]):
    """A question of each task amid other lines, and the template of one with another word in it."""
    for task in tasks:
        text = "\n".join(["2 and 2 make 4.", task.items[7].context.strip(), "6"])
        assert held(text, questions) == {task.name}
    templates = {masked(rows): name for rows, name in questions.items()}
    assert held("\n".join(masked([">>> len('unheard')", "7"])), templates) == {"skill_code_length"}
