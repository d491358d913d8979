"""One figure for a whole suite, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from evalsuite.comparison import aligned
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import chance, estimate, named, per_item, take
from evalsuite.suite import Suite, Task
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.series import Key

_PROPORTIONS = ("acc", "acc_norm", "acc_bytes", "acc_centred", "p_correct")
_BITS = {"bpb": "bpb", "bpb_bytes": "bpb_bytes", "gold_ce_loss": "bpb_bytes"}  # metric: bits a byte by it
UNIFORM = 8.0  # bits a byte of a model that knows nothing
_SHARE, _LOGARITHM = "(s - c) / (1 - c)", "ln(8 / bpb)"  # scales of the score
LEAST = 1e-9  # bits a byte whose logarithm is taken, as where suites are built


@dataclass(frozen=True)
class Part:
    """A weighted mean over tasks, and its 95% interval.

    Attributes:
        name: `score` (all tasks, as share of what there is to gain), `proportions` (chance-centred) or `bits`
            (bits per byte; lower is better).
        value: the mean, or the difference of two. stderr: of it. low, high: value -+ 1.96 stderr.
        p: two-sided p-value of no difference; NaN for a lone model.
        weight: share of the suite's weight behind it. tasks: how many.
    """

    name: str
    value: float
    stderr: float
    low: float
    high: float
    p: float
    weight: float
    tasks: int


@dataclass(frozen=True)
class Headline:
    """What a suite says of a model (or, of `headline_difference`, of b minus a).

    Attributes:
        score: weighted mean over all tasks on the scale on which the suite's weights were chosen: 0 for a
            guesser.
        proportions: of the tasks scored by proportions alone. bits: of those scored by bits, in bits per
            byte. None where the suite has no such task.
        tasks: one row per task: task, metric, shots, weight, scale, value (on the scale of `score`), stderr,
            n_items.
    """

    score: Part
    proportions: Part | None
    bits: Part | None
    tasks: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """One row per part: score, proportions, bits."""
        parts = [part for part in (self.score, self.proportions, self.bits) if part is not None]
        frame = pd.DataFrame([asdict(part) for part in parts]).dropna(axis=1, how="all")
        better = np.where(frame["name"] == "bits", "lower", "higher")
        frame.insert(1, "better", better)
        return frame

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def headline(suite: Suite, likelihoods: Mapping[Key, Likelihoods]) -> Headline:
    """The weighted score of a suite.

    Every task is put on the scale on which `evalsuite build` chose the weights, with 0 for a guesser:

    - proportions: `(s - c) / (1 - c)`, c the mean over the items of 1/choices, 0 where answers are free;
    - bits: `ln(8 / bpb)`, 8 bits a byte being what a model that knows nothing needs: 0.01 more is 1% fewer
      bits. `gold_ce_loss` enters by its bits over the bytes of all answers, which has the same ratios.

    `score = sum w s`, w the suite's weights; `proportions` and `bits` are the means of the two kinds (bits
    per byte themselves), weights renormalised. Items of different tasks are independent:
    `SE^2 = sum w^2 SE_task^2`. The interval is of the draw of items (delta method for the logarithm); it
    holds neither the noise of checkpoints nor that of training. A percent of bits is worth other things than
    one of accuracy: read the parts before the sum.

    Args:
        suite: tasks, metrics, weights, items. Held-out tasks are no part of the headline.
        likelihoods: by (task, metric, shots) of the suite. More items than the suite asks for all count,
            unless it names its items.

    Raises:
        StagewiseError: tasks without results, with fewer items than the suite asks for, or without those that
            it names: all of them. A partial suite has no headline.
        UsageError: a metric that scored items cannot give, or that has no such scale (brier, margin).

    Example:
        >>> headline(suite, results).score.value        # doctest: +SKIP
        0.31
    """
    values = [_values(task, of) for task, of in _scored(suite, likelihoods)]
    return _headline(suite, values, difference=False)


def headline_difference(suite: Suite, a: Mapping[Key, Likelihoods], b: Mapping[Key, Likelihoods]) -> Headline:
    """How much b's headline exceeds a's, by the differences of the items that both were asked.

    Args:
        suite, a, b: as in `headline`.

    Returns:
        The parts of b - a; `bits` is below 0 where b is better.

    Raises:
        StagewiseError: as `headline`, and items that are not the same.

    Example:
        >>> headline_difference(suite, before, after).score.p        # doctest: +SKIP
        0.004
    """
    values = []
    for (task, x), (_, y) in zip(_scored(suite, a), _scored(suite, b), strict=True):
        x, y = aligned(x, y)
        of_y, of_x = _values(task, y), _values(task, x)
        values.append((of_y[0] - of_x[0], of_y[1] - of_x[1]))
    return _headline(suite, values, difference=True)


def _scored(suite: Suite, likelihoods: Mapping[Key, Likelihoods]) -> list[tuple[Task, Likelihoods]]:
    """Each task of the suite with the items that it asks for."""
    odd = sorted({task.metric for task in suite.tasks} - {*_PROPORTIONS, *_BITS})
    if odd:
        raise UsageError(
            f"metric {', '.join(odd)}: not on the scale of a headline, or not of scored items; valid are "
            f"{', '.join((*_PROPORTIONS, *_BITS))}"
        )
    problems: list[str] = []
    found: list[tuple[Task, Likelihoods]] = []
    for task in suite.tasks:
        of = likelihoods.get(task.key)
        problem = "no results" if of is None else _lacks(task, of)
        if problem:
            problems.append(f"{task.key}: {problem}")
        elif of is not None:
            chosen = np.isin(of.ids, np.array(task.item_ids)) if _names(task, of) else slice(None)
            found.append((task, take(of, chosen)))
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise StagewiseError(
            f"no headline: {len(problems):,} of the suite's {len(suite.tasks):,} tasks are not complete\n"
            f"{lines}\nrun the suite on this model again; what is scored already is kept"
        )
    return found


def _lacks(task: Task, of: Likelihoods) -> str:
    """What the results of a task lack, in words; empty when nothing."""
    if _names(task, of):
        lost = np.setdiff1d(np.array(task.item_ids), of.ids)
        if len(lost):
            return f"without {len(lost):,} of the {len(task.item_ids or ()):,} items it names: {named(lost)}"
    asked = len(task.item_ids) if task.item_ids else task.items or 1
    if of.n_items < asked:
        return f"{of.n_items:,} of {asked:,} items"
    there = int((~np.isnan(per_item(of, task.metric))).sum())
    return "" if there == of.n_items else f"{task.metric} defined on {there:,} of {of.n_items:,} items"


def _names(task: Task, of: Likelihoods) -> bool:
    """Whether the suite names its items as the results do, not by number as other harnesses do."""
    ids = task.item_ids or ()
    by_number = all(name.isdigit() for name in ids) and not np.isin(np.array(ids, dtype=str), of.ids).any()
    return bool(ids) and not by_number


def _values(task: Task, of: Likelihoods) -> tuple[Array, Array]:
    """What each item gives, on the scale of the score and on that of its part, [n] each."""
    if task.metric in _BITS:
        bits = per_item(of, _BITS[task.metric])
        mean = max(float(bits.mean()), LEAST)
        return np.log(UNIFORM / mean) - (bits - bits.mean()) / mean, bits
    values = per_item(of, task.metric)
    if task.metric != "acc_centred":
        c = float(chance(of).mean())
        values = (values - c) / (1.0 - c)
    return values, values


def _headline(suite: Suite, values: list[tuple[Array, Array]], *, difference: bool) -> Headline:
    """From the values of the items of each task."""
    found = [[estimate(task.metric, of) for of in two] for task, two in zip(suite.tasks, values, strict=True)]
    bits = np.array([task.metric in _BITS for task in suite.tasks])
    weight = np.array([task.weight for task in suite.tasks])
    frame = pd.DataFrame(
        {
            "task": [task.task for task in suite.tasks], "metric": [task.metric for task in suite.tasks],
            "shots": pd.array([task.shots for task in suite.tasks], dtype="Int64"),
            "weight": weight / weight.sum(), "scale": np.where(bits, _LOGARITHM, _SHARE),
            "value": [one.score for one, _ in found], "stderr": [one.stderr for one, _ in found],
            "n_items": [one.n_items for one, _ in found],
        }
    )  # fmt: skip
    plain = frame.assign(value=[one.score for _, one in found], stderr=[one.stderr for _, one in found])
    return Headline(
        score=_part("score", frame, difference),
        proportions=None if bits.all() else _part("proportions", plain[~bits], difference),
        bits=_part("bits", plain[bits], difference) if bits.any() else None,
        tasks=frame,
    )


def _part(name: str, tasks: pd.DataFrame, difference: bool) -> Part:
    """The weighted mean of some tasks."""
    share = float(tasks["weight"].sum())
    w = tasks["weight"].to_numpy(dtype=float) / share
    mean = float(w @ tasks["value"].to_numpy(dtype=float))
    error = float(np.sqrt(w**2 @ tasks["stderr"].to_numpy(dtype=float) ** 2))
    # Where nothing varies the mean is what it is.
    p = float(2.0 * stats.norm.sf(abs(mean) / error)) if error != 0.0 else float(mean == 0.0)
    p = p if difference else float("nan")
    half = float(stats.norm.ppf(0.975)) * error
    return Part(name, mean, error, mean - half, mean + half, p, share, len(tasks))
