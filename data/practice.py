"""Practised skills: short exercises with their right answers, text to train on, made from a seed.

Seeds are below 0 by convention: those from 0 on belong to the items of evaluation (`evalsuite.skills`), whose
wordings and layouts are others.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from data.errors import DataError

_EXERCISES = (6, 14)  # of a document
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PEOPLE = ("Olga", "Paul", "Quinn", "Rosa", "Sven", "Tara", "Umar", "Vera", "Wim", "Xenia", "Yusuf", "Zoe")
_OBJECTS = ("ball", "bell", "brush", "candle", "cup", "drum", "fork", "hat", "key", "lamp", "ring", "spoon")
_ROOMS = ("attic", "barn", "cellar", "garage", "garden", "hall", "kitchen", "library", "shed", "workshop")
_PLURALS = (
    ("box", "boxes"), ("baby", "babies"), ("leaf", "leaves"), ("foot", "feet"), ("goose", "geese"),
    ("train", "trains"), ("bush", "bushes"), ("city", "cities"), ("knife", "knives"), ("tooth", "teeth"),
    ("river", "rivers"), ("glass", "glasses"), ("story", "stories"), ("wolf", "wolves"), ("plate", "plates"),
)  # fmt: skip
_PASTS = (
    ("bring", "brought"), ("carry", "carried"), ("choose", "chose"), ("draw", "drew"), ("drive", "drove"),
    ("fall", "fell"), ("jump", "jumped"), ("keep", "kept"), ("paint", "painted"), ("sing", "sang"),
    ("stand", "stood"), ("swim", "swam"), ("teach", "taught"), ("walk", "walked"), ("write", "wrote"),
)  # fmt: skip
_OPPOSITES = (
    ("bright", "dark"), ("cheap", "costly"), ("deep", "shallow"), ("early", "late"), ("empty", "full"),
    ("fast", "slow"), ("heavy", "light"), ("high", "low"), ("near", "far"), ("noisy", "quiet"),
    ("rough", "smooth"), ("sharp", "blunt"), ("soft", "hard"), ("thick", "thin"), ("wet", "dry"),
)  # fmt: skip
_KINDS = (
    ("oak", "tree"), ("salmon", "fish"), ("eagle", "bird"), ("rose", "flower"), ("violin", "instrument"),
    ("hammer", "tool"), ("carrot", "vegetable"), ("cherry", "fruit"), ("beetle", "insect"),
    ("granite", "rock"),
)  # fmt: skip


def practice(seed: int, index: int) -> str:
    """Document `index` of the stream `seed`: some ten exercises, of one skill or of several.

    A pure function of its arguments, on any machine. Every answer in it is right.

    Args:
        seed: of the stream, below 0. index: of the document, from 0.

    Returns:
        ASCII, mostly 200 to 1,000 bytes.

    Raises:
        DataError: a seed from 0 on.

    Example:
        >>> practice(-1, 0) == practice(-1, 0)
        True
    """
    if seed >= 0:
        raise DataError(f"practice: seed is {seed}, valid is below 0: others belong to evaluation")
    random = Random(f"stagewise practice {seed} {index}")  # a text seeds by its SHA-512, on any machine
    count = random.randint(*_EXERCISES)
    one = random.choice(_SKILLS)
    mixed = random.random() < 0.5
    chosen = [random.choice(_SKILLS) if mixed else one for _ in range(count)]
    return "\n".join(skill(random) for skill in chosen) + "\n"


def _word(random: Random) -> str:
    """A word that nobody knows."""
    count = random.randint(2, 3)
    return "".join(random.choice("bdfgklmnprstvz") + random.choice("aeiou") for _ in range(count))


def _words(random: Random, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(_word(random))
    return list(found)


def _copy(random: Random) -> str:
    said = " ".join(random.choices(_LETTERS, k=random.randint(3, 8)))
    return f"Write the same again. Given: {said}. Written: {said}."


def _echo(random: Random) -> str:
    words = _words(random, random.randint(2, 5))
    return f"{' '.join(words)}; once more, {' '.join(words)}"


def _reverse(random: Random) -> str:
    letters = random.sample(_LETTERS, random.randint(3, 7))
    return f"Backwards, {'-'.join(letters)} reads {'-'.join(letters[::-1])}."


def _ends(random: Random) -> str:
    word = _word(random)
    if random.random() < 0.5:
        return f'The word "{word}" begins with the letter {word[0]}.'
    return f'The word "{word}" ends in the letter {word[-1]}.'


def _spell(random: Random) -> str:
    word = _word(random)
    return f'"{word}" is spelled {"-".join(word)}, and that makes {len(word)} letters.'


def _count(random: Random) -> str:
    letter, other, third = random.sample(_LETTERS, 3)
    row = random.choices((letter, other, third), k=random.randint(5, 12))
    return f"In the row {''.join(row)} the letter {letter} stands {row.count(letter)} times."


def _sum(random: Random) -> str:
    top = random.choice((9, 9, 50, 99, 999))
    a, b = random.randint(0, top), random.randint(0, top)
    form = random.choice(("{a} and {b} make {c}.", "{b} more than {a} gives {c}.", "{a}+{b}={c}"))
    return form.format(a=a, b=b, c=a + b)


def _difference(random: Random) -> str:
    b, a = sorted(random.randint(0, random.choice((9, 50, 99))) for _ in range(2))
    form = random.choice(("{a} less {b} leaves {c}.", "{a}-{b}={c}", "From {b} to {a} it is {c}."))
    return form.format(a=a, b=b, c=a - b)


def _product(random: Random) -> str:
    a, b = random.randint(2, 30), random.randint(2, 9)
    return random.choice(("{b} times {a} makes {c}.", "{a}x{b}={c}")).format(a=a, b=b, c=a * b)


def _compare(random: Random) -> str:
    a, b = random.sample(range(1, random.choice((20, 100, 1000))), 2)
    return f"Of {a} and {b}, {max(a, b)} is more and {min(a, b)} is less."


def _sort(random: Random) -> str:
    numbers = random.sample(range(1, 100), random.randint(3, 5))
    listed = ", ".join(map(str, numbers))
    return f"Put {listed} in rising order: {', '.join(map(str, sorted(numbers)))}."


def _alphabet(random: Random) -> str:
    words = random.sample(_OBJECTS, 3)
    return f"A dictionary has {', '.join(words)} in this order: {', '.join(sorted(words))}."


def _sequence(random: Random) -> str:
    start, step = random.randint(1, 40), random.choice((1, 2, 3, 4, 5, 10))
    row = [start + step * i for i in range(6)]
    return f"Counting up by {step} from {start}: {', '.join(map(str, row))}."


def _pattern(random: Random) -> str:
    unit = random.sample(_LETTERS, random.randint(2, 3))
    return f"The pattern {''.join(unit)} over and over: {''.join(unit * 4)}"


def _lookup(random: Random) -> str:
    keys, values = _words(random, 3), random.sample(range(10, 100), 3)
    at = random.randrange(3)
    listed = "; ".join(f"{key} = {value}" for key, value in zip(keys, values, strict=True))
    return f"A list says {listed}. It gives {keys[at]} the number {values[at]}."


def _brackets(random: Random) -> str:
    depth = random.randint(1, 4)
    opened = "".join(random.choice("([{<") for _ in range(depth))
    closed = "".join({"(": ")", "[": "]", "{": "}", "<": ">"}[one] for one in reversed(opened))
    return f"To close {opened} one writes {closed}"


def _boolean(random: Random) -> str:
    a, b = random.random() < 0.5, random.random() < 0.5
    told = {True: "yes", False: "no"}
    form, value = random.choice((("both", a and b), ("at least one", a or b), ("neither", not a and not b)))
    return f"First answer {told[a]}, second answer {told[b]}: {form} yes? {told[value]}."


def _order(random: Random) -> str:
    one, two, three = random.sample(_PEOPLE, 3)
    more, less = random.choice((("older", "younger"), ("faster", "slower"), ("stronger", "weaker")))
    return f"{one} is {more} than {two}, and {two} is {more} than {three}, so {three} is {less} than {one}."


def _where(random: Random) -> str:
    who, thing = random.choice(_PEOPLE), random.choice(_OBJECTS)
    first, then = random.sample(_ROOMS, 2)
    return (
        f"{who} took the {thing} into the {first}, later to the {then}, and left it there. "
        f"The {thing} is now in the {then}."
    )


def _give(random: Random) -> str:
    one, two = random.sample(_PEOPLE, 2)
    thing = random.choice(_OBJECTS)
    return f"{one} had the {thing}. {one} handed it to {two}. Now {two} has the {thing}."


def _family(random: Random) -> str:
    a, b, c = random.sample(_PEOPLE, 3)
    return f"{a} is a parent of {b} and {b} is a parent of {c}: {a} is a grandparent of {c}."


def _forms(random: Random) -> str:
    kind = random.randrange(4)
    one, other = random.choice((_PLURALS, _PASTS, _OPPOSITES, _KINDS)[kind])
    return (
        f"One {one}, many {other}.", f"Today they {one}, yesterday they {other}.",
        f"What is not {one} is {other}.", f"Every {one} belongs to the kind {other}.",
    )[kind]  # fmt: skip


def _code(random: Random) -> str:
    a, b = random.randint(1, 20), random.randint(1, 9)
    kind = random.randrange(4)
    if kind == 0:
        return f">>> n = {a}\n>>> n += {b}\n>>> n\n{a + b}"
    if kind == 1:
        numbers = random.sample(range(1, 30), 4)
        return f">>> max({numbers})\n{max(numbers)}\n>>> {numbers}[0]\n{numbers[0]}"
    if kind == 2:
        word = _word(random)
        return f">>> word = {word!r}\n>>> len(word), word.upper()\n{(len(word), word.upper())}"
    return f">>> [i * {b} for i in range(4)]\n{[i * b for i in range(4)]}"


_SKILLS: tuple[Callable[[Random], str], ...] = (
    _copy, _echo, _reverse, _ends, _spell, _count, _sum, _difference, _product, _compare, _sort, _alphabet,
    _sequence, _pattern, _lookup, _brackets, _boolean, _order, _where, _give, _family, _forms, _code,
)  # fmt: skip
