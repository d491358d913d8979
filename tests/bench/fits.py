"""43 tasks x 95 points x 1000 bootstrap replicates of a sigmoid: ours against scipy and lmfit."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
from lmfit import Model
from scipy.optimize import curve_fit
from scipy.special import expit

from scaling.box import Box
from scaling.fit import fit_batch
from scaling.laws import MAX_STEEPNESS, MIN_STEEPNESS, Sigmoid
from scaling.tasks import task_info
from tests.study.real import scores

TASKS, POINTS, REPLICATES = 43, 95, 1000
SAMPLES = {"lm": 200, "trf": 60, "lmfit": 40}


def pythia_grid() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, str]:
    """x [95], run of each point, scores [43, 95], chance [43], and where they come from.

    The official Pythia suite, zero-shot accuracy; seeded curves of the same shape where it is absent.
    """
    table = scores("pythia")
    if table is None:
        rng = np.random.default_rng(0)
        ends = np.linspace(19.5, 22.3, 16)
        x = np.concatenate([end + np.log10(np.linspace(0.1, 1, 6)) for end in ends])[:POINTS]
        y = 0.25 + 0.4 * rng.random((TASKS, 1)) * expit(1.5 * (x - rng.uniform(19, 23, (TASKS, 1))))
        return x, np.arange(POINTS) // 6, y + rng.normal(0, 0.01, y.shape), np.full(TASKS, 0.25), "simulated"
    frame = table.frame
    frame = frame[
        frame["family"].isin(["pythia-v1", "pythia-v1-deduped"]) & frame["variant"].isna()
        & (frame["metric"] == "acc") & (frame["shots"] == 0) & (frame["flops"] > 0)
    ]  # fmt: skip
    wide = frame.pivot_table(index=["model", "step", "flops"], columns="task", values="score")
    # The tasks scored at most checkpoints, then checkpoints with all of them, spread evenly over runs.
    wide = wide[wide.notna().sum().sort_values(ascending=False, kind="stable").index[:TASKS]].dropna()
    keep = np.unique(np.linspace(0, len(wide) - 1, POINTS).round().astype(int))
    wide = wide.iloc[keep].sort_index(axis=1)
    chance = np.array([task_info(task).chance or 0.0 for task in wide.columns])
    x = np.log10(wide.index.get_level_values("flops").to_numpy(dtype=float))
    run = pd.factorize(wide.index.get_level_values("model"))[0]
    return x, run, wide.to_numpy(dtype=float).T, chance, f"pythia, {wide.shape[1]} tasks x {len(wide)} points"


def run(seed: int = 0) -> pd.DataFrame:
    """CPU seconds per fit and the ratio to ours, all measured in this run."""
    x, cluster, y, chance, origin = pythia_grid()
    rng = np.random.default_rng(seed)
    count = cluster.max() + 1
    draws = rng.multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(float)
    weights = np.tile(draws[:, cluster], (len(y), 1))
    rows = np.repeat(np.arange(len(y)), REPLICATES)
    box = Box.of(len(rows), (chance[rows], chance[rows]), (0.0, 1.0))
    fit_batch(Sigmoid(), x, y[:1], weights[:1], box.rows(slice(0, 1)))  # first-call costs
    started = time.process_time()
    ours = fit_batch(Sigmoid(), x, y[rows], weights, box)
    total = time.process_time() - started
    per_fit = total / len(rows)
    out = [
        {"engine": "scaling.fit_batch", "data": origin, "fits": len(rows), "cpu_s": total,
         "ms_per_fit": 1e3 * per_fit, "times_ours": 1.0}
    ]  # fmt: skip
    chosen = rng.choice(len(rows), max(SAMPLES.values()), replace=False)
    for name, number in SAMPLES.items():
        started = time.process_time()
        failed, worst = 0, -np.inf
        for i in chosen[:number]:
            sse = _peer(name, x, y[rows[i]], weights[i], chance[rows[i]])
            if sse is None:
                failed += 1
            elif sse > 0:
                worst = max(worst, ours.sse[i] / sse - 1)
        each = (time.process_time() - started) / number
        out.append(
            {"engine": _NAMES[name], "data": origin, "fits": number, "cpu_s": each * number,
             "ms_per_fit": 1e3 * each, "times_ours": each / per_fit, "failed": failed,
             "ours_worse_by_at_most": worst}
        )  # fmt: skip
    return pd.DataFrame(out)


_NAMES = {
    "lm": "scipy curve_fit LM, heuristic start",
    "trf": "scipy curve_fit TRF, bounded, one start",
    "lmfit": "lmfit Model, bounded",
}


def _peer(name: str, x, y, w, lower: float) -> float | None:
    """Weighted SSE of a peer's fit inside our bounds; None where it fails or leaves them."""

    def curve(x, upper, steepness, midpoint):
        return lower + (upper - lower) * expit(steepness * (x - midpoint))

    use = w > 0
    x, y, w = x[use], y[use], w[use]
    start = [float(y.max()), 1.0, float(np.median(x))]
    low, high = [0.0, MIN_STEEPNESS, x.min() - 4], [1.0, MAX_STEEPNESS, x.max() + 4]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if name == "lmfit":
                model = Model(curve)
                parameters = model.make_params(
                    **{
                        key: {"value": v, "min": a, "max": b}
                        for key, v, a, b in zip(
                            ("upper", "steepness", "midpoint"), start, low, high, strict=True
                        )
                    }
                )
                best = list(model.fit(y, parameters, x=x, weights=np.sqrt(w)).best_values.values())
            else:
                bounds = {"bounds": (low, high), "max_nfev": 2000} if name == "trf" else {"maxfev": 2000}
                best, _ = curve_fit(curve, x, y, p0=start, sigma=1 / np.sqrt(w), method=name, **bounds)
        except (RuntimeError, ValueError):
            return None
    if not all(a <= v <= b for a, v, b in zip(low, best, high, strict=True)):
        return None
    return float((w * (y - curve(x, *best)) ** 2).sum())
