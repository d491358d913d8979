"""What needs no model: guesses by the surface of the choices, and whether a model beats them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.comparison import Paired, difference
from evalsuite.items import Item
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import named, per_item, undefined
from scaling.errors import StagewiseError, UsageError

GUESSES = ("longest", "shortest", "best_position", "majority")
_RIGHT = ("acc", "acc_norm", "acc_bytes")


@dataclass(frozen=True)
class Surface:
    """Guesses that read no question.

    - `longest`, `shortest`: the choice of most, of fewest characters; the first of equals.
    - `best_position`: the place where the right choice stands most often.
    - `majority`: the commonest answer; wrong where it is not among the choices.

    The last two know the answers of these very items, so they are the best guessers of their kind.

    Attributes:
        ids: items with choices, [n].
        hits: whether each of `GUESSES` is right, [4, n].

    Example:
        >>> surface([Item("a", "?", ("no", "yes"), 1, "yes"), Item("b", "?", ("no", "yes"), 0, "no")]).longest
        0.5
    """

    ids: NDArray[np.str_] = field(repr=False)
    hits: NDArray[np.bool_] = field(repr=False)

    @property
    def n_items(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> float:
        return float(self.hits[0].mean())

    @property
    def shortest(self) -> float:
        return float(self.hits[1].mean())

    @property
    def best_position(self) -> float:
        return float(self.hits[2].mean())

    @property
    def majority(self) -> float:
        return float(self.hits[3].mean())

    @property
    def best_guess(self) -> str:
        """The one of `GUESSES` that is right most often; the first of equals."""
        return GUESSES[int(self.hits.mean(axis=1).argmax())]

    @property
    def best(self) -> float:
        """Accuracy of the best of them."""
        return float(self.hits.mean(axis=1).max())

    def to_frame(self) -> pd.DataFrame:
        """One row per guess: guess, acc, n_items, best."""
        scores = self.hits.mean(axis=1)
        best = np.array(GUESSES) == self.best_guess
        return pd.DataFrame({"guess": GUESSES, "acc": scores, "n_items": self.n_items, "best": best})

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


@dataclass(frozen=True)
class AboveSurface:
    """A model's accuracy against the best guess by the surface of the same items.

    Attributes:
        task, shots, metric: of the model's accuracy.
        guess: the best of the guesses. against: the model (b) against it (a), paired by item.
        above: whether it is better by two standard errors of the difference, and by the paired test.
    """

    task: str
    shots: int | None
    metric: str
    guess: str
    against: Paired

    @property
    def above(self) -> bool:
        return self.against.difference > 2.0 * self.against.stderr and self.against.p <= 0.05

    def to_frame(self) -> pd.DataFrame:
        """The one row."""
        one = self.against
        return pd.DataFrame(
            [
                {
                    "task": self.task, "shots": self.shots, "metric": self.metric, "score": one.b,
                    "guess": self.guess, "surface": one.a, "difference": one.difference, "stderr": one.stderr,
                    "low": one.low, "high": one.high, "n_items": one.n_items, "above": self.above,
                }
            ]
        ).astype({"shots": "Int64"})  # fmt: skip

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def surface(items: Sequence[Item]) -> Surface:
    """How far guesses by the surface of the choices get.

    Args:
        items: of one task; those with free answers are left out.

    Raises:
        StagewiseError: no item has choices.
    """
    chosen = [item for item in items if item.choices]
    if not chosen:
        raise StagewiseError(
            "surface: no item has choices; where answers are free there is nothing to guess from"
        )
    gold = np.array([item.gold for item in chosen])
    length = [[len(choice) for choice in item.choices] for item in chosen]
    # Of equally common ones the first, so that the same items give the same hits.
    place = np.bincount(gold).argmax()
    common = min(Counter(item.answer for item in chosen).items(), key=lambda pair: (-pair[1], pair[0]))[0]
    hits = [
        gold == [int(np.argmax(sizes)) for sizes in length],
        gold == [int(np.argmin(sizes)) for sizes in length],
        gold == place,
        np.array([item.answer == common for item in chosen]),
    ]
    return Surface(np.array([item.id for item in chosen]), np.array(hits))


def above_surface(likelihoods: Likelihoods, surface: Surface, metric: str = "acc") -> AboveSurface:
    """Whether a model's accuracy is more than the choices give away by their surface.

    The best guess on the model's own items is subtracted item by item: `SE = sd(right - hit) / sqrt(n)`. That
    the best of four was picked on the same items makes this stricter, not laxer.

    Args:
        likelihoods: of some or all of the items. surface: of all of them.
        metric: acc, acc_norm or acc_bytes.

    Raises:
        UsageError: another metric.
        StagewiseError: items that `surface` lacks, or a metric that is not defined.

    Example:
        >>> above_surface(scored, surface(task.items)).above        # doctest: +SKIP
        True
    """
    if metric not in _RIGHT:
        raise UsageError(f"metric: got {metric!r}, valid is an accuracy: {', '.join(_RIGHT)}")
    values = per_item(likelihoods, metric)
    values = np.where(likelihoods.n_choices > 1, values, np.nan)
    there = ~np.isnan(values)
    if not there.any():
        raise StagewiseError(undefined(likelihoods, metric))
    ids = likelihoods.ids[there]
    lost = np.setdiff1d(ids, surface.ids)
    if len(lost):
        raise StagewiseError(
            f"items of {likelihoods.task}: {len(lost):,} of {len(ids):,} scored are not among those of the "
            f"surface: {named(lost)}; give the surface of the task that was scored"
        )
    order = np.argsort(surface.ids)
    hits = surface.hits[:, order[np.searchsorted(surface.ids, ids, sorter=order)]]
    best = int(hits.mean(axis=1).argmax())
    against = difference(metric, hits[best].astype(float), values[there], 1.0)
    return AboveSurface(likelihoods.task, likelihoods.shots, metric, GUESSES[best], against)
