"""What a run can do by capability: one series each, which a missing task or fewer items do not bend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.answers import Answers, Change, change
from scaling.laws import Array
from scaling.series import Key

BACK = 8  # independent evaluations that a new one is compared with at most


@dataclass(frozen=True)
class Capability:
    """One capability under one suite, over the n evaluations that measured it.

    Attributes:
        name, suite: whose.
        kind: `bits`, `proportions` or `mixed`: what its tasks are scored by.
        step: of each evaluation, [n], ascending. compute: FLOPs, or tokens, or steps, all above 0, [n].
        level: weighted mean over its tasks on the scale of the headline, from evaluation to evaluation by
            what both asked, [n].
        raw: the plain mean over the tasks and items that were asked, in units of the metrics, [n].
        alone: evaluations that share no snapshot with one another, [n].
        variance: of the noise, against an evaluation with all items, [n].
        floor: noise that the items alone make, from what was seen so far, [n].
    """

    name: str
    suite: str
    kind: str
    step: NDArray[np.int64]
    compute: Array
    level: Array
    raw: Array
    alone: NDArray[np.bool_]
    variance: Array
    floor: Array

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Positions of the evaluations that are `alone`."""
        return np.flatnonzero(self.alone)


Source = Callable[[int, str, Key], Answers | None]  # step, suite, key of a task


def disjoint(first: Sequence[int], last: Sequence[int]) -> NDArray[np.bool_]:
    """Evaluations that share no snapshot, forward in time, [n]: each whose oldest is newer than all before.

    Args:
        first, last: steps of the oldest and newest snapshot of each, in order of the evaluations, [n].

    Example:
        >>> disjoint([1, 3, 5, 8], [4, 6, 8, 9]).tolist()
        [True, False, True, False]
    """
    chosen = np.zeros(len(first), dtype=bool)
    newest = -np.inf
    for i, (oldest, end) in enumerate(zip(first, last, strict=True)):
        if oldest > newest:
            chosen[i], newest = True, end
    return chosen


def capabilities(series: pd.DataFrame, source: Source | None = None) -> list[Capability]:
    """One series per capability and suite.

    The first evaluation has the weighted mean over its tasks. Every later one is compared with the one,
    among the last `BACK` independent ones before it, that shares most with it: the weighted mean of the gains
    of the tasks of both, on the items of both, is added to that one's level. So an evaluation without a task,
    or with fewer items, makes no jump, and the next full one is compared with a full one again.

    Args:
        series: as `Evaluations.series` gives it, one row per evaluation and task. A task without capability
            counts under its cluster. Rows whose metric has no scale (margin, brier) are left out, and
            evaluations without compute (step 0).
        source: gives the answers of an evaluation on a task; the rows' scores alone where absent.

    Returns:
        In order of suite and name. An evaluation that shares no task with any before it is left out.
    """
    found = []
    if not len(series):
        return found
    frame = series.assign(name=named(series), compute=_compute(series))
    frame = frame[(frame["compute"] > 0) & frame["weight"].gt(0)]
    for (suite, name), rows in frame.groupby(["suite", "name"], sort=True):
        made = _capability(str(name), str(suite), rows, source)
        if made is not None:
            found.append(made)
    return found


def _capability(name: str, suite: str, rows: pd.DataFrame, source: Source | None) -> Capability | None:
    weight: dict[Key, float] = {}
    kinds: set[bool] = set()
    steps, computes, windows, levels, raws, gaps, sizes = [], [], [], [], [], [], []
    answers: list[dict[Key, Answers]] = []
    alone: list[bool] = []
    for step, part in rows.groupby("step", sort=True):
        here: dict[Key, Answers] = {}
        for row in part.to_dict("records"):
            key = Key.of(row["task"], row["metric"], row["shots"])
            one = source(int(step), suite, key) if source else None  # pyright: ignore[reportArgumentType]
            one = one or Answers.of_score(key.metric, row["score"], row["n_items"])
            if one is not None:
                here[key] = one
                weight.setdefault(key, float(row["weight"]))
        compute = float(part["compute"].iloc[0])
        if not here or (computes and compute <= computes[-1]):
            continue
        linked = _linked(here, answers, alone, weight)
        if linked is None and answers:
            continue
        if linked is None:
            level, gap = _mean({key: one.value for key, one in here.items()}, weight), np.nan
            size = _size({key: one.n_items or 1 for key, one in here.items()}, weight)
        else:
            back, gain, gap, size = linked
            level = levels[back] + gain
        kinds |= {one.bits for one in here.values()}
        steps.append(int(step))  # pyright: ignore[reportArgumentType]
        computes.append(compute)
        windows.append((int(part["first"].iloc[0]), int(part["last"].iloc[0])))
        levels.append(level)
        raws.append(_mean({key: float(one.values.mean()) for key, one in here.items()}, weight))
        gaps.append(gap)
        sizes.append(size)
        answers.append(here)
        alone.append(bool(disjoint(*zip(*windows, strict=True))[-1]))
    if not steps:
        return None
    seen = np.array(gaps)
    known = np.isfinite(seen)
    count = np.maximum(np.cumsum(known), 1)
    # A level has half the variance of the difference of two.
    floor = np.sqrt(np.cumsum(np.where(known, seen, 0.0)) / count / 2.0)
    size = np.array(sizes, dtype=float)
    return Capability(
        name, suite, "mixed" if len(kinds) > 1 else "bits" if True in kinds else "proportions",
        np.array(steps), np.array(computes), np.array(levels), np.array(raws), np.array(alone),
        np.maximum.accumulate(size) / size, floor,
    )  # fmt: skip


def _linked(
    here: dict[Key, Answers], before: list[dict[Key, Answers]], alone: list[bool], weight: dict[Key, float]
) -> tuple[int, float, float, float] | None:
    """The evaluation before that shares most: its position, the gain, its variance, the items behind it."""
    best: tuple[float, int, dict[Key, Change]] | None = None
    most = sum(weight[key] * max(one.n_items, 1) for key, one in here.items())
    for back in [i for i in range(len(before)) if alone[i]][: -BACK - 1 : -1]:
        changes = {
            key: made
            for key in here
            if key in before[back] and (made := change(before[back][key], here[key])) is not None
        }
        shared = sum(weight[key] * one.items for key, one in changes.items())
        if changes and (best is None or shared > best[0] * (1 + 1e-9)):
            best = (shared, back, changes)
        if shared >= most * (1 - 1e-9):
            break
    if best is None:
        return None
    _, back, changes = best
    total = sum(weight[key] for key in changes)
    gain = _mean({key: one.gain for key, one in changes.items()}, weight)
    variance = sum((weight[key] / total) ** 2 * one.variance for key, one in changes.items())
    return back, gain, variance, _size({key: one.items for key, one in changes.items()}, weight)


def _mean(values: dict[Key, float], weight: dict[Key, float]) -> float:
    total = sum(weight[key] for key in values)
    return sum(weight[key] * value for key, value in values.items()) / total


def _size(items: dict[Key, int], weight: dict[Key, float]) -> float:
    """As many items as an unweighted task would need for the same noise: (sum w)^2 / sum(w^2 / n)."""
    total = sum(weight[key] for key in items)
    return total**2 / sum(weight[key] ** 2 / n for key, n in items.items())


def named(series: pd.DataFrame) -> pd.Series:
    """The capability of each row, else its cluster, else its task."""
    cluster = "cluster " + series["cluster"].astype("string")
    known = series["capability"].astype("string")
    return known.where(known.ne("")).fillna(cluster).fillna(series["task"].astype("string"))


def _compute(series: pd.DataFrame) -> pd.Series:
    """FLOPs where every row has them, else tokens, else steps."""
    for name in ("flops", "tokens"):
        values = series[name].astype(float)
        if np.isfinite(values).all():
            return values
    return series["step"].astype(float)
