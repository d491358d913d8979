"""The windows of all tasks as a picture: a row for each task, with a bar for each metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from evalsuite.report_charts import Tick
from scaling.classes import Classification
from scaling.curves import Curve
from scaling.evidence import CLASSES, TaskClass

ORDER = (*CLASSES[:3], "undetermined", "noisy")  # of the groups
COLOURS = 10  # that the style sheet has
_HAIR = 0.5  # percent
_SPLIT = 24  # rows from which on they stand in two columns
_POWERS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Piece:
    """A part of a bar: where it begins and how wide it is, in percent, and how sure it is."""

    x: float
    width: float
    shade: str


@dataclass(frozen=True)
class Bar:
    """The window of one metric of a task.

    Attributes:
        series: which row of the table. colour: number of its metric's colour. pieces: its parts.
        rail: what was measured. before: was open before the data.
        told: in words.
    """

    series: int
    colour: int
    pieces: tuple[Piece, ...]
    rail: Piece
    before: float | None
    told: str


@dataclass(frozen=True)
class Row:
    """A task and its bars; `best` is the series whose curve opens on a click."""

    task: str
    bars: tuple[Bar, ...]
    best: int


@dataclass(frozen=True)
class Group:
    """Rows of one class; `more` where it goes on from the other column."""

    name: str
    count: int
    rows: tuple[Row, ...]
    more: bool = False


@dataclass(frozen=True)
class Picture:
    """The picture of windows.

    Attributes:
        columns: one, or two beside each other, of groups. ticks: of the compute axis, in percent.
        colours: what each colour stands for. metrics: the number of each one's colour.
        stage, unseen (where the data end), run: places in percent.
        counts: tasks by class, by their best metric. tasks: how many.
    """

    columns: tuple[tuple[Group, ...], ...]
    ticks: tuple[Tick, ...]
    colours: tuple[str, ...]
    metrics: dict[str, int]
    stage: Piece | None
    unseen: float
    run: float | None
    counts: dict[str, int]
    tasks: int


def windows_picture(found: Classification, at: float | None = None) -> Picture:
    """Draw the windows of all tasks, by class and then by opening.

    A task stands under the class of its best metric; where several share that, of the one that opens first.

    Args:
        found: the classes.
        at: FLOPs of a run that is marked; None for none.
    """
    curves = {curve.key: curve for curve in found.curves}
    low = min(curve.span[0] for curve in curves.values())
    high = max(curve.span[1] for curve in curves.values())
    axis = _Axis(low, high + found.settings.horizon)
    colours, named = _colours(found.tasks, curves)
    tasks: dict[tuple, list[tuple[tuple, Bar]]] = {}
    shots: dict[str, set] = {}
    for i, one in enumerate(found.tasks):
        bar = _bar(i, one, curves[one.key], axis, named[one.metric])
        tasks.setdefault((one.task, one.shots), []).append((_rank(one), bar))
        shots.setdefault(one.task, set()).add(one.shots)
    rows: dict[str, list[tuple[tuple, Row]]] = {name: [] for name in ORDER}
    for (task, count), bars in tasks.items():
        bars.sort(key=lambda pair: (pair[0], pair[1].series))
        first = bars[0][0]
        label = task if len(shots[task]) == 1 else f"{task}, {'?' if count is None else count}-shot"
        drawn = tuple(sorted((bar for _, bar in bars), key=lambda bar: bar.colour))
        rows[ORDER[first[0]]].append(((*first, label), Row(label, drawn, bars[0][1].series)))
    groups = [
        Group(name, len(members), tuple(row for _, row in sorted(members, key=lambda pair: pair[0])))
        for name, members in rows.items()
        if members
    ]
    settings = found.settings
    stage = None
    if settings.stage is not None:
        stage = axis.piece(math.log10(settings.stage[0]), math.log10(settings.stage[1]), "stage")
    return Picture(
        _columns(groups), axis.ticks(), colours, named, stage, axis.at(high), axis.inside(at),
        {one.name: one.count for one in groups}, len(tasks),
    )  # fmt: skip


@dataclass(frozen=True)
class _Axis:
    """Log10 FLOPs to percent."""

    low: float
    high: float

    def at(self, x: float) -> float:
        share = (x - self.low) / max(self.high - self.low, 1e-9)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def inside(self, flops: float | None) -> float | None:
        if flops is None or not (math.isfinite(flops) and flops > 0):
            return None
        return self.at(math.log10(flops)) if self.low < math.log10(flops) < self.high else None

    def piece(self, low: float, high: float, shade: str) -> Piece | None:
        start, end = self.at(low), self.at(high)
        return Piece(start, round(end - start, 2), shade) if end > start else None

    def ticks(self) -> tuple[Tick, ...]:
        decades = range(math.ceil(self.low), math.floor(self.high) + 1)
        every = max(1, math.ceil(len(decades) / 6))
        return tuple(Tick(self.at(one), f"10{str(one).translate(_POWERS)}") for one in decades[::every])


def _bar(series: int, one: TaskClass, curve: Curve, axis: _Axis, colour: int) -> Bar:
    low, high = curve.span
    rail = axis.piece(low, high, "rail") or Piece(axis.at(low), _HAIR, "rail")
    if math.isnan(one.opens):
        return Bar(series, colour, (), rail, None, f"{one.metric}: {one.klass}, no window")
    close, opens = _log(one.closes, axis.high), _log(one.opens, axis.high)
    # Where no interval is known the estimate is all there is.
    outer, inner = (_log(v, axis.high, opens) for v in (one.opens_low, one.opens_high))
    leaving, last = (_log(v, axis.high, close) for v in (one.closes_low, one.closes_high))
    cuts = sorted(
        {min(outer, opens), opens, max(inner, opens), min(leaving, close), close, max(last, close), high}
    )
    pieces = []
    for start, end in pairwise(cuts):
        middle = (start + end) / 2
        if middle < min(outer, opens) or middle > max(last, close):
            continue
        if not opens <= middle <= close:
            shade = "may"
        elif middle > high:
            shade = "unseen"
        else:
            shade = "sure" if inner <= middle <= leaving else "likely"
        pieces.append(axis.piece(start, end, shade))
    if axis.at(close) == axis.at(opens):  # too short to be seen
        pieces.append(Piece(axis.at(opens), _HAIR, "likely"))
    left = "open before the data" if one.opens_before_data else f"opens {one.opens:.2g}"
    right = f"closes {one.closes:.2g}" if math.isfinite(one.closes) and close <= high else "close not seen"
    return Bar(
        series, colour, tuple(part for part in pieces if part), rail,
        axis.at(opens) if one.opens_before_data else None,
        f"{one.metric}: {one.klass}, {left}, {right} FLOPs",
    )  # fmt: skip


def _log(value: float, end: float, unknown: float = math.nan) -> float:
    """Log10 FLOPs; `end`, that of the axis, for what lies beyond it."""
    if math.isnan(value):
        return unknown
    return min(math.log10(value), end) if value > 0 else -math.inf


def _rank(one: TaskClass) -> tuple:
    """Class, then opening and close; what has no window comes last."""
    asleep = math.isnan(one.opens)
    return (ORDER.index(one.klass), asleep, 0.0 if asleep else one.opens, 0.0 if asleep else one.closes)


def _colours(tasks: Sequence[TaskClass], curves: dict[Any, Curve]) -> tuple[tuple[str, ...], dict[str, int]]:
    """What each colour stands for, and the colour of each metric.

    Bits and accuracy where no task has two of either; else each metric for itself.
    """
    kinds = {
        one.metric: "accuracy" if curves[one.key].series.metric.family == "proportion" else "bits"
        for one in tasks
    }
    seen = [(one.task, one.shots, kinds[one.metric]) for one in tasks]
    if len(seen) == len(set(seen)):
        names = sorted(set(kinds.values()), reverse=True)
        told = tuple(", ".join(m for m in sorted(kinds) if kinds[m] == name) for name in names)
        if len(names) == 1 and names[0] == "accuracy":  # keeps its colour where bits are missing
            return ("", *told), dict.fromkeys(kinds, 1)
        return told, {metric: names.index(kind) for metric, kind in kinds.items()}
    order = sorted(kinds, key=lambda one: (kinds[one] != "bits", one))
    return tuple(order), {metric: i % COLOURS for i, metric in enumerate(order)}


def _columns(groups: list[Group]) -> tuple[tuple[Group, ...], ...]:
    """One column, or two of about the same height, a group cut where it must be."""
    sizes = [len(one.rows) + 1.5 for one in groups]
    if sum(len(one.rows) for one in groups) < _SPLIT:
        return (tuple(groups),)
    room = math.ceil(sum(sizes) / 2)
    left: list[Group] = []
    right: list[Group] = []
    for one, size in zip(groups, sizes, strict=True):
        cut = min(len(one.rows), max(0, math.ceil(room - 1.5)))
        if right or cut < 3:
            right.append(one)
        elif len(one.rows) - cut < 3:
            left.append(one)
        else:
            left.append(Group(one.name, one.count, one.rows[:cut]))
            right.append(Group(one.name, one.count, one.rows[cut:], more=True))
        room -= size
    return tuple(tuple(column) for column in (left, right) if column)
