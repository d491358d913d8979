"""One curve: points, fit, band, window, chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from scaling.curves import Curve, CurveSet
from scaling.errors import UsageError
from scaling.plot.canvas import BEYOND, CLASS_COLOURS, INK, MUTED, compute_axis, new_axes, plain, power
from scaling.windows import Windows, noise_at, windows_of

CURVE = "#0072B2"
MOST = 24  # curves in one picture
WINDOW = "#D9EBD3"


def plot_curve(
    curve: Curve,
    ax: Axes | None = None,
    *,
    threshold: float = 0.8,
    horizon: float = 1.0,
    level: float = 0.95,
) -> Axes:
    """Draw one curve with everything that its class is read from.

    Finished runs are filled points, other checkpoints hollow ones. The band is the cluster-t interval of
    the curve; there is none where the clusters are too few for intervals. The window, where a run with
    twice the compute scores better with a probability of at least `threshold`, is shaded. The curve is
    dashed where nothing was measured.

    Args:
        curve: a fitted curve.
        ax: where to draw; a new figure where absent.
        threshold: decision probability that makes the task informative.
        horizon: decades to draw beyond the largest measured compute.
        level: of the band.

    Returns:
        The axes; `ax.figure.savefig(path)` writes a file.

    Example:
        >>> plot_curve(curves["piqa", "acc", 0]).figure.savefig("piqa.png")      # doctest: +SKIP
    """
    ax = ax or new_axes(7.2, 4.6)
    series = curve.series
    low, high = curve.span
    x = np.linspace(low, high + horizon, 400)
    estimate = curve.values(x)[0]
    windows = windows_of(curve, threshold=threshold, horizon=horizon)
    margin = 0.03 * (high + horizon - low)
    ends = 10 ** (low - margin), 10 ** (high + horizon)
    if horizon > 0:
        ax.axvspan(10**high, ends[1], color=BEYOND, lw=0, zorder=0)
    _window(ax, windows, ends[1])
    _points(ax, curve)
    if curve.identified:
        bottom, top = curve.interval(10**x, level)
        band = f"{level:.0%} interval ({series.n_clusters} clusters)"
        ax.fill_between(10**x, bottom, top, color=CURVE, alpha=0.18, lw=0, zorder=2, label=band)
    inside = x <= high
    name = f"{curve.law}, floor fitted" if curve.free_floor else curve.law
    ax.plot(10 ** x[inside], estimate[inside], color=CURVE, lw=2, zorder=4, label=name)
    if horizon > 0:
        ax.plot(10 ** x[~inside], estimate[~inside], color=CURVE, lw=2, ls=(0, (3, 1.5)), zorder=4)
    compute_axis(ax, *ends)
    plain(ax)
    _heights(ax, curve, estimate)
    _references(ax, curve)
    _clears(ax, curve, windows)
    if horizon > 0:
        above = ax.get_xaxis_transform()
        ax.text(10**high, 0.99, " not measured", transform=above, va="top", fontsize=8, color=MUTED)
    ax.set_ylabel(f"{series.metric.name}" + (f" ({series.metric.unit})" if series.metric.unit else ""))
    ax.set_title(_title(curve, windows), loc="left", fontsize=10, color=INK)
    better_up = series.metric.higher_is_better is not False
    ax.legend(loc="upper left" if better_up else "lower left", fontsize=8, frameon=False)
    return ax


def _points(ax: Axes, curve: Curve) -> None:
    series = curve.series
    final = series.final
    flops = 10**series.x
    # Thousands of points as vectors make an SVG nobody can open.
    many = len(flops) > 2000
    if (~final).any():
        ax.scatter(
            flops[~final], series.y[~final], s=12, facecolors="none", edgecolors=INK, linewidths=0.6,
            alpha=0.35 if many else 0.5, rasterized=many, zorder=3, label=f"checkpoints ({(~final).sum():,})",
        )  # fmt: skip
    if final.any():
        ax.scatter(
            flops[final], series.y[final], s=20, color=INK, linewidths=0, alpha=0.75, rasterized=many,
            zorder=3, label=f"finished runs ({final.sum():,})",
        )  # fmt: skip


def _window(ax: Axes, windows: Windows, right: float) -> None:
    opens, closes = windows.opens[0], windows.closes[0]
    if np.isnan(opens):
        return
    end = 10**closes if np.isfinite(closes) else right
    ax.axvspan(10**opens, end, color=WINDOW, alpha=0.75, lw=0, zorder=0.5, label="window")


def _heights(ax: Axes, curve: Curve, estimate: np.ndarray) -> None:
    """Frame points and curve; a band far wider than either is cut rather than allowed to flatten them."""
    levels = [curve.series.y.min(), curve.series.y.max(), estimate.min(), estimate.max()]
    info = curve.series.info
    if curve.series.metric.family == "proportion" and info.chance is not None:
        levels.append(info.chance)
    bottom, top = min(levels), max(levels)
    # So that scores that are all alike do not look like an ascent.
    room = max(0.12 * (top - bottom), 0.01 * max(abs(top), 1e-9))
    ax.set_ylim(bottom - room, top + 1.5 * room)
    if curve.series.metric.family == "proportion":
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def _references(ax: Axes, curve: Curve) -> None:
    """Horizontal lines: chance, the majority class, what clears them; the ceiling where it is in view."""
    if curve.series.metric.family != "proportion":
        return
    info = curve.series.info
    lines = [
        ("chance", info.chance, ":"),
        ("majority class", info.majority_rate, "-."),
        ("ceiling", info.ceiling, ":"),
    ]
    bottom, top = ax.get_ylim()
    drawn: list[float] = []
    for name, value, style in lines:
        if value is None or not bottom < value < top:
            continue
        ax.axhline(value, color=MUTED, lw=1, ls=style, zorder=1)
        if all(abs(value - other) > 0.04 * (top - bottom) for other in drawn):
            ax.text(
                ax.get_xlim()[1],
                value,
                f"{name} {100 * value:.3g}% ",
                ha="right",
                va="bottom",
                fontsize=8,
                color=MUTED,
            )
        drawn.append(value)


def _clears(ax: Axes, curve: Curve, windows: Windows) -> None:
    """Where the curve is 3 standard errors of one model above guessing."""
    at = windows.clears[0]
    if np.isfinite(at):
        ax.plot(
            [10**at], curve.values(np.array([at]))[0], marker="D", ms=7, mfc="white", mec=INK, mew=1.2,
            ls="none", zorder=5, label=f"clears chance at {power(10**at)}",
        )  # fmt: skip


def _title(curve: Curve, windows: Windows) -> str:
    opens, closes = windows.opens[0], windows.closes[0]
    low, high = curve.span
    if np.isnan(opens):
        window = "no window"
    else:
        start = (
            "open from the smallest model" if opens <= low + 1e-9 else f"window opens at {power(10**opens)}"
        )
        known = np.isfinite(closes) and closes <= high
        window = start + (f", closes at {power(10**closes)}" if known else ", close not identified")
    bound = "at most " if curve.noise.upper_bound else ""
    size = noise_at(curve, curve.values(np.array([high]))[0])[0]
    noise = f"noise {bound}{size:.2g} at {power(10**high)} ({curve.noise.kind})"
    return f"{curve.key}: {window}\n{noise}, trend q = {curve.trend_q:.2g}"


def plot_law(law: Any, ax: Axes | None = None) -> Axes:
    """Draw a fitted law of `scaling.estimators` over its points.

    Args:
        law: a fitted `SigmoidLaw`, `PowerLaw`, ... over log10 FLOPs.
        ax: where to draw; a new figure where absent.

    Example:
        >>> plot_law(SigmoidLaw().fit(x, y))      # doctest: +SKIP
    """
    ax = ax or new_axes(6.4, 4.0)
    low, high = float(law.x_.min()), float(law.x_.max())
    margin = max(0.03 * (high - low), 0.02)
    x = np.linspace(low - margin, high + margin, 300)
    ax.scatter(10**law.x_, law.y_, s=20, color=INK, alpha=0.75, linewidths=0, zorder=3)
    ax.plot(10**x, law.predict(x), color=CLASS_COLOURS["early-signal"], lw=2)
    compute_axis(ax, 10 ** x[0], 10 ** x[-1])
    plain(ax)
    values = ", ".join(f"{name} {value:.3g}" for name, value in law.parameters_.items())
    ax.set_title(f"{type(law).__name__}: {values}", loc="left", fontsize=10, color=INK)
    ax.set_ylabel("score")
    return ax


def plot_curves(curves: CurveSet, *, threshold: float = 0.8, horizon: float = 1.0) -> list[Axes]:
    """Draw several curves side by side on one new figure, at most `MOST`.

    Raises:
        UsageError: more curves than that.
    """
    count = len(curves)
    if count > MOST:
        raise UsageError(
            f"{count} curves: valid is up to {MOST} in one picture; choose tasks and metrics (--task)"
        )
    across = 1 if count == 1 else 2
    down = -(-count // across)
    figure = Figure(figsize=(7.2 * across, 4.6 * down), layout="constrained")
    places = figure.subplots(down, across, squeeze=False).ravel()
    for place in places[count:]:
        place.remove()
    return [
        plot_curve(curve, ax=place, threshold=threshold, horizon=horizon)
        for curve, place in zip(curves, places, strict=False)
    ]
