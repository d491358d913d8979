"""open_lm scaling results: the compute at which each task's curve clears chance."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.classes import classify
from tests.study.real import missing, scores

# Counted run by run from the raw scores.
COUNTED = {
    ("piqa", 10): 1.3e16, ("arc_easy", 10): 5e16, ("lambada_openai", 0): 5e16, ("hellaswag", 10): 7e17,
    ("squad", 10): 6e18, ("openbookqa", 0): 2.5e20, ("copa", 0): 3e20, ("winogrande", 0): 6.5e20,
    ("arc_challenge", 10): 1e21, ("mmlu", 0): np.inf, ("mmlu", 5): np.inf,
}  # fmt: skip
MMLU_FLOOR = 8e21


def run() -> pd.DataFrame:
    """clears_chance beside the counted compute and the window."""
    table = scores("openlm_scaling")
    if table is None:
        return pd.DataFrame([missing("openlm_scaling")])
    found = classify(table, early_by=1e20).to_frame()
    curves = {(task.task, task.shots): task for task in classify_keys(found)}
    rows = []
    for key, counted in COUNTED.items():
        matches = [task for name, task in curves.items() if name[1] == key[1] and name[0].startswith(key[0])]
        for task in matches:
            clears = task.clears_chance
            right = (
                not clears <= MMLU_FLOOR
                if np.isinf(counted)
                else max(clears / counted, counted / clears) <= 4
            )
            rows.append(
                {
                    "task": task.task, "shots": key[1], "counted": counted, "clears_chance": clears,
                    "low": task.clears_chance_low, "high": task.clears_chance_high, "within": bool(right),
                    "opens": task.opens, "closes": task.closes, "class": task._asdict()["class_"],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def classify_keys(found: pd.DataFrame):
    """Rows of the accuracy metric as named tuples."""
    return found[found["metric"] == "acc"].rename(columns={"class": "class_"}).itertuples(index=False)
