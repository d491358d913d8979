"""Decision probabilities are checked on pairs; a world that obeys them must pass."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.calibration import calibrate
from scaling.curves import fit_curves
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from tests.scaling.synthetic import facts, frame_of, sigmoid, table_of


@pytest.fixture(scope="module")
def curves():
    """30 tasks of different steepness on 40 runs, whose noise is independent and like the model's own."""
    tasks = {f"t{i}": sigmoid(0.25, 0.75, 19.0 + 0.1 * i, 0.5 + 0.1 * (i % 10)) for i in range(30)}
    frame = frame_of(tasks, runs=40, checkpoints=1)
    rng = np.random.default_rng(0)
    spread = 0.05 * np.sqrt(frame["score"] * (1 - frame["score"]))
    frame["score"] += rng.normal(0, 1, len(frame)) * spread
    return fit_curves(ScoreTable.from_frame(frame), replicates=0, facts=facts())


def test_a_world_that_obeys_the_model_is_calibrated(curves):
    # Oracle: the construction; each band's share lies within three binomial errors of its mean probability.
    bands = calibrate(curves, resamples=200).to_frame()
    assert list(bands["from"]) == [0.0, 0.5, 0.65, 0.8, 0.95] and bands["pairs"].sum() > 1000
    for band in bands[bands["pairs"] >= 50].itertuples():
        error = np.sqrt(band.mean_probability * (1 - band.mean_probability) / band.pairs)
        # A run is in several pairs, so these are worth about half as many.
        assert abs(band.ordered_right - band.mean_probability) < 3 * np.sqrt(2) * error + 0.02
        assert band.low <= band.ordered_right <= band.high


def test_pairs_are_a_factor_two_apart_and_ordered_by_compute(curves):
    # Oracle: brute force over all pairs of runs.
    pairs = calibrate(curves, resamples=10).pairs
    assert pairs["ratio"].between(1.5, 2.8).all() and pairs["probability"].between(0, 1).all()
    x = curves["t0"].series.x
    step = np.abs(x[:, None] - x[None, :])[np.triu_indices(len(x), 1)]
    expected = ((step >= np.log10(1.5)) & (step <= np.log10(2.8))).sum()
    assert (pairs.groupby("task").size() == expected).all()


def test_no_score_helps_to_predict_its_own_order(curves):
    # Oracle: the same pair with both of its scores turned around; the fit cannot see them.
    pairs = calibrate([curves["t3"]], resamples=10).pairs
    first = pairs.iloc[0]
    frame = frame_of({"t3": sigmoid(0.25, 0.75, 19.3, 0.8)}, runs=40, checkpoints=1, seed=1, run_sd=0.01)
    again = frame.copy()
    members = again["model"].isin([f"run{int(first[name]):03d}" for name in ("run_low", "run_high")])
    again.loc[members, "score"] = again.loc[members, "score"].to_numpy()[::-1]
    found = [
        calibrate(fit_curves(ScoreTable.from_frame(f), replicates=0, facts=facts()), resamples=10).pairs.iloc[
            0
        ]
        for f in (frame, again)
    ]
    assert found[0]["won"] != found[1]["won"]
    assert found[0]["probability"] == pytest.approx(found[1]["probability"], abs=0.02)


def test_the_same_seed_gives_the_same_table(curves):
    # Oracle: the same call again.
    first, second = (calibrate([curves["t1"], curves["t2"]], resamples=50, seed=1).bands for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_known_and_unknown_shots_go_together():
    # Oracle: none needed; warnings are errors here.
    frame = frame_of({"t": sigmoid(0.25, 0.75, 20, 1)}, runs=20, checkpoints=1, run_sd=0.01)
    table = ScoreTable.from_frame(pd.concat([frame, frame.assign(shots=pd.NA)]))
    pairs = calibrate(fit_curves(table, replicates=0, facts=facts()), resamples=10).pairs
    assert pairs.groupby("shots", dropna=False).ngroups == 2


def test_runs_of_different_families_make_no_pairs():
    # Oracle: the rule.
    frame = frame_of({"t": sigmoid(0.25, 0.75, 20, 1)}, runs=20, checkpoints=1, run_sd=0.01)
    curves = fit_curves(
        ScoreTable.from_frame(frame.assign(family=frame["model"])), replicates=0, facts=facts()
    )
    with pytest.raises(
        StagewiseError, match=r"no two finished runs of one family are 1\.5 to 2\.8 times apart"
    ):
        calibrate(curves)


def test_no_curves_are_no_pairs():
    with pytest.raises(StagewiseError, match="no two finished runs"):
        calibrate([])


@pytest.mark.parametrize("ratio", [(1.0, 2.0), (2.0, 1.5), (2.0, 2.0), (float("nan"), 2.0)])
def test_a_ratio_that_is_none_is_refused(ratio):
    curves = fit_curves(table_of({"t": sigmoid(0.25, 0.75, 20, 1)}, runs=8), replicates=0)
    with pytest.raises(UsageError, match="ratio: got"):
        calibrate(curves, ratio=ratio)
