"""What the ladder of this project shows: the figures of the README, from the committed scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from evalsuite.suite import Suite
from scaling.classes import classify
from scaling.decisions import decide
from scaling.embedded import AVERAGED, RAW, ladder
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable

BITS, ACCURACY = "bpb", ("acc", "acc_norm")
SUITE = Path(__file__).resolve().parents[2] / "evalsuite" / "suites" / "early.yaml"
# FLOPs of the two sizes at which every mixture was run.
STAGE = "3e11..6e12"  # the middle one of the committed suites
SMALL, TARGET = 1.3e11, 8e11


def run_classes() -> pd.DataFrame:
    """How many tasks are in each class, by metric."""
    table = _only(ladder(), (BITS, "acc", "acc_norm", "brier"))
    frame = classify(table, stage=STAGE).to_frame()
    counts = frame.groupby(["metric", "class"]).size().unstack(fill_value=0)
    for name in ("early-signal", "late-signal", "noisy", "saturated", "undetermined"):
        if name not in counts:
            counts[name] = 0
    return counts.reset_index()


def run_onset() -> pd.DataFrame:
    """How much earlier bits per byte see than accuracy: one row in all, over tasks that have both."""
    frame = classify(_only(ladder(), (BITS, *ACCURACY)), stage=STAGE).to_frame()
    bits = frame[frame["metric"] == BITS].set_index("task")["opens"].fillna(np.inf)
    accuracy = frame[frame["metric"].isin(ACCURACY)].groupby("task")["opens"].min().fillna(np.inf)
    both = pd.DataFrame({"bits": bits, "accuracy": accuracy}).dropna()
    either = both[np.isfinite(both["bits"]) & np.isfinite(both["accuracy"])]
    decades = np.log10(either["accuracy"] / either["bits"])
    return pd.DataFrame([{
        "tasks": len(both), "bits_open": int(np.isfinite(both["bits"]).sum()),
        "accuracy_opens": int(np.isfinite(both["accuracy"]).sum()), "both_open": len(either),
        "bits_earlier": int((both["bits"] < both["accuracy"]).sum()),
        "accuracy_earlier": int((both["accuracy"] < both["bits"]).sum()),
        "median_decades_where_both": float(np.median(decades)) if len(either) else np.nan,
    }])  # fmt: skip


def run_decisions() -> pd.DataFrame:
    """Do small runs order data mixtures as runs of the next size with two seeds do? Raw and averaged."""
    rows = []
    for kind in ("averaged", "raw"):
        table = ladder("averaged" if kind == "averaged" else "raw")
        for name, metrics in (("bits per byte", (BITS,)), ("accuracy", ("acc",))):
            found = decide(_only(table, metrics), small=SMALL, target=TARGET, reach=1.6, by=("family",))
            frame = found.to_frame()
            tasks = frame[frame["kind"] == "task"]
            rows.append({
                "weights": kind, "what": f"single task, {name}, as itself", "tasks": len(tasks),
                "share": tasks["itself"].mean(), "low": tasks["itself"].quantile(0.05),
                "high": tasks["itself"].quantile(0.95), "pairs": int(tasks["itself_pairs"].median()),
            })  # fmt: skip
        rows += _suite(table, kind)
    return pd.DataFrame(rows)


def _suite(table: ScoreTable, kind: str) -> list[dict]:
    """The early suite beside all tasks, random ones and accuracy alone, against benchmarks outside it."""
    suite = Suite.read(SUITE)
    weights = {one.key: one.weight for one in suite.tasks}
    rows = []
    for name, metrics in (("early suite", None), ("accuracy alone", ("acc",))):
        used = weights if metrics is None else {k._replace(metric="acc"): w for k, w in weights.items()}
        have = set(zip(table.frame["task"], table.frame["metric"], strict=True))
        used = {key: weight for key, weight in used.items() if (key.task, key.metric) in have}
        chosen = _only(table, {key.metric for key in used})
        try:
            found = decide(
                chosen, small=SMALL, target=TARGET, reach=1.6, by=("family",), suite=used,
                metric_target=BITS if metrics is None else "acc",
            ).to_frame()  # fmt: skip
        except StagewiseError as error:
            rows.append({"weights": kind, "what": f"{name}: {error}"[:60]})
            continue
        for one in found[found["kind"] != "task"].itertuples():
            rows.append({
                "weights": kind, "what": f"{name}: {one.kind}", "tasks": len(used), "share": one.rest,
                "low": one.rest_low, "high": one.rest_high, "pairs": one.pairs,
            })  # fmt: skip
    return rows


def run_noise() -> pd.DataFrame:
    """Noise of a checkpoint, averaged over raw: of three scores, the middle against a line through two.

    The line is over the logarithm of compute, in which scores are nearly straight. Both are taken where both
    were scored; the interval is a bootstrap over runs.
    """
    table = ladder("all").frame
    rows = []
    for metric in (BITS, "acc", "brier", "p_correct"):
        part = table[table["metric"] == metric]
        wide = part.pivot_table(index=["model", "task", "step"], columns="source", values="score").dropna()
        wide = wide[~wide.index.duplicated()]
        ends = wide.groupby(["model", "task"])
        share = np.log(2) / np.log(3)  # of the way from a third of the run to its end that two thirds are
        spread = np.sqrt(1 + share**2 + (1 - share) ** 2)
        middle = ends.nth(1).droplevel("step")
        left = (middle - (1 - share) * ends.first() - share * ends.last()) / spread
        left = left[ends.size().reindex(left.index) == 3]
        square = (left**2).groupby("model").mean()
        ratio = np.sqrt(square[AVERAGED].mean() / square[RAW].mean())
        rng = np.random.default_rng(0)
        drawn = square.to_numpy()[rng.integers(len(square), size=(2000, len(square)))].mean(axis=1)
        names = list(square.columns)
        draws = np.sqrt(drawn[:, names.index(AVERAGED)] / drawn[:, names.index(RAW)])
        low, high = np.quantile(draws, [0.025, 0.975])
        rows.append({
            "metric": metric, "runs": len(square), "raw": np.sqrt(square[RAW].mean()),
            "averaged": np.sqrt(square[AVERAGED].mean()), "ratio": ratio, "low": low, "high": high,
        })  # fmt: skip
        gain = wide[AVERAGED] - wide[RAW]
        by_run = gain.groupby("model").mean()
        half = stats.t.ppf(0.975, len(by_run) - 1) * by_run.std() / np.sqrt(len(by_run))
        rows[-1] |= {
            "gain": by_run.mean(),
            "gain_low": by_run.mean() - half,
            "gain_high": by_run.mean() + half,
        }
    return pd.DataFrame(rows)


def run_mtp() -> pd.DataFrame:
    """Multi-token prediction against none, same size, tokens and seed, at the last checkpoint."""
    frame = ladder("averaged").frame
    last = frame[frame["step"] == frame.groupby("model")["step"].transform("max")]
    rows = []
    for metric in (BITS, "acc"):
        part = last[last["metric"] == metric]
        with_ = part[part["family"] == "even-mtp"]
        same = part[(part["family"] == "even") & part["tokens"].isin(with_["tokens"].unique())]
        same = same[same["params"].isin(with_["params"].unique())]
        both = with_.merge(same, on=["task", "seed", "shots"], suffixes=("", "_plain"))
        change = (both["score"] - both["score_plain"]).groupby(both["task"]).mean()
        half = stats.t.ppf(0.975, len(change) - 1) * change.std() / np.sqrt(len(change))
        rows.append({
            "metric": metric, "seeds": both["seed"].nunique(), "tasks": len(change), "change": change.mean(),
            "low": change.mean() - half, "high": change.mean() + half, "better": int((change < 0).sum()),
            "flops": both["flops"].iloc[0] / both["flops_plain"].iloc[0] if len(both) else np.nan,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _only(table: ScoreTable, metrics) -> ScoreTable:
    return table.where(table.frame["metric"].isin(list(metrics)), "another metric")
