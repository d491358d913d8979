"""One table from every public archive at hand."""

from __future__ import annotations

import time

import pandas as pd

from scaling.readers import read_scores
from tests.study.real import shared


def run() -> pd.DataFrame:
    """Rows, models and seconds, per archive and for all of them in one call."""
    archives = sorted((shared() / "sources").glob("*.tar.*"))
    if not archives:
        return pd.DataFrame([{"skipped": f"no archives under {shared()}/sources"}])
    rows = []
    for paths in [*([path] for path in archives), archives]:
        started = time.perf_counter()
        table = read_scores(paths, drop_bad=True)
        frame = table.frame
        rows.append(
            {
                "archive": paths[0].name if len(paths) == 1 else f"all {len(paths)}",
                "scores": len(table), "models": frame["model"].nunique(),
                "with_compute": frame.loc[frame["flops"] > 0, "model"].nunique(),
                "left_out": sum(omission.count for omission in table.omissions),
                "seconds": time.perf_counter() - started,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
