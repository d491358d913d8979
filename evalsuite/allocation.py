"""How many items of each task are enough for a standard error of the suite's score, at least cost."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from scaling.errors import UsageError
from scaling.laws import Array

FEWEST = 50  # items a task keeps at least


def standard_error(weights: Array, spread: Array, asked: Array, items: Array) -> float:
    """Standard error of a suite's score against the score on all items.

    `SE^2 = sum_t w_t^2 s_t^2 (1 / n_t - 1 / N_t)`: items are drawn without replacement.

    Args:
        weights: of the tasks, [K]. spread: standard deviation of one item's score, [K].
        asked, items: n_t and N_t, [K].

    Example:
        >>> standard_error(np.array([1.0]), np.array([0.5]), np.array([100.0]), np.array([1e9])).round(4)
        np.float64(0.05)
    """
    each = np.maximum(1.0 / asked - 1.0 / items, 0.0)
    return np.sqrt((weights**2 * spread**2 * each).sum())


def allocate(weights: Array, spread: Array, cost: Array, items: Array, se: float) -> Array:
    """Fewest tokens that keep the standard error of the suite's score at or under `se`.

    Items in proportion to `w_t s_t / sqrt(c_t)` (Neyman 1934, with costs), between `FEWEST` and all; the
    factor is found by root finding, since bounds take part of the sum out of its closed form.

    Args:
        weights, spread: as for `standard_error`. cost: tokens per item, [K]. items: of each task, [K].
        se: in units of the suite's score.

    Returns:
        Items to ask, [K], whole numbers.

    Raises:
        UsageError: `se` is no positive number.

    Source:
        Neyman 1934; Cochran 1977, section 5.5.

    Example:
        >>> one = np.ones(2)
        >>> allocate(one / 2, one / 2, one, 1e9 * one, 0.01).tolist()
        [1250.0, 1250.0]
    """
    if not 0 < se < np.inf:
        raise UsageError(f"se: got {se}, valid is a positive number in units of the suite's score, as 0.01")
    least = np.minimum(float(FEWEST), items)
    pull = weights * spread / np.sqrt(cost)

    def asked(log_factor: float) -> Array:
        return np.clip(np.exp(log_factor) * pull, least, items)

    def excess(log_factor: float) -> float:
        return standard_error(weights, spread, asked(log_factor), items) - se

    if standard_error(weights, spread, least, items) <= se:
        return np.ceil(least)
    some = pull > 0  # a task without weight or spread never needs more than the fewest
    low = float(np.log((least[some] / pull[some]).min()))
    high = float(np.log((items[some] / pull[some]).max()))
    factor = brentq(excess, low, high, xtol=1e-9)  # at `high` every item is asked, and the error is zero
    return np.minimum(np.ceil(asked(factor) - 1e-6), items)
