"""Arithmetic: every equation is worked out again by Python's fractions; answers are found another way."""

from __future__ import annotations

import ast
import operator
import re
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.arithmetic import _places, arithmetic

SIDE = r"\(?\d[\d+*/() -]*"
EQUATION = re.compile(rf"({SIDE})=\s*({SIDE})")
OPERATIONS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def value(text: str) -> Fraction:
    def of(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](of(node.left), of(node.right))
        assert isinstance(node, ast.Constant) and isinstance(node.value, int)
        return Fraction(node.value)

    return of(ast.parse(text.strip(), mode="eval").body)


def equations(text: str) -> list[tuple[str, str]]:
    return [pair for line in text.splitlines() for pair in EQUATION.findall(line)]


def test_the_oracle_can_fail():
    ((left, right),) = equations("So 2 + 2 = 5.")
    assert value(left) != value(right)
    assert value("(3 + 4) * 2 - 1/2") == Fraction(27, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_equation_holds(seed: int):
    """Oracle: both sides by exact fractions."""
    count = 0
    for index in range(150):
        text = arithmetic(seed, index)
        assert text.count("=") == len(equations(text)), text
        for left, right in equations(text):
            assert value(left) == value(right), (left, right)
            count += 1
    assert count > 5_000


def problems(kind: str) -> list[str]:
    found = [one for i in range(300) for one in arithmetic(3, i).strip().split("\n\n") if kind in one]
    assert len(found) > 20
    return found


def numbers(text: str) -> list[int]:
    return [int(one) for one in re.findall(r"\d+", text)]


def test_answers_are_right():
    """Oracle: the question worked out in one step."""
    import math

    for one in problems("greatest common divisor"):
        assert numbers(one)[-1] == math.gcd(*numbers(one.splitlines()[0]))
    for one in problems("Divide"):
        a, b = numbers(one.splitlines()[0])[:2] if "digit by digit" in one else (0, 1)
        if "digit by digit" in one:
            last = one.splitlines()[-1]
            assert numbers(last)[0] == a // b
            assert ("nothing remains" in last) == (a % b == 0)
            assert a % b == 0 or f"the remainder is {a % b}:" in last
    for one in problems("How many"):
        boxes, each, gone = numbers(one.splitlines()[0])
        assert numbers(one)[-1] == boxes * each - gone
    for one in problems("is the change"):
        count, cents, paid = numbers(one.splitlines()[0])
        assert numbers(one)[-1] == paid - count * cents >= 0
    for one in problems("Which is more"):
        a, b, c, d = numbers(one.splitlines()[0])
        word = {-1: "less than", 0: "as much as", 1: "more than"}
        assert word[(Fraction(a, b) > Fraction(c, d)) - (Fraction(a, b) < Fraction(c, d))] in one
    for one in problems("into primes"):
        number = numbers(one.splitlines()[0])[0]
        factors = numbers(one.splitlines()[-1].partition("=")[2]) if "So" in one else [number]
        assert all(factor % k for factor in factors for k in range(2, math.isqrt(factor) + 1))
        assert math.prod(factors) == number
    for one in problems("percent of"):
        share, whole = numbers(one.splitlines()[0])
        assert Fraction(numbers(one)[-1], whole) == Fraction(share, 100)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_pure_function(seed: int, index: int):
    text = arithmetic(seed, index)
    assert text == arithmetic(seed, index)
    assert text.isascii() and text.endswith("\n") and 300 < len(text) < 4_000
    assert text != arithmetic(seed, index + 1) and text != arithmetic(seed + 1, index)


def test_another_process_writes_the_same():
    """Hashes of texts differ between processes; nothing may hang on them."""
    code = "from data.arithmetic import arithmetic; print(arithmetic(5, 9), end='')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == arithmetic(5, 9), done.stderr


@given(st.integers(1, 10**9))
def test_places_sum_to_the_number(number: int):
    parts = _places(number)
    assert sum(parts) == number and parts == sorted(parts, reverse=True)
    assert all(re.fullmatch(r"[1-9]0*", str(part)) for part in parts)
