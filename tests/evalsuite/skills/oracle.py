"""Solvers against the items: what the tests of all families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType

from evalsuite.skills import SkillItems, skill

Solver = Callable[[str, tuple[str, ...]], str]
FAR = 2**61 - 1  # a seed that nobody looked at


@cache
def drawn(name: str, seed: int = 0) -> SkillItems:
    """The items of a task, drawn once per test run."""
    return skill(name, seed)


def check(name: str, solver: Solver) -> None:
    """The solver, which sees context and choices alone, finds the answer of every item and every example."""
    for seed in (0, 1, FAR):
        for item in drawn(name, seed).items:
            assert solver(item.context, item.choices) == item.answer, item
    for one in drawn(name).skill.examples:
        assert solver(one.context, tuple(sorted((one.answer, *one.wrong)))) == one.answer, one


def unsolved(family: ModuleType, solvers: Mapping[str, Solver]) -> set[str]:
    """Tasks of a family without a solver, and solvers without a task."""
    return {one.name for one in family.SKILLS} ^ set(solvers)


def between(text: str, before: str, after: str) -> str:
    """The part of a text between two others."""
    return text.split(before, 1)[1].rsplit(after, 1)[0].strip()
