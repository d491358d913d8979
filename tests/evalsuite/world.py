"""A small made-up world of models and tasks whose classes are known because they were put in."""

import numpy as np
import pandas as pd

from scaling.scores import ScoreTable

STAGE = "1e19..1e21"
# task -> (midpoint in log10 FLOPs, rise); rise 0 is a task on which nobody ever learns.
TASKS = {
    "alpha": (20.0, 0.6), "beta": (20.1, 0.6), "gamma": (19.8, 0.5), "delta": (20.2, 0.6),
    "epsilon": (20.0, 0.5), "flat": (20.0, 0.0), "past": (16.0, 0.6),
}  # fmt: skip


def scores(
    seed: int = 0, tasks: dict[str, tuple[float, float]] = TASKS, noise: float = 0.004
) -> pd.DataFrame:
    """Final scores of 24 models over 1e18..1e22 FLOPs, two repeats of each of 12 sizes."""
    rng = np.random.default_rng(seed)
    compute = np.repeat(np.linspace(18, 22, 12), 2)
    rows = []
    for i, x in enumerate(compute):
        shared = rng.normal(0, noise / 2)
        for j, (task, (middle, rise)) in enumerate(tasks.items()):
            for metric, factor in (("acc", 1.0), ("p_correct", 3.0)):
                truth = 0.25 + rise / (1 + np.exp(-2.0 * (x - middle)))
                draw = rng.normal(0, noise * factor) + shared * (1 if j % 2 else -1)
                rows.append(
                    {"source": "made", "model": f"m{i // 2}", "family": f"f{i // 2}", "seed": i % 2,
                     "flops": 10.0**x, "task": task, "metric": metric, "shots": 0,
                     "score": float(np.clip(truth + draw, 0, 1)), "n_items": 1000}
                )  # fmt: skip
    # Kept in the table, never fitted: a metric without a law.
    rows.append({**rows[0], "metric": "margin", "score": 1.0})
    return pd.DataFrame(rows)


def table(**options) -> ScoreTable:
    return ScoreTable.from_frame(scores(**options))
