"""Logic: truth by Python's syntax tree, rank by trying every order of the people."""

from __future__ import annotations

import ast
from itertools import permutations

import pytest

from evalsuite.skills import logic
from tests.evalsuite.skills.oracle import check, drawn, unsolved


def truth(node: ast.expr) -> bool:
    match node:
        case ast.Constant():
            return node.value is True
        case ast.UnaryOp(op=ast.Not()):
            return not truth(node.operand)
        case ast.BoolOp(op=ast.And()):
            return all(truth(one) for one in node.values)
        case ast.BoolOp(op=ast.Or()):
            return any(truth(one) for one in node.values)
    raise AssertionError(ast.dump(node))


def boolean(context, choices):
    return str(truth(ast.parse(context.removesuffix(" is"), mode="eval").body))


def transitive(context, choices):
    """The one order of the four, tallest first, in which every comparison holds."""
    *facts, asked = context.split(". ")
    pairs = []
    for fact in facts:
        one, _, how, _, other = fact.split()
        pairs.append((one, other) if how == "taller" else (other, one))
    holding = [
        order
        for order in permutations(choices)
        if all(order.index(above) < order.index(below) for above, below in pairs)
    ]
    (order,) = holding
    rank = asked.removeprefix("The ").removesuffix(" is")
    return order[{"tallest": 0, "second tallest": 1, "second shortest": 2, "shortest": 3}[rank]]


SOLVERS = {"skill_boolean": boolean, "skill_transitive": transitive}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(logic, SOLVERS)


def test_the_outer_operator_says_nothing_about_the_truth():
    """Oracle: half, within 4 standard errors, of the expressions joined by either word."""
    items = [item for seed in (0, 1) for item in drawn("skill_boolean", seed).items]
    for join in (") and (", ") or ("):
        answers = [item.answer == "True" for item in items if join in item.context]
        assert abs(sum(answers) / len(answers) - 0.5) < 4 * (0.25 / len(answers)) ** 0.5
