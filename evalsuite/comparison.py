"""Two models on the same items: task by task, with the number of tasks taken into account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import bdtr, gammaincinv, ndtri, stdtr, stdtrit

from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import chance, named, per_item, take, undefined
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.metrics import metric_info

FEW = 25  # items that tell two models apart, below which right and wrong answers get the exact test
LEVEL = 0.05
POWER = 0.8
_RIGHT = ("acc", "acc_norm", "acc_bytes", "acc_centred")  # metrics of right and wrong answers

Where = tuple[str, int | None]  # task, shots


@dataclass(frozen=True)
class Paired:
    """How much b's score exceeds a's, on the same items.

    Attributes:
        metric: what was compared. a, b: the two scores. difference: b - a.
        stderr: of the difference: sd of the differences of the items over sqrt(n); NaN of one item.
        spread: standard error behind `low` and `high`; the adjusted one where the test is exact.
        low, high: 95% interval of the difference.
        p: two-sided p-value of no difference. test: which test it is of.
        n_items: the items behind it.
        step: between a wrong and a right answer; None of other metrics.
    """

    metric: str
    a: float
    b: float
    difference: float
    stderr: float
    spread: float = field(repr=False)
    low: float
    high: float
    p: float
    test: Literal["t", "exact McNemar"]
    n_items: int
    step: float | None = field(default=None, repr=False)

    def detectable(self, level: float = LEVEL) -> float:
        """The true difference that a test at `level` finds with a probability of 80%.

        `(t_{1 - level/2} + t_{0.8}) * spread`. The exact test needs log2(2 / level) items on which the two
        differ, all one way: at least the difference that gives so many with that probability. NaN where
        nothing varies.
        """
        exact = self.test == "exact McNemar"
        df = np.inf if exact else max(self.n_items - 1, 1)
        needed = self.spread * float(stdtrit(df, 1.0 - level / 2.0) + stdtrit(df, POWER))
        if exact and self.step is not None:
            fewest = np.ceil(np.log2(2.0 / level))
            return max(needed, self.step * float(gammaincinv(fewest, POWER)) / self.n_items)
        return needed if self.spread > 0 else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """The one row."""
        return pd.DataFrame([asdict(self)])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


@dataclass(frozen=True)
class Comparison:
    """Model b against model a, over tasks.

    Attributes:
        frame: one row per task: task, shots, metric, a, b, difference (b - a), low, high (95%, of this task
            alone), p, test, p_holm, q, n_items, detectable, verdict.
        only_a, only_b: (task, shots) that one of them alone has.
    """

    frame: pd.DataFrame
    only_a: tuple[Where, ...] = ()
    only_b: tuple[Where, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per task."""
        return self.frame.copy()

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False)


def paired(a: Likelihoods, b: Likelihoods, metric: str) -> Paired:
    """The difference b - a of two models on the same items.

    The differences of items are averaged: what makes an item hard for both is no noise. The test is
    Student's t on them. On right and wrong answers, where fewer than `FEW` items differ, it is McNemar's
    exact test, with the adjusted interval of Bonett and Price.

    Args:
        a, b: likelihoods of the same items, in any order.
        metric: one of `evalsuite.measures.METRICS`.

    Raises:
        UsageError: an unknown metric.
        StagewiseError: other items, or a metric that is not defined on the same ones.

    Source:
        McNemar 1947; Bonett and Price 2012, J. Educ. Behav. Stat. 37:479; Cochran 1977 (ratio).

    Example:
        >>> paired(before, after, "acc").p        # doctest: +SKIP
        0.031
    """
    a, b = aligned(a, b)
    x, y = per_item(a, metric), per_item(b, metric)
    there = ~np.isnan(x)
    if not there.any():
        raise StagewiseError(undefined(a, metric))
    if (there == np.isnan(y)).any():
        counts = f"{there.sum():,} items of the first and {(~np.isnan(y)).sum():,} of the second"
        raise StagewiseError(
            f"{metric} of {a.task}: not defined on the same items: {counts}; score the same answers with "
            "both, or compare the right answers alone (bpb)"
        )
    centred = metric == "acc_centred"
    step = 1.0 / (1.0 - float(chance(a)[there].mean())) if centred else 1.0
    return difference(metric, x[there], y[there], step if metric in _RIGHT else None)


def difference(metric: str, x: Array, y: Array, step: float | None = None) -> Paired:
    """As `paired`, from the values of the items, [n] each; `step` lies between a wrong and a right answer."""
    n, d = len(x), y - x
    mean = float(d.mean())
    stderr = float(d.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    won, lost = int((d > 0).sum()), int((d < 0).sum())
    common = {"metric": metric, "a": float(x.mean()), "b": float(y.mean()), "difference": mean}
    common |= {"stderr": stderr, "n_items": n, "step": step}
    if step is not None and won + lost < FEW:
        p = min(1.0, 2.0 * float(bdtr(min(won, lost), won + lost, 0.5)))
        spread = step * float(np.sqrt(won + lost + 2 - (won - lost) ** 2 / (n + 2))) / (n + 2)
        middle, half = step * (won - lost) / (n + 2), float(ndtri(0.975)) * spread
        low, high = max(middle - half, -step), min(middle + half, step)
        return Paired(**common, spread=spread, low=low, high=high, p=p, test="exact McNemar")
    if n < 2:
        half, p = float("nan"), 1.0  # one item shows nothing
    elif stderr == 0.0:
        half, p = 0.0, float(mean == 0.0)
    else:
        half = float(stdtrit(n - 1, 0.975)) * stderr
        p = 2.0 * float(stdtr(n - 1, -abs(mean) / stderr))
    return Paired(**common, spread=stderr, low=mean - half, high=mean + half, p=p, test="t")


def aligned(a: Likelihoods, b: Likelihoods) -> tuple[Likelihoods, Likelihoods]:
    """The same items of two models, in the order of a.

    Raises:
        StagewiseError: items that one alone has, that stand twice, or that are called alike and differ.
    """
    for one in (a, b):
        names, count = np.unique(one.ids, return_counts=True)
        if (count > 1).any():
            raise StagewiseError(f"items of {one.task}: {named(names[count > 1])} stand twice; valid is once")
    common = np.intersect1d(a.ids, b.ids)
    lone = {"first": np.setdiff1d(a.ids, common), "second": np.setdiff1d(b.ids, common)}
    told = [f"{len(ids):,} only in the {which} ({named(ids)})" for which, ids in lone.items() if len(ids)]
    if told:
        raise StagewiseError(
            f"items of {a.task}: not the same: {len(common):,} in common, {', '.join(told)}; a paired "
            "comparison needs the same items: score both models with one suite"
        )
    order = np.argsort(b.ids)
    b = take(b, order[np.searchsorted(b.ids, a.ids, sorter=order)])
    for what, x, y in (
        ("the right choice", a.gold, b.gold),
        ("the number of choices", a.n_choices, b.n_choices),
        ("bytes of the right answer", a.gold_of(a.bytes), b.gold_of(b.bytes)),
    ):
        if (x != y).any():
            raise StagewiseError(
                f"items of {a.task}: {(x != y).sum():,} of {a.n_items:,} are called alike and differ in "
                f"{what}: {named(a.ids[x != y])}; score both models on one version of the items"
            )
    return a, b


def compare(
    a: Mapping[Where, Likelihoods], b: Mapping[Where, Likelihoods], metrics: Mapping[Where, str] | str
) -> Comparison:
    """Is model b better than model a, and on which tasks?

    One paired test a task. The verdict is by Holm's correction: the probability of any wrong "better" or
    "worse" is at most 5%, however the tasks depend on each other. `q` is Benjamini and Hochberg's: of the
    tasks with q <= 0.1, about 10% are expected to be wrong. "No difference shown" is not "no difference":
    `detectable` is the true difference that would have been found with 80% probability, were it the only one.

    Args:
        a, b: likelihoods by (task, shots).
        metrics: one metric, or one by (task, shots).

    Raises:
        UsageError: a metric unknown, without a direction, or not given for a task.
        StagewiseError: no task in common, or tasks whose items cannot be compared: all of them.

    Source:
        Holm 1979, Scand. J. Statist. 6:65; Benjamini and Hochberg 1995, J. R. Statist. Soc. B 57:289.

    Example:
        >>> compare(old, new, "bpb").to_frame()[["task", "difference", "verdict"]]       # doctest: +SKIP
    """
    order = sorted({*a, *b}, key=_order)
    both = [where for where in order if where in a and where in b]
    if not both:
        names = sorted({task for task, _ in a} & {task for task, _ in b})
        told = f" ({', '.join(names[:3])} in other numbers of shots)" if names else ""
        raise StagewiseError(f"no task in common{told}: score both models with one suite")
    chosen = {where: metrics if isinstance(metrics, str) else metrics.get(where) for where in both}
    lost = [_named(where) for where, metric in chosen.items() if metric is None]
    if lost:
        raise UsageError(f"metrics: none given for {', '.join(lost)}; give one for each task, or one for all")
    found: list[Paired] = []
    problems: list[str] = []
    for where, metric in chosen.items():
        try:
            found.append(paired(a[where], b[where], str(metric)))
        except UsageError:
            raise
        except StagewiseError as error:
            problems.append(str(error))
    if problems:
        raise StagewiseError("\n".join(problems))
    return Comparison(
        _corrected(both, found),
        tuple(where for where in order if where not in b),
        tuple(where for where in order if where not in a),
    )


def _corrected(wheres: list[Where], found: list[Paired]) -> pd.DataFrame:
    """The table, with p-values corrected for the number of tasks."""
    from statsmodels.stats.multitest import multipletests

    p = np.array([one.p for one in found])
    holm = np.asarray(multipletests(p, LEVEL, method="holm")[1])
    q = np.asarray(multipletests(p, LEVEL, method="fdr_bh")[1])
    rows = []
    for (task, shots), one, corrected, rate in zip(wheres, found, holm, q, strict=True):
        up = metric_info(one.metric).higher_is_better
        if up is None:
            raise UsageError(f"metric {one.metric}: has no direction, so no model is better by it")
        better = "better" if (one.difference > 0) == up else "worse"
        rows.append(
            {
                "task": task, "shots": shots, "metric": one.metric, "a": one.a, "b": one.b,
                "difference": one.difference, "low": one.low, "high": one.high, "p": one.p, "test": one.test,
                "p_holm": corrected, "q": rate, "n_items": one.n_items,
                "detectable": one.detectable(LEVEL / len(found)),
                "verdict": better if corrected <= LEVEL else "no difference shown",
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"shots": "Int64"})


def _order(where: Where) -> tuple[str, int]:
    return where[0], -1 if where[1] is None else where[1]


def _named(where: Where) -> str:
    return where[0] if where[1] is None else f"{where[0]} ({where[1]}-shot)"
