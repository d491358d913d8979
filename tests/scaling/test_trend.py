"""The slope test against statsmodels, against its own matrix formulas, and on simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests

from scaling.trend import adjust, any_trend, trend_test


def symmetric_root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.where(values > 1e-10, np.maximum(values, 1e-10) ** power, 0.0)) @ vectors.T


def by_brute_force(z, target, cluster):
    """CR2 variance of the slope and its Satterthwaite df, written out with full n x n matrices.

    Bell and McCaffrey 2002: A_g = (I - H_gg)^(-1/2), v = sum_g (c' (Z'Z)^-1 Z_g' A_g e_g)^2; under a
    unit working covariance df = tr(Omega)^2 / tr(Omega^2), Omega_gh = p_g' (I - H) p_h.
    """
    n = len(target)
    inverse = np.linalg.inv(z.T @ z)
    hat = z @ inverse @ z.T
    maker = np.eye(n) - hat
    residual = maker @ target
    pulls, variance = [], 0.0
    for label in np.unique(cluster):
        members = np.flatnonzero(cluster == label)
        root = symmetric_root(maker[np.ix_(members, members)], -0.5)
        pull = np.zeros(n)
        pull[members] = root @ z[members] @ inverse[:, 1]
        pulls.append(maker @ pull)
        variance += float(pull @ residual) ** 2
    omega = np.array([[a @ b for b in pulls] for a in pulls])
    return np.sqrt(variance), np.trace(omega) ** 2 / np.trace(omega @ omega)


@pytest.mark.parametrize("count", [6, 9, 30])
def test_one_point_per_run_is_ols_with_hc2(count):
    # Oracle: statsmodels OLS with HC2 errors; the df by brute force.
    rng = np.random.default_rng(count)
    x = rng.uniform(18, 22, count)
    y = 0.02 * x + rng.normal(0, 0.01, count) * (x - 17)
    found = trend_test(x, y, np.arange(count))
    oracle = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC2")
    assert found.slope == pytest.approx(oracle.params[1], rel=1e-6)
    assert found.se == pytest.approx(oracle.bse[1], rel=1e-6)
    z = np.column_stack([np.ones(count), x - x.mean()])
    se, df = by_brute_force(z, y, np.arange(count))
    assert (found.se, found.df) == pytest.approx((se, df), rel=1e-5)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.slope / found.se), df), rel=1e-5)


def test_unbalanced_runs_are_cr2_on_quasi_demeaned_data():
    # Oracle: the matrix formula of CR2 and Satterthwaite, on runs demeaned by 1 - sqrt(w / (w + n b)).
    rng = np.random.default_rng(1)
    sizes = np.array([1, 2, 3, 5, 8, 8, 13, 4])
    cluster = np.repeat(np.arange(8), sizes)
    x = np.concatenate(
        [end - rng.uniform(0, 0.8, n) for end, n in zip(np.linspace(19, 22, 8), sizes, strict=True)]
    )
    y = 0.03 * x + rng.normal(0, 0.02, 8)[cluster] + rng.normal(0, 0.01, len(x))
    found = trend_test(x, y, cluster)

    def means(v):
        return np.array([v[cluster == g].mean() for g in range(8)])

    inner_x, inner_y = x - means(x)[cluster], y - means(y)[cluster]
    slope = inner_x @ inner_y / (inner_x @ inner_x)
    within = ((inner_y - slope * inner_x) ** 2).sum() / (len(x) - 8 - 1)
    left = sm.OLS(means(y), sm.add_constant(means(x))).fit().resid
    between = max((left @ left) / 6 - within / sizes.mean(), 0.0)
    factor = 1 - np.sqrt(within / (within + sizes * between))
    z = np.column_stack([1 - factor[cluster], x - (factor * means(x))[cluster]])
    target = y - (factor * means(y))[cluster]
    se, df = by_brute_force(z, target, cluster)
    assert between > 0
    assert found.slope == pytest.approx(np.linalg.lstsq(z, target, rcond=None)[0][1], rel=1e-6)
    assert (found.se, found.df) == pytest.approx((se, df), rel=1e-5)
    assert found.clusters == 8


@pytest.fixture(scope="module")
def ladder():
    """16 runs over 3 decades with 6 checkpoints each: x and the run of each point."""
    ends = np.linspace(19.0, 22.0, 16)
    x = np.concatenate([end + np.log10(np.arange(1, 7) / 6) for end in ends])
    return x, np.repeat(np.arange(16), 6)


def simulated(ladder, gain, run_sd, count, seed):
    x, cluster = ladder
    rng = np.random.default_rng(seed)
    rise = gain * (x - x.min()) / np.ptp(x)
    return np.array(
        [
            trend_test(x, rise + rng.normal(0, run_sd, 16)[cluster] + rng.normal(0, 0.5, len(x)), cluster).p
            for _ in range(count)
        ]
    )


@pytest.mark.parametrize("run_sd", [0.5, 2.0])
def test_flat_tasks_are_called_trending_about_as_often_as_promised(ladder, run_sd):
    # Oracle: the nominal level 0.05; 600 simulations put its share within 2% to 8% (4 SE below, 3.4 above).
    assert 0.02 <= np.mean(simulated(ladder, 0.0, run_sd, 600, 2) < 0.05) <= 0.08


def test_a_gain_of_two_points_is_seen(ladder):
    # Oracle: the power that the issue asks for.
    assert np.mean(simulated(ladder, 2.0, 0.5, 300, 3) < 0.05) >= 0.85


@pytest.mark.parametrize("runs", [6, 8, 16])
@pytest.mark.parametrize("run_sd", [0.0, 1.0])
def test_flat_tasks_show_no_trend_of_any_shape(runs, run_sd):
    # Oracle: the nominal level 0.05; 300 simulations have a standard error of 1.3%.
    rng = np.random.default_rng(7)
    x = np.concatenate([end + np.log10(np.arange(1, 4) / 3) for end in np.linspace(19.0, 22.0, runs)])
    cluster = np.repeat(np.arange(runs), 3)
    p = [
        any_trend(x, rng.normal(0, run_sd, runs)[cluster] + rng.normal(0, 0.5, len(x)), cluster).p
        for _ in range(300)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.09


@pytest.mark.parametrize(("runs", "power"), [(8, 0.5), (16, 0.95)])
def test_a_rise_at_the_end_of_the_range_is_seen(runs, power):
    # Oracle: a steep rise that the straight line misses; the share of simulations in which it is seen.
    rng = np.random.default_rng(8)
    x = np.linspace(19.0, 22.0, runs)
    rise = 65.0 / (1 + np.exp(-3 * (x - 22.5)))
    found = [any_trend(x, rise + rng.normal(0, 0.5, runs), np.arange(runs)) for _ in range(100)]
    assert np.mean([test.p < 0.05 for test in found]) >= power
    assert all(test.direction == 1.0 for test in found)


def test_a_fall_has_its_direction():
    # Oracle: the sign of the construction.
    x = np.linspace(18, 22, 12)
    noise = np.random.default_rng(9).normal(0, 0.01, 12)
    assert any_trend(x, -x + noise, np.arange(12)).direction == -1.0
    assert any_trend(x, -x + noise, np.arange(12)).p < 1e-5
    few = any_trend(x[:5], x[:5], np.arange(5))
    assert np.isnan(few.p)
    assert np.isnan(any_trend(np.full(8, 20.0), np.arange(8.0), np.arange(8)).p)
    assert any_trend(x, np.full(12, 0.3), np.arange(12)).p == pytest.approx(1.0, abs=1e-3)


def test_neither_order_nor_names_nor_units_matter(ladder):
    # Oracle: the test of the points as they come.
    x, cluster = ladder
    rng = np.random.default_rng(4)
    y = 0.5 * x + rng.normal(0, 0.5, 16)[cluster] + rng.normal(0, 0.5, len(x))
    first = trend_test(x, y, cluster)
    order = rng.permutation(len(x))
    names = np.array([f"run {99 - g}" for g in cluster])
    second = trend_test(x[order], 1e-3 * y[order] + 7, names[order])
    assert second.slope == pytest.approx(1e-3 * first.slope, rel=1e-6)
    assert (second.df, second.p) == pytest.approx((first.df, first.p), rel=1e-5)


@pytest.mark.parametrize(("clusters", "known"), [(5, False), (6, True)])
def test_few_runs_have_no_p_value(clusters, known):
    # Oracle: the rule, six clusters.
    rng = np.random.default_rng(5)
    x = np.linspace(18, 22, clusters * 4)
    found = trend_test(x, x + rng.normal(0, 0.1, len(x)), np.repeat(np.arange(clusters), 4))
    assert np.isfinite(found.p) == known and np.isfinite(found.slope)


@pytest.mark.parametrize("sizes", [1, 4])
@pytest.mark.parametrize(("level", "slope", "p"), [(0.3, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.1, 0.0)])
def test_scores_without_noise(sizes, level, slope, p):
    # Oracle: no slope is no evidence; a line without any residual is all of it.
    x = np.linspace(18, 22, 8 * sizes)
    found = trend_test(x, level + slope * x, np.repeat(np.arange(8), sizes))
    assert found.slope == pytest.approx(slope, abs=1e-9)
    assert found.p == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "cluster"),
    [
        (np.full(12, 20.0), np.arange(12)),
        (np.linspace(18, 22, 12), np.zeros(12)),
        (np.array([18.0, 19]), [0, 1]),
    ],
)
def test_what_cannot_be_tested_is_nan(x, cluster):
    # Oracle: none needed; warnings are errors here.
    found = trend_test(x, np.linspace(0, 1, len(x)), np.asarray(cluster))
    assert np.isnan(found.p) and np.isnan(found.slope)


def test_runs_of_like_compute_whose_checkpoints_agree_are_not_a_trend():
    # Oracle: all points of a run are copies of each other, so they say what one point per run says.
    x = np.linspace(18, 22, 8)
    y = np.array([0.1, -0.2, 0.15, 0.0, -0.1, 0.2, -0.05, 0.1])
    once = trend_test(x, y, np.arange(8))
    copies = trend_test(np.repeat(x, 3), np.repeat(y, 3), np.repeat(np.arange(8), 3))
    assert copies.slope == pytest.approx(once.slope, rel=1e-6)
    assert copies.p == pytest.approx(once.p, rel=1e-3)


def test_adjusted_p_values():
    # Oracle: statsmodels.stats.multitest.multipletests.
    p = np.array([0.001, np.nan, 0.04, 0.03, 0.5, np.nan, 1.0])
    known = np.isfinite(p)
    found = adjust(p)
    assert np.allclose(found[known], multipletests(p[known], method="fdr_bh")[1])
    assert np.isnan(found[~known]).all()
    assert np.isnan(adjust(np.array([np.nan, np.nan]))).all()
