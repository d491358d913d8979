"""Seeded synthetic score tables whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from scaling.scores import ScoreTable
from scaling.tasks import TaskInfo

Truth = Callable[[np.ndarray], np.ndarray]


def sigmoid(lower: float, upper: float, midpoint: float, steepness: float) -> Truth:
    """Scores over log10 FLOPs that follow the law of proportions."""
    return lambda x: lower + (upper - lower) / (1.0 + np.exp(-steepness * (x - midpoint)))


def gompertz(lower: float, upper: float, midpoint: float, steepness: float) -> Truth:
    return lambda x: lower + (upper - lower) * np.exp(-np.exp(-steepness * (x - midpoint)))


def power(asymptote: float, amplitude: float, exponent: float, centre: float = 20.0) -> Truth:
    return lambda x: asymptote + amplitude * 10.0 ** (-exponent * (x - centre))


def constant(level: float) -> Truth:
    return lambda x: np.full(len(x), level)


def facts(**known: dict) -> Callable[[str], TaskInfo]:
    """A `facts` argument: what is known of each task, by keyword; a guesser scores 0.25 on all others."""
    return lambda task: TaskInfo(task, **({"chance": 0.25, "format": "choice_text"} | known.get(task, {})))


def frame_of(
    tasks: Mapping[str, Truth],
    *,
    runs: int = 12,
    checkpoints: int = 8,
    low: float = 18.0,
    high: float = 22.0,
    run_sd: float = 0.0,
    checkpoint_sd: float | Mapping[str, float] = 0.0,
    metric: str = "acc",
    n_items: int | None = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rows of `runs` runs whose last checkpoints lie evenly over low..high (log10 FLOPs).

    Each run has `checkpoints` checkpoints over the second half of its training, at 20 tokens per
    parameter in the end. `run_sd` moves a whole run, `checkpoint_sd` (one figure, or one per task) each
    checkpoint of it.
    """
    rng = np.random.default_rng(seed)
    done = np.linspace(0.5, 1.0, checkpoints) if checkpoints > 1 else np.ones(1)
    params = np.sqrt(10.0 ** np.linspace(low, high, runs) / 120.0).repeat(checkpoints)
    share = np.tile(done, runs)
    tokens = 20.0 * params * share
    index = np.repeat(np.arange(runs), checkpoints)
    x = np.log10(6.0 * params * tokens)
    parts = []
    for task, truth in tasks.items():
        spread = checkpoint_sd[task] if isinstance(checkpoint_sd, Mapping) else checkpoint_sd
        score = truth(x) + rng.normal(0.0, 1.0, runs)[index] * run_sd + rng.normal(0.0, 1.0, len(x)) * spread
        parts.append(
            pd.DataFrame(
                {
                    "source": "synthetic",
                    "family": "one",
                    "model": [f"run{i:03d}" for i in index],
                    "step": np.round(1000 * share).astype(int),
                    "params": params,
                    "tokens": tokens,
                    "task": task,
                    "metric": metric,
                    "shots": 0,
                    "score": np.clip(score, 0.0, 1.0) if metric == "acc" else score,
                    "n_items": pd.array([n_items] * len(x), dtype="Int64"),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def table_of(tasks: Mapping[str, Truth], **options) -> ScoreTable:
    """A `ScoreTable` of `frame_of` rows."""
    return ScoreTable.from_frame(frame_of(tasks, **options))
