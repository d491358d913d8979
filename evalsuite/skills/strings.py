"""Letters of words: which one, in capitals, and the plural."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick
from evalsuite.skills.words import ADJECTIVES, CONSONANTS, NOUNS, VOWELS, made_up

PLACES = ("first", "second", "third", "fourth")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")


def _end_letter(rng: random.Random, end: int, which: str) -> Question:
    """A made-up word with four consonants, any of which could stand at its end."""
    consonants = rng.sample(CONSONANTS, 4)
    vowels = rng.choices(VOWELS, k=3)
    word = "".join(c + v for c, v in zip(consonants, [*vowels, ""], strict=True))
    answer = word[end]
    return Question(f"The {which} letter of {word} is", answer, tuple(c for c in consonants if c != answer))


def first_letter(rng: random.Random) -> Question:
    """Every choice is a consonant of the word."""
    return _end_letter(rng, 0, "first")


def last_letter(rng: random.Random) -> Question:
    """Every choice is a consonant of the word."""
    return _end_letter(rng, -1, "last")


def nth_letter(rng: random.Random) -> Question:
    """Any of the first four letters of an English word, which are the choices."""
    words = (*(one for one, _ in NOUNS), *ADJECTIVES)
    word = rng.choice([one for one in words if len(one) >= 4 and len(set(one[:4])) == 4])
    answer, wrong = pick(rng, word[:4])
    return Question(f"The {PLACES[word.index(answer)]} letter of {word} is", answer, tuple(wrong))


def capitals(rng: random.Random) -> Question:
    """Four made-up words that differ in one or both of two consonants."""
    word = list(made_up(rng, rng.randint(5, 7)))
    first, second = rng.sample(range(0, len(word), 2), 2)
    here, there = rng.sample(CONSONANTS, 2), rng.sample(CONSONANTS, 2)
    four = []
    for word[first] in here:
        for word[second] in there:
            four.append("".join(word))
    answer, wrong = pick(rng, four)
    return Question(f"In capital letters, {answer} is", answer.upper(), tuple(w.upper() for w in wrong))


def plural(rng: random.Random) -> Question:
    """Regular nouns, those that change their spelling, and irregular ones."""
    one, several = rng.choice(NOUNS)
    return Question(f"one {one}, {rng.choice(NUMBERS)}", several)


SKILLS = (
    Skill("skill_capitals", "symbolic", "write a word in capital letters", capitals),
    Skill("skill_first_letter", "symbolic", "the first letter of a made-up word", first_letter),
    Skill("skill_last_letter", "symbolic", "the last letter of a made-up word", last_letter),
    Skill("skill_nth_letter", "symbolic", "a letter of a word by its place", nth_letter, n_items=250),
    Skill("skill_plural", "language", "the plural of a noun", plural, choices=0),
)
