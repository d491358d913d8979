"""Which items a stage's suite should hold, and how many are enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.errors import StagewiseError, UsageError
from scaling.item_windows import ItemWindows, item_windows
from scaling.items import ItemScores
from scaling.laws import Array

DENSE = 6000  # items up to which all noise covariances are held at once (about 300 MB)
LIKE = 1.3  # factor in compute within which two checkpoints are alike


@dataclass(frozen=True)
class ItemChoice:
    """Items chosen for an interval of compute, best first.

    Attributes:
        task: the benchmark. low, high: the interval, in log10 FLOPs.
        index: of the items in the benchmark, [count]. ids: their names, [count].
        information: of each alone: mean gain per doubling in the interval over noise, [count].
        together: of the mean of the first 1, 2, ... items, [count].
    """

    task: str
    low: float
    high: float
    index: np.ndarray = field(repr=False)
    ids: np.ndarray = field(repr=False)
    information: Array = field(repr=False)
    together: Array = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per chosen item, in order of choice."""
        return pd.DataFrame(
            {
                "task": self.task, "item": self.ids, "index": self.index,
                "information": self.information, "together": self.together,
            }
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


@dataclass(frozen=True)
class ItemsNeeded:
    """How many items keep a standard error under a value.

    Attributes:
        task: the benchmark. se: the standard error asked for. low, high: log10 FLOPs it was asked at.
        total: items of the benchmark. finite: whether the mean over these items is the target.
        mean: score over items and checkpoints. variance: between items, at one checkpoint (mean over
            checkpoints). needed: items for the mean of one checkpoint.
        variance_paired: between items, of the difference of two checkpoints of like compute and different
            models (mean over pairs); NaN without pairs. needed_paired: items for that difference; None
            without pairs.
        checkpoints, pairs: what the figures rest on.
    """

    task: str
    se: float
    low: float
    high: float
    total: int
    finite: bool
    mean: float
    variance: float
    needed: int
    variance_paired: float
    needed_paired: int | None
    checkpoints: int
    pairs: int

    def to_frame(self) -> pd.DataFrame:
        """The one row."""
        return pd.DataFrame([{name: getattr(self, name) for name in self.__dataclass_fields__}])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def choose_items(
    items: ItemScores | ItemWindows,
    flops_low: float,
    flops_high: float,
    count: int,
    *,
    redundancy: bool = True,
) -> ItemChoice:
    """The items that say most within an interval of compute.

    Items are taken one by one. Each time the next is the one with which the mean of the chosen has most
    information: gain per doubling in the interval over checkpoint noise, `sum g / sqrt(1' C 1)`, C the
    noise covariance of the chosen. Items that wobble together at a checkpoint are therefore not
    piled up, and noise that two share with opposite sign is cancelled. The covariance is itself measured
    on a few checkpoints, so `together` promises too much where many items were chosen.

    Args:
        items: the scores, or their windows where they are there already.
        flops_low, flops_high: the interval in training FLOPs.
        count: how many items.
        redundancy: False ranks items by their own information instead, as if their noise were independent.

    Returns:
        The choice. Shorter choices are its beginnings.

    Raises:
        UsageError: a count that the benchmark cannot give, an interval outside the measured span.

    Source:
        Greedy forward selection; the SNR of a mean under correlated noise.

    Example:
        >>> choose_items(windows, 1e19, 1e20, 50).ids            # doctest: +SKIP
    """
    windows = item_windows(items) if isinstance(items, ItemScores) else items
    total = len(windows.ids)
    if not 1 <= count <= total:
        raise UsageError(f"count: got {count}, valid is 1 to the {total} items of {windows.task}")
    gain = windows.gain(flops_low, flops_high)
    tiny = 1e-9 * max(float(windows.noise.max()), 1e-9)
    alone = gain / np.maximum(windows.noise, tiny)
    column = _covariance(windows, count)
    order = np.argsort(-alone, kind="stable") if not redundancy else None
    index, together = _greedy(gain, windows.noise**2 + tiny**2, column, count, order)
    return ItemChoice(
        windows.task, float(np.log10(flops_low)), float(np.log10(flops_high)),
        index, windows.ids[index], alone[index], together,
    )  # fmt: skip


def _covariance(windows: ItemWindows, count: int) -> Callable[[int], Array]:
    """Noise covariance of all items with one, as a function of that one."""
    wobble = np.asarray(windows.wobble, dtype=np.float32)
    if len(wobble) <= DENSE and count > len(wobble) // 20:
        every = wobble @ wobble.T / np.float32(windows.df)
        return lambda j: every[j]
    return lambda j: wobble @ wobble[j] / np.float32(windows.df)


def _greedy(
    gain: Array, own: Array, column: Callable[[int], Array], count: int, order: np.ndarray | None
) -> tuple[np.ndarray, Array]:
    """Forward selection (or a given order), and the information of the mean after each step."""
    shared = np.zeros(len(gain))  # covariance of each item with the sum of the chosen
    free = np.ones(len(gain), dtype=bool)
    total, spread = 0.0, 0.0
    index, together = np.empty(count, dtype=int), np.empty(count)
    for i in range(count):
        # Rounding must not turn the variance of a sum that cancels into less than nothing.
        after = np.maximum(spread + 2.0 * shared + own, 1e-6 * own)
        value = (total + gain) / np.sqrt(after)
        j = int(np.where(free, value, -np.inf).argmax()) if order is None else int(order[i])
        index[i], together[i], free[j] = j, value[j], False
        total, spread = total + gain[j], after[j]
        shared += column(j)
    return index, together


def items_needed(
    items: ItemScores, se: float, at: tuple[float, float], *, ratio: float = LIKE, finite: bool = True
) -> ItemsNeeded:
    """How many items keep the standard error of the benchmark's mean under `se`.

    m of M items drawn without replacement have `SE^2 = S^2 / m * (1 - m / M)`, S^2 the variance between
    items, hence `m = S^2 / (se^2 + S^2 / M)`. A decision between two models compares them on the
    same items: the same formula with the variance between items of their *difference*.

    Args:
        items: the scores.
        se: the standard error, in the unit of the scores.
        at: (low, high) training FLOPs: checkpoints in this interval count.
        ratio: pairs are checkpoints of different models within this factor in compute.
        finite: the target is the mean over the benchmark's own items. False: over all the questions that
            they were drawn from, which can ask for more items than there are.

    Returns:
        The counts; their SE is meant over checkpoints, or pairs, as the root of a mean square.

    Raises:
        StagewiseError: no checkpoint in the interval, or a single item.
        UsageError: se, at or ratio out of range.

    Source:
        Cochran 1977, Sampling Techniques, 2.6 and 4.5.

    Example:
        >>> items_needed(items, 0.05, at=(1e20, 1e21)).needed_paired      # doctest: +SKIP
    """
    if not se > 0:
        raise UsageError(f"se: got {se}, valid is above 0")
    if not 0 < at[0] < at[1]:
        raise UsageError(f"at: got {at}, valid is (LOW, HIGH) FLOPs with 0 < LOW < HIGH")
    if not ratio >= 1:
        raise UsageError(f"ratio: got {ratio}, valid is 1 or more")
    if items.n_items < 2:
        raise StagewiseError(f"item scores of {items.task}: one item has no spread; give at least two")
    inside = (items.flops >= at[0]) & (items.flops <= at[1])
    if not inside.any():
        raise StagewiseError(
            f"item scores of {items.task}: no checkpoint in {at[0]:g}..{at[1]:g} FLOPs; measured are "
            f"{items.flops.min():.3g}..{items.flops.max():.3g}"
        )
    part = items.where(inside)
    total = part.n_items
    centred = part.scores - part.scores.mean(axis=1, keepdims=True, dtype=float)
    covariance = centred @ centred.T / (total - 1)
    own = np.diag(covariance)
    a, b = like_pairs(part, ratio)
    paired = own[a] + own[b] - 2.0 * covariance[a, b]
    variance = float(own.mean())
    variance_paired = float(paired.mean()) if len(a) else float("nan")

    def needed(spread: float) -> int:
        # A count that is whole but for rounding must not become the next one.
        exact = spread / (se**2 + (spread / total if finite else 0.0))
        return max(1, int(np.ceil(exact * (1.0 - 1e-12))))

    return ItemsNeeded(
        items.task, float(se), float(np.log10(at[0])), float(np.log10(at[1])), total, finite,
        float(part.mean().mean()), variance, needed(variance), variance_paired,
        needed(variance_paired) if len(a) else None, len(own), len(a),
    )  # fmt: skip


def like_pairs(items: ItemScores, ratio: float = LIKE) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of checkpoints of different models within a factor `ratio` in compute."""
    first, second = np.triu_indices(len(items.step), 1)
    alike = np.abs(items.x[first] - items.x[second]) <= np.log10(ratio) + 1e-12
    chosen = alike & (items.model[first] != items.model[second])
    return first[chosen], second[chosen]
