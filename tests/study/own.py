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
    """How much earlier bits per byte see than accuracy: one row in all, over tasks that have both.

    A window counts where the scores have a trend to the better: a curve through noise may rise as steeply
    somewhere, and its task is noisy. Where bits are open before the data, the difference is a lower bound.
    """
    frame = classify(_only(ladder(), (BITS, *ACCURACY)), stage=STAGE).to_frame()
    frame["opens"] = frame["opens"].where(frame["direction"] == "improves")
    bits = frame[frame["metric"] == BITS].set_index("task")["opens"].fillna(np.inf)
    early = frame[frame["metric"] == BITS].set_index("task")["opens_before_data"]
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
        "of_them_bits_before_data": int(early[either.index].sum()),
    }])  # fmt: skip


def run_decisions() -> pd.DataFrame:
    """Do small runs order data mixtures as runs of the next size do? Raw and averaged, mean of the seeds.

    Low and high are the 5% and 95% quantiles over tasks where single tasks are told, a bootstrap over
    mixtures where suites are. Tasks that score the same in all small runs decide nothing and are left out;
    elsewhere a tie counts half.
    """
    rows = []
    for kind in ("averaged", "raw"):
        table = ladder(kind)
        for name, metrics in (("bits per byte", (BITS,)), ("accuracy", ("acc",))):
            found = decide(_only(table, metrics), small=SMALL, target=TARGET, reach=1.6, by=("family",))
            frame = found.to_frame()
            tasks = frame[(frame["kind"] == "task") & (frame["ties"] < frame["pairs"])]
            rows.append({
                "weights": kind, "what": f"single task, {name}, as itself", "tasks": len(tasks),
                "share": tasks["itself"].mean(), "low": tasks["itself"].quantile(0.05),
                "high": tasks["itself"].quantile(0.95), "pairs": int(tasks["itself_pairs"].median()),
                "tied": float((tasks["ties"] / tasks["pairs"]).mean()),
            })  # fmt: skip
        rows += _suite(table, kind)
    return pd.DataFrame(rows)


def _suite(table: ScoreTable, kind: str) -> list[dict]:
    """The early suite beside all tasks, random ones and accuracy alone, each against the bits per byte of the
    benchmarks outside the suite."""
    suite = Suite.read(SUITE)
    weights = {one.key: one.weight for one in suite.tasks}
    accuracy = {key._replace(metric="acc"): weight for key, weight in weights.items()}
    have = set(zip(table.frame["task"], table.frame["metric"], strict=True))
    rows = []
    for name, used in (("early suite", weights), ("accuracy alone", accuracy)):
        known = {key: weight for key, weight in used.items() if (key.task, key.metric) in have}
        found = decide(
            _only(table, {BITS, *(key.metric for key in known)}), small=SMALL, target=TARGET, reach=1.6,
            by=("family",), suite=known, metric_target=BITS,
        ).to_frame()  # fmt: skip
        for one in found[found["kind"] != "task"].itertuples():
            rows.append({
                "weights": kind, "what": f"{name}: {one.kind}", "tasks": len(known) if one.kind != "all" else
                table.frame["task"].nunique(), "share": one.rest, "low": one.rest_low, "high": one.rest_high,
                "pairs": one.pairs,
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
        # The mean of the last four lags behind while scores move fast, and gains where they only shake.
        gain = (wide[AVERAGED] - wide[RAW]).groupby(["model", "task"])
        for when, place in (("third", 0), ("two_thirds", 1), ("end", 2)):
            by_run = gain.nth(place).groupby("model").mean()
            half = stats.t.ppf(0.975, len(by_run) - 1) * by_run.std() / np.sqrt(len(by_run))
            rows[-1] |= {f"gain_{when}": by_run.mean(), f"half_{when}": half}
    return pd.DataFrame(rows)


def run_mtp() -> pd.DataFrame:
    """Multi-token prediction against none, same size, tokens and seed, at the last checkpoint.

    One row per metric and seed, change being the mean over tasks; and beside it how far the plain runs of two
    seeds lie apart, which is what a change has to exceed.
    """
    frame = ladder("averaged").frame
    last = frame[frame["step"] == frame.groupby("model")["step"].transform("max")]
    rows = []
    for metric in (BITS, "acc"):
        part = last[last["metric"] == metric]
        with_ = part[part["family"] == "even-mtp"]
        same = part[(part["family"] == "even") & part["tokens"].isin(with_["tokens"].unique())]
        same = same[same["params"].isin(with_["params"].unique())]
        both = with_.merge(same, on=["task", "seed", "shots"], suffixes=("", "_plain"))
        both["change"] = both["score"] - both["score_plain"]
        plain = both.groupby("seed")["score_plain"].mean()
        for seed, group in both.groupby("seed"):
            better = group["change"] < 0 if metric == BITS else group["change"] > 0
            rows.append({
                "metric": metric, "seed": seed, "tasks": len(group), "change": group["change"].mean(),
                "better": int(better.sum()), "same": int((group["change"] == 0).sum()),
                "plain_seeds_apart": float(np.ptp(plain)),
                "flops": group["flops"].iloc[0] / group["flops_plain"].iloc[0],
            })  # fmt: skip
    return pd.DataFrame(rows)


def _only(table: ScoreTable, metrics) -> ScoreTable:
    return table.where(table.frame["metric"].isin(list(metrics)), "another metric")
