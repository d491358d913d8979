"""Clusters of tasks: dendrogram beside the rank correlations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.cluster.hierarchy import dendrogram

from scaling.cluster import APART, Clusters
from scaling.plot.canvas import INK, MUTED, labels_of

# Okabe and Ito without the yellow, which is too pale for text and thin lines.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#7A4FA3", "#000000")
CELL = 0.19  # inches


def plot_clusters(clusters: Clusters, axes: Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
    """Draw the dendrogram beside the matrix of rank correlations, in the same order.

    A cluster is a colour in the dendrogram and the names, and a frame in the matrix.

    Args:
        clusters: what to draw.
        axes: two axes, for the dendrogram and for the matrix; a new figure where absent.

    Returns:
        The axes of the dendrogram and of the matrix.

    Example:
        >>> plot_clusters(cluster_tasks(curves))[0].figure.savefig("clusters.png")      # doctest: +SKIP
    """
    count = len(clusters.keys)
    own = axes is None
    if axes is None:
        side = max(CELL * count, 2.4)
        figure = Figure(figsize=(side + 5.6, side + 1.6), layout="constrained")
        # An array of Axes, which the stubs take for a single one.
        pair: Any = figure.subplots(1, 2, width_ratios=[2.0, side])
        tree, matrix = pair
    else:
        tree, matrix = axes
    drawn: Any = dendrogram(clusters.linkage, no_plot=True)
    order = [int(leaf) for leaf in drawn["leaves"]]
    cluster_of = [clusters.labels[clusters.keys[leaf]] for leaf in order]
    _tree(tree, clusters, order, drawn)
    _matrix(matrix, clusters, order, cluster_of)
    _title(tree, clusters, own=own)
    return tree, matrix


def _colour(cluster: int) -> str:
    return PALETTE[(cluster - 1) % len(PALETTE)]


def _tree(ax: Axes, clusters: Clusters, order: list[int], drawn: Any) -> None:
    """Leaves at the right, rows as in the matrix (scipy puts leaf i at 5 + 10 i)."""
    rows = (np.asarray(drawn["icoord"]) - 5.0) / 10.0
    depth = np.asarray(drawn["dcoord"])
    lines = [np.column_stack([d, r]) for r, d in zip(rows, depth, strict=True)]
    colours = []
    for r in rows:
        below = range(int(np.floor(r.min())), int(np.ceil(r.max())) + 1)
        found = {clusters.labels[clusters.keys[order[leaf]]] for leaf in below}
        colours.append(_colour(found.pop()) if len(found) == 1 else MUTED)
    ax.add_collection(LineCollection(lines, colors=colours, linewidths=1.3, capstyle="projecting"))
    ax.set_xlim(float(depth.max()) * 1.05, 0)
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_xlabel("Ward distance", fontsize=9)
    ax.tick_params(colors=INK, labelsize=8)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    if len(set(clusters.formats)) > 1:
        ax.axvline(APART, color=MUTED, lw=0.8, ls=":")
        ax.annotate(
            "formats part", (APART, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), ha="center",
            textcoords="offset points", fontsize=7, color=MUTED,
        )  # fmt: skip


def _matrix(ax: Axes, clusters: Clusters, order: list[int], cluster_of: list[int]) -> None:
    count = len(order)
    image = ax.imshow(
        clusters.rho[np.ix_(order, order)],
        cmap="RdBu",
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    labels = labels_of([clusters.keys[leaf] for leaf in order])
    ax.yaxis.tick_right()
    ax.set_yticks(range(count), labels, fontsize=8)
    ax.set_xticks([])
    ax.tick_params(length=0)
    for text, cluster in zip(ax.get_yticklabels(), cluster_of, strict=True):
        text.set_color(_colour(cluster))
    starts = [0, *(i for i in range(1, count) if cluster_of[i] != cluster_of[i - 1]), count]
    for start, end in pairwise(starts):
        corner = (start - 0.5, start - 0.5)
        frame = Rectangle(
            corner, end - start, end - start, fill=False, ec=INK, lw=1.4, zorder=3, clip_on=False
        )
        ax.add_patch(frame)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("rank correlation of residuals around the curves (models of like compute)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _title(ax: Axes, clusters: Clusters, own: bool) -> None:
    """Above both axes on a figure of our own, else above the first."""
    figure = ax.get_figure(root=True)
    width = int(12 * figure.get_size_inches()[0]) if figure is not None else 80
    lines = [f"Which of {len(clusters.keys)} tasks say the same", *wrap(clusters.criterion, max(width, 40))]
    if own and figure is not None:
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, color=INK)
    else:
        ax.set_title("\n".join(lines), loc="left", fontsize=9, color=INK, pad=14)
