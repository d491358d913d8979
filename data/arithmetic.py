"""Worked arithmetic: text of which every line is true, made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import gcd
from random import Random

_PROBLEMS = 12  # in one document
_NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Fatma", "Goro", "Hana", "Ivan", "Juana", "Kofi", "Lena")
_THINGS = ("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stamps", "stones", "tiles")


def arithmetic(seed: int, index: int) -> str:
    """Document `index` of the stream `seed`: a dozen worked problems, from easy to hard.

    A pure function of its arguments, on any machine. Every `=` is between two sides of equal value; `*` is
    times, `/` divides (or stands in a fraction), and a word problem says its sum before its answer.

    Args:
        seed: of the stream. index: of the document, from 0.

    Returns:
        Some 1,000 bytes of ASCII.

    Example:
        >>> print(arithmetic(0, 0)[:21])
        Split 23 into primes.
    """
    random = Random(f"stagewise arithmetic {seed} {index}")  # a text seeds by its SHA-512, on any machine
    digits = sorted(random.choices((1, 2, 3, 4), weights=(3, 4, 2, 1), k=_PROBLEMS))
    kinds = [random.choice(_KINDS) for _ in digits]
    return "\n\n".join(kind(random, n) for kind, n in zip(kinds, digits, strict=True)) + "\n"


def _number(random: Random, digits: int) -> int:
    """A number of `digits` digits, from 2."""
    return random.randint(max(2, 10 ** (digits - 1)), 10**digits - 1)


def _places(number: int) -> list[int]:
    """A number as its hundreds, tens, units; zeros left out.

    Example:
        >>> _places(4_072)
        [4000, 70, 2]
    """
    text = str(number)
    return [int(d) * 10 ** (len(text) - i - 1) for i, d in enumerate(text) if d != "0"]


def _addition(random: Random, digits: int) -> str:
    a, b = _number(random, digits), _number(random, digits)
    lines = [f"Add {a} and {b}."]
    total = a
    for part in _places(b):
        lines.append(f"{total} + {part} = {total + part}")
        total += part
    return "\n".join([*lines, f"So {a} + {b} = {total}."])


def _subtraction(random: Random, digits: int) -> str:
    b, a = sorted((_number(random, digits), _number(random, digits)))
    lines = [f"Take {b} from {a}."]
    left = a
    for part in _places(b):
        lines.append(f"{left} - {part} = {left - part}")
        left -= part
    return "\n".join([*lines, f"So {a} - {b} = {left}. Check: {left} + {b} = {a}."])


def _multiplication(random: Random, digits: int) -> str:
    a, b = _number(random, digits), _number(random, min(digits, 3))
    parts = _places(b)
    lines = [f"Multiply {a} by {b}.", f"{b} = {' + '.join(map(str, parts))}"]
    lines += [f"{a} * {part} = {a * part}" for part in parts]
    if len(parts) > 1:
        lines.append(f"{' + '.join(str(a * part) for part in parts)} = {a * b}")
    return "\n".join([*lines, f"So {a} * {b} = {a * b}."])


def _division(random: Random, digits: int) -> str:
    a, b = _number(random, digits + 1), random.randint(2, 12)
    lines = [f"Divide {a} by {b}, digit by digit."]
    rest = 0
    for digit in str(a):
        now = rest * 10 + int(digit)
        lines.append(f"{now} = {now // b} * {b} + {now % b}")
        rest = now % b
    end = f"{a} = {b} * {a // b} + {rest}"
    word = f"the remainder is {rest}" if rest else "nothing remains"
    return "\n".join([*lines, f"So the quotient is {a // b} and {word}: {end}."])


def _fractions(random: Random, digits: int) -> str:
    top = 4 + 4 * digits
    b, d = random.randint(2, top), random.randint(2, top)
    a, c = random.randint(1, b - 1), random.randint(1, d - 1)
    common = b * d // gcd(b, d)
    total = a * (common // b) + c * (common // d)
    lines = [
        f"Add the fractions {a}/{b} and {c}/{d}.",
        f"The common denominator is {common}.",
        f"{a}/{b} = {a * (common // b)}/{common}",
        f"{c}/{d} = {c * (common // d)}/{common}",
        f"{a * (common // b)}/{common} + {c * (common // d)}/{common} = {total}/{common}",
    ]
    least = Fraction(total, common)
    if least.denominator != common:
        lines.append(f"{total}/{common} = {_shown(least)}")
    return "\n".join([*lines, f"So {a}/{b} + {c}/{d} = {_shown(least)}."])


def _shown(value: Fraction) -> str:
    whole = value.denominator == 1
    return str(value.numerator) if whole else f"{value.numerator}/{value.denominator}"


def _percent(random: Random, digits: int) -> str:
    share = random.choice((5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 90))
    whole = 20 * _number(random, digits)
    part = whole * share // 100
    one = f"{whole} / 100 = {_shown(Fraction(whole, 100))}"
    return (
        f"What is {share} percent of {whole}?\nOne percent: {one}\n"
        f"{whole} * {share} / 100 = {part}\nSo {share} percent of {whole} is {part}."
    )


def _equation(random: Random, digits: int) -> str:
    a, x, b = random.randint(2, 12), _number(random, digits), _number(random, digits)
    c = a * x + b
    return (
        f"Find x such that {a} times x, plus {b}, is {c}.\n"
        f"Take {b} away: {c} - {b} = {a * x}\nDivide by {a}: {a * x} / {a} = {x}\n"
        f"So x is {x}. Check: {a} * {x} + {b} = {c}."
    )


def _order(random: Random, digits: int) -> str:
    a, b, c, d = (_number(random, min(digits, 2)) for _ in range(4))
    first = (a + b) * c
    return (
        f"Work out ({a} + {b}) * {c} - {d}.\nBrackets first: {a} + {b} = {a + b}\n"
        f"Then times: {a + b} * {c} = {first}\nThen minus: {first} - {d} = {first - d}\n"
        f"So ({a} + {b}) * {c} - {d} = {first - d}."
    )


def _divisor(random: Random, digits: int) -> str:
    common = random.randint(2, 12)
    a, b = (common * _number(random, digits) for _ in range(2))
    lines = [f"Find the greatest common divisor of {a} and {b}."]
    high, low = max(a, b), min(a, b)
    while low:
        lines.append(f"{high} = {high // low} * {low} + {high % low}")
        high, low = low, high % low
    return "\n".join([*lines, f"The last divisor is {high}, so the answer is {high}."])


def _factors(random: Random, digits: int) -> str:
    number = _number(random, digits + 1)
    left, prime, found = number, 2, []
    lines = [f"Split {number} into primes."]
    while prime * prime <= left:
        if left % prime:
            prime += 1
            continue
        lines.append(f"{left} / {prime} = {left // prime}")
        found.append(prime)
        left //= prime
    if not found:
        return "\n".join([*lines, f"No prime up to its square root divides it: {number} is prime."])
    return "\n".join([*lines, f"{left} is prime.", f"So {number} = {' * '.join(map(str, [*found, left]))}."])


def _sequence(random: Random, digits: int) -> str:
    start, step = _number(random, digits), _number(random, min(digits, 2))
    terms = [start + i * step for i in range(5)]
    after = terms[-1] + step
    return (
        f"What comes next: {', '.join(map(str, terms))}?\n"
        f"The step is {terms[1]} - {terms[0]} = {step}\nNext: {terms[-1]} + {step} = {after}"
    )


def _comparison(random: Random, digits: int) -> str:
    b, d = random.randint(2, 4 + 3 * digits), random.randint(2, 4 + 3 * digits)
    a, c = random.randint(1, b), random.randint(1, d)
    left, right = a * d, c * b
    word = "less than" if left < right else "more than" if left > right else "as much as"
    return (
        f"Which is more, {a}/{b} or {c}/{d}?\nCross multiply: {a} * {d} = {left} and {c} * {b} = {right}\n"
        f"So {a}/{b} is {word} {c}/{d}."
    )


def _story(random: Random, digits: int) -> str:
    (one, other), thing = random.sample(_NAMES, 2), random.choice(_THINGS)
    boxes, each = random.randint(2, 9), _number(random, min(digits, 3))
    gone = random.randint(1, boxes * each - 1)
    total = boxes * each
    return (
        f"{one} has {boxes} boxes with {each} {thing} in each, and gives {other} {gone} of them. "
        f"How many {thing} are left?\nAt first: {boxes} * {each} = {total}\n"
        f"Then: {total} - {gone} = {total - gone}\nThe answer is {total - gone}."
    )


def _price(random: Random, digits: int) -> str:
    name, thing = random.choice(_NAMES), random.choice(_THINGS)
    count, cents = random.randint(2, 12), _number(random, min(digits + 1, 3))
    total = count * cents
    paid = -(-total // 500) * 500
    return (
        f"{name} buys {count} {thing} at {cents} cents each and pays with {paid} cents. What is the change?\n"
        f"Cost: {count} * {cents} = {total}\nChange: {paid} - {total} = {paid - total}\n"
        f"The answer is {paid - total} cents."
    )


_KINDS: tuple[Callable[[Random, int], str], ...] = (
    _addition, _subtraction, _multiplication, _division, _fractions, _percent, _equation, _order, _divisor,
    _factors, _sequence, _comparison, _story, _price,
)  # fmt: skip
