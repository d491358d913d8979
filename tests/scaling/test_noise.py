"""Noise between checkpoints, repeats and items: what is counted and what must not be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.noise import NoiseBook, checkpoint_noise, repeat_noise, scale_of
from scaling.scores import ScoreTable
from scaling.series import series_of
from tests.scaling.synthetic import constant, facts, frame_of, power, sigmoid, table_of

KEY = ("t", "acc", 0)


def test_the_spread_between_checkpoints_is_recovered():
    # Oracle: the true SD; 60 runs x 8 degrees of freedom know it to 3%.
    table = table_of({"t": constant(0.5)}, runs=60, checkpoints=10, checkpoint_sd=0.01, run_sd=0.2, seed=1)
    row = checkpoint_noise(table).loc[[KEY]].iloc[0]
    assert np.sqrt(row["variance"]) == pytest.approx(0.01, rel=0.1)
    assert (row["df"], row["runs"]) == (480, 60)


@pytest.mark.parametrize("metric", ["acc", "bpb"])
def test_noise_is_what_a_straight_line_per_run_leaves(metric):
    # Oracle: numpy.polyfit residuals of each run's last 7 checkpoints, over n - 2.
    truth = sigmoid(0.25, 0.8, 20, 1.5) if metric == "acc" else power(0.5, 0.6, 0.2)
    table = table_of({"t": truth}, runs=5, checkpoints=9, checkpoint_sd=0.01, metric=metric, seed=2)
    left, scaled, df = 0.0, 0.0, 0
    for _, run in table.frame.groupby("model"):
        last = run.sort_values("flops").tail(7)
        x = np.log10(last["flops"])
        square = ((last["score"] - np.polyval(np.polyfit(x, last["score"], 1), x)) ** 2).sum()
        level = last["score"].mean()
        left += square
        scaled += square / (level * (1 - level) if metric == "acc" else level**2)
        df += 5
    row = checkpoint_noise(table, last=7).loc[[("t", metric, 0)]].iloc[0]
    assert (row["variance"], row["scaled"], row["df"]) == pytest.approx(
        (left / df, scaled / df, df), rel=1e-8
    )


def test_a_trend_is_not_noise():
    # Oracle: a straight line in log compute leaves nothing.
    table = table_of({"t": lambda x: 0.1 * (x - 17)}, checkpoints=10)
    assert np.sqrt(checkpoint_noise(table).loc[[KEY]].iloc[0]["variance"]) < 1e-9


def test_noise_is_never_pooled_across_runs():
    # Oracle: runs that lie far apart but do not move have no checkpoint noise.
    table = table_of({"t": constant(0.5)}, checkpoints=10, run_sd=0.1, seed=3)
    assert checkpoint_noise(table).loc[[KEY]].iloc[0]["variance"] < 1e-20


def test_short_runs_and_steps_without_compute_say_nothing():
    # Oracle: the rule, five checkpoints.
    assert checkpoint_noise(table_of({"t": constant(0.5)}, checkpoints=4)).empty
    frame = frame_of({"t": constant(0.5)}, runs=4, checkpoints=5, checkpoint_sd=0.01)
    start = frame[frame["step"] == 1000].assign(step=0, tokens=0.0, score=0.99)
    with_start = checkpoint_noise(ScoreTable.from_frame(pd.concat([frame, start])))
    pd.testing.assert_frame_equal(with_start, checkpoint_noise(ScoreTable.from_frame(frame)))


def test_shots_are_kept_apart_and_unknown_shots_are_found():
    # Oracle: each part of the table alone.
    frame = frame_of({"t": constant(0.5)}, checkpoints=8, checkpoint_sd=0.01, seed=4)
    wild = frame_of({"t": constant(0.5)}, checkpoints=8, checkpoint_sd=0.05, seed=5).assign(shots=pd.NA)
    five = frame.assign(shots=5, score=frame["score"] / 2)
    table = ScoreTable.from_frame(pd.concat([frame, wild, five]))
    book, (found, _) = NoiseBook(table), series_of(table)
    noise = {one.key.shots: book.of(one, one.y * 0 + one.y.mean(), 1).checkpoint for one in found}
    assert noise[None] == pytest.approx(0.1, rel=0.2)
    assert noise[0] == pytest.approx(0.02, rel=0.2)
    assert noise[5] == pytest.approx(0.01 / np.sqrt(0.75), rel=0.2)


def repeats(count: int = 4, sd: float = 0.02, **columns) -> ScoreTable:
    rng = np.random.default_rng(6)
    frame = frame_of({"t": sigmoid(0.25, 0.8, 20, 1.5)}, runs=20, checkpoints=1)
    parts = [
        frame.assign(
            seed=s, model=frame["model"] + f"-{s}", score=frame["score"] + rng.normal(0, sd, len(frame))
        )
        for s in range(count)
    ]
    return ScoreTable.from_frame(pd.concat(parts).assign(**columns))


def test_repeats_are_compared_within_their_recipe():
    # Oracle: pandas variance of each size's repeats, averaged (equal degrees of freedom).
    table = repeats()
    row = repeat_noise(table).loc[[KEY]].iloc[0]
    assert row["variance"] == pytest.approx(table.frame.groupby("params")["score"].var().mean(), rel=1e-9)
    assert (row["df"], row["groups"]) == (60, 20)


def test_sizes_known_by_their_compute_alone_are_no_repeats_of_each_other():
    # Oracle: the same table with parameters and tokens given.
    table = repeats(flops=lambda f: 6 * f["params"] * f["tokens"], params=np.nan, tokens=np.nan)
    known = repeat_noise(repeats()).loc[[KEY]].iloc[0]
    assert repeat_noise(table).loc[[KEY]].iloc[0]["variance"] == pytest.approx(known["variance"], rel=1e-6)


def test_models_of_unknown_size_are_no_repeats_of_each_other():
    # Oracle: nothing is known that makes these the same recipe.
    table = repeats(count=1, params=np.nan, tokens=np.nan)
    assert repeat_noise(table).empty


def noise_of(table, parameters=3, fitted=None):
    one = series_of(table, facts=facts())[0][0]
    return NoiseBook(table).of(one, one.y * 0 + one.y.mean() if fitted is None else fitted(one.x), parameters)


def test_the_residual_stands_in_as_an_upper_bound():
    # Oracle: numpy's residual variance over n - parameters.
    truth = sigmoid(0.25, 0.8, 20, 1.5)
    table = table_of({"t": truth}, runs=30, checkpoints=1, run_sd=0.02, seed=7)
    noise = noise_of(table, 3, truth)
    one = series_of(table)[0][0]
    scale = np.sqrt(truth(one.x) * (1 - truth(one.x)))
    left = (one.y - truth(one.x)) / scale
    expected = np.sqrt(((left - left.mean()) ** 2).sum() / 27)
    assert noise.total == noise.residual == pytest.approx(expected, rel=1e-9)
    assert (noise.kind, noise.upper_bound, noise.df) == ("residual", True, 27)
    assert np.isnan(noise.checkpoint) and np.isnan(noise.repeats)


def test_repeats_beat_the_residual():
    # Oracle: the true SD between repeats in units of the binomial spread.
    noise = noise_of(repeats(count=6))
    assert (noise.kind, noise.upper_bound) == ("repeats", False)
    assert 0.04 < noise.total < 0.055


def test_checkpoints_that_move_more_than_runs_differ_are_no_upper_bound():
    # Oracle: by construction the whole spread is checkpoint noise.
    table = table_of({"t": constant(0.5)}, runs=12, checkpoints=10, checkpoint_sd=0.02, seed=9)
    noise = noise_of(table)
    assert noise.kind == "checkpoint and residual"
    assert noise.upper_bound == (noise.residual > noise.checkpoint)
    assert noise.total == max(noise.residual, noise.checkpoint)


def test_a_slope_in_data_per_parameter_is_taken_out_of_the_residual():
    # Oracle: the noise that is left when log10(D/N) is removed.
    truth = constant(0.5)
    frame = frame_of({"t": truth}, runs=40, checkpoints=1, run_sd=0.005, seed=10)
    ratio = np.random.default_rng(11).uniform(-0.5, 0.5, len(frame))
    frame["params"], frame["tokens"] = frame["params"] * 10**-ratio, frame["tokens"] * 10**ratio
    frame["score"] += 0.05 * ratio
    assert noise_of(ScoreTable.from_frame(frame), 3, truth).residual == pytest.approx(0.01, rel=0.3)


def test_where_nothing_is_known_the_noise_is_nan_and_says_so():
    # Oracle: none needed; warnings are errors here.
    noise = noise_of(table_of({"t": constant(0.5)}, runs=4, checkpoints=1))
    assert np.isnan(noise.total) and (noise.kind, noise.upper_bound, noise.df) == ("none", True, 0.0)


@pytest.mark.parametrize(
    ("items", "facts_items", "expected"), [(400, None, 0.05), (None, 100, 0.1), (None, None, np.nan)]
)
def test_sampling_noise_is_binomial(items, facts_items, expected):
    # Oracle: sqrt(p (1 - p) / n) in units of sqrt(p (1 - p)).
    table = table_of({"t": constant(0.5)}, n_items=items)
    one = series_of(table, facts=facts(t={"n_items": facts_items}))[0][0]
    assert NoiseBook(table).of(one, one.y, 1).sampling == pytest.approx(expected, nan_ok=True)


def test_scales():
    # Oracle: the closed forms.
    assert np.allclose(
        scale_of("proportion", [0.5, 0.1, 0.0, 1.0]), [0.5, 0.3, np.sqrt(0.0099), np.sqrt(0.0099)]
    )
    assert np.allclose(scale_of("bits", [2.0, -3.0]), [2.0, 3.0])
    assert scale_of("loss", 0.0) > 0
