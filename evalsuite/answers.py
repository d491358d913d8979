"""What an evaluation answered on a task, and what a task gained between two evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalsuite.headline import LEAST, UNIFORM
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import chance, per_item
from scaling.laws import Array
from scaling.metrics import metric_info

_BY_BYTES = {"gold_ce_loss": "bpb_bytes"}  # metric: by what it enters, as in the headline


@dataclass(frozen=True)
class Answers:
    """What one evaluation gave on one task.

    Attributes:
        bits: bits per byte, else a proportion.
        ids: of the items, sorted, [k]; None where the score alone is known.
        values: of the items, in the unit of the metric, [k]; the score alone where `ids` is None, [1].
        chance: of a guesser on each, as `values`; 0 of bits.
        n_items: behind it.
    """

    bits: bool
    ids: NDArray[np.str_] | None
    values: Array
    chance: Array
    n_items: int = 0

    @classmethod
    def of(cls, likelihoods: Likelihoods, metric: str) -> Answers | None:
        """From likelihoods; None where the metric is not defined, or has no scale."""
        bits = _bits(metric)
        if bits is None:
            return None
        values = per_item(likelihoods, _BY_BYTES.get(metric, metric))
        there = ~np.isnan(values)
        if not there.any():
            return None
        centred = bits or metric == "acc_centred"
        c = np.zeros(len(values)) if centred else chance(likelihoods)
        ids, first = np.unique(likelihoods.ids[there], return_index=True)
        return cls(bits, ids, values[there][first], c[there][first], n_items=len(ids))

    @classmethod
    def of_score(cls, metric: str, score: float, n_items: int, chance: float = 0.0) -> Answers | None:
        """From a score without its items; None where the metric has no scale."""
        bits = _bits(metric)
        if bits is None or metric in _BY_BYTES or not np.isfinite(score):
            return None
        c = 0.0 if bits or metric == "acc_centred" else chance
        return cls(bits, None, np.array([score]), np.array([c]), int(n_items))

    @property
    def value(self) -> float:
        """On the scale of the headline: ln(8 / bpb), or (s - c) / (1 - c)."""
        return _scaled(self.values, self.chance, self.bits)


@dataclass(frozen=True)
class Change:
    """How much a task gained between two evaluations, on the items of both.

    Attributes:
        gain: on the scale of the headline. variance: of it over draws of the items; NaN where not known.
        items: shared.
    """

    gain: float
    variance: float
    items: int


def change(a: Answers, b: Answers) -> Change | None:
    """From a to b; None where they share no item.

    Of bits the gain is `ln(mean a / mean b)` over the shared items, of proportions the mean difference over
    `1 - c`. Its variance is that of the paired differences of the items (delta method for the logarithm),
    with one more answer that changed where they are right or wrong: where none did, the next one may.

    Example:
        >>> one = Answers(False, np.array(["p", "q"]), np.array([0.0, 1.0]), np.zeros(2))
        >>> change(one, Answers(False, np.array(["q", "r"]), np.array([1.0, 0.0]), np.zeros(2))).gain
        0.0
    """
    if a.bits != b.bits:
        return None
    if a.ids is None or b.ids is None:
        n = max(min(a.n_items, b.n_items), 1)
        least = np.nan if a.bits else (1.0 / (1.0 - float(b.chance.mean())) / n) ** 2
        return Change(b.value - a.value, least, n)
    if len(a.ids) == len(b.ids) and (a.ids == b.ids).all():
        i = j = np.arange(len(a.ids))
    else:
        _, i, j = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    if not len(i):
        return None
    x, y = a.values[i], b.values[j]
    if a.bits:
        was, now = max(float(x.mean()), LEAST), max(float(y.mean()), LEAST)
        each, gain, step = x / was - y / now, float(np.log(was / now)), 0.0
    else:
        step = 1.0 / (1.0 - float(a.chance[i].mean()))
        each = (y - x) * step
        gain = float(each.mean())
    n = len(each)
    return Change(gain, (float(((each - each.mean()) ** 2).sum()) + step**2) / n**2, n)


def _bits(metric: str) -> bool | None:
    """Whether a metric is of bits; None where it has no scale."""
    if metric in _BY_BYTES or metric_info(metric).family == "bits":
        return True
    return False if metric == "acc_centred" or metric_info(metric).family == "proportion" else None


def _scaled(values: Array, chance: Array, bits: bool) -> float:
    mean = float(values.mean())
    if bits:
        return float(np.log(UNIFORM / max(mean, LEAST)))
    c = float(chance.mean())
    return (mean - c) / (1.0 - c)
