"""How often two sides order pairs of recipes alike, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import pandas as pd
from scipy import stats

from scaling.errors import UsageError
from scaling.laws import Array
from scaling.recipes import Pairs

PAIRS_NEEDED = 30  # fewer pairs than this support an interval and no claim
_CHUNK = 4_000_000  # weights held at once


@dataclass(frozen=True)
class DecisionAccuracy:
    """How often small runs order a pair of recipes as large runs do.

    Attributes:
        share: (pairs ordered alike + ties / 2) / pairs. low, high: its 95% interval over recipes.
        alike, ties, pairs: counts; a tie is a pair that either side does not order.
        kendall, pearson: tau-b and correlation over the recipes that occur in pairs.
        recipes: how many those are. refused: pairs that were not to be compared.
    """

    share: float
    low: float
    high: float
    alike: int
    ties: int
    pairs: int
    kendall: float
    pearson: float
    recipes: int
    refused: int = 0

    @property
    def claim(self) -> bool:
        """Whether there are pairs enough to say more than the interval."""
        return self.pairs >= PAIRS_NEEDED

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([asdict(self) | {"claim": self.claim}])

    def __str__(self) -> str:
        text = f"{self.share:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.pairs} pairs ({self.ties} ties)"
        return text if self.claim else f"{text}; no claim: {self.pairs} pairs, {PAIRS_NEEDED} needed"

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>" + self.to_frame().to_html(index=False)


def share_alike(
    d_small: Array,
    d_target: Array,
    weights: np.ndarray | None = None,
    *,
    ties: tuple[float, float] = (0.0, 0.0),
) -> Array:
    """Share of pairs whose differences have one sign, a tie counting half.

    Args:
        d_small, d_target: differences, [pairs, ...], of shapes that match or broadcast after the first
            axis; a pair that is NaN on a side is left out.
        weights: of the pairs, [pairs] or [draws, pairs]; None weighs them alike.
        ties: |difference| up to this is no order, on the small and on the target side.

    Returns:
        Shares, [...], with weights [draws, pairs] [draws, ...]; NaN where no pair is left.

    Example:
        >>> float(share_alike(np.array([1.0, -2.0]), np.array([3.0, 1.0])))
        0.5
    """
    product = _sign(d_small, ties[0], np.ndim(d_target)) * _sign(d_target, ties[1], np.ndim(d_small))
    known = ~np.isnan(product)
    alike = np.where(known, (1.0 + product) / 2.0, 0.0)
    if weights is None:
        total, count = alike.sum(axis=0), known.sum(axis=0)
    else:
        weights = np.asarray(weights, dtype=float)
        total = np.tensordot(weights, alike, axes=(-1, 0))
        count = np.tensordot(weights, known.astype(float), axes=(-1, 0))
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def _sign(difference: Array, tie: float, dims: int) -> Array:
    difference = np.asarray(difference, dtype=float)
    sign = np.where(np.abs(difference) <= tie, 0.0, np.sign(difference))
    return sign.reshape(sign.shape + (1,) * max(dims - sign.ndim, 0))


def intervals(
    d_small: Array, d_target: Array, index: np.ndarray, *, ties=(0.0, 0.0), resamples=1000, seed=0
) -> tuple[Array, Array, Array]:
    """Shares ordered alike and their 95% intervals over recipes, [...] each.

    Recipes are drawn with replacement; a pair counts as often as its two recipes were drawn, multiplied. The
    spread of the share over draws gives its standard error and so its worth in independent pairs,
    n = share (1 - share) / se^2, at least recipes / 2 (Hoeffding's bound for a mean over pairs) and at most
    the pairs; the interval is Wilson's for n, which neither leaves 0..1 nor collapses where all agree.

    Args:
        d_small, d_target: see `share_alike`. index: the two recipes of each pair, [pairs, 2].

    Source: Hoeffding 1963, section 5a; Wilson 1927.
    """
    share = share_alike(d_small, d_target, ties=ties)
    known = ~np.isnan(share_alike(d_small[None], d_target[None], ties=ties))
    pairs = known.sum(axis=0)
    if not len(index):
        return share, np.full(share.shape, np.nan), np.full(share.shape, np.nan)
    labels, at = np.unique(index, return_inverse=True)
    at = at.reshape(index.shape)
    seen = np.stack([known[(at == i).any(axis=1)].any(axis=0) for i in range(len(labels))]).sum(axis=0)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples)
    step = max(_CHUNK // len(index), 1)
    parts = [
        share_alike(d_small, d_target, one[:, at[:, 0]] * one[:, at[:, 1]], ties=ties)
        for one in (drawn[i : i + step] for i in range(0, resamples, step))
    ]
    draws = np.concatenate(parts)
    count = np.maximum((~np.isnan(draws)).sum(axis=0), 1)
    centre = np.nansum(draws, axis=0) / count
    variance = np.nansum((draws - centre) ** 2, axis=0) / np.maximum(count - 1, 1)
    worth = np.divide(share * (1 - share), variance, out=np.zeros(share.shape), where=variance > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.minimum(np.maximum(worth, seen / 2), np.maximum(pairs, 1))
        z = stats.norm.ppf(0.975)
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)
    return share, np.where(pairs > 0, low, np.nan), np.where(pairs > 0, high, np.nan)


def decision_accuracy(
    small: pd.Series,
    target: pd.Series,
    *,
    pairs: np.ndarray | Pairs | None = None,
    ties: float | tuple[float, float] = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> DecisionAccuracy:
    """Share of recipe pairs that small runs and large runs order alike.

    Args:
        small, target: score by recipe, higher is better; they may be in different units. Recipes that both
            have count; a pair with a NaN is left out.
        pairs: which pairs, [pairs, 2] positions in the common index (in the order of `small`), or the
            result of `like_pairs`; None takes all.
        ties: |difference| up to this is no order; one figure, or one for each side.
        resamples, seed: of the interval, see `intervals`.

    Example:
        >>> s = pd.Series([1.0, 2.0, 3.0], index=list("abc"))
        >>> decision_accuracy(s, s * 10).share
        1.0
    """
    if resamples < 1:
        raise UsageError(f"resamples: got {resamples}, valid is at least 1")
    tie = _ties(ties)
    common = pairs.recipes if isinstance(pairs, Pairs) else small.index[small.index.isin(target.index)]
    for name, side in (("small", small), ("target", target)):
        if side.index.has_duplicates:
            raise UsageError(f"{name}: recipe {side.index[side.index.duplicated()][0]!r} is there twice")
    x = small.reindex(common).to_numpy(dtype=float)
    y = target.reindex(common).to_numpy(dtype=float)
    if pairs is None:
        index = np.column_stack(np.triu_indices(len(common), 1))
    else:
        index = pairs.index if isinstance(pairs, Pairs) else np.asarray(pairs, dtype=int).reshape(-1, 2)
        if len(index) and not (0 <= index.min() and index.max() < len(common)):
            raise UsageError(f"pairs: got positions up to {index.max()}, there are {len(common)} recipes")
        if (index[:, 0] == index[:, 1]).any():
            raise UsageError("pairs: a recipe is paired with itself; valid is two different positions")
    index = index[~np.isnan(x + y)[index].any(axis=1)]
    first, second = index.T
    dx, dy = x[first] - x[second], y[first] - y[second]
    share, low, high = intervals(dx, dy, index, ties=tie, resamples=resamples, seed=seed)
    product = _sign(dx, tie[0], 1) * _sign(dy, tie[1], 1)
    used = np.unique(index)
    kendall, pearson = rank_agreement(x[used], y[used])
    return DecisionAccuracy(
        share=float(share),
        low=float(low),
        high=float(high),
        alike=int((product > 0).sum()),
        ties=int((product == 0).sum()),
        pairs=len(index),
        kendall=kendall,
        pearson=pearson,
        recipes=len(used),
        refused=len(pairs.refused) if isinstance(pairs, Pairs) else 0,
    )


def _ties(ties: float | tuple[float, float]) -> tuple[float, float]:
    pair = tuple(cast("tuple[float, float]", (ties, ties) if np.ndim(ties) == 0 else ties))
    if len(pair) != 2 or not all(np.isfinite(one) and one >= 0 for one in pair):
        raise UsageError(f"ties: got {ties}, valid is a number >= 0, or one for each side")
    return pair


def rank_agreement(x: Array, y: Array) -> tuple[float, float]:
    """Kendall's tau-b and Pearson's correlation; NaN where a side has fewer than two different values."""
    if len(x) < 2 or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return np.nan, np.nan
    return float(stats.kendalltau(x, y).statistic), float(stats.pearsonr(x, y).statistic)
