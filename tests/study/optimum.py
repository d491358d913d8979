"""Does the batched fitter find the optimum? Against a dense reference, and scipy inside the same bounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.special import expit

from scaling.box import Box
from scaling.fit import fit_batch
from scaling.laws import MAX_STEEPNESS, MIN_STEEPNESS, Sigmoid

FITS, SCIPY_FITS, STARTS = 4000, 150, 10


class DenseSigmoid(Sigmoid):
    """The same law searched on a grid some 60 times denser."""

    def grid(self, x):
        segments = []
        low, high = self.bounds(x)
        for log_k in np.linspace(low[1], high[1], 60):
            m = np.linspace(low[0], high[0], max(20, int((high[0] - low[0]) * np.exp(log_k) / 0.1)))
            segments.append(np.column_stack([m, np.full(len(m), log_k)]))
        return segments


def problems(rng: np.random.Generator, fits: int):
    """Random curves over 16 runs of 6 checkpoints: rising, flat, falling, cliffs, with resampled runs."""
    ends = np.linspace(19.0, 22.0, 16)
    x = np.sort(np.concatenate([end + np.log10(np.arange(1, 7) / 6) for end in ends]))
    lower = rng.choice([0.0, 0.25, 0.5], fits)
    upper = np.clip(lower + rng.choice([0.0, -0.05, 0.1, 0.5], fits), 0, 1)
    steepness, midpoint = np.exp(rng.uniform(-1, 2.5, fits)), rng.uniform(17.5, 24.0, fits)
    y = lower[:, None] + (upper - lower)[:, None] * expit(steepness[:, None] * (x - midpoint[:, None]))
    y = np.clip(y + rng.normal(0, 1, y.shape) * rng.choice([0.002, 0.01, 0.03], (fits, 1)), 0, 1)
    weights = rng.multinomial(16, np.full(16, 1 / 16), size=fits)[:, np.arange(len(x)) % 16].astype(float)
    return x, y, weights, lower


def run(seed: int = 0) -> pd.DataFrame:
    """Share of fits more than 0.1% above the reference, and the worst excess."""
    rng = np.random.default_rng(seed)
    x, y, weights, lower = problems(rng, FITS)
    box = Box.of(FITS, (lower, lower), (0.0, 1.0))
    ours = fit_batch(Sigmoid(), x, y, weights, box)
    dense = fit_batch(DenseSigmoid(), x, y, weights, box, candidates=12, tolerance=1e-10, iterations=200)
    excess = ours.sse / dense.sse - 1
    worst_scipy = -np.inf
    for i in range(SCIPY_FITS):
        root = np.sqrt(weights[i])

        def residual(p, i=i, root=root):
            return root * (y[i] - lower[i] - (p[0] - lower[i]) * expit(p[1] * (x - p[2])))

        ends = ([0, MIN_STEEPNESS, x.min() - 4], [1, MAX_STEEPNESS, x.max() + 4])
        best = min(2 * least_squares(residual, rng.uniform(*ends), bounds=ends).cost for _ in range(STARTS))
        worst_scipy = max(worst_scipy, ours.sse[i] / best - 1)
    return pd.DataFrame(
        [
            {"reference": "dense grid, refined", "fits": FITS,
             "share_above_0.1%": float((excess > 1e-3).mean()), "worst_excess": float(excess.max())},
            {"reference": f"scipy TRF, best of {STARTS} starts", "fits": SCIPY_FITS,
             "share_above_0.1%": np.nan, "worst_excess": float(worst_scipy)},
        ]
    )  # fmt: skip
