"""Panels whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scaling.panel import Panel
from scaling.series import Key

METRICS = {"proportion": "acc", "bits": "bpb", "loss": "ce_loss"}


def points(
    *,
    runs: int = 10,
    checkpoints: int = 4,
    low: float = 18.0,
    high: float = 22.0,
    ratios: Sequence[float] = (1.3,),
) -> Panel:
    """A panel of no tasks: `runs` runs that end evenly over low..high (log10 FLOPs).

    Each run has checkpoints evenly over its training; its log10(D/N) in the end goes round `ratios`.
    """
    done = np.arange(1, checkpoints + 1) / checkpoints
    x = (np.linspace(low, high, runs)[:, None] + np.log10(done)).ravel()
    ratio = (np.resize(ratios, runs)[:, None] + np.log10(done)).ravel()
    order = np.argsort(x, kind="stable")
    run = np.repeat(np.arange(runs), checkpoints)[order]
    none = np.empty((0, len(x)))
    return Panel(
        keys=(), family="proportion", x=x[order], ratio=ratio[order], run=run, cluster=run,
        final=np.tile(done == 1.0, runs)[order], y=none, floor=np.empty(0), ceiling=np.empty(0),
        bits=none, bridge=(),
    )  # fmt: skip


def scored(
    at: Panel, *rows: np.ndarray, family: str = "proportion", chance: float = 0.25, bits=None
) -> Panel:
    """The points with one task per row of scores [n], and perhaps the surprise that goes with all of them."""
    tasks = len(rows)
    none = np.full((tasks, len(at.x)), np.nan)
    return replace(
        at,
        keys=tuple(Key(f"task{i}", METRICS[family], 0) for i in range(tasks)),
        family=family,
        y=np.stack(rows),
        floor=np.full(tasks, chance if family == "proportion" else np.nan),
        ceiling=np.ones(tasks),
        bits=none if bits is None else np.tile(bits, (tasks, 1)),
        bridge=("" if bits is None else "bits",) * tasks,
    )


def size_and_data(x: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N and D, from log10 of 6 N D and log10(D/N)."""
    product = 10.0**x / 6.0
    return np.sqrt(product / 10.0**ratio), np.sqrt(product * 10.0**ratio)
