"""What everybody knows of things and animals; nothing of it is in the context."""

from __future__ import annotations

import random

from evalsuite.skills.generator import Question, Skill, pick

# From small to large. Only things two steps apart are compared.
SIZES = (
    ("an ant", "a flea", "a grain of sand", "a pinhead", "a gnat"),
    ("a coin", "a bean", "a grape", "a bee", "a button", "a ring"),
    ("a mouse", "an apple", "a spoon", "a sock", "an egg", "a cup"),
    ("a cat", "a hen", "a football", "a kettle", "a pumpkin", "a bucket"),
    ("a horse", "a sofa", "a cow", "a piano", "a bathtub", "a lion"),
    ("a house", "a whale", "a barn", "a church", "a bus", "a ferry"),
    ("a mountain", "a city", "a volcano", "an island", "a desert", "a lake"),
)
ANIMALS = {
    "bird": (
        "sparrow", "eagle", "owl", "duck", "goose", "robin", "crow", "parrot", "penguin", "pigeon", "swan",
        "hawk", "ostrich", "seagull", "canary", "stork", "turkey", "falcon", "raven", "flamingo",
    ),
    "fish": (
        "salmon", "trout", "cod", "tuna", "herring", "shark", "carp", "eel", "perch", "sardine", "mackerel",
        "anchovy", "haddock", "halibut", "goldfish", "pike", "sturgeon", "piranha", "swordfish", "minnow",
    ),
    "insect": (
        "ant", "bee", "wasp", "beetle", "fly", "mosquito", "butterfly", "moth", "cricket", "grasshopper",
        "termite", "flea", "ladybird", "dragonfly", "locust", "cockroach", "gnat", "hornet", "firefly",
        "mantis",
    ),
    "mammal": (
        "dog", "cat", "horse", "cow", "whale", "dolphin", "bat", "mouse", "elephant", "lion", "tiger",
        "sheep", "goat", "rabbit", "bear", "wolf", "monkey", "camel", "seal", "giraffe",
    ),
}  # fmt: skip
_ASKED = ("A {} is a kind of", "The {} is a kind of", "Every {} is a kind of", "Kind of animal: {} ->")


def size(rng: random.Random) -> Question:
    """Either the larger or the smaller is asked for."""
    low = rng.randrange(len(SIZES) - 2)
    high = rng.randrange(low + 2, len(SIZES))
    small, large = rng.choice(SIZES[low]), rng.choice(SIZES[high])
    named = rng.sample((small, large), 2)
    asked, answer, wrong = rng.choice((("larger", large, small), ("smaller", small, large)))
    return Question(f"Which is {asked}, {named[0]} or {named[1]}? Answer:", answer, (wrong,))


def animal(rng: random.Random) -> Question:
    """Four classes, equally many animals of each."""
    answer, wrong = pick(rng, sorted(ANIMALS))
    context = rng.choice(_ASKED).format(rng.choice(ANIMALS[answer]))
    if context.startswith("A ") and context[2] in "aeiou":
        context = f"An {context[2:]}"
    return Question(context, answer, wrong)


SKILLS = (
    Skill("skill_animal_class", "science_qa", "bird, fish, insect or mammal", animal, n_items=250),
    Skill("skill_thing_size", "commonsense", "the larger or the smaller of two things", size, choices=2),
)
