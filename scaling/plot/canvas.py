"""What the pictures share: figures without pyplot, the compute axis, colours, labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogFormatterMathtext, LogLocator, NullFormatter, NullLocator

from scaling.errors import StagewiseError
from scaling.files import replacing
from scaling.series import Key

# Okabe and Ito's palette, which readers with any of the common colour-vision deficiencies can tell apart.
CLASS_COLOURS = {
    "early-signal": "#0072B2",
    "late-signal": "#D55E00",
    "saturated": "#009E73",
    "undetermined": "#7A7A7A",
    "noisy": "#A9A9A9",
}
INK = "#222222"
MUTED = "#6B6B6B"
RAIL = "#E9ECEF"
BEYOND = "#FBF6EA"


def new_axes(width: float, height: float) -> Axes:
    """Axes on a figure of their own, in inches."""
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def compute_axis(ax: Axes, low: float, high: float) -> None:
    """Make x an axis of training FLOPs on a log scale from `low` to `high`, with a label per decade."""
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    decades = np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    if len(decades) >= 2:
        every = int(np.ceil(len(decades) / 10))
        ax.xaxis.set_major_locator(FixedLocator(list(10.0 ** decades[::every])))
        ax.xaxis.set_major_formatter(LogFormatterMathtext())
        ax.xaxis.set_minor_formatter(NullFormatter())
        minor = LogLocator(subs=range(2, 10), numticks=200) if len(decades) <= 8 else NullLocator()
        ax.xaxis.set_minor_locator(minor)
    ax.set_xlabel("training compute (FLOPs)")


def plain(ax: Axes) -> None:
    """Only the lines that carry something."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=INK, which="both", length=3)


def power(flops: float) -> str:
    """A number of FLOPs for a label: `3·10¹⁹` as mathtext.

    Example:
        >>> power(1e19), power(3.2e20)
        ('$10^{19}$', '$3.2{\\\\cdot}10^{20}$')
    """
    lead, _, exponent = f"{flops:.1e}".partition("e")
    times = "" if lead == "1.0" else f"{lead.removesuffix('.0')}{{\\cdot}}"
    return f"${times}10^{{{int(exponent)}}}$"


def short(text: str, longest: int) -> str:
    """`text`, its middle left out where it is longer than `longest`.

    Example:
        >>> short("bigbench_elementary_math_qa", 16)
        'bigbench…math_qa'
    """
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def labels_of(keys: Iterable[Key], *, longest: int = 40, metric: bool = True) -> list[str]:
    """A label per key that says no more than tells the keys apart.

    Args:
        keys: what to label.
        longest: characters of the task's name.
        metric: add the metric where the keys hold several; off where the picture says it otherwise.
    """
    keys = list(keys)
    several_metrics = metric and len({key.metric for key in keys}) > 1
    variants = Counter((key.task, key.metric) for key in keys)
    out = []
    for key in keys:
        notes = [key.metric] if several_metrics else []
        if variants[key.task, key.metric] > 1:
            notes.append("shots unknown" if key.shots is None else f"{key.shots}-shot")
        out.append(short(key.task, longest) + (f" ({', '.join(notes)})" if notes else ""))
    return out


def save(ax: Axes, path: str | os.PathLike[str], *, dpi: int = 150) -> None:
    """Write the figure of `ax`, whole or not at all; the same picture gives the same bytes.

    Args:
        ax: any axes of the figure.
        path: of a PNG, SVG or PDF, by its suffix.
        dpi: of a PNG, and of the points in an SVG that are too many to be shapes.

    Example:
        >>> save(plot_curve(curve), "curve.svg")      # doctest: +SKIP
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise StagewiseError("these axes are on no figure any more; draw them again")
    stamp: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(
        Path(path).suffix, {}
    )
    with rc_context({"svg.hashsalt": "stagewise"}), replacing(path) as part:
        figure.savefig(part, dpi=dpi, metadata=stamp)
