"""Practised skills. Oracle: every kind of exercise is read by a pattern of its own and solved once more."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.embedded import embedded
from data.errors import DataError
from data.practice import practice

SAMPLE = [practice(-7, index) for index in range(400)]


def listed(text: str) -> list[str]:
    return text.split(", ")


def numbers(text: str) -> list[int]:
    return list(map(int, listed(text)))


HOW: dict[str, Callable[[bool, bool], bool]] = {
    "both": lambda a, b: a and b, "at least one": lambda a, b: a or b, "neither": lambda a, b: not (a or b)
}  # fmt: skip
# Pattern -> whether what it found is right. Every line of a document fits one of them, or is solved below.
RIGHT: dict[str, Callable[..., bool]] = {
    r"Write the same again\. Given: (.+)\. Written: (.+)\.": lambda a, b: a == b,
    r"(.+); once more, (.+)": lambda a, b: a == b,
    r"Backwards, (.+) reads (.+)\.": lambda a, b: a.split("-") == b.split("-")[::-1],
    r'The word "(\w+)" begins with the letter (\w)\.': lambda a, b: a.startswith(b),
    r'The word "(\w+)" ends in the letter (\w)\.': lambda a, b: a.endswith(b),
    r'"(\w+)" is spelled (\S+), and that makes (\d+) letters\.': lambda a, b, n: (
        a == b.replace("-", "") and len(a) == int(n)
    ),
    r"In the row (\w+) the letter (\w) stands (\d+) times\.": lambda a, b, n: Counter(a)[b] == int(n),
    r"(\d+) and (\d+) make (\d+)\.": lambda a, b, c: int(a) + int(b) == int(c),
    r"(\d+) more than (\d+) gives (\d+)\.": lambda a, b, c: int(a) + int(b) == int(c),
    r"(\d+)\+(\d+)=(\d+)": lambda a, b, c: int(a) + int(b) == int(c),
    r"(\d+) less (\d+) leaves (\d+)\.": lambda a, b, c: int(a) - int(b) == int(c),
    r"(\d+)-(\d+)=(\d+)": lambda a, b, c: int(a) - int(b) == int(c),
    r"From (\d+) to (\d+) it is (\d+)\.": lambda a, b, c: int(b) - int(a) == int(c),
    r"(\d+) times (\d+) makes (\d+)\.": lambda a, b, c: int(a) * int(b) == int(c),
    r"(\d+)x(\d+)=(\d+)": lambda a, b, c: int(a) * int(b) == int(c),
    r"Of (\d+) and (\d+), (\d+) is more and (\d+) is less\.": lambda a, b, c, d: (
        {a, b} == {c, d} and int(c) > int(d)
    ),
    r"Put (.+) in rising order: (.+)\.": lambda a, b: numbers(b) == sorted(numbers(a)),
    r"A dictionary has (.+) in this order: (.+)\.": lambda a, b: sorted(listed(a)) == listed(b),
    r"Counting up by (\d+) from (\d+): (.+)\.": lambda a, b, c: (
        [int(b) + int(a) * i for i in range(6)] == numbers(c)
    ),
    r"The pattern (\w+) over and over: (\w+)": lambda a, b: b == 4 * a,
    r"A list says (.+)\. It gives (\w+) the number (\d+)\.": lambda a, b, c: f"{b} = {c}" in a.split("; "),
    r"To close (\S+) one writes (\S+)": lambda a, b: (
        b == a[::-1].translate(str.maketrans("([{<", ")]}>"))
    ),
    r"First answer (\w+), second answer (\w+): (.+) yes\? (\w+)\.": lambda a, b, how, c: (
        (c == "yes") == HOW[how](a == "yes", b == "yes")
    ),
    r"(\w+) is (\w+) than (\w+), and (\w+) is (\w+) than (\w+), so (\w+) is (\w+) than (\w+)\.": (
        lambda a, more, b, c, again, d, e, less, f: (
            b == c and more == again and (e, f) == (d, a)
            and (more, less) in {("older", "younger"), ("faster", "slower"), ("stronger", "weaker")}
        )
    ),
    r"\w+ took the (\w+) into the (\w+), later to the (\w+), and left it there\. The (\w+) is now in the "
    r"(\w+)\.": (
        lambda a, b, c, d, e: a == d and c == e != b
    ),
    r"(\w+) had the (\w+)\. (\w+) handed it to (\w+)\. Now (\w+) has the (\w+)\.": (
        lambda a, b, c, d, e, f: a == c and d == e and b == f
    ),
    r"(\w+) is a parent of (\w+) and (\w+) is a parent of (\w+): (\w+) is a grandparent of (\w+)\.": (
        lambda a, b, c, d, e, f: b == c and (a, d) == (e, f)
    ),
}  # fmt: skip
FORMS = (
    r"One \w+, many \w+\.", r"Today they \w+, yesterday they \w+\.", r"What is not \w+ is \w+\.",
    r"Every \w+ belongs to the kind \w+\.",
)  # fmt: skip


def test_every_answer_is_right():
    seen: Counter[str] = Counter()
    for text in SAMPLE:
        lines, at, names = text.splitlines(), 0, {}
        while at < len(lines):
            if lines[at].startswith(">>> "):  # code, run by hand
                code = lines[at][4:]
                at += 1
                if "=" in code.replace("==", ""):
                    exec(code, {"__builtins__": {}}, names)
                    continue
                found = eval(code, {"__builtins__": {"max": max, "len": len, "range": range}}, names)
                assert ast.literal_eval(lines[at]) == found, text
                at += 1
                seen["code"] += 1
                continue
            if any(re.fullmatch(form, lines[at]) for form in FORMS):
                seen["forms"] += 1
            else:
                fits = [(one, m) for one in RIGHT if (m := re.fullmatch(one, lines[at]))]
                assert len(fits) == 1, lines[at]
                assert RIGHT[fits[0][0]](*fits[0][1].groups()), lines[at]
                seen[fits[0][0]] += 1
            at += 1
    assert set(seen) == {*RIGHT, "code", "forms"}


@given(st.integers(-(2**31), -1), st.integers(0, 10**6))
def test_a_function_of_seed_and_number(seed, index):
    text = practice(seed, index)
    assert text == practice(seed, index) and text.isascii() and 60 < len(text) < 3000
    assert text != practice(seed, index + 1)


def test_seeds_of_evaluation_are_refused():
    with pytest.raises(DataError, match="valid is below 0"):
        practice(0, 3)


def test_the_source_is_read_only_where_it_is_named():
    assert "skills" not in embedded()
    documents = embedded("skills")["skills"]()
    first = [next(documents) for _ in range(500)]
    assert {one.domain for one in first} == {"skills"} and len({one.text for one in first}) == 500
