"""Curves of a table: truth recovered, laws chosen, intervals by hand, and what must not matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import least_squares

from scaling.curves import cluster_draws, fit_curves
from scaling.errors import StagewiseError, UsageError
from scaling.plan import _tau2
from scaling.scores import ScoreTable
from tests.scaling.synthetic import constant, facts, frame_of, gompertz, power, sigmoid, table_of

RISE = sigmoid(0.25, 0.75, 20.0, 2.0)
FLOPS = np.logspace(18, 22, 17)


def one_curve(truth, *, info=None, replicates=20, **options):
    table = table_of({"t": truth}, **options)
    return fit_curves(table, replicates=replicates, facts=facts(t=info or {}))["t"]


def onset(x):
    return 0.8 + 0.6 * (1 + 10 ** ((x - 20.0) / 0.3)) ** (-0.5 * 0.3)


@pytest.mark.parametrize(
    ("truth", "metric", "law"),
    [
        (RISE, "acc", "sigmoid"),
        (sigmoid(0.25, 0.9, 22.5, 1.0), "acc", "sigmoid"),
        (sigmoid(0.25, 0.1, 20.0, 2.0), "acc", "sigmoid"),
        (gompertz(0.25, 0.8, 20.0, 2.0), "acc", "gompertz"),
        (power(0.6, 0.5, 0.25), "bpb", "power"),
        (onset, "bpb", "broken power"),
    ],
    ids=["rise", "unfinished rise", "fall", "gompertz", "power", "onset"],
)
def test_scores_without_noise_give_the_truth(truth, metric, law):
    # Oracle: the truth, and its law.
    curve = one_curve(truth, metric=metric, runs=24, checkpoints=1)
    assert curve.law == law
    assert np.allclose(curve.predict(FLOPS), truth(np.log10(FLOPS)), atol=2e-3)
    assert (curve.bic[law] <= np.array(list(curve.bic.values())) + 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_symmetric_law_stands_when_it_is_true(seed):
    # Oracle: the truth; the alternatives need strong evidence.
    curve = one_curve(RISE, runs=16, checkpoints=1, run_sd=0.01, seed=seed)
    assert curve.law == "sigmoid" and not curve.free_floor


def test_noise_is_averaged_away():
    # Oracle: the truth within three jackknife standard errors.
    curve = one_curve(RISE, runs=40, checkpoints=1, run_sd=0.02, seed=1)
    x = np.log10(FLOPS)
    error = np.abs(curve.predict(FLOPS) - RISE(x))
    assert (error <= 3.5 * curve.jackknife_se(curve.values(x)) + 1e-3).all()


def scipy_sigmoid(x, y, w, floor):
    """The curve of a weighted least-squares sigmoid from a fixed floor, as scipy finds it."""

    def curve(p, at):
        return floor + (p[2] - floor) / (1 + np.exp(-np.exp(p[1]) * (at - p[0])))

    best = least_squares(
        lambda p: np.sqrt(w) * (curve(p, x) - y), [20, np.log(2), 0.7],
        bounds=([14, np.log(0.2), 0], [26, np.log(12), 1]), xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    return lambda at: curve(best.x, at)


def test_the_jackknife_is_leaving_out_one_run_at_a_time():
    # Oracle: scipy.optimize.least_squares on the points of all other runs, run by run (CV3).
    curve = one_curve(RISE, runs=7, checkpoints=6, run_sd=0.01, checkpoint_sd=0.005, seed=2)
    one, at = curve.series, np.log10(FLOPS)
    assert one.points == "all" and curve.law == "sigmoid" and not curve.free_floor
    whole = scipy_sigmoid(one.x, one.y, curve.weights, 0.25)(at)
    assert np.allclose(curve.predict(FLOPS), whole, atol=2e-4)
    around = []
    for run in np.unique(one.run):
        keep = one.run != run
        around.append(scipy_sigmoid(one.x[keep], one.y[keep], curve.weights[keep], 0.25)(at) - whole)
    expected = np.sqrt(6 / 7 * (np.array(around) ** 2).sum(axis=0))
    assert np.allclose(curve.jackknife_se(curve.values(at)), expected, rtol=0.05, atol=2e-4)


def test_an_interval_is_the_estimate_and_t_standard_errors():
    # Oracle: scipy's t quantiles, the degrees of freedom between 1 and G - 1.
    curve = one_curve(RISE, runs=12, checkpoints=1, run_sd=0.01, seed=3)
    at = np.array([1e19, 1e20, 1e21])
    low, high = curve.interval(at)
    se = curve.jackknife_se(curve.values(np.log10(at)))
    assert np.allclose((low + high) / 2, curve.predict(at), atol=1e-9)
    multiple = (high - low) / 2 / se
    assert (multiple >= stats.t.ppf(0.975, 11) - 1e-9).all() and (multiple <= stats.t.ppf(0.975, 1)).all()
    narrow = curve.interval(at, level=0.5)
    assert (narrow[1] - narrow[0] < high - low).all()


@pytest.mark.parametrize(("runs", "known"), [(5, False), (6, True)])
def test_few_runs_have_no_interval(runs, known):
    # Oracle: the rule, six clusters.
    curve = one_curve(RISE, runs=runs, checkpoints=6, run_sd=0.01, seed=4)
    low, high = curve.interval([1e19, 1e21])
    assert curve.identified == known
    assert (np.isfinite(low) == known).all() and (np.isfinite(high) == known).all()
    if not known:
        assert (curve.parameters()["status"] == "not identified").all()
        assert curve.parameters()[["low", "high"]].isna().all(axis=None)


def test_intervals_stay_inside_the_range_of_the_metric():
    # Oracle: [0, 1].
    curve = one_curve(sigmoid(0.25, 1.0, 19.0, 3.0), runs=8, checkpoints=1, run_sd=0.1, seed=5)
    low, high = curve.interval(FLOPS)
    assert (low >= 0).all() and (high <= 1).all()


def test_an_upper_end_that_nobody_reached_is_not_identified():
    # Oracle: the same curve, seen to its end and only to its midpoint.
    def status(high):
        options = {"runs": 20, "checkpoints": 1, "run_sd": 0.005, "replicates": 100, "seed": 6}
        return one_curve(RISE, high=high, **options).parameters().loc["upper", "status"]

    assert (status(24.0), status(20.0)) == ("identified", "not identified")


def test_an_asymptote_that_nobody_reached_is_not_identified():
    # Oracle: as above, for a loss.
    def status(truth):
        curve = one_curve(truth, runs=20, checkpoints=1, run_sd=0.002, metric="bpb", replicates=100, seed=7)
        return curve.parameters().loc["asymptote", "status"]

    assert status(power(0.6, 0.05, 0.8)) == "identified"
    assert status(power(0.6, 0.5, 0.05)) == "not identified"


def test_scores_below_chance_free_the_floor():
    # Oracle: the truth, whose floor lies 10 points below chance.
    truth = sigmoid(0.15, 0.75, 20.0, 2.0)
    curve = one_curve(truth, runs=20, checkpoints=1, run_sd=0.005, seed=8)
    assert curve.free_floor
    assert curve.predict(1e18)[0] == pytest.approx(0.15, abs=0.02)


def test_a_task_of_unknown_chance_has_a_floor_of_its_own():
    # Oracle: the truth.
    curve = one_curve(RISE, info={"chance": None}, runs=20, checkpoints=1)
    assert not curve.free_floor
    assert np.allclose(curve.predict(FLOPS), RISE(np.log10(FLOPS)), atol=1e-3)


def test_a_score_above_the_stated_ceiling_moves_the_ceiling():
    # Oracle: the truth, which rises above what the facts say.
    curve = one_curve(sigmoid(0.25, 0.95, 20.0, 3.0), info={"ceiling": 0.9}, runs=20, checkpoints=1)
    assert curve.predict(1e22)[0] == pytest.approx(0.95, abs=5e-3)


def test_the_excess_spread_solves_its_equation():
    # Oracle: scipy.optimize.brentq on sum r^2 / (s^2 + tau^2) = df.
    from scipy.optimize import brentq

    rng = np.random.default_rng(10)
    sampling = rng.uniform(0.5, 2.0, (3, 20))
    squares = rng.normal(0, 1, (3, 20)) ** 2 * np.array([[8.0], [4.0], [0.01]])
    found = _tau2(squares, sampling, 17)
    for i in range(2):
        root = brentq(lambda t, i=i: (squares[i] / (sampling[i] + t)).sum() - 17, 0, 1e3)
        assert found[i] == pytest.approx(root, rel=1e-6)
    assert found[2] == pytest.approx(0.0, abs=1e-6)


def test_draws_are_all_then_each_left_out_then_bootstrap():
    # Oracle: their definition; counts of a bootstrap draw add up to the clusters.
    draws = cluster_draws(7, 50, seed=3)
    assert draws.shape == (58, 7) and (draws[0] == 1).all()
    assert np.array_equal(draws[1:8], 1 - np.eye(7))
    assert (draws[8:].sum(axis=1) == 7).all() and draws[8:].std() > 0
    assert np.array_equal(draws, cluster_draws(7, 50, seed=3))
    assert not np.array_equal(draws, cluster_draws(7, 50, seed=4))


@pytest.fixture(scope="module")
def mixed():
    tasks = {"a": RISE, "b": constant(0.3), "c": gompertz(0.25, 0.7, 20, 1.0)}
    frame = frame_of(tasks, runs=10, checkpoints=6, run_sd=0.01, checkpoint_sd=0.005, seed=11)
    bits = frame_of(
        {"d": power(0.6, 0.5, 0.2)}, runs=10, checkpoints=6, checkpoint_sd=0.005, metric="bpb", seed=12
    )
    return pd.concat([frame, bits], ignore_index=True)


def test_the_same_seed_gives_the_same_curves_in_any_order_of_rows(mixed):
    # Oracle: the fit of the rows as they come.
    first = fit_curves(ScoreTable.from_frame(mixed), replicates=10, facts=facts())
    shuffled = mixed.sample(frac=1.0, random_state=0)
    second = fit_curves(ScoreTable.from_frame(shuffled), replicates=10, facts=facts())
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame(), check_exact=True)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.fit.theta, b.fit.theta)
    other = fit_curves(ScoreTable.from_frame(mixed), replicates=10, seed=1, facts=facts())
    assert not np.array_equal(first["a"].fit.theta, other["a"].fit.theta)
    assert np.array_equal(first["a"].fit.theta[:11], other["a"].fit.theta[:11])


def test_a_task_does_not_depend_on_the_others(mixed):
    # Oracle: the task alone; only the adjustment for many tests may differ.
    together = fit_curves(ScoreTable.from_frame(mixed), replicates=5, facts=facts())
    alone = fit_curves(ScoreTable.from_frame(mixed[mixed["task"] == "c"]), replicates=5, facts=facts())
    assert np.allclose(alone["c"].predict(FLOPS), together["c"].predict(FLOPS), atol=1e-6)
    assert alone["c"].trend.p == together["c"].trend.p <= together["c"].trend_q


def test_blocks_of_a_large_group_do_not_matter(mixed, monkeypatch):
    # Oracle: one block.
    table = ScoreTable.from_frame(mixed)
    first = fit_curves(table, replicates=5, facts=facts())
    seen = []
    monkeypatch.setattr("scaling.curves.BLOCK", 1)
    second = fit_curves(
        table, replicates=5, facts=facts(), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (4, 4)
    for a, b in zip(first, second, strict=True):
        assert np.allclose(a.predict(FLOPS), b.predict(FLOPS), atol=1e-6)


def test_a_curve_is_found_by_its_key(mixed):
    curves = fit_curves(ScoreTable.from_frame(mixed), replicates=0, facts=facts())
    assert curves["a"] is curves["a", "acc"] is curves["a", "acc", 0]
    assert len(curves) == 4 and [curve.key.task for curve in curves] == ["a", "b", "c", "d"]
    with pytest.raises(KeyError, match="no curve for 'nope'; there are curves for a, b, c, d"):
        curves["nope"]
    with pytest.raises(KeyError, match="no curve for"):
        curves["a", "acc_norm"]


def test_a_task_of_two_metrics_needs_both_names(mixed):
    twice = mixed[mixed["task"] == "a"]
    table = ScoreTable.from_frame(pd.concat([twice, twice.assign(metric="acc_norm")]))
    curves = fit_curves(table, replicates=0, facts=facts())
    with pytest.raises(KeyError, match=r"has 2 curves: a \(acc, 0-shot\), a \(acc_norm, 0-shot\)"):
        curves["a"]
    assert curves["a", "acc_norm"].key.metric == "acc_norm"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metric": "ppl"}, "metric without a law"),
        ({"params": np.nan, "tokens": np.nan}, "no known compute"),
        ({"step": 0, "tokens": 0.0}, r"zero compute \(step 0\)"),
    ],
)
def test_nothing_to_fit_is_an_error_with_its_reasons(changes, reason):
    frame = frame_of({"t": RISE}, runs=8, checkpoints=1).assign(**changes)
    with pytest.raises(StagewiseError, match=f"no series can be fitted: 8 row.s.: {reason}"):
        fit_curves(ScoreTable.from_frame(frame))


def test_too_few_points_are_an_error_with_their_number():
    with pytest.raises(StagewiseError, match=r"3 point\(s\), 4 needed"):
        fit_curves(table_of({"t": RISE}, runs=3, checkpoints=1))


def test_a_negative_number_of_replicates_is_refused():
    with pytest.raises(UsageError, match="replicates: got -1"):
        fit_curves(table_of({"t": RISE}), replicates=-1)


@pytest.mark.parametrize("metric", ["acc", "bpb"])
@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, 1.0])
def test_scores_that_are_all_equal_give_a_flat_curve(metric, level):
    # Oracle: the level; warnings are errors here.
    curve = one_curve(constant(level), metric=metric, runs=8, checkpoints=6)
    assert np.allclose(curve.predict(FLOPS), level, atol=2e-3)
    assert curve.trend.p == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["acc", "bpb"])
@pytest.mark.parametrize(("runs", "checkpoints"), [(1, 6), (4, 1), (8, 1)])
def test_small_tables_are_fitted_without_a_warning(metric, runs, checkpoints):
    # Oracle: none needed; warnings are errors here.
    truth = RISE if metric == "acc" else power(0.6, 0.5, 0.2)
    curve = one_curve(truth, metric=metric, runs=runs, checkpoints=checkpoints, run_sd=0.01)
    assert np.isfinite(curve.predict(FLOPS)).all() and len(curve.parameters())


@pytest.mark.parametrize("runs", [6, 8])
def test_flat_tasks_of_few_runs_are_fitted_without_a_warning(runs):
    # Oracle: none needed; warnings are errors here.
    for seed in (101, 102, 103):
        table = table_of(
            {f"t{i}": constant(0.26) for i in range(10)}, runs=runs, checkpoints=1, run_sd=0.01, seed=seed
        )
        for curve in fit_curves(table, replicates=100, facts=facts()):
            assert np.isfinite(curve.values(np.array([18.0, 22.0]))).all()


def test_the_table_of_curves_says_everything_once(mixed):
    frame = fit_curves(ScoreTable.from_frame(mixed), replicates=5, facts=facts()).to_frame()
    assert list(frame["task"]) == ["a", "b", "c", "d"]
    assert {"law", "midpoint", "midpoint_status", "exponent", "asymptote_status", "trend_q"} <= set(
        frame.columns
    )
