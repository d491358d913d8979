"""Size and power of the trend test: 16 runs over 3 decades, 6 checkpoints each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.trend import any_trend

RUNS, CHECKPOINTS, SIMULATIONS = 16, 6, 2000


def run(seed: int = 0) -> pd.DataFrame:
    """Share of p < 0.05 on flat tasks (size) and at a gain of 2 points over the range (power)."""
    rng = np.random.default_rng(seed)
    ends = np.linspace(19.0, 22.0, RUNS)
    x = np.concatenate([end + np.log10(np.arange(1, CHECKPOINTS + 1) / CHECKPOINTS) for end in ends])
    cluster = np.repeat(np.arange(RUNS), CHECKPOINTS)
    rise = (x - x.min()) / np.ptp(x)
    rows = []
    for run_sd in (0.5, 1.0, 2.0):
        share = {}
        for name, gain in (("size", 0.0), ("power", 2.0)):
            p = [
                any_trend(
                    x,
                    gain * rise + rng.normal(0, run_sd, RUNS)[cluster] + rng.normal(0, 0.5, len(x)),
                    cluster,
                ).p
                for _ in range(SIMULATIONS)
            ]
            share[name] = float(np.mean(np.array(p) < 0.05))
        rows.append(
            {"run_sd_points": run_sd, "checkpoint_sd_points": 0.5, **share, "simulations": SIMULATIONS}
        )
    return pd.DataFrame(rows)
