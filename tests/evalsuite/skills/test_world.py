"""The toy world: each item solved by reading its sentences into a table of facts."""

from __future__ import annotations

import pytest

from evalsuite.skills import world
from tests.evalsuite.skills.oracle import check, drawn, unsolved


def sentences(context: str) -> tuple[list[list[str]], list[str]]:
    """The facts, and the sentence to finish, each as its words."""
    *facts, last = context.split(". ")
    return [fact.split() for fact in facts], last.split()


def one_hop(context, choices):
    facts, asked = sentences(context)
    return {fact[0]: fact[-1] for fact in facts}[asked[3]]


def two_hops(context, choices):
    facts, asked = sentences(context)
    home = {fact[0]: fact[-1] for fact in facts if fact[1] == "is"}
    owner = {fact[-1]: fact[0] for fact in facts if fact[1] == "has"}
    return home[owner[asked[1]]]


def moves(context, choices):
    facts, asked = sentences(context)
    return {fact[0]: fact[-1] for fact in facts}[asked[1]]  # a later move replaces an earlier one


SOLVERS = {"skill_world_one_hop": one_hop, "skill_world_two_hops": two_hops, "skill_world_moves": moves}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(world, SOLVERS)


def test_moves_ask_for_those_who_moved_once_and_more_often():
    def moved(item):
        facts, asked = sentences(item.context)
        return sum(fact[0] == asked[1] for fact in facts)

    assert {moved(item) for item in drawn("skill_world_moves").items} == {1, 2, 3, 4}
