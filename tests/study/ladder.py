"""OLMo ladder at 1B: signal over noise by task, and how much earlier bits per byte see than accuracy."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scaling.classes import classify
from tests.study.real import missing, scores

LAST = 10
RUN = "1B-10xC"
ACCURACY = ["acc", "acc_norm"]


def run() -> pd.DataFrame:
    """One row per benchmark, in the split its users report (a second split holds no further benchmark)."""
    table = scores("olmo_ladder")
    if table is None:
        return pd.DataFrame([missing("olmo_ladder")])
    usual = table.where(~table.frame["task"].str.endswith("_val"), "second split of a benchmark")
    usual = usual.where(usual.frame["metric"].isin([*ACCURACY, "bpb"]), "not in this study")
    accuracy = usual.frame[usual.frame["metric"].isin(ACCURACY)].sort_values("step")
    signal = accuracy.groupby(["task", "model"]).tail(1).groupby("task")["score"].agg(np.ptp)
    tail = accuracy[accuracy["model"].str.contains(RUN, regex=False)].groupby("task").tail(LAST)
    # Around the run's own local trend, as the design defines checkpoint noise.
    noise = tail.groupby("task")[["step", "score"]].apply(_rms)
    out = pd.DataFrame({"range": signal, "rms_last_10": noise, "snr": signal / noise})
    for points in ("final", "all"):
        found = classify(usual, early_by=1e20, points=points).to_frame()
        acc = found[found["metric"].isin(ACCURACY)].set_index("task")
        bits = found[found["metric"] == "bpb"].set_index("task")
        if points == "final":
            out["class_acc"] = acc["class"]
        out[f"acc_opens_{points}"], out[f"bpb_opens_{points}"] = acc["opens"], bits["opens"]
        first, second = acc["opens"].fillna(np.inf), bits["opens"].fillna(np.inf)
        out[f"earlier_{points}"] = np.select(
            [second < first, second > first, np.isinf(second)], ["bpb", "acc", "neither opens"],
            default="tie at smallest",
        )  # fmt: skip
    return out.sort_values("snr", ascending=False).reset_index()


def _rms(tail: pd.DataFrame) -> float:
    x, y = tail["step"].to_numpy(dtype=float), tail["score"].to_numpy()
    return float(np.sqrt(((y - np.polyval(np.polyfit(x, y, 1), x)) ** 2).sum() / (len(y) - 2)))
