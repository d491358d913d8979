"""Forecasts, back-test, decisions and a suite under a budget on all public sources at once."""

from __future__ import annotations

import time

import pandas as pd

from evalsuite.build import build
from scaling.backtests import backtest
from scaling.decisions import decide
from scaling.forecasts import forecast_all
from scaling.readers import read_scores
from scaling.signal import recipe_signal
from tests.study.real import shared


def run() -> pd.DataFrame:
    """Wall seconds of each step on the table of all sources; forecasts and stability on two workers."""
    paths = sorted((shared() / "sources").glob("*.tar.zst"))
    if not paths:
        return pd.DataFrame([{"step": "all", "skipped": f"no archives under {shared()}/sources"}])
    rows = []

    def timed(step: str, work):
        started = time.perf_counter()
        found = work()
        rows.append({"step": step, "seconds": time.perf_counter() - started})
        return found

    table = timed("read", lambda: read_scores(paths, drop_bad=True))
    rows[-1]["scores"] = len(table)
    forecasts = timed("forecast_all to 1e25 FLOPs", lambda: forecast_all(table, 1e25, jobs=2))
    rows[-1]["tasks"] = len(forecasts)
    test = timed("backtest, cut 1e22 FLOPs", lambda: backtest(table, cut_flops=1e22, jobs=2))
    rows[-1]["tasks"] = len(test.by_task())
    timed("decide, 2.5e21 -> 3e22", lambda: decide(table, small=2.5e21, target=3e22, reach=3.0, match=None))
    timed("recipe_signal", lambda: recipe_signal(table))
    timed("build, budget 20%", lambda: build(table, "1e21..1e23", budget="20%"))
    built = timed(
        "build, budget 20%, families left out",
        lambda: build(table, "1e21..1e23", budget="20%", stability=True, jobs=2),
    )
    rows[-1]["families"] = built.stability.measured if built.stability else 0
    return pd.DataFrame(rows)
