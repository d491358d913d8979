"""Forecasts of larger runs: how far off they were on runs that are known, and how often intervals held."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit

from scaling.backtests import OURS, Backtest, backtest
from scaling.baselines import BASELINES
from scaling.blend import blend
from scaling.panel import Panel
from scaling.scores import ScoreTable
from scaling.series import Key
from tests.study.real import missing, scores

# The tasks that Pythia's own repository draws.
PYTHIA_TASKS = (
    "arc_easy", "arc_challenge", "lambada_openai", "logiqa", "piqa", "sciq", "winogrande", "wsc",
)  # fmt: skip

SIMULATIONS = 300
RUNS = (5, 8, 16)
CHECKPOINTS = 12
LARGEST = 22.0  # log10 FLOPs of the largest run
TIMES = np.array([3.0, 10.0])  # the largest compute
RUN_SD, CHECKPOINT_SD = 0.02, 0.005
BITS_RUN_SD, BITS_CHECKPOINT_SD = 0.015, 0.004  # as shares of the value

PROPORTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid past its midpoint": lambda x: 0.25 + 0.55 * expit(1.5 * (x - 20.5)),
    "sigmoid at its midpoint": lambda x: 0.25 + 0.65 * expit(1.2 * (x - 22.0)),
    "gompertz": lambda x: 0.25 + 0.60 * np.exp(-np.exp(-1.0 * (x - 20.8))),
    "sigmoid before its midpoint": lambda x: 0.25 + 0.65 * expit(1.5 * (x - 22.5)),
    "power law in -log": lambda x: np.exp(-(0.1 + 1.2 * 10 ** (-0.25 * (x - 20.0)))),
}
BITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "power law with offset": lambda x: 0.6 + 0.5 * 10 ** (-0.2 * (x - 20.0)),
    "power law without offset": lambda x: 1.1 * 10 ** (-0.08 * (x - 20.0)),
}


def pythia(tasks: tuple[str, ...] | None = PYTHIA_TASKS) -> ScoreTable | None:
    """Zero-shot accuracy of Pythia v1, as trained (no variant); all tasks where `tasks` is None."""
    table = scores("pythia")
    if table is None:
        return None
    frame = table.frame
    kept = (
        frame["family"].isin(["pythia-v1", "pythia-v1-deduped"])
        & frame["variant"].isna()
        & (frame["metric"] == "acc")
        & (frame["shots"] == 0)
    )
    if tasks is not None:
        kept &= frame["task"].isin(tasks)
    return table.where(kept.fillna(False), "not asked here")


def olmo() -> ScoreTable | None:
    """The OLMo ladder's accuracies, and the bits per byte that the chain goes through."""
    table = scores("olmo_ladder")
    if table is None:
        return None
    return table.where(table.frame["metric"].isin(["acc", "acc_norm", "bpb"]), "not asked here")


def run_backtests() -> pd.DataFrame:
    """Errors of the forecast and of plain extrapolations, per source and metric family.

    Pythia: models up to 1.4B -> 6.9B and 12B, five to eight times the compute. open_lm: each data mixture
    apart, models up to 2e9 parameters -> the 7B runs. OLMo ladder: 190M to 760M -> 1B.

    The rpj mixture of open_lm holds a 1B model trained on 32 times the usual data, with more compute than
    the mixture's 7B run: for it the target lies inside the compute that was learned from, off its tokens
    per parameter. Most of the OLMo ladder's 1B runs, too, have less compute than its largest 760M run: they
    are larger models rather than larger runs. `beyond_low` to `beyond_high` says how many times the largest
    compute learned from the targets have.
    """
    rows = []
    for source, made in _backtests():
        rows.append(pd.DataFrame([made]) if isinstance(made, dict) else _summary(source, made))
    return pd.concat(rows, ignore_index=True)


def run_olmo_tasks() -> pd.DataFrame:
    """Mean absolute error per task and metric of the OLMo ladder, 190M to 760M -> 1B."""
    table = olmo()
    if table is None:
        return pd.DataFrame([missing("olmo_ladder")])
    return backtest(table, cut_params=1e9).by_task()[["task", "metric", "shots", OURS, *BASELINES]]


def _backtests():
    eight, every = pythia(), pythia(None)
    if eight is None or every is None:
        yield "pythia", missing("pythia")
    else:
        large = {"cut_params": 1.5e9, "target_params": (5e9, 2e10)}
        yield "pythia, 8 tasks", backtest(eight, **large)
        yield "pythia, all tasks", backtest(every, **large)
    open_lm = scores("openlm_scaling")
    if open_lm is None:
        yield "open_lm", missing("openlm_scaling")
    else:
        yield "open_lm", backtest(open_lm, cut_params=2e9, by="family")
    ladder = olmo()
    if ladder is None:
        yield "olmo ladder", missing("olmo_ladder")
    else:
        yield "olmo ladder", backtest(ladder, cut_params=1e9)


def _summary(source: str, made: Backtest) -> pd.DataFrame:
    found = made.summary()
    found = found[found["method"].isin([OURS, *BASELINES])]
    found.insert(0, "source", source)
    beyond = made.rows.groupby("family")["beyond"]
    found.insert(3, "beyond_low", found["family"].map(beyond.min()))
    found.insert(4, "beyond_high", found["family"].map(beyond.max()))
    return found


def run_coverage(seed: int = 1) -> pd.DataFrame:
    """How often the nominal 95% interval holds the score of a new run 3 and 10 times beyond the data.

    Every run has an effect of its own (SD 2 points, 1.5% of bits) on all its checkpoints; the new run
    has one too. Simulations of all truths share a panel, so that the record all tasks have in common
    favours none of them. `sure` is the share that is covered or said to be not identified. Bias and width
    in points, for bits in thousandths.
    """
    rows = []
    for family, truths, scale in (("proportion", PROPORTIONS, 100.0), ("bits", BITS, 1000.0)):
        for runs in RUNS:
            rng = np.random.default_rng([seed, runs])
            panel = simulated(family, truths, runs, SIMULATIONS, rng)
            x = LARGEST + np.log10(TIMES)
            made = blend(panel, x, np.full(len(x), np.nan))
            for i, (name, truth) in enumerate(truths.items()):
                mine = slice(i * SIMULATIONS, (i + 1) * SIMULATIONS)
                value, low, high = made.value[mine], made.low[mine], made.high[mine]
                noise = [rng.normal(0.0, sd, value.shape) for sd in _spread(family)]
                new = _noisy(family, truth(x), sum(noise))
                known = np.isfinite(low)
                inside = (low <= new) & (new <= high)
                for k, times in enumerate(TIMES):
                    some = known[:, k].any()
                    told = known[:, k]
                    rows.append(
                        {
                            "family": family, "truth": name, "runs": runs, "beyond": times,
                            "coverage": inside[told, k].mean() if some else np.nan,
                            "not_identified": 1.0 - told.mean(),
                            "sure": (inside[:, k] | ~told).mean(),
                            "median_width": scale * np.median((high - low)[told, k]) if some else np.nan,
                            "bias": scale * (value[:, k] - truth(x)[k]).mean(),
                            "rmse": scale * np.sqrt(((value[:, k] - truth(x)[k]) ** 2).mean()),
                            "simulations": SIMULATIONS,
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def simulated(family: str, truths, runs: int, count: int, rng: np.random.Generator) -> Panel:
    """`count` simulations of every truth: `runs` runs of 1e19 to 1e22 FLOPs, evenly apart in log compute."""
    done = np.log10(np.arange(1, CHECKPOINTS + 1) / CHECKPOINTS)
    ends = np.linspace(19.0, LARGEST, runs)
    x = (ends[:, None] + done).ravel()
    run = np.repeat(np.arange(runs), CHECKPOINTS)
    final = np.tile(done == 0.0, runs)
    order = np.argsort(x, kind="stable")
    x, run, final = x[order], run[order], final[order]
    run_sd, checkpoint_sd = _spread(family)
    rows = count * len(truths)
    noise = rng.normal(0.0, run_sd, (rows, runs))[:, run] + rng.normal(0.0, checkpoint_sd, (rows, len(x)))
    y = np.repeat([truth(x) for truth in truths.values()], count, axis=0)
    metric = "acc" if family == "proportion" else "bpb"
    return Panel(
        keys=tuple(Key(f"task{i:04}", metric, 0) for i in range(rows)), family=family, x=x,
        ratio=np.full(len(x), np.nan), run=run, cluster=run, final=final, y=_noisy(family, y, noise),
        floor=np.full(rows, 0.25 if family == "proportion" else np.nan), ceiling=np.ones(rows),
        bits=np.full((rows, len(x)), np.nan), bridge=("",) * rows,
    )  # fmt: skip


def _spread(family: str) -> tuple[float, float]:
    return (RUN_SD, CHECKPOINT_SD) if family == "proportion" else (BITS_RUN_SD, BITS_CHECKPOINT_SD)


def _noisy(family: str, truth, noise):
    return np.clip(truth + noise, 0.0, 1.0) if family == "proportion" else truth * (1.0 + noise)
