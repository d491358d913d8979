"""What comes next: in steps of equal size, and in the week."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick, square

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def next_number(rng: random.Random) -> Question:
    """Four numbers in equal steps, up or down."""
    small, large = rng.choice(((1, 2), (1, 5), (1, 10), (2, 10)))
    after, wrong = pick(rng, square(rng, 50, 399, small, large))
    step = rng.randint(2, 9) * rng.choice((1, -1))
    shown = [after - back * step for back in (4, 3, 2, 1)]
    return Question(f"Next number: {' '.join(map(str, shown))} ->", str(after), tuple(map(str, wrong)))


def weekday(rng: random.Random) -> Question:
    """Two to thirty days ahead or back."""
    answer, wrong = pick(rng, rng.sample(DAYS, 4))
    days, way = rng.randint(2, 30), rng.choice((1, -1))
    today = DAYS[(DAYS.index(answer) - way * days) % 7]
    told = f"in {days} days it will be" if way == 1 else f"{days} days ago it was"
    return Question(f"If today is {today}, {told}", answer, wrong)


SKILLS = (
    Skill("skill_next_number", "symbolic", "the next of numbers in equal steps", next_number),
    Skill("skill_weekday", "world_knowledge", "the weekday some days ahead or back", weekday, n_items=250),
)
