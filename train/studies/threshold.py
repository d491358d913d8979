"""The alarm that alarms are compared with: a fixed threshold on raw accuracy."""

from __future__ import annotations

import numpy as np
import pandas as pd


def threshold_alarms(series: pd.DataFrame, drop: float = 0.02) -> pd.DataFrame:
    """What teams do by hand: an alarm when accuracy is more than `drop` below its best so far.

    Args:
        series: capability, step, score (accuracy); one row per capability and evaluation.
        drop: in points of accuracy / 100.

    Returns:
        The first alarm of each capability that has one: capability, since (step of the best), noticed, size.
    """
    rows = []
    for name, part in series.sort_values("step").groupby("capability", sort=True):
        score, step = part["score"].to_numpy(dtype=float), part["step"].to_numpy()
        best = np.maximum.accumulate(score)
        hits = np.flatnonzero(best - score > drop)
        if len(hits):
            at = hits[0]
            since = step[int(np.flatnonzero(score[: at + 1] == best[at])[0])]
            rows.append(
                {"capability": name, "since": since, "noticed": step[at], "size": best[at] - score[at]}
            )
    return pd.DataFrame(rows, columns=["capability", "since", "noticed", "size"])
