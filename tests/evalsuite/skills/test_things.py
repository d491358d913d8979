"""Things and animals: solved by a table of lengths in metres and a list of kinds, written for the test."""

from __future__ import annotations

import re

import pytest

from evalsuite.skills import things
from tests.evalsuite.skills.oracle import check, drawn, unsolved

METRES = {
    "ant": 0.005, "flea": 0.002, "grain of sand": 0.001, "pinhead": 0.002, "gnat": 0.003,
    "coin": 0.022, "bean": 0.015, "grape": 0.02, "bee": 0.014, "button": 0.015, "ring": 0.02,
    "mouse": 0.09, "apple": 0.08, "spoon": 0.15, "sock": 0.22, "egg": 0.06, "cup": 0.1,
    "cat": 0.46, "hen": 0.4, "football": 0.23, "kettle": 0.25, "pumpkin": 0.35, "bucket": 0.3,
    "horse": 2.4, "sofa": 2.0, "cow": 2.3, "piano": 1.5, "bathtub": 1.7, "lion": 1.9,
    "house": 12.0, "whale": 20.0, "barn": 25.0, "church": 40.0, "bus": 12.0, "ferry": 80.0,
    "mountain": 9e3, "city": 2e4, "volcano": 8e3, "island": 1e4, "desert": 1e6, "lake": 5e3,
}  # fmt: skip
KINDS = {
    "bird": "canary crow duck eagle falcon flamingo goose hawk ostrich owl parrot penguin pigeon raven robin "
    "seagull sparrow stork swan turkey",
    "fish": "anchovy carp cod eel goldfish haddock halibut herring mackerel minnow perch pike piranha salmon "
    "sardine shark sturgeon swordfish trout tuna",
    "insect": "ant bee beetle butterfly cockroach cricket dragonfly firefly flea fly gnat grasshopper hornet "
    "ladybird locust mantis mosquito moth termite wasp",
    "mammal": "bat bear camel cat cow dog dolphin elephant giraffe goat horse lion monkey mouse rabbit seal "
    "sheep tiger whale wolf",
}


def bare(thing: str) -> str:
    return re.sub(r"^an? ", "", thing)


def size(context, choices):
    """Metres decide; things compared are at least a factor two apart."""
    small, large = sorted(choices, key=lambda thing: METRES[bare(thing)])
    assert METRES[bare(large)] >= 2 * METRES[bare(small)], context
    return large if "larger" in context else small


def animal(context, choices):
    (kind,) = [kind for kind, names in KINDS.items() if set(context.split()) & set(names.split())]
    return kind


SOLVERS = {"skill_thing_size": size, "skill_animal_class": animal}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(things, SOLVERS)


@pytest.mark.parametrize("name", SOLVERS)
def test_articles_fit_the_word_after_them(name):
    for item in drawn(name).items:
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", item.context), item
