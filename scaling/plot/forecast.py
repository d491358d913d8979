"""What comes next: a forecast over its points, and forecasts against what came."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from scaling.backtests import OURS, Backtest
from scaling.errors import StagewiseError
from scaling.forecasts import Forecast
from scaling.laws import Array
from scaling.methods import methods_for, point_weights
from scaling.metrics import metric_info
from scaling.plot.canvas import BEYOND, INK, MUTED, compute_axis, new_axes, plain

BLEND = "#0072B2"
MISSED = "#D55E00"
LINES = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#7A4FA3")  # one per method
LAST = "last value"
NARROW = 0.2  # of the axis: too little for two words side by side
UNITS = {"proportion": "points"}


def curves_of(forecast: Forecast, x: Array) -> tuple[dict[str, Array], Array]:
    """Every method that has an answer, and the blend, at log10 FLOPs `x` and the target's D/N.

    At the targets the blend is the forecast.
    """
    panel, made = forecast.panel, forecast.blend
    weights = point_weights(panel)[None]
    ratio = np.full(len(x), made.ratio[0])
    total, lines = np.zeros(len(x)), {}
    for name, method, share in zip(
        made.methods, methods_for(panel).values(), made.weights[forecast.place], strict=True
    ):
        values = method(panel, made.exponent, weights, x, ratio)[0, 0]
        if np.isfinite(values).any():
            lines[name] = values
        if share > 0:
            total += share * values
    return lines, total


def plot_forecast(forecast: Forecast, ax: Axes | None = None) -> Axes:
    """Draw one forecast: its points, each method thin with its weight, their mean bold, the targets.

    Finished runs are filled points, other checkpoints hollow ones. Where an interval is identified a target
    has a bar, elsewhere it is hollow. What lies beyond the largest compute at hand is shaded. Methods are
    drawn at the target's tokens per parameter, so that they may pass beside points that have others.

    Args:
        forecast: of one task, at one or several targets.
        ax: where to draw; a new figure where absent.

    Returns:
        The axes.

    Example:
        >>> forecast(table, "piqa", 1e23).plot().figure.savefig("piqa.png")      # doctest: +SKIP
    """
    ax = ax or new_axes(8.4, 4.6)
    panel = forecast.panel
    targets = np.log10(forecast.flops)
    low, high, end = panel.x.min(), panel.x.max(), max(targets.max(), panel.x.max())
    margin = 0.04 * (end - low)
    x = np.unique(np.concatenate([np.linspace(low, end, 300), targets]))
    lines, mean = curves_of(forecast, x)
    shares = dict(zip(forecast.blend.methods, forecast.blend.weights[forecast.place], strict=True))
    if end > high:
        ax.axvspan(10**high, 10 ** (end + margin), color=BEYOND, lw=0, zorder=0)
    y, final = panel.y[0], panel.final
    many = len(y) > 2000
    if (~final).any():
        ax.scatter(
            10 ** panel.x[~final], y[~final], s=12, facecolors="none", edgecolors=INK, linewidths=0.6,
            alpha=0.35 if many else 0.5, rasterized=many, zorder=3, label=f"checkpoints ({(~final).sum():,})",
        )  # fmt: skip
    if final.any():
        ax.scatter(
            10 ** panel.x[final], y[final], s=20, color=INK, linewidths=0, alpha=0.75, zorder=3,
            label=f"finished runs ({final.sum():,})",
        )  # fmt: skip
    for i, (name, values) in enumerate(lines.items()):
        colour = MUTED if name == "level" else LINES[i % len(LINES)]
        ax.plot(10**x, values, color=colour, lw=1.1, zorder=4, label=f"{name} ({shares[name]:.0%})")
    inside = x <= high
    ax.plot(10 ** x[inside], mean[inside], color=BLEND, lw=2.6, zorder=5, label="forecast")
    ax.plot(10 ** x[~inside], mean[~inside], color=BLEND, lw=2.6, ls=(0, (3, 1.2)), zorder=5)
    _targets(ax, forecast)
    compute_axis(ax, 10 ** (low - margin), 10 ** (end + margin))
    if forecast.axis == "bytes":
        ax.set_xlabel("6 N (bytes of text)")
    plain(ax)
    _heights(ax, forecast, np.concatenate([y, mean, forecast.value, forecast.low, forecast.high]))
    if end > high:
        above = ax.get_xaxis_transform()
        said = " not measured" if end + margin - high > NARROW * (end - low) else " not\n measured"
        ax.text(10**high, 0.99, said, transform=above, va="top", fontsize=8, color=MUTED)
    metric = metric_info(forecast.key.metric)
    ax.set_ylabel(metric.name + (f" ({metric.unit})" if metric.unit else ""))
    ax.set_title(_title(forecast), loc="left", fontsize=10, color=INK)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    return ax


def _targets(ax: Axes, forecast: Forecast) -> None:
    known = np.isfinite(forecast.low)
    if known.any():
        sides = forecast.value[known] - forecast.low[known], forecast.high[known] - forecast.value[known]
        ax.errorbar(
            forecast.flops[known], forecast.value[known], yerr=np.stack(sides), fmt="o", ms=6, color=BLEND,
            ecolor=BLEND, elinewidth=1.6, capsize=4, zorder=6, label=f"target, {forecast.level:.0%} interval",
        )  # fmt: skip
    if (~known).any():
        ax.plot(
            forecast.flops[~known], forecast.value[~known], marker="o", ms=7, mfc="white", mec=BLEND, mew=1.6,
            ls="none", zorder=6, label="target, interval\nnot identified",
        )  # fmt: skip


def _heights(ax: Axes, forecast: Forecast, levels: Array) -> None:
    """Frame points, forecast and interval; a method that goes elsewhere is cut."""
    bottom, top = np.nanmin(levels), np.nanmax(levels)
    room = max(0.08 * (top - bottom), 0.01 * max(abs(top), 1e-9))
    ax.set_ylim(bottom - room, top + 1.5 * room)
    if forecast.blend.panel.family == "proportion":
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def _title(forecast: Forecast) -> str:
    percent = forecast.blend.panel.family == "proportion"

    def written(value: float) -> str:
        return f"{100 * value:.1f}%" if percent else f"{value:.3g}"

    value, low, high = forecast.value[-1], forecast.low[-1], forecast.high[-1]
    between = f" ({written(low)} to {written(high)})" if np.isfinite(low) else ", interval not identified"
    away = f"{forecast.beyond[-1]:.2g}x the largest compute at hand"
    return f"{forecast.key}: {written(value)}{between}\nat {away}"


def plot_backtest(backtest: Backtest, ax: Axes | None = None, *, family: str | None = None) -> Axes:
    """Draw forecasts against what was observed, with their intervals; a perfect one lies on the diagonal.

    Args:
        backtest: what to draw.
        ax: where to draw; a new figure where absent.
        family: of metrics (proportion, bits, loss), whose units differ; where absent the one with most
            targets.

    Returns:
        The axes; the title has the mean error of the forecast and of the last value carried forward.

    Raises:
        StagewiseError: no forecast of that family.

    Example:
        >>> backtest(table, cut_params=1e9).plot()      # doctest: +SKIP
    """
    rows = backtest.rows
    ours = rows[rows["method"] == OURS]
    counts = ours["family"].value_counts()
    family = family or (str(counts.idxmax()) if len(counts) else "")
    rows, ours = rows[rows["family"] == family], ours[ours["family"] == family]
    if ours.empty:
        known = ", ".join(sorted(map(str, counts.index))) or "none"
        raise StagewiseError(f"back-test: no forecast of family {family!r}; there are {known}")
    ax = ax or new_axes(7.2, 5.6)
    observed, value = (ours[name].to_numpy(dtype=float) for name in ("observed", "predicted"))
    low, high = (ours[name].to_numpy(dtype=float) for name in ("low", "high"))
    known = np.isfinite(low)
    inside = known & (low <= observed) & (observed <= high)
    many = len(ours) > 400
    # Intervals are cut to the frame, so that a wide one does not hide all others.
    ends = np.concatenate([observed, value])
    bottom, top = ends.min(), ends.max()
    room = 0.05 * max(top - bottom, 1e-6)
    ax.plot([bottom - room, top + room], [bottom - room, top + room], color=MUTED, lw=1, ls=":", zorder=1)
    for mask, colour, face, name in (
        (inside, BLEND, BLEND, "in the interval"),
        (known & ~inside, MISSED, MISSED, "outside the interval"),
        (~known, MUTED, "none", "interval\nnot identified"),
    ):
        if not mask.any():
            continue
        ax.vlines(observed[mask], low[mask], high[mask], color=colour, lw=0.8, alpha=0.2 if many else 0.4)
        ax.scatter(
            observed[mask], value[mask], s=16 if many else 24, facecolors=face, edgecolors=colour,
            linewidths=0.8, alpha=0.7, rasterized=len(ours) > 2000, zorder=3,
            label=f"{name} ({mask.sum():,})",
        )  # fmt: skip
    ax.set_xlim(bottom - room, top + room)
    ax.set_ylim(bottom - room, top + room)
    ax.set_aspect("equal")
    if family == "proportion":
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    plain(ax)
    ax.set_xlabel("observed")
    ax.set_ylabel("forecast")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    ax.set_title(_compared(rows, family, backtest.cut), loc="left", fontsize=10, color=INK)
    return ax


def _compared(rows: pd.DataFrame, family: str, cut: str) -> str:
    means = rows.groupby("method")["error"].mean()
    unit = UNITS.get(family, "")
    last = f", last value {means[LAST]:.3g}" if LAST in means else ""
    return f"{family}: mean error {means[OURS]:.3g}{last} {unit}".rstrip() + f"\n{cut}"
