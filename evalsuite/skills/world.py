"""A closed toy world: people, where they live, what they have, where they go. The context holds all facts."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick
from evalsuite.skills.words import BELONGINGS, CITIES, PEOPLE, SPOTS


def one_hop(rng: random.Random) -> Question:
    """Where one of four people lives."""
    people, cities = rng.sample(PEOPLE, 4), rng.sample(CITIES, 4)
    answer, wrong = pick(rng, cities)
    facts = " ".join(f"{who} lives in {city}." for who, city in zip(people, cities, strict=True))
    return Question(f"{facts} The home of {people[cities.index(answer)]} is in", answer, wrong)


def two_hops(rng: random.Random) -> Question:
    """Where a thing is whose owner lives somewhere. The facts come in any order."""
    people, cities, things = rng.sample(PEOPLE, 4), rng.sample(CITIES, 4), rng.sample(BELONGINGS, 4)
    answer, wrong = pick(rng, cities)
    facts = [f"{who} is in {city}." for who, city in zip(people, cities, strict=True)]
    facts += [f"{who} has the {thing}." for who, thing in zip(people, things, strict=True)]
    rng.shuffle(facts)
    return Question(f"{' '.join(facts)} The {things[cities.index(answer)]} is in", answer, wrong)


def moves(rng: random.Random) -> Question:
    """Where somebody is after four moves of three people, who may move more than once.

    The last move of the one asked for is any of the four, each as likely as the next.
    """
    spots = rng.sample(SPOTS, 4)
    asked, *others = rng.sample(PEOPLE, 3)
    last = rng.randrange(4)
    movers = [rng.choice((asked, *others)) for _ in range(last)] + [asked]
    movers += [rng.choice(others) for _ in range(3 - last)]
    told = " ".join(f"{who} goes to the {spot}." for who, spot in zip(movers, spots, strict=True))
    wrong = tuple(spot for spot in spots if spot != spots[last])
    return Question(f"{told} Now {asked} is at the", spots[last], wrong)


SKILLS = (
    Skill("skill_world_moves", "reading_comprehension", "where somebody is after several moves", moves),
    Skill("skill_world_one_hop", "reading_comprehension", "one fact out of four", one_hop),
    Skill("skill_world_two_hops", "reading_comprehension", "two facts out of eight, put together", two_hops),
)
