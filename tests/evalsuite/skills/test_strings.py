"""Letters and words: each item solved by the string methods of Python, plurals by the rules of spelling."""

from __future__ import annotations

import pytest

from evalsuite.skills import strings
from tests.evalsuite.skills.oracle import between, check, drawn, unsolved

IRREGULAR = {
    "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth", "mouse": "mice",
    "goose": "geese", "thief": "thieves", "wolf": "wolves", "knife": "knives", "leaf": "leaves",
    "shelf": "shelves", "loaf": "loaves", "potato": "potatoes", "tomato": "tomatoes", "hero": "heroes",
}  # fmt: skip


def letter(context, choices):
    place, word = between(context, "The", "is").split(" letter of ")
    return word[{"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}[place]]


def plural(context, choices):
    noun = between(context, "one", ",")
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


SOLVERS = {
    "skill_capitals": lambda context, choices: between(context, "letters,", " is").upper(),
    "skill_first_letter": letter,
    "skill_last_letter": letter,
    "skill_nth_letter": letter,
    "skill_plural": plural,
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(strings, SOLVERS)


@pytest.mark.parametrize("name", ["skill_first_letter", "skill_last_letter", "skill_nth_letter"])
def test_every_choice_is_a_letter_of_the_word(name):
    for item in drawn(name).items:
        assert set(item.choices) <= set(between(item.context, "letter of", "is")), item
