"""All tasks' windows on one compute axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scaling.classes import CLASSES, Classification, TaskClass
from scaling.curves import Curve
from scaling.plot.canvas import (
    BEYOND,
    CLASS_COLOURS,
    INK,
    MUTED,
    RAIL,
    compute_axis,
    labels_of,
    new_axes,
    plain,
    power,
)
from scaling.stage import Stage

ROW = 0.19  # inches
BAR, RAIL_HEIGHT = 0.62, 0.78  # shares of a row
LONGEST = 38  # characters of a task's name
STAGE = "#F3D9A4"
STAGE_INK = "#7A5200"
NO_WINDOW = "no window in the estimate"


@dataclass(frozen=True)
class _Row:
    """One line of the picture: a task, a heading (`task` is None) or a gap (`label` is "" too)."""

    label: str
    task: TaskClass | None = None
    curve: Curve | None = None


def plot_windows(
    classification: Classification,
    ax: Axes | None = None,
    *,
    stage: Stage | None = None,
    probabilities: bool = True,
) -> Axes:
    """Draw the window of every task, sorted by where it opens.

    A bar runs from where the window opens to where it closes, in the colour of the class; the whisker is
    the bootstrap interval of the opening, and starts or ends in an arrow where it has no end. A bar that
    begins in an arrow was open before the data; one that ends in an arrow has no close within the
    measured compute, and its pale part is extrapolation. The grey rail behind it is what was measured
    for that task. Tasks whose estimate has no window stand below the others; their whisker begins at
    the lower end of the interval over the draws, some of which may have one. A diamond marks where the
    curve clears chance. Metrics are kept apart.

    Args:
        classification: what to draw.
        ax: where to draw; where absent, a new figure whose height follows the number of tasks.
        stage: shade this interval; the one that was asked for where absent.
        probabilities: print the probability of each task's class at the right.

    Returns:
        The axes; `ax.figure.savefig(path)` writes a file.

    Example:
        >>> plot_windows(classify(table, stage="1e19..1e21")).figure.savefig("windows.png")  # doctest: +SKIP
    """
    rows = _rows(classification)
    if ax is None:
        ax = new_axes(9.6, 2.1 + ROW * len(rows))
    curves = [row.curve for row in rows if row.curve is not None]
    low = 10 ** min(curve.span[0] for curve in curves)
    high = 10 ** max(curve.span[1] for curve in curves)
    margin = (high / low) ** 0.045
    ends = low / margin, high * 10**classification.settings.horizon
    compute_axis(ax, *ends)
    plain(ax)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    if ends[1] > high:
        ax.axvspan(high, ends[1], color=BEYOND, lw=0, zorder=0)
    _bounds(ax, classification, stage)
    for y, row in enumerate(rows):
        if row.task is not None and row.curve is not None:
            _draw(ax, y, row.task, row.curve, ends)
    _label(ax, rows, probabilities)
    _title(ax, classification)
    _legend(ax, classification)
    return ax


def _rows(classification: Classification) -> list[_Row]:
    """Metrics in alphabet order; within one, tasks by opening and those without a window last."""
    curves = {curve.key: curve for curve in classification.curves}
    metrics = sorted({task.metric for task in classification.tasks})
    out: list[_Row] = []
    for metric in metrics:
        tasks = [task for task in classification.tasks if task.metric == metric]
        labels = labels_of([task.key for task in tasks], longest=LONGEST, metric=False)
        named = sorted(zip(tasks, labels, strict=True), key=lambda pair: _order(pair[0]))
        if len(metrics) > 1:
            out += [_Row("")] if out else []
            out.append(_Row(metric))
        awake = sum(np.isfinite(task.opens) for task in tasks)
        for i, (task, label) in enumerate(named):
            if i == awake and i > 0:
                out.append(_Row(NO_WINDOW))
            out.append(_Row(label, task, curves[task.key]))
    return out


def _order(task: TaskClass) -> tuple:
    """By opening, then by close; without a window by class, then by where it might open."""
    if np.isnan(task.opens):
        rank = ["late-signal", "early-signal", "saturated", "undetermined", "noisy"].index(task.klass)
        doubt = task.opens_low if np.isfinite(task.opens_low) else np.inf
        return (1, rank, doubt, task.task, task.shots or 0)
    return (0, task.opens, task.closes, task.task, task.shots or 0)


def _draw(ax: Axes, y: int, task: TaskClass, curve: Curve, ends: tuple[float, float]) -> None:
    low, high = (10**end for end in curve.span)
    colour = CLASS_COLOURS[task.klass]
    ax.barh(y, high - low, left=low, height=RAIL_HEIGHT, color=RAIL, lw=0, zorder=1)
    if np.isfinite(task.opens):
        close = min(task.closes, ends[1])
        seen = min(close, high)
        if seen > task.opens:
            ax.barh(y, seen - task.opens, left=task.opens, height=BAR, color=colour, lw=0, zorder=3)
        if close > high:
            start = max(task.opens, high)
            ax.barh(y, close - start, left=start, height=BAR, color=colour, alpha=0.28, lw=0, zorder=3)
            _arrow(ax, min(close, ends[1]), y, ">", colour)
        else:
            ax.plot(
                [close, close], [y - 0.42, y + 0.42], color=colour, lw=1.6, solid_capstyle="butt", zorder=4
            )
        if task.opens_before_data:
            _arrow(ax, task.opens, y, "<", colour)
    _whisker(ax, y, task, low, ends)
    if np.isfinite(task.clears_chance) and task.clears_chance < ends[1]:
        # Chance that was cleared before the data is marked before the rail.
        at = task.clears_chance if task.clears_chance > 1.01 * low else np.sqrt(ends[0] * low)
        ax.plot([at], [y], marker="D", ms=3.6, mfc="white", mec=INK, mew=0.8, ls="none", zorder=6)


def _arrow(ax: Axes, x: float, y: float, marker: str, colour: str) -> None:
    """The end of a bar whose end is not known."""
    ax.plot([x], [y], marker=marker, ms=8, color=colour, mew=0, ls="none", zorder=3.5, clip_on=False)


def _whisker(ax: Axes, y: int, task: TaskClass, low: float, ends: tuple[float, float]) -> None:
    """The bootstrap interval of the opening. Nothing where it is a point or was not identified."""
    start, end = task.opens_low, task.opens_high
    if not np.isfinite(start) or start >= ends[1] or end <= start * 1.05:
        return
    windowless = np.isnan(task.opens)
    colour = MUTED if windowless else INK
    right = min(end, ends[1])
    # A white edge keeps the line legible on the bar.
    # An interval without an end is said more quietly, lest it cross out the window.
    lines = ((0.8, colour),) if end > ends[1] else ((2.4, "white"), (0.9, colour))
    for width, shade in lines:
        ax.plot([start, right], [y, y], color=shade, lw=width, solid_capstyle="butt", zorder=5)
    ax.plot([start], [y], marker="|", ms=5, color=colour, mew=1, zorder=5)
    if end > ends[1]:
        ax.plot([right], [y], marker=">", ms=3.5, color=colour, mew=0, zorder=6, clip_on=False)
    else:
        ax.plot([right], [y], marker="|", ms=5, color=colour, mew=1, zorder=5)


def _bounds(ax: Axes, classification: Classification, stage: Stage | None) -> None:
    settings = classification.settings
    if stage is None and settings.stage is not None:
        stage = Stage(*settings.stage)
    above = ax.get_xaxis_transform()
    left, right = ax.get_xlim()
    if stage is not None and stage.low < right and stage.high > left:
        low, high = max(stage.low, left), min(stage.high, right)
        ax.axvspan(low, high, color=STAGE, alpha=0.32, lw=0, zorder=1.5)
        middle = np.sqrt(low * high)
        name = f"stage {power(stage.low)} to {power(stage.high)}"
        ax.annotate(
            name, (middle, 1), xycoords=above, xytext=(0, 4), textcoords="offset points", ha="center",
            fontsize=8.5, color=STAGE_INK,
        )  # fmt: skip
    if left < settings.early_by < right:
        ax.axvline(settings.early_by, color=STAGE_INK, lw=1.1, ls=(0, (4, 2)), zorder=2)


def _label(ax: Axes, rows: list[_Row], probabilities: bool) -> None:
    """Names at the left in the colour of their class; its probability at the right; headings in bold."""
    ax.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    ax.tick_params(axis="y", length=0)
    aside = ax.get_yaxis_transform()
    for y, (row, text) in enumerate(zip(rows, ax.get_yticklabels(), strict=True)):
        if row.task is None:
            quiet = row.label == NO_WINDOW
            text.set(fontweight="normal" if quiet else "bold", fontstyle="italic" if quiet else "normal")
            text.set_color(MUTED if quiet else INK)
            continue
        asleep = np.isnan(row.task.opens)
        text.set_color(MUTED if asleep else INK)
        if probabilities:
            p = getattr(row.task, f"p_{row.task.klass.replace('-', '_')}", np.nan)
            said = row.task.klass + (f" {p:.2f}" if np.isfinite(p) else "")
            colour = CLASS_COLOURS[row.task.klass] if row.task.klass != "noisy" else MUTED
            ax.text(1.018, y, said, transform=aside, va="center", fontsize=7.5, color=colour)
    if len(rows) > 30:
        ax.tick_params(axis="x", which="both", top=True, labeltop=False)


def _title(ax: Axes, classification: Classification) -> None:
    settings = classification.settings
    counts = ", ".join(f"{count} {name}" for name, count in classification.counts().items() if count)
    tasks = len({task.task for task in classification.tasks})
    many = "1 task" if tasks == 1 else f"{tasks} tasks"
    above = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    ax.annotate(
        f"Where {many} tell a better model from a worse one", xytext=(0, 48), fontsize=13, color=INK,
        fontweight="bold", **above,
    )  # fmt: skip
    ax.annotate(
        f"{counts}\n"
        f"window: twice the compute scores better with a probability of {settings.threshold:g} or more",
        xytext=(0, 19), fontsize=9, color=MUTED, **above,
    )  # fmt: skip


def _legend(ax: Axes, classification: Classification) -> None:
    found = {task.klass for task in classification.tasks if np.isfinite(task.opens)}
    handles: list = [
        Patch(color=CLASS_COLOURS[name], label=name) for name in (*CLASSES, "undetermined") if name in found
    ]
    handles += [
        Patch(color=RAIL, label="measured"),
        Line2D([], [], color=INK, lw=1, marker="|", ms=6, label="95% interval of the opening"),
        Line2D([], [], ls="none", marker=">", ms=7, color=MUTED, mew=0, label="end not identified"),
    ]
    settings = classification.settings
    if settings.horizon > 0:
        handles.append(Patch(fc=BEYOND, ec="#D8CFB8", lw=0.6, label="not measured"))
    if ax.get_xlim()[0] < settings.early_by < ax.get_xlim()[1]:
        name = f"early by {power(settings.early_by)}"
        handles.append(Line2D([], [], color=STAGE_INK, lw=1.1, ls=(0, (4, 2)), label=name))
    if any(np.isfinite(task.clears_chance) for task in classification.tasks):
        handles.append(
            Line2D([], [], ls="none", marker="D", ms=4.5, mfc="white", mec=INK, label="clears chance")
        )
    figure = ax.figure
    height = ax.get_position().height * figure.get_size_inches()[1]  # pyright: ignore
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.48 / max(height, 1.0)), ncols=4,
        fontsize=8, frameon=False, handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip
