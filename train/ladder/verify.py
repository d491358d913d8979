"""A run of a ladder done again, and its scores held against those that were kept."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scaling.errors import StagewiseError
from scaling.scores import KEY, ScoreTable
from train.ladder.climb import SCORES, Place
from train.ladder.table import PUBLISHED, rounded

# Of the mean absolute difference, by metric, on another machine: its sums are added up in another order, and
# training carries the difference on. Two threads in place of one gave 0.00001 bits and 0.00002 (92k weights,
# 195 steps); another seed gives 0.13 bits and 0.047, so that it is found out.
TOLERANCE = {"bpb": 0.02, "acc": 0.01}


@dataclass(frozen=True)
class Verified:
    """A run, once and again.

    Attributes:
        run: its name. rows: scores compared. equal: of them the same to the last digit kept.
        differences: one row per metric: metric, rows, equal, mean and largest absolute difference.

    Example:
        >>> verify(place, "0.01m-even-100k-s0", ladder()).exact               # doctest: +SKIP
        True
    """

    run: str
    rows: int
    equal: int
    differences: pd.DataFrame

    @property
    def exact(self) -> bool:
        """Whether all scores are the same."""
        return self.equal == self.rows

    @property
    def within(self) -> bool:
        """Whether the scores are those of another machine: mean differences below `TOLERANCE`."""
        means = self.differences.set_index("metric")["mean"]
        known = [metric for metric in TOLERANCE if metric in means.index]
        return bool(known) and all(means[metric] <= TOLERANCE[metric] for metric in known)

    def to_frame(self) -> pd.DataFrame:
        """One row per metric."""
        return self.differences

    def _repr_html_(self) -> str:
        return self.differences.to_html(index=False)


def verify(place: Place, run: str, kept: ScoreTable) -> Verified:
    """Train and evaluate one run again, in a temporary folder, and compare.

    Args:
        place: with text and items. run: its name. kept: the scores to hold it against.

    Raises:
        UsageError: no run of that name. StagewiseError: its scores are not among those kept, or other ones
            were measured.
    """
    cell = place.cell(run)
    before = kept.frame[kept.frame["model"] == run]
    if before.empty:
        raise StagewiseError(f"run {run!r}: not among the scores kept; it has not been run for them")
    with tempfile.TemporaryDirectory(prefix="stagewise-", dir=place.folder) as home:
        place.run(cell, Path(home))
        after = ScoreTable.read(Path(home) / SCORES / f"{run}.parquet").frame
    return compared(run, before, after)


def compared(run: str, before: pd.DataFrame, after: pd.DataFrame) -> Verified:
    """The scores of a run held against those of the same run done again.

    Raises:
        StagewiseError: scores that only one of the two has.
    """
    after = rounded(after, PUBLISHED)
    both = before.merge(after, on=list(KEY), how="outer", suffixes=("", "_again"), indicator=True)
    if lost := int((both["_merge"] != "both").sum()):
        one = both[both["_merge"] != "both"].iloc[0]
        raise StagewiseError(
            f"run {run!r}: {lost} of {len(both)} scores stand in one table only, such as step {one['step']}, "
            f"task {one['task']}, metric {one['metric']}; the ladder, its text or its tasks are others"
        )
    both["difference"] = (both["score"] - both["score_again"]).abs()
    rows = [
        {
            "metric": metric, "rows": len(group), "equal": int((group["difference"] == 0).sum()),
            "mean": float(group["difference"].mean()), "largest": float(group["difference"].max()),
        }
        for metric, group in both.groupby("metric", sort=True)
    ]  # fmt: skip
    found = pd.DataFrame(rows)
    return Verified(run, len(both), int(found["equal"].sum()), found)
