"""What is asked of one benchmark's items, all at once: early or late, how many, which."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.item_subsets import ItemChoice, ItemsNeeded, choose_items, items_needed
from scaling.item_windows import ItemHalves, ItemWindows, early_late, item_windows
from scaling.items import ItemScores


@dataclass(frozen=True)
class ItemReport:
    """One benchmark, item by item.

    Attributes:
        items: the scores. windows: of each item. halves: which speak early and which late.
        needed: how many keep the standard error. choice: the items chosen for the stage, or None.
        information: gain per doubling over noise within the stage, [items], or None without a stage.
    """

    items: ItemScores = field(repr=False)
    windows: ItemWindows = field(repr=False)
    halves: ItemHalves = field(repr=False)
    needed: ItemsNeeded
    choice: ItemChoice | None
    information: np.ndarray | None = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """One row per item: `ItemWindows.to_frame`, half, and for a stage information and order of choice."""
        frame = self.windows.to_frame().assign(half=self.halves.to_frame()["half"].to_numpy())
        frame["item"] = frame["item"].astype(str)  # names of one benchmark, numbers of another
        if self.information is not None:
            frame["information"] = self.information
        if self.choice is not None:
            order = pd.Series(np.arange(1, len(self.choice.index) + 1), index=self.choice.index)
            frame["chosen"] = order.reindex(frame.index).astype("Int64")
        return frame

    def _repr_html_(self) -> str:
        return f"<p>{self.items}</p>" + self.needed.to_frame().to_html(index=False)


def item_report(
    items: ItemScores,
    se: float,
    *,
    stage: tuple[float, float] | None = None,
    choose: int | None = None,
    threshold: float = 0.8,
) -> ItemReport:
    """Windows, halves and counts of one benchmark.

    Args:
        items: the scores. se: the standard error to reach, in their unit.
        stage: training FLOPs (low, high): items are early by its end, counts hold within it. Without one the
            median item parts early from late, and all checkpoints count.
        choose: how many items to choose for the stage. threshold: see `item_windows`.

    Example:
        >>> item_report(items, 0.02, stage=(1e19, 1e20), choose=100).to_frame()      # doctest: +SKIP
    """
    windows = item_windows(items, threshold)
    at = (float(items.flops.min()), float(items.flops.max())) if stage is None else stage
    halves = early_late(windows, at=None if stage is None else stage[1])
    needed = items_needed(items, se, at)
    information, choice = None, None
    if stage is not None:
        gain = windows.gain(*stage)
        information = np.divide(gain, windows.noise, out=np.zeros_like(gain), where=windows.noise > 0)
        choice = None if choose is None else choose_items(windows, *stage, choose)
    return ItemReport(items, windows, halves, needed, choice, information)
