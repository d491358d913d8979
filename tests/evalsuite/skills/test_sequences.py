"""What comes next: each item solved from its text; weekdays by the calendar of the standard library."""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import pairwise

import pytest

from evalsuite.skills import sequences
from tests.evalsuite.skills.oracle import between, check, unsolved


def next_number(context, choices):
    shown = [int(one) for one in between(context, "number:", "->").split()]
    steps = {b - a for a, b in pairwise(shown)}
    (step,) = steps
    return str(shown[-1] + step)


def weekday(context, choices):
    today = re.search(r"today is (\w+)", context).group(1)
    days = timedelta(days=int(re.search(r"\d+", context).group()))
    start = next(
        day for day in (date(2024, 2, n) for n in range(10, 17)) if day.strftime("%A") == today
    )  # the names of the C locale, which Python starts in
    return (start + days if "will be" in context else start - days).strftime("%A")


SOLVERS = {"skill_next_number": next_number, "skill_weekday": weekday}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_that_reads_the_text_finds_every_answer(name):
    check(name, SOLVERS[name])


def test_every_task_has_a_solver():
    assert not unsolved(sequences, SOLVERS)
