"""Lines of the report's pictures: numbers become the coordinates of an SVG, which the page draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 420, 216
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 26
SPARK_WIDTH, SPARK_HEIGHT = 108, 26
MARKS = {"phase": "mixture change", "rate": "learning-rate change", "spike": "loss spike"}
_NAMED = 6  # steps of one kind of event that a picture's text lists


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """One evaluation: where it is drawn, and what a reader is told who points at it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Marks:
    """Events of one kind: a path of upright lines, where they stand, and their steps in words."""

    kind: str
    path: str
    places: tuple[float, ...]
    text: str


@dataclass(frozen=True)
class Chart:
    """A capability over training.

    Attributes:
        name, suite: of it. scale: of its score. line, band, expected: paths. dots: one per evaluation.
        x, y: ticks. marks: events. since, noticed: of its alarm, None where there is none.
        told: the picture in words.
    """

    name: str
    suite: str
    scale: str
    line: str
    band: str
    expected: str
    dots: tuple[Dot, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    marks: tuple[Marks, ...]
    since: float | None
    noticed: Dot | None
    told: str


def chart(
    name: str, suite: str, history: pd.DataFrame, last: int, events: pd.DataFrame,
    alarm: tuple[int, int] | None = None, scale: str = "",
) -> Chart:  # fmt: skip
    """Draw a capability.

    Args:
        name, suite: of the capability. history: its rows of `Watched.history`, in order.
        last: the step at the right edge, the same for all pictures. events: of the run, `step` and `kind`.
        alarm: since which step, and noticed at which; None without one. scale: of the scores.
    """
    steps = history["step"].to_numpy(dtype=float)
    score, expected, low, high = (
        history[one].to_numpy(dtype=float) for one in ("score", "expected", "low", "high")
    )
    bottom, top = _range(score, expected, low, high)
    y_ticks, digits = ticks(bottom, top, 4)

    def x_of(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(last, 1)

    def y_of(value: float) -> float:
        # A band that is wider than the picture ends at its edge.
        share = (min(max(value, bottom), top) - bottom) / (top - bottom)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    def path(values: np.ndarray) -> str:
        return polyline([(x_of(s), y_of(v)) for s, v in zip(steps, values, strict=True)])

    known = np.isfinite(low) & np.isfinite(high)
    edges = [(x_of(s), y_of(v)) for s, v in zip(steps[known], high[known], strict=True)]
    edges += [(x_of(s), y_of(v)) for s, v in zip(steps[known][::-1], low[known][::-1], strict=True)]
    dots = tuple(
        Dot(
            round(x_of(s), 1),
            round(y_of(v), 1),
            f"step {int(s):,}: {v:.{digits + 1}f}" + _between(a, b, digits),
        )
        for s, v, a, b in zip(steps, score, low, high, strict=True)
        if math.isfinite(v)
    )
    since, noticed = None, None
    if alarm is not None:
        since = round(x_of(alarm[0]), 1)
        drawn = steps[np.isfinite(score)]
        noticed = next((dot for dot, s in zip(dots, drawn, strict=True) if s >= alarm[1]), None)
    x_ticks, _ = ticks(0, max(last, 1), 4)
    return Chart(
        name, suite, scale, path(score), f"{polyline(edges)}Z" if known.sum() > 1 else "", path(expected),
        dots,
        tuple(Tick(round(x_of(s), 1), short_steps(s)) for s in x_ticks),
        tuple(Tick(round(y_of(v), 1), f"{v:.{digits}f}".replace("-", "−")) for v in y_ticks),
        _marks(events, x_of), since, noticed, _words(steps, score, low, high, digits, alarm),
    )  # fmt: skip


def spark(steps: Sequence[float], scores: Sequence[float]) -> tuple[str, float, float]:
    """A line as small as a word: its path, and where its last point is."""
    width, height, pad = SPARK_WIDTH, SPARK_HEIGHT, 3
    first, last = min(steps), max(steps)
    bottom, top = min(scores), max(scores)
    points = [
        (
            pad + (width - 2 * pad) * ((s - first) / (last - first) if last > first else 1.0),
            height - pad - (height - 2 * pad) * ((v - bottom) / (top - bottom) if top > bottom else 0.5),
        )
        for s, v in zip(steps, scores, strict=True)
    ]
    return polyline(points), round(points[-1][0], 1), round(points[-1][1], 1)


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """A path through points; a gap where one is not finite.

    Example:
        >>> polyline([(0, 1), (2, 3.04), (4, float("nan")), (5, 6), (7, 8)])
        'M0 1L2 3M5 6L7 8'
    """
    found, pen = [], "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        found.append(f"{pen}{round(x, 1):g} {round(y, 1):g}")
        pen = "L"
    return "".join(found)


def ticks(low: float, high: float, about: int) -> tuple[list[float], int]:
    """Round numbers from low to high, and how many digits tell them apart.

    Example:
        >>> ticks(0.12, 0.47, 4)
        ([0.2, 0.3, 0.4], 1)
    """
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * one for one in (1, 2, 5, 10) if unit * one >= raw * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, digits) for i in range(first, last + 1)], digits


def short_steps(step: float) -> str:
    """A number of steps under an axis.

    Example:
        >>> short_steps(500), short_steps(12_000), short_steps(2_500_000)
        ('500', '12k', '2.5M')
    """
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if step >= unit:
            return f"{step / unit:g}{name}"
    return f"{step:g}"


def listed(steps: Sequence[int]) -> str:
    """Steps in words, the first of many."""
    more = len(steps) - _NAMED
    told = ", ".join(f"{one:,}" for one in steps[:_NAMED])
    return f"{told} and {more} more" if more > 0 else told


def _range(score: np.ndarray, *others: np.ndarray) -> tuple[float, float]:
    """What the picture has to show: all scores, and the others as far as they do not flatten these."""
    found = score[np.isfinite(score)]
    if not len(found):
        return 0.0, 1.0
    low, high = float(found.min()), float(found.max())
    reach = max(high - low, 1e-3 * max(abs(high), abs(low)), 1e-9)
    for one in others:
        known = one[np.isfinite(one)]
        if len(known):
            low = min(low, max(float(known.min()), float(found.min()) - 0.4 * reach))
            high = max(high, min(float(known.max()), float(found.max()) + 0.4 * reach))
    room = 0.06 * max(high - low, reach)
    return low - room, high + room


def _marks(events: pd.DataFrame, x_of) -> tuple[Marks, ...]:
    found = []
    for kind, name in MARKS.items():
        steps = [int(one) for one in events["step"][events["kind"] == kind]]
        if not steps:
            continue
        places = tuple(round(x_of(one), 1) for one in steps)
        path = "".join(f"M{x:g} {TOP}V{HEIGHT - BOTTOM}" for x in dict.fromkeys(places))
        found.append(Marks(kind, path, places, f"{name}, step {listed(steps)}"))
    return tuple(found)


def _between(low: float, high: float, digits: int) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f", expected {low:.{digits + 1}f} to {high:.{digits + 1}f}"


def _words(
    steps: np.ndarray, score: np.ndarray, low: np.ndarray, high: np.ndarray, digits: int,
    alarm: tuple[int, int] | None,
) -> str:  # fmt: skip
    """The picture for those who do not see it."""
    there = np.flatnonzero(np.isfinite(score))
    if not len(there):
        return "No scores yet."
    a, b = there[0], there[-1]
    told = f"From {score[a]:.{digits + 1}f} at step {int(steps[a]):,} to {score[b]:.{digits + 1}f} at step "
    told += f"{int(steps[b]):,}{_between(float(low[b]), float(high[b]), digits)}."
    if alarm is not None:
        told += f" Alarm since step {alarm[0]:,}, noticed at step {alarm[1]:,}."
    return told


def cost_bar(share: float, budget: float | None) -> Mapping[str, float]:
    """Places of a bar from 0 to 100: the share that was spent, and the budget."""
    full = max(share, budget or 0.0) * 1.25 or 1.0
    return {"share": round(100 * share / full, 1), "budget": round(100 * (budget or 0.0) / full, 1)}
