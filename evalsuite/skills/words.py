"""The words that generated tasks are made of."""

from __future__ import annotations

import random

CONSONANTS = "bdfghklmnprstvz"
VOWELS = "aeiou"

PEOPLE = (
    "Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Leo", "Max", "Ned", "Pat",
    "Ray", "Sam", "Tom", "Una", "Val",
)  # fmt: skip
CITIES = (
    "Oslo", "Rome", "Lima", "Kyiv", "Bonn", "Bern", "Cork", "Riga", "Nice", "Pisa", "Baku", "Doha", "Cali",
    "Graz", "Gent", "Lyon",
)  # fmt: skip
SPOTS = ("park", "barn", "shop", "lake", "farm", "mill", "dock", "cafe", "yard", "pond", "cave", "bank")
BELONGINGS = (
    "drum", "lamp", "kite", "bell", "sock", "book", "coin", "comb", "rope", "vase", "flag", "ball",
)  # fmt: skip

# Who or what can be the subject of a sentence, singular and plural.
SUBJECTS = (
    ("boy", "boys"), ("girl", "girls"), ("king", "kings"), ("doctor", "doctors"), ("farmer", "farmers"),
    ("teacher", "teachers"), ("sister", "sisters"), ("brother", "brothers"), ("neighbor", "neighbors"),
    ("friend", "friends"), ("student", "students"), ("singer", "singers"), ("actor", "actors"),
    ("driver", "drivers"), ("dog", "dogs"), ("cat", "cats"), ("horse", "horses"), ("bird", "birds"),
    ("rabbit", "rabbits"), ("duck", "ducks"), ("child", "children"), ("man", "men"), ("woman", "women"),
    ("baby", "babies"), ("lady", "ladies"), ("thief", "thieves"), ("wolf", "wolves"), ("fox", "foxes"),
    ("witch", "witches"), ("boss", "bosses"),
)  # fmt: skip
OBJECTS = (
    ("table", "tables"), ("chair", "chairs"), ("book", "books"), ("window", "windows"), ("garden", "gardens"),
    ("pencil", "pencils"), ("bottle", "bottles"), ("basket", "baskets"), ("river", "rivers"),
    ("tower", "towers"), ("candle", "candles"), ("letter", "letters"), ("blanket", "blankets"),
    ("hammer", "hammers"), ("flower", "flowers"), ("bridge", "bridges"), ("house", "houses"),
    ("orange", "oranges"), ("box", "boxes"), ("bus", "buses"), ("glass", "glasses"), ("dish", "dishes"),
    ("brush", "brushes"), ("bench", "benches"), ("watch", "watches"), ("peach", "peaches"),
    ("church", "churches"), ("dress", "dresses"), ("tax", "taxes"), ("city", "cities"), ("story", "stories"),
    ("berry", "berries"), ("party", "parties"), ("penny", "pennies"), ("country", "countries"),
    ("factory", "factories"), ("toy", "toys"), ("key", "keys"), ("day", "days"), ("tray", "trays"),
    ("knife", "knives"), ("leaf", "leaves"), ("shelf", "shelves"), ("loaf", "loaves"), ("foot", "feet"),
    ("tooth", "teeth"), ("mouse", "mice"), ("goose", "geese"), ("potato", "potatoes"), ("tomato", "tomatoes"),
    ("hero", "heroes"), ("piano", "pianos"), ("photo", "photos"), ("roof", "roofs"), ("market", "markets"),
    ("picture", "pictures"), ("ticket", "tickets"), ("village", "villages"), ("monkey", "monkeys"),
    ("stone", "stones"),
)  # fmt: skip
NOUNS = SUBJECTS + OBJECTS
ADJECTIVES = (
    "tall", "old", "young", "quiet", "happy", "tired", "clever", "hungry", "famous", "small", "brave",
    "strange", "gentle", "lazy", "proud", "rich", "poor", "kind", "angry", "lonely",
)  # fmt: skip
# These fit whatever a noun means.
FITTING = ("old", "small", "strange", "famous", "new", "big", "nice", "heavy")
# The form for one, and the form for several.
VERBS = (
    ("is", "are"), ("was", "were"), ("has", "have"), ("sleeps", "sleep"), ("runs", "run"), ("waits", "wait"),
    ("jumps", "jump"), ("eats", "eat"), ("smiles", "smile"), ("falls", "fall"), ("does", "do"),
    ("goes", "go"),
)  # fmt: skip


def made_up(rng: random.Random, letters: int) -> str:
    """A word that can be said and means nothing: consonants and vowels in turn, no letter twice in a row."""
    return "".join(rng.choice(CONSONANTS if at % 2 == 0 else VOWELS) for at in range(letters))


def made_up_words(rng: random.Random, count: int, letters: int) -> list[str]:
    """Different made-up words of one length."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[made_up(rng, letters)] = None
    return list(found)
