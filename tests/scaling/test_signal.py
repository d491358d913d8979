"""Signal between recipes: planted spread and noise come back, FineTasks criteria follow their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from scaling.signal import like_groups, recipe_signal
from tests.scaling.synthetic import facts


def table_of(
    *, recipes=20, sizes=4, steps=12, spread=0.02, noise=0.005, gain=0.01, seeds=1, metric="acc", seed=0
) -> ScoreTable:
    """Runs of `recipes` data mixtures at several sizes: a rise with the step, a recipe's own level, noise."""
    rng = np.random.default_rng(seed)
    shape = (recipes, sizes, seeds, steps)
    level = rng.normal(size=recipes)[:, None, None, None] * spread
    score = 0.5 + level + gain * np.arange(steps) / steps + rng.normal(size=shape) * noise
    recipe, size, repeat, step = (one.ravel() for one in np.indices(shape))
    params = 1e8 * 4.0**size
    frame = pd.DataFrame(
        {
            "source": "s", "family": "f", "variant": [f"mix{i}" for i in recipe],
            "model": [f"m{i}-{j}-{k}" for i, j, k in zip(recipe, size, repeat, strict=True)],
            "seed": repeat, "step": 100 * (step + 1), "params": params,
            "tokens": 20 * params * (step + 1) / steps,
            "task": "t", "metric": metric, "shots": 0,
            "score": score.ravel() if metric == "acc" else 1.0 - score.ravel(),
        }
    )  # fmt: skip
    return ScoreTable.from_frame(frame)


def only(table: ScoreTable, **options) -> pd.Series:
    return recipe_signal(table, facts=facts(), **options).to_frame().iloc[0]


def test_planted_spread_and_noise_come_back() -> None:
    """Planted: SD 0.02 between 40 recipes (and 0.005 noise in it), 0.005 between checkpoints."""
    row = only(table_of(recipes=40))
    assert row["spread"] == pytest.approx(np.hypot(0.02, 0.005), rel=0.25)
    assert row["noise"] == pytest.approx(0.005, rel=0.1)
    assert row["snr"] == row["spread"] / row["noise"]
    assert row[["n_runs", "n_recipes", "n_checkpoints"]].tolist() == [160, 40, 1920]


def test_spread_is_the_pooled_sd_within_compute() -> None:
    """Oracle: the mean variance over the four sizes, each at one compute to the letter."""
    table = table_of(recipes=5)
    final = table.frame[table.frame["step"] == 1200]
    expected = np.sqrt(final.groupby("params")["score"].var(ddof=1).mean())
    assert only(table)["spread"] == pytest.approx(expected)


def test_growth_with_compute_is_no_spread() -> None:
    """Planted: recipes alike but for compute within a factor 1.4; the common slope takes it away."""
    flops = np.array([1.0, 1.1, 1.2, 1.3, 1.4]) * 1e20
    rows = [
        {
            "source": "s", "family": f"f{i}", "model": f"m{i}", "flops": one, "task": "t", "metric": "acc",
            "score": 0.3 + 0.2 * np.log10(one / 1e20),
        }
        for i, one in enumerate(flops)
    ]  # fmt: skip
    row = only(ScoreTable.from_frame(pd.DataFrame(rows)))
    assert row["spread"] == pytest.approx(0.0, abs=1e-9)


def test_monotonicity_is_the_mean_spearman_over_runs_and_improving_is_plus_one() -> None:
    """Oracle: scipy.stats.spearmanr run by run; with bits the sign turns."""
    table = table_of(recipes=3, noise=0.004)
    runs = table.frame.groupby("model")
    expected = np.mean([stats.spearmanr(run["step"], run["score"]).statistic for _, run in runs])
    assert only(table)["monotonicity"] == pytest.approx(expected)
    assert only(table_of(recipes=3, noise=0.004, metric="bpb"))["monotonicity"] == pytest.approx(expected)
    assert only(table_of(noise=0.0))["monotonicity"] == pytest.approx(1.0)


def test_non_randomness_is_the_best_score_above_chance() -> None:
    """Closed form: max - 0.25; bits have no chance; a free answer is guessed at 0."""
    table = table_of()
    assert only(table)["non_randomness"] == pytest.approx(table.frame["score"].max() - 0.25)
    assert np.isnan(only(table_of(metric="bpb"))["non_randomness"])
    free = recipe_signal(table, facts=facts(t={"chance": None, "format": "generation"})).rows.iloc[0]
    assert free["non_randomness"] == pytest.approx(table.frame["score"].max())


def test_finetasks_snr_is_final_level_over_the_mean_sd_between_seeds() -> None:
    """Oracle: written out with pandas; and it is level over noise: near 0.5 / 0.005, where snr is near 4."""
    table = table_of(recipes=4, seeds=5)
    frame = table.frame
    sd = frame.groupby(["variant", "params", "step"])["score"].std(ddof=1).mean()
    level = frame.loc[frame["step"] == 1200, "score"].mean()
    row = only(table)
    assert row["finetasks_snr"] == pytest.approx(level / sd)
    assert row["finetasks_snr"] > 10 * row["snr"]
    assert np.isnan(only(table_of(recipes=4))["finetasks_snr"])


def test_ordering_consistency_is_kendalls_tau_between_consecutive_steps() -> None:
    """Oracle: scipy.stats.kendalltau on every two steps after half of training."""
    table = table_of(recipes=6, noise=0.02, sizes=2)
    taus = []
    for _, rows in table.frame.groupby("params"):
        scores = rows.pivot(index="step", columns="variant", values="score")
        late = scores[scores.index >= 600].to_numpy(dtype=float)
        taus += [stats.kendalltau(a, b).statistic for a, b in pairwise(late)]
    assert only(table)["ordering_consistency"] == pytest.approx(np.mean(taus))
    assert only(table_of(noise=0.0))["ordering_consistency"] == pytest.approx(1.0)


def test_pure_noise_has_neither_order_nor_rise() -> None:
    """Planted: no spread and no gain."""
    row = only(table_of(spread=0.0, gain=0.0))
    assert abs(row["ordering_consistency"]) < 0.1 and abs(row["monotonicity"]) < 0.1
    assert row["snr"] == pytest.approx(1.0, abs=0.25)


def test_what_cannot_be_measured_is_nan_and_counted() -> None:
    """Planted: one finished run per recipe, at computes far apart."""
    frame = table_of(recipes=1, steps=1).frame
    found = recipe_signal(ScoreTable.from_frame(frame), facts=facts())
    row = found.rows.iloc[0]
    missing = ["spread", "noise", "snr", "monotonicity", "finetasks_snr", "ordering_consistency"]
    assert row[missing].isna().all() and row["non_randomness"] > 0
    assert {one.where for one in found.omissions} == set(missing)


def test_groups_lie_within_the_factor_of_their_smallest() -> None:
    """Closed form."""
    assert like_groups(np.array([4.0, 1.0, 1.5, 2.0, np.nan]), 1.5).tolist() == [2, 0, 0, 1, -1]
    assert like_groups(np.array([4.0, 1.0]), None).tolist() == [0, 0]


def test_bad_arguments_are_named() -> None:
    table = table_of(recipes=2)
    for options, said in (({"by": ()}, "by"), ({"after": 1.0}, "after"), ({"like": 0.5}, "like")):
        with pytest.raises(UsageError, match=said):
            recipe_signal(table, **options)
    frame = table.frame.assign(metric="ppl")
    with pytest.raises(StagewiseError, match="no score of a metric"):
        recipe_signal(ScoreTable.from_frame(frame))
