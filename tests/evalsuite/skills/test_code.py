"""Code: each item solved by walking through Python's own syntax tree, and its tokens; nothing is executed."""

from __future__ import annotations

import ast

import pytest

from evalsuite.skills import code
from tests.evalsuite.skills.oracle import check, unsolved


def value(node: ast.expr, known: dict):
    """What an expression is worth: constants, lists, names, subscripts, sums, differences, `len`."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return known[node.id]
        case ast.List():
            return [value(one, known) for one in node.elts]
        case ast.UnaryOp(op=ast.USub()):
            return -value(node.operand, known)
        case ast.Subscript():
            return value(node.value, known)[value(node.slice, known)]
        case ast.BinOp(op=ast.Add()):
            return value(node.left, known) + value(node.right, known)
        case ast.BinOp(op=ast.Sub()):
            return value(node.left, known) - value(node.right, known)
        case ast.Call(func=ast.Name(id="len")):
            return len(value(node.args[0], known))
    raise AssertionError(ast.dump(node))


def session(context, choices):
    """The last line of a session, after the assignments before it."""
    known: dict = {}
    *body, last = ast.parse(context.replace(">>> ", "")).body
    for line in body:
        assert isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
        known[line.targets[0].id] = value(line.value, known)
    assert isinstance(last, ast.Expr)
    return str(value(last.value, known))


def close(context, choices):
    """The one choice with which the text is Python."""

    def parses(text: str) -> bool:
        try:
            ast.parse(text)
        except SyntaxError:
            return False
        return True

    (answer,) = [choice for choice in choices if parses(context + choice)]
    return answer


SOLVERS = {
    "skill_code_assign": session,
    "skill_code_close": close,
    "skill_code_index": session,
    "skill_code_length": session,
    "skill_code_update": session,
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(code, SOLVERS)
