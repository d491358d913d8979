"""What scored items say: the metrics of each item, and their means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from evalsuite.likelihoods import Likelihoods
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array

_SHOWN = 5  # items named in a message


@dataclass(frozen=True)
class Estimate:
    """One metric of one task: the score, its standard error (NaN of one item), and the items behind it."""

    metric: str
    score: float
    stderr: float
    n_items: int


@dataclass(frozen=True)
class Summary:
    """The metrics of one task.

    Attributes:
        task: our name. shots: solved examples before each item.
        estimates: one per metric that is defined.

    Example:
        >>> one = Likelihoods.of("t", 0, ["a", "b"], [0, 0], [[-1.0, -2.0], [-3.0, -2.0]], [[3, 4], [3, 4]])
        >>> summarise(one)["acc"]
        Estimate(metric='acc', score=0.5, stderr=0.5, n_items=2)
    """

    task: str
    shots: int | None
    estimates: tuple[Estimate, ...]

    def __getitem__(self, metric: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.metric == metric:
                return estimate
        there = ", ".join(estimate.metric for estimate in self.estimates)
        raise UsageError(f"metric {metric!r}: not in this summary of {self.task}; it holds {there}")

    def records(self) -> list[dict[str, Any]]:
        """The rows of `to_frame` as dicts."""
        return [
            {
                "task": self.task, "metric": one.metric, "shots": self.shots, "score": one.score,
                "stderr": one.stderr, "n_items": one.n_items,
            }
            for one in self.estimates
        ]  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """One row per metric, with the columns of a score table."""
        frame = pd.DataFrame(self.records())
        return frame[["task", "metric", "shots", "score", "stderr", "n_items"]].astype({"shots": "Int64"})

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def per_item(likelihoods: Likelihoods, metric: str) -> Array:
    """A metric of every item.

    With l_k the log-likelihood of choice k, g the right one, p = softmax(l), B bytes without one leading
    blank:

    | metric | of an item |
    |---|---|
    | acc | argmax_k l_k is g (the first of equals); of a free answer: every token the model's most likely |
    | acc_norm, acc_bytes | the same of l_k / characters, l_k / bytes of the choice as the task writes it |
    | acc_centred | (acc - c) / (1 - c), c the mean over the items of 1/choices (0 where free) |
    | p_correct, brier | p_g, sum_k (p_k - [k = g])^2 |
    | margin | l_g - max_{k != g} l_k, nats |
    | gold_ce_loss, bpb | -l_g in nats, -l_g / (B ln 2) in bits per byte |
    | bpb_bytes | what the item adds to R = sum(bits) / sum(bytes): R + (bits - R B) / mean(B) |

    The mean over items is the score and their standard deviation over sqrt(n) its standard error, of
    `bpb_bytes` by the delta method for a ratio. Where only right answers were scored, those of the last two
    lines are defined.

    Args:
        likelihoods: of n items.
        metric: one of `METRICS`.

    Returns:
        Its values, NaN where it is not defined, [n].

    Raises:
        UsageError: an unknown metric. StagewiseError: log-likelihoods that are no numbers.

    Source:
        lm-eval 0.4, `api/task.py` (acc, acc_norm, acc_bytes) and `api/metrics.py` (brier_score); Cochran
        1977, Sampling Techniques, 2.11 (ratio); Brier 1950.

    Example:
        >>> per_item(Likelihoods.of("t", 0, ["a"], [0], [[-1.0, -2.0]], [[3, 4]]), "margin")
        array([1.])
    """
    if metric not in METRICS:
        raise UsageError(f"metric {metric!r}: not one of scored items; valid are {', '.join(METRICS)}")
    _check(likelihoods)
    return METRICS[metric](likelihoods)


def chance(likelihoods: Likelihoods) -> Array:
    """Accuracy of a guesser on each item: 1/choices, 0 where the answer is free, [n]."""
    count = likelihoods.n_choices
    return np.where(count > 0, 1.0 / np.maximum(count, 1), 0.0)


def estimate(metric: str, values: Array) -> Estimate:
    """Mean of the values that are defined, and sd / sqrt(n); as lm-eval's `mean_stderr`."""
    values = values[~np.isnan(values)]
    n = len(values)
    stderr = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Estimate(metric, float(values.mean()), float(stderr), n)


def summarise(likelihoods: Likelihoods, metrics: Sequence[str] | None = None) -> Summary:
    """Score, standard error and number of items for each metric.

    Args:
        likelihoods: of the items of one task; parts (`groups`) count by their items.
        metrics: which; all that are defined where None.

    Raises:
        UsageError: an unknown metric. StagewiseError: no items, or a metric asked for that is not defined.
    """
    found = []
    for metric in METRICS if metrics is None else metrics:
        values = per_item(likelihoods, metric)
        if not np.isnan(values).all():
            found.append(estimate(metric, values))
        elif metrics is not None:
            raise StagewiseError(undefined(likelihoods, metric))
    return Summary(likelihoods.task, likelihoods.shots, tuple(found))


def take(likelihoods: Likelihoods, index: np.ndarray | slice) -> Likelihoods:
    """Some of the items, by position or mask."""
    arrays = {one.name: getattr(likelihoods, one.name) for one in fields(likelihoods)}
    chosen = {name: value[index] for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return replace(likelihoods, **chosen)


def _accuracy(of: Likelihoods, size: np.ndarray | None) -> Array:
    """1 where the right choice is the likeliest per `size`, else 0."""
    scores = _scores(of) if size is None else _scores(of) / np.maximum(size, 1)
    return np.where(of.chosen, (scores.argmax(axis=1) == of.gold).astype(float), np.nan)


def _acc(of: Likelihoods) -> Array:
    return np.where(of.n_choices == 0, of.gold_of(of.greedy).astype(float), _accuracy(of, None))


def _acc_centred(of: Likelihoods) -> Array:
    right = _acc(of)
    there = ~np.isnan(right)
    c = chance(of)[there].mean() if there.any() else 0.0
    return (right - c) / (1.0 - c)


def _p_correct(of: Likelihoods) -> Array:
    return np.where(of.chosen, of.gold_of(softmax(_scores(of), axis=1)), np.nan)


def _brier(of: Likelihoods) -> Array:
    truth = np.arange(of.ll.shape[1]) == of.gold[:, None]
    return np.where(of.chosen, ((softmax(_scores(of), axis=1) - truth) ** 2).sum(axis=1), np.nan)


def _margin(of: Likelihoods) -> Array:
    truth = np.arange(of.ll.shape[1]) == of.gold[:, None]
    best = np.where(truth, -np.inf, _scores(of)).max(axis=1)
    return np.where(of.chosen, of.gold_of(of.ll) - best, np.nan)


def _bits(of: Likelihoods) -> Array:
    return -of.gold_of(of.ll) / np.log(2.0)


def _bpb_bytes(of: Likelihoods) -> Array:
    bits, size = _bits(of), of.gold_of(of.bytes)
    ratio = bits.sum() / size.sum()
    return ratio + (bits - ratio * size) / size.mean()


def _scores(of: Likelihoods) -> Array:
    """Log-likelihoods, minus infinity where nothing was scored, [n, c]."""
    return np.where(of.answered, of.ll, -np.inf)


def _check(of: Likelihoods) -> None:
    """Refuse what no metric can be of."""
    if not of.n_items:
        raise StagewiseError(f"items of {of.task}: none; score at least one")

    def refuse(items: Any, what: str) -> None:
        if items.any():
            raise StagewiseError(
                f"items of {of.task}: {what} in {items.sum():,} of {of.n_items:,}: {named(of.ids[items])}; "
                "score the task again"
            )

    refuse((of.gold < 0) | (of.gold >= of.ll.shape[1]), "gold names no answer")
    refuse(~of.gold_of(of.answered), "the right answer was not scored")
    lost = of.answered & ~np.isfinite(of.ll)
    refuse(lost.any(axis=1), "a log-likelihood is not finite (NaN or infinite logits)")
    refuse(of.gold_of(of.bytes) <= 0, "the right answer has no bytes")


def named(ids: np.ndarray) -> str:
    """The first few ids, in words."""
    more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    return ", ".join(repr(str(name)) for name in ids[:_SHOWN]) + more


def undefined(of: Likelihoods, metric: str) -> str:
    """Why a metric of a task cannot be had, in words."""
    there = [name for name in METRICS if not np.isnan(METRICS[name](of)).all()]
    why = "answers are free" if not of.n_choices.any() else "only the right answers were scored"
    return f"{metric} of {of.task}: not defined, {why}; defined are {', '.join(there)}"


METRICS: dict[str, Callable[[Likelihoods], Array]] = {
    "acc": _acc,
    "acc_norm": lambda of: _accuracy(of, of.chars),
    "acc_bytes": lambda of: _accuracy(of, of.choice_bytes),
    "acc_centred": _acc_centred,
    "p_correct": _p_correct,
    "margin": _margin,
    "brier": _brier,
    "bpb": lambda of: _bits(of) / of.gold_of(of.bytes),
    "bpb_bytes": _bpb_bytes,
    "gold_ce_loss": lambda of: -of.gold_of(of.ll),
}
