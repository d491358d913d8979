"""What Python would say, and how a line of it ends. Nothing is executed."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick, square
from evalsuite.skills.words import made_up

_NAMES = "abcdefghkmnpqrstuvwxyz"
CLOSING = {"(": ")", "[": "]", "{": "}"}
QUOTES = "'\""


def assign(rng: random.Random) -> Question:
    """Four variables get a value, a fifth that of one of them. Every choice is a value of the context."""
    *names, fifth = rng.sample(_NAMES, 5)
    values = [str(value) for value in rng.sample(range(10, 100), 4)]
    answer, wrong = pick(rng, values)
    lines = [f">>> {name} = {value}" for name, value in zip(names, values, strict=True)]
    lines += [f">>> {fifth} = {names[values.index(answer)]}", f">>> {fifth}\n"]
    return Question("\n".join(lines), answer, wrong)


def update(rng: random.Random) -> Question:
    """A variable grows and shrinks, in either order."""
    small, large = rng.choice(((1, 2), (1, 5), (1, 10), (2, 10)))
    value, wrong = pick(rng, square(rng, 10, 80, small, large))
    steps = [rng.randint(2, 9), -rng.randint(2, 9)]
    rng.shuffle(steps)
    name = rng.choice(_NAMES)
    lines = [f">>> {name} = {value - sum(steps)}"]
    lines += [f">>> {name} = {name} {'+' if step > 0 else '-'} {abs(step)}" for step in steps]
    return Question("\n".join([*lines, f">>> {name}\n"]), str(value), tuple(map(str, wrong)))


def index(rng: random.Random) -> Question:
    """Counted from the front or from the back. Every choice is in the list."""
    name = rng.choice(_NAMES)
    values = rng.sample(range(10, 100), 4)
    at = rng.randrange(-4, 4)
    wrong = tuple(str(value) for value in values if value != values[at])
    return Question(f">>> {name} = {values}\n>>> {name}[{at}]\n", str(values[at]), wrong)


def close(rng: random.Random) -> Question:
    """One of two quotes, then one of two brackets. The line before has its own of both."""
    names = rng.sample(_NAMES, 2)
    openings = rng.sample(sorted(CLOSING), 2)
    answer, wrong = pick(rng, [(quote, one) for quote in QUOTES for one in openings])
    (quote, opening), before, around = answer, rng.choice(QUOTES), rng.choice(openings)
    words = [made_up(rng, 3) for _ in range(4)]
    above = f"{names[0]} = {around}{before}{words[0]}{before}, {before}{words[1]}{before}{CLOSING[around]}"
    more = f"{quote}{words[2]}{quote}, " if rng.random() < 0.5 else ""
    context = f"{above}\n{names[1]} = {opening}{more}{quote}{words[3]}"
    return Question(context, quote + CLOSING[opening], tuple(q + CLOSING[one] for q, one in wrong))


def length(rng: random.Random) -> Question:
    """Words of two to nine letters; the choices are four lengths in a row."""
    start = rng.randint(2, 6)
    letters, wrong = pick(rng, range(start, start + 4))
    return Question(f">>> len('{made_up(rng, letters)}')\n", str(letters), tuple(map(str, wrong)))


SKILLS = (
    Skill("skill_code_assign", "code", "the value of a variable through another", assign, delimiter=""),
    Skill(
        "skill_code_close", "code", "the quote and the bracket that close a line",
        close, delimiter="", prefix_shots=0,
    ),
    Skill("skill_code_index", "code", "an element of a list, also from the back", index, delimiter=""),
    Skill("skill_code_length", "code", "the length of a string", length, delimiter=""),
    Skill("skill_code_update", "code", "a variable after two updates", update, delimiter=""),
)  # fmt: skip
