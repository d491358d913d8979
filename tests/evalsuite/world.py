"""A small made-up world of models and tasks whose classes are known because they were put in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from evalsuite.objective import Kind, Objective
from evalsuite.thinning import Offer
from scaling.classes import Classification, classify
from scaling.scores import ScoreTable
from scaling.series import Key

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


def remembered() -> Callable[..., Classification]:
    """`classify`, which classifies the same scores once: half of what a build takes."""
    known: dict[tuple[str, str], Classification] = {}

    def classified(of: ScoreTable, *, progress: Any = None, **options: Any) -> Classification:
        asked = (of.digest, repr(sorted(options.items())))
        if asked not in known:
            known[asked] = classify(of, progress=progress, **options)
        return known[asked]

    return classified


def one_factor(
    load: np.ndarray,
    *,
    rows: int = 400,
    groups: int = 40,
    benchmarks: list[str] | None = None,
    kind: Kind = "latent agreement",
    sampling: float = 0.0,
    seed: int = 0,
) -> Objective:
    """Evidence in which tasks share one factor: task k is load_k z + sqrt(1 - load_k^2) e_k, so that tasks j
    and k have correlation load_j load_k. Every task is a benchmark of its own unless `benchmarks` says."""
    rng = np.random.default_rng(seed)
    load = np.asarray(load, dtype=float)
    z = rng.standard_normal((rows, 1))
    values = load * z + np.sqrt(1 - load**2) * rng.standard_normal((rows, len(load)))
    values /= np.sqrt((values**2).mean(axis=0))
    names = np.array(benchmarks or [f"b{i}" for i in range(len(load))])
    group = rng.permutation(np.arange(rows) % groups)
    return Objective(
        kind, tuple(Key(f"t{i}", "acc", 0) for i in range(len(load))), names, values, values, names,
        np.column_stack([group, group]), np.linspace(18, 22, rows), np.full(len(load), sampling), 0,
    )  # fmt: skip


def offer(items, per_item, *, kept=(), whole: bool = True) -> Offer:
    """Costs of candidates; `kept` are positions that must stay."""
    items = np.asarray(items, dtype=float)
    mask = np.zeros(len(items), dtype=bool)
    mask[list(kept)] = True
    return Offer(items, np.broadcast_to(np.asarray(per_item, dtype=float), items.shape), mask, whole)


def recipe_scores(
    recipes: int = 10, *, noise: dict[str, float] | None = None, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """Recipes with one run at 1e20 (inside the stage) and one at 1e22, at like size and data, and how good
    each recipe is: that much every task adds at both scales, with noise of the task at the small one."""
    rng = np.random.default_rng(seed)
    good = rng.normal(0, 0.05, recipes)
    rows = []
    for task, sd in (noise or dict.fromkeys(TASKS, 0.0)).items():
        for r in range(recipes):
            for flops, base in ((1e20, 0.4), (1e22, 0.6)):
                shift = rng.normal(0, sd) if flops == 1e20 else 0.0
                rows.append(
                    {"source": "made", "model": f"r{r}-{flops:g}", "family": f"r{r}", "flops": flops,
                     "params": np.sqrt(flops / 120), "tokens": 20 * np.sqrt(flops / 120), "task": task,
                     "metric": "acc", "shots": 0, "score": base + good[r] + shift, "n_items": 1000}
                )  # fmt: skip
    return pd.DataFrame(rows), good
