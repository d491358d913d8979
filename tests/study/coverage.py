"""Coverage of the nominal 95% interval of the curve at the largest measured compute."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from scaling.curves import fit_curves
from scaling.scores import ScoreTable
from scaling.tasks import TaskInfo

CHECKPOINTS, RUN_SD, CHECKPOINT_SD = 20, 0.02, 0.005
TASKS = 400  # simulated tasks share one table: the batch fits them together
TRUTHS = {"past its midpoint": (0.25, 0.80, 1.5, 20.5), "still rising": (0.25, 0.90, 1.2, 22.0)}


def run(seed: int = 1) -> pd.DataFrame:
    """One row per number of runs and true curve."""
    rows = []
    for runs in (5, 8, 16):
        for name, (lower, upper, steepness, midpoint) in TRUTHS.items():
            rng = np.random.default_rng([seed, runs])
            ends = np.linspace(19.0, 22.0, runs)
            steps = np.arange(1, CHECKPOINTS + 1)
            x = np.concatenate([end + np.log10(steps / CHECKPOINTS) for end in ends])
            truth = lower + (upper - lower) * expit(steepness * (x - midpoint))
            frames = []
            for task in range(TASKS):
                noise = np.repeat(rng.normal(0, RUN_SD, runs), CHECKPOINTS) + rng.normal(
                    0, CHECKPOINT_SD, len(x)
                )
                frames.append(
                    pd.DataFrame(
                        {
                            "source": "simulated", "family": "one",
                            "model": np.repeat([f"run{i:02}" for i in range(runs)], CHECKPOINTS),
                            "step": np.tile(steps, runs), "flops": 10.0**x, "task": f"task{task:03}",
                            "metric": "acc", "score": np.clip(truth + noise, 0, 1),
                        }
                    )
                )  # fmt: skip
            table = ScoreTable.from_frame(pd.concat(frames, ignore_index=True))
            curves = fit_curves(
                table, points="all", replicates=0, facts=lambda task, low=lower: TaskInfo(task, chance=low)
            )
            top = 10.0 ** x.max()
            true_top = lower + (upper - lower) * expit(steepness * (x.max() - midpoint))
            intervals = np.array([[side[0] for side in curve.interval(top)] for curve in curves])
            known = np.isfinite(intervals).all(axis=1)
            inside = (intervals[:, 0] <= true_top) & (true_top <= intervals[:, 1])
            rows.append(
                {
                    "runs": runs, "checkpoints": CHECKPOINTS, "run_sd": RUN_SD, "true_curve": name,
                    "coverage": float(inside[known].mean()) if known.any() else np.nan,
                    "median_width": float(np.median(np.diff(intervals[known]))) if known.any() else np.nan,
                    "not_identified": float((~known).mean()), "simulations": len(intervals),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
