"""Which tasks decide between recipes as large runs do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from scaling.agreement import PAIRS_NEEDED
from scaling.decisions import Decisions
from scaling.plot.canvas import INK, MUTED, RAIL, labels_of, new_axes, plain
from scaling.series import Key

REST, ITSELF = "#0072B2", "#D55E00"
ROW = 0.26  # inches
NAMES = {"suite": "the suite", "all": "all tasks averaged", "random": "random tasks"}
# Column, its pairs, colour, shift off the row, face, what it means.
JUDGES = (
    ("rest", "pairs", REST, -0.14, REST, "judged by all other benchmarks"),
    ("itself", "itself_pairs", ITSELF, 0.14, "white", "judged by the same task"),
)


def plot_decisions(decisions: Decisions, ax: Axes | None = None) -> Axes:
    """Draw the share of pairs ordered as large runs order them, a row per task, with 95% intervals.

    Filled: judged by the tasks of all other benchmarks; hollow: by the task itself. The line at 0.5 is a
    coin. Below 30 pairs there is an interval and no point: no claim. At the right stand the pairs (judged by
    the others / by itself where these differ). Rows are sorted by metric, then by share.

    Args:
        decisions: what to draw.
        ax: where to draw; a new figure, as high as the rows ask, where absent.

    Returns:
        The axes.

    Example:
        >>> decide(table, small=1e19, target=1e21).plot()      # doctest: +SKIP
    """
    rows = _sorted(decisions.rows)
    ax = ax or new_axes(7.6, 1.6 + ROW * max(len(rows), 4))
    keys = [Key.of(one.task, one.metric, one.shots) for one in rows.itertuples() if one.kind == "task"]
    names = iter(labels_of(keys))
    labels = [next(names) if kind == "task" else NAMES.get(kind, kind) for kind in map(str, rows["kind"])]
    at = np.arange(len(rows), dtype=float)
    ax.hlines(at, 0, 1, color=RAIL, lw=0.8, zorder=0)
    groups = rows["metric"].fillna("").to_numpy(dtype=object)
    ax.hlines(at[1:][groups[1:] != groups[:-1]] - 0.5, 0, 1, color=MUTED, lw=0.6, zorder=0)
    ax.axvline(0.5, color=MUTED, lw=1, ls=":", zorder=1)
    drawn = []
    for name, count, colour, shift, face, told in JUDGES:
        share, low, high = (rows[f"{name}{end}"].to_numpy(dtype=float) for end in ("", "_low", "_high"))
        known = np.isfinite(low)
        if not known.any():
            continue
        claim = known & (_counts(rows, count) >= PAIRS_NEEDED)
        ax.hlines(at[known] + shift, low[known], high[known], color=colour, lw=1.3, alpha=0.7, zorder=2)
        look = {"ls": "none", "marker": "o", "ms": 5, "mfc": face, "mec": colour, "mew": 1.2}
        ax.plot(share[claim], at[claim] + shift, **look, zorder=3, clip_on=False)
        drawn.append(Line2D([], [], color=colour, **{**look, "ls": "-"}, label=told))
    for place, pairs, own in zip(at, _counts(rows, "pairs"), _counts(rows, "itself_pairs"), strict=True):
        text = f"{pairs:,.0f}" if pairs == own or np.isnan(own) else f"{pairs:,.0f} / {own:,.0f}"
        beside = ax.get_yaxis_transform()
        ax.text(1.02, place, text, va="center", fontsize=8, color=MUTED, transform=beside)
    ax.annotate(
        "pairs", (1.02, 1), xycoords="axes fraction", xytext=(0, 3), textcoords="offset points", fontsize=8,
        color=MUTED,
    )  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    plain(ax)
    ax.tick_params(labelsize=8)
    ax.tick_params(axis="y", length=0)
    ax.set_yticks(at, labels)
    ax.set_xlabel("share of pairs of recipes ordered as the large runs are", fontsize=9)
    figure = ax.get_figure(root=True)
    if drawn and figure is not None:
        below = ax.transAxes + ScaledTranslation(0, -0.45, figure.dpi_scale_trans)
        ax.legend(
            handles=drawn, loc="upper left", fontsize=8, frameon=False, ncols=2, borderaxespad=0,
            bbox_to_anchor=(0, 0), bbox_transform=below,
        )  # fmt: skip
    ax.set_title(_title(decisions), loc="left", fontsize=10, color=INK, pad=14)
    return ax


def _counts(rows: pd.DataFrame, name: str) -> np.ndarray:
    return rows[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    """Suites first, then tasks by metric and share."""
    whole = rows["kind"] != "task"
    tasks = rows[~whole].sort_values(["metric", "rest", "task"], ascending=[True, False, True], kind="stable")
    return pd.concat([rows[whole], tasks], ignore_index=True) if whole.any() else tasks


def _title(decisions: Decisions) -> str:
    pairs, recipes = len(decisions.pairs), decisions.pairs.n_recipes
    small, target = (_span(side.frame["flops"]) for side in (decisions.small, decisions.target))
    lines = [f"Small runs against large ones: {pairs:,} pairs of {recipes} recipes"]
    if pairs < PAIRS_NEEDED:
        lines[0] += f"; no claim, {PAIRS_NEEDED} needed"
    return "\n".join([*lines, f"{small} against {target} FLOPs"])


def _span(flops: pd.Series) -> str:
    low, high = (f"{value:.1e}".replace("e+", "e") for value in (flops.min(), flops.max()))
    return low if low == high else f"{low}..{high}"
