"""Plain ways to extrapolate, that a forecast has to beat: each takes a panel and returns scores [T, m]."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from scaling.laws import Array
from scaling.metrics import metric_info
from scaling.panel import Panel


def last_value(panel: Panel, x: Array) -> Array:
    """The score at the largest compute, carried forward (the mean of several at the same compute)."""
    top = panel.x >= panel.x.max() - 1e-9
    return np.repeat(panel.y[:, top].mean(axis=1)[:, None], len(x), axis=1)


def linear(panel: Panel, x: Array) -> Array:
    """A straight line in log compute; NaN where all points have the same."""
    if np.ptp(panel.x) == 0:
        return np.full((len(panel.y), len(x)), np.nan)
    fits = np.polynomial.polynomial.polyfit(panel.x - panel.x.mean(), panel.y.T, 1)
    return fits[0][:, None] + fits[1][:, None] * (x - panel.x.mean())


def isotonic(panel: Panel, x: Array) -> Array:
    """The best monotone step function, level beyond its ends."""
    rising = metric_info(panel.keys[0].metric).higher_is_better is not False
    model = IsotonicRegression(increasing=rising, out_of_bounds="clip")
    return np.stack([model.fit(panel.x, y).predict(x) for y in panel.y])


def scipy_curve_fit(panel: Panel, x: Array) -> Array:
    """`scipy.optimize.curve_fit` of a sigmoid from chance (bits and losses: a power law with offset).

    One heuristic start, as most scripts have it; NaN where it does not converge.
    """
    out = np.full((len(panel.y), len(x)), np.nan)
    middle = float(np.median(panel.x))
    for i, y in enumerate(panel.y):
        if panel.family == "proportion":
            floor = panel.floor[i] if np.isfinite(panel.floor[i]) else 0.0

            def sigmoid(x, upper, steepness, midpoint, floor=floor):
                return floor + (upper - floor) * expit(steepness * (x - midpoint))

            curve, start = sigmoid, [float(y.max()), 1.0, middle]
        else:

            def power_law(x, offset, factor, exponent):
                return offset + factor * 10.0 ** np.clip(-exponent * (x - middle), -50, 50)

            curve, start = power_law, [0.5 * float(y.min()), float(np.median(y)), 0.1]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", OptimizeWarning)
            try:
                best, _ = curve_fit(curve, panel.x, y, p0=start, maxfev=5000)
            except (RuntimeError, ValueError, TypeError):  # no convergence; fewer points than parameters
                continue
            out[i] = curve(x, *best)
    return np.where(np.isfinite(out), out, np.nan)


BASELINES: dict[str, Callable[[Panel, Array], Array]] = {
    "last value": last_value, "linear": linear, "isotonic": isotonic, "curve_fit": scipy_curve_fit,
}  # fmt: skip
