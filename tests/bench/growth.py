"""Time and memory as the scores grow 10 and 100 times, each size in a fresh process."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from scaling.classes import classify
from scaling.scores import ScoreTable
from scaling.tasks import TaskInfo

TASKS, RUNS, CHECKPOINTS = 40, 24, 12
SIZES = (1, 10, 100)


def run() -> pd.DataFrame:
    """Seconds and peak memory for validation and classification, by growth in tasks and in runs."""
    rows = []
    for axis in ("tasks", "runs"):
        for size in SIZES:
            if axis == "runs" and size == 100:
                continue  # 2,400 finished runs of one recipe: nobody has them
            command = [sys.executable, "-m", "tests.bench.growth", axis, str(size)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
    frame = pd.DataFrame(rows)
    first = frame.groupby("grows")["seconds_per_million"].transform("first")
    frame["per_score_vs_first"] = frame["seconds_per_million"] / first
    return frame


def measure(axis: str, size: int) -> dict:
    """Build a table `size` times the base, validate and classify it."""
    tasks, runs = (TASKS * size, RUNS) if axis == "tasks" else (TASKS, RUNS * size)
    rng = np.random.default_rng(0)
    ends = np.linspace(18.5, 22.0, runs)
    steps = np.arange(1, CHECKPOINTS + 1)
    x = np.concatenate([end + np.log10(steps / CHECKPOINTS) for end in ends])
    middle = rng.uniform(18, 23, (tasks, 1))
    y = 0.25 + 0.5 * expit(1.5 * (x - middle)) + rng.normal(0, 0.01, (tasks, len(x)))
    frame = pd.DataFrame(
        {
            "source": "simulated", "family": "one",
            "model": np.tile(np.repeat([f"run{i:04}" for i in range(runs)], CHECKPOINTS), tasks),
            "step": np.tile(np.tile(steps, runs), tasks), "flops": np.tile(10.0**x, tasks),
            "task": np.repeat([f"task{i:05}" for i in range(tasks)], len(x)), "metric": "acc",
            "score": np.clip(y, 0, 1).ravel(), "n_items": 1000,
        }
    )  # fmt: skip
    before = _peak_mb()
    started = time.perf_counter()
    table = ScoreTable.from_frame(frame)
    validated = time.perf_counter() - started
    started = time.perf_counter()
    classify(table, early_by=1e20, replicates=100, facts=lambda task: TaskInfo(task, chance=0.25))
    classified = time.perf_counter() - started
    peak = _peak_mb()
    return {
        "grows": axis, "times": size, "scores": len(table), "validate_s": validated, "classify_s": classified,
        "seconds_per_million": (validated + classified) / len(table) * 1e6,
        "peak_mb": peak, "peak_mb_above_table": peak - before,
    }  # fmt: skip


def _peak_mb() -> float:
    """Peak memory of this process. Not `ru_maxrss` on Linux: a child starts with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
