"""Ways to say what a larger run will score, each a batch of fits over tasks and resampled runs.

A method takes a panel of T tasks, the exponent of D/N in effective compute, weights of the points under
R resamplings [R, n], and the targets' log10 FLOPs and log10(D/N), [m] each; it returns scores [T, R, m],
NaN for a task it does not apply to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scaling.box import Box
from scaling.fit import fit_batch
from scaling.laws import Array, Gompertz, Power, Shape, Sigmoid
from scaling.panel import Panel
from scaling.size_data import fit_size_data

RECENT = 1.0  # decades below the largest compute at which a point's weight has fallen to 1/e
EXPONENTS = np.round(np.arange(-0.6, 0.61, 0.1), 1)  # of D/N in effective compute, that are tried
NEAR = 0.15  # decades below the frontier at which a score still tells the level there
MIN_LINK = 6  # points at which score and surprise must both be known


def point_weights(panel: Panel) -> Array:
    """How much each point says about larger compute, [n]: e^-(distance from the largest, in decades).

    What a run did a hundred times below the frontier hardly bears on what comes beyond it, and no law
    holds over all of training.
    """
    return np.exp(-(panel.x.max() - panel.x) / RECENT)


def ratio_exponent(panel: Panel) -> float:
    """Exponent g of effective compute C (D/N)^g, one for all tasks of a panel.

    From finished runs alone, and zero unless they tell size and data apart: intermediate checkpoints have
    seen less data *and* have not decayed.
    """
    if not panel.size_and_data:
        return 0.0
    centre = panel.ratio.mean()
    panel = panel.at(panel.final)
    weights = np.tile(point_weights(panel), (len(panel.y), 1))
    costs = []
    for exponent in EXPONENTS:
        x = panel.x + exponent * (panel.ratio - centre)
        if panel.family == "proportion":
            sse = fit_batch(Sigmoid(), x, panel.y, weights, _box(panel, 1, floored=True)).sse
        else:
            sse = fit_batch(Power(float(x.mean())), x, panel.y, weights, _offset(len(weights))).sse
        costs.append(np.log(np.maximum(sse, 1e-300)).mean())
    return float(EXPONENTS[int(np.argmin(costs))])


def effective(panel: Panel, exponent: float, x: Array, ratio: Array) -> Array:
    """Effective log10 compute of points at x with log10(D/N) = ratio, on the panel's axis."""
    return x if exponent == 0.0 else x + exponent * (ratio - panel.ratio.mean())


def _box(panel: Panel, rows: int, *, floored: bool) -> Box:
    """Bounds of proportions, `rows` for each task: the lower end anywhere up to chance, or at zero.

    Models that answer worse than chance are common where a wrong answer is the tempting one; a lower end
    above chance is not.
    """
    top = np.where(np.isfinite(panel.floor), panel.floor, 1.0) if floored else np.zeros(len(panel.y))
    highest = np.maximum(panel.ceiling, panel.y.max(axis=1))
    return Box.of(len(panel.y) * rows, (0.0, np.repeat(top, rows)), (0.0, np.repeat(highest, rows)))


def _offset(rows: int) -> Box:
    return Box.of(rows, (0.0, np.inf), (0.0, np.inf))


def _batch(shape: Shape, box: Box, panel: Panel, exponent: float, weights: Array, x, ratio) -> Array:
    """Fit one law to every task under every row of weights [R, n]; predictions [T, R, m]."""
    tasks, rows = len(panel.y), len(weights)
    here = effective(panel, exponent, panel.x, panel.ratio)
    fit = fit_batch(shape, here, np.repeat(panel.y, rows, axis=0), np.tile(weights, (tasks, 1)), box)
    return fit.predict(effective(panel, exponent, x, ratio)).reshape(tasks, rows, -1)


def sigmoid(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """`y = L + (U - L) sigmoid(k (x - m))`, L at most chance."""
    box = _box(panel, len(weights), floored=True)
    return _batch(Sigmoid(), box, panel, exponent, weights, x, ratio)


def gompertz(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """A power law in -log of the share of the way from L to U, L at most chance."""
    box = _box(panel, len(weights), floored=True)
    return _batch(Gompertz(), box, panel, exponent, weights, x, ratio)


def log_power(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """`-ln y = B + A C^-a`: a power law in -log accuracy (a Gompertz curve from zero)."""
    box = _box(panel, len(weights), floored=False)
    return _batch(Gompertz(), box, panel, exponent, weights, x, ratio)


def power(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """`y = E + A C^-a` for bits and losses."""
    here = effective(panel, exponent, panel.x, panel.ratio)
    box = _offset(len(panel.y) * len(weights))
    return _batch(Power(float(here.mean())), box, panel, exponent, weights, x, ratio)


def size_data(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """`y = E + A N^-a + B D^-b` for bits and losses; NaN where size and data cannot be told apart."""
    tasks, rows = len(panel.y), len(weights)
    if not panel.size_and_data or not np.isfinite(ratio).all():
        return np.full((tasks, rows, len(x)), np.nan)
    at = _apart(panel.x, panel.ratio)
    fit = fit_size_data(*at, np.repeat(panel.y, rows, axis=0), np.tile(weights, (tasks, 1)))
    return fit.predict(*_apart(x, ratio)).reshape(tasks, rows, -1)


def _apart(x: Array, ratio: Array) -> tuple[Array, Array]:
    """Log10 N and log10 D from log10 of 6 N D and log10(D/N)."""
    both = x - np.log10(6.0)
    return (both - ratio) / 2, (both + ratio) / 2


def chain(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """Compute -> surprise at the answer -> score: a power law, then a sigmoid in the surprise."""
    return _chained(power, panel, exponent, weights, x, ratio)


def chain_size_data(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """The chain with size and data apart in its first link."""
    return _chained(size_data, panel, exponent, weights, x, ratio)


def _chained(first: Method, panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    tasks, rows = len(panel.y), len(weights)
    out = np.full((tasks, rows, len(x)), np.nan)
    links: dict[tuple[str, bytes], Array] = {}
    for t in range(tasks):
        known = np.isfinite(panel.bits[t])
        if not panel.bridge[t] or known.sum() < MIN_LINK:
            continue
        mine, w = panel.tasks(t).at(known), weights[:, known]
        bits = mine.bits[0]
        # Tasks that share a bridge share the first link.
        name = panel.bridge[t], bits.tobytes()
        if name not in links:
            links[name] = first(replace(mine, y=mine.bits, family="bits"), exponent, w, x, ratio)[0]
        ahead = links[name]
        if not np.isfinite(ahead).all():
            continue
        centre, spread = bits.mean(), max(float(bits.std()), 1e-9)
        box = _box(mine, rows, floored=True)
        fit = fit_batch(Sigmoid(), (centre - bits) / spread, mine.y, w, box)
        out[t] = fit.predict((centre - ahead) / spread)  # each row at its own surprise
    return out


def level(panel: Panel, exponent: float, weights: Array, x: Array, ratio: Array) -> Array:
    """The weighted mean of the scores nearest the frontier: nothing more will be learned."""
    near = weights * np.exp(-(panel.x.max() - panel.x) / NEAR)
    mean = (near @ panel.y.T) / np.maximum(near.sum(axis=1, keepdims=True), 1e-300)
    return np.repeat(mean.T[:, :, None], len(x), axis=2)


Method = Callable[[Panel, float, Array, Array, Array], Array]
PROPORTIONS: dict[str, Method] = {
    "sigmoid": sigmoid, "gompertz": gompertz, "log-power": log_power, "chain": chain,
    "chain-size-data": chain_size_data, "level": level,
}  # fmt: skip
LOSSES: dict[str, Method] = {"power": power, "size-data": size_data, "level": level}


def methods_for(panel: Panel) -> dict[str, Method]:
    """The methods that suit a panel's metric."""
    return PROPORTIONS if panel.family == "proportion" else LOSSES
