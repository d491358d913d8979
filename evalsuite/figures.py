"""How numbers are written for people: on the page of a run and in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: float | None, sign: bool = False) -> str:
    """A score: three digits behind the point, more where it is small.

    Example:
        >>> number(0.12345), number(0.25, sign=True), number(None), number(0.000123)
        ('0.123', '+0.250', '–', '0.00012')
    """
    if value is None or not math.isfinite(value):
        return "–"
    digits = 3
    value = 0.0 if abs(value) < 5e-9 else value  # less than what is written
    if 0 < abs(value) < 0.01:
        digits = min(8, 1 - math.floor(math.log10(abs(value))))
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.replace("-", "−")


def amount(value: float | None) -> str:
    """A large number of tokens, or to one.

    Example:
        >>> amount(12_288_000.0), amount(45.51), amount(None)
        ('12.3M', '45.5', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 1e15:
        return flops(value)
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def flops(value: float | None) -> str:
    """A number of FLOPs.

    Example:
        >>> flops(7.25e19), flops(3e13), flops(None)
        ('7.25e19', '3e13', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}".replace("e+", "e")


def count(value: float | None) -> str:
    """A whole number.

    Example:
        >>> count(12_288)
        '12,288'
    """
    return "–" if value is None or not math.isfinite(value) else f"{int(value):,}"


def span(row: Mapping[str, Any]) -> str:
    """The steps of something that happened again and again.

    Example:
        >>> span({"first": 100, "last": 900, "times": 9}), span({"first": 100, "last": 100, "times": 1})
        ('steps 100–900 (9 times)', 'step 100')
    """
    if row["first"] == row["last"]:
        return f"step {row['first']:,}"
    return f"steps {row['first']:,}–{row['last']:,} ({row['times']:,} times)"


def clock(seconds: float | None) -> str:
    """A length of time.

    Example:
        >>> clock(3.21), clock(95), clock(7_500)
        ('3.2 s', '1 min 35 s', '2 h 05 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def evidence(value: float | None) -> str:
    """An e-value; how small a small one is says nothing.

    Example:
        >>> evidence(83.2), evidence(0.0004)
        ('83.2', '< 0.01')
    """
    return "< 0.01" if value is not None and value < 0.01 else amount(value)
