"""The factor model, the matrix it reads and the axis made from it: planted abilities come back."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, spearmanr
from sklearn.base import clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from scaling.curves import fit_curves
from scaling.effective import effective_compute
from scaling.errors import StagewiseError, UsageError
from scaling.latent import LatentAbility
from scaling.metrics import metric_info
from scaling.readers import read_scores
from scaling.score_matrix import from_comparable, score_matrix, suite_of, to_comparable
from scaling.scores import ScoreTable
from tests.scaling.synthetic import facts

EFFICIENCY = {"plain": 0.0, "thrifty": 1.0, "wasteful": -0.7}  # decades


def planted(*, models=120, tasks=9, missing=0.3, noise=0.3, seed=0):
    """Scores `loading * ability + noise`, a share of them missing, and the abilities."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(size=models)
    loading = np.linspace(0.6, 1.4, tasks)
    scores = 2.0 + ability[:, None] * loading + rng.normal(0, noise, (models, tasks))
    scores[rng.random(scores.shape) < missing] = np.nan
    return scores[np.isfinite(scores).sum(axis=1) > 0], ability[np.isfinite(scores).sum(axis=1) > 0]


def family_frame(*, seed=0, noise=0.004, runs=8, unknown=True, tasks=6):
    """Three families that need different compute for one ability, one run of unknown compute among them."""
    rng = np.random.default_rng(seed)
    rows = []
    for family, gain in EFFICIENCY.items():
        for i, x in enumerate(np.linspace(19.0, 23.0, runs)):
            for t in range(tasks):
                y = 0.9 / (1 + np.exp(-1.2 * (x + gain - 20.2 - 0.3 * t))) + 0.05 + rng.normal(0, noise)
                known = not (unknown and family == "thrifty" and i == 3)
                rows.append(
                    {
                        "source": "synthetic", "family": family, "model": f"{family}{i}",
                        "flops": 10.0**x if known else np.nan, "truth": x + gain, "task": f"task{t}x",
                        "metric": "acc", "score": float(np.clip(y, 0, 1)),
                    }
                )  # fmt: skip
    frame = pd.DataFrame(rows)
    # Names whose first word differs: each task is a suite of its own.
    frame["task"] = frame["task"].map({f"task{t}x": f"{'abcdefgh'[t]}x_test" for t in range(tasks)})
    return frame


def table_of(frame):
    return ScoreTable.from_frame(frame.drop(columns="truth"))


# The factor model


@pytest.mark.parametrize("model", ["factor", "pca"])
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.6])
def test_planted_ability_comes_back_through_gaps(model, missing):
    """Oracle: the planted abilities, and the factor's own standard errors for how near."""
    scores, ability = planted(missing=missing)
    fit = LatentAbility(model=model).fit(scores)
    found = fit.transform(scores)[:, 0]
    assert np.corrcoef(found, ability)[0, 1] > (0.97 if missing < 0.5 else 0.93)


def test_standard_errors_are_as_wide_as_the_errors():
    """Oracle: planted abilities lie within 1.96 standard errors about 95% of the time."""
    scores, ability = planted(models=400, missing=0.5, noise=0.8)
    fit = LatentAbility().fit(scores)
    z = (fit.transform(scores)[:, 0] - (ability - ability.mean()) / ability.std()) / fit.standard_error(
        scores
    )[:, 0]
    assert 0.91 < np.mean(np.abs(z) < 1.96) < 0.98


def test_standard_errors_grow_with_gaps():
    """Oracle: monotonicity; fewer tasks say less."""
    scores, _ = planted(missing=0.0)
    fit = LatentAbility().fit(scores)
    row = np.tile(scores[:1], (9, 1))
    row[np.triu_indices(9, 1)] = np.nan  # row i has i + 1 tasks
    assert (np.diff(fit.standard_error(row)[:, 0]) < 0).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_complete_data_is_sklearns_pca(k):
    """Oracle: sklearn.decomposition.PCA on standardised scores, up to sign."""
    rng = np.random.default_rng(k)
    scores = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 8)) + rng.normal(size=(60, 8))
    z = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    oracle = PCA(k).fit(z)
    ours = LatentAbility(k, "pca", noise_floor=0.0).fit(scores)
    sign = np.sign((ours.components_ * oracle.components_).sum(axis=1))
    assert np.allclose(ours.transform(scores), oracle.transform(z) * sign, atol=1e-8)
    assert np.allclose(ours.components_, oracle.components_ * sign[:, None], atol=1e-8)
    assert np.allclose(ours.explained_variance_ratio_, oracle.explained_variance_ratio_)
    back = oracle.inverse_transform(oracle.transform(z)) * scores.std(axis=0) + scores.mean(axis=0)
    assert np.allclose(ours.inverse_transform(ours.transform(scores)), back)


@pytest.mark.parametrize("k", [1, 2])
def test_complete_data_is_sklearns_factor_analysis(k):
    """Oracle: sklearn.decomposition.FactorAnalysis on standardised scores, up to sign."""
    rng = np.random.default_rng(k)
    scores = rng.normal(size=(200, k)) @ rng.normal(size=(k, 8)) + rng.normal(size=(200, 8))
    z = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    oracle = FactorAnalysis(k, tol=1e-10, max_iter=20000, svd_method="lapack").fit(z)
    ours = LatentAbility(k, noise_floor=0.0, tol=1e-9, max_iter=20000).fit(scores)
    assert np.allclose(ours.noise_variance_, oracle.noise_variance_, atol=1e-4)
    sign = np.sign((ours.components_ * oracle.components_).sum(axis=1))
    assert np.allclose(ours.transform(scores), oracle.transform(z) * sign, atol=1e-3)


@pytest.mark.parametrize("model", ["factor", "pca"])
def test_em_climbs_the_likelihood_of_what_was_observed(model):
    """Oracle: scipy's multivariate normal density of each model's observed scores."""
    scores, _ = planted(models=60, missing=0.4)

    def likelihood(fit):
        total = 0.0
        sigma = fit._covariance() * np.outer(fit.scale_, fit.scale_)
        for row in scores:
            seen = np.isfinite(row)
            total += multivariate_normal(fit.mean_[seen], sigma[np.ix_(seen, seen)]).logpdf(row[seen])
        return total

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = [
            likelihood(LatentAbility(model=model, noise_floor=0.0, max_iter=n).fit(scores))
            for n in (1, 2, 4, 8, 16, 64)
        ]
    assert (np.diff(path) > -1e-6).all() and path[-1] > path[0] + 1


def test_posterior_from_observed_tasks_is_the_conditional_normal():
    """Oracle: the conditional mean and variance of a joint normal, by the textbook formula."""
    scores, _ = planted(missing=0.3)
    fit = LatentAbility(2).fit(scores)
    row = scores[5]
    seen = np.isfinite(row)
    w = fit.components_[:, seen]
    inner = np.linalg.inv(w.T @ w + np.diag(fit.noise_variance_[seen]))
    mean = w @ inner @ ((row - fit.mean_) / fit.scale_)[seen]
    covariance = np.eye(2) - w @ inner @ w.T
    assert np.allclose(fit.transform(row[None])[0], mean)
    assert np.allclose(fit.standard_error(row[None])[0], np.sqrt(np.diag(covariance)))


@given(seed=st.integers(0, 10_000), model=st.sampled_from(["factor", "pca"]))
@settings(max_examples=15)
def test_order_and_units_of_models_and_tasks_do_not_matter(seed, model):
    """Oracle: invariance."""
    rng = np.random.default_rng(seed)
    scores, _ = planted(models=40, tasks=6, seed=seed)
    rows, columns = rng.permutation(len(scores)), rng.permutation(6)
    one = LatentAbility(model=model, tol=1e-8, max_iter=5000).fit(scores)
    other = LatentAbility(model=model, tol=1e-8, max_iter=5000).fit(3.0 * scores[rows][:, columns] - 7.0)
    moved = other.transform(3.0 * scores[rows][:, columns] - 7.0)
    assert np.allclose(one.transform(scores)[rows], moved, atol=1e-5)


def test_more_is_better_even_where_most_scores_fall_elsewhere():
    """Oracle: the convention; the sum of loadings is not negative."""
    scores, ability = planted(missing=0.0)
    assert np.corrcoef(LatentAbility().fit(scores).transform(scores)[:, 0], ability)[0, 1] > 0
    assert np.corrcoef(LatentAbility().fit(-scores).transform(-scores)[:, 0], -ability)[0, 1] > 0
    assert (LatentAbility(3).fit(scores).components_.sum(axis=1) >= 0).all()


@pytest.mark.parametrize("floor", [0.05, 0.2])
def test_no_task_becomes_the_factor(floor):
    """Oracle: the floor; two copies of a task have next to no noise of their own without it."""
    scores, _ = planted(models=60, tasks=6, missing=0.0, noise=1.0)
    copy = scores[:, 0] + 0.02 * np.random.default_rng(0).normal(size=60)
    scores = np.column_stack([scores, copy])
    assert LatentAbility(noise_floor=floor).fit(scores).noise_variance_.min() >= floor
    assert LatentAbility(noise_floor=0.0).fit(scores).noise_variance_.min() < 0.01


def test_it_behaves_like_an_estimator_of_scikit_learn():
    scores, _ = planted()
    fit = clone(LatentAbility(2, "pca", tol=1e-3))
    assert fit.get_params()["model"] == "pca"
    assert fit.fit_transform(pd.DataFrame(scores)).shape == (len(scores), 2)
    named = LatentAbility().fit(pd.DataFrame(scores, columns=[f"t{j}" for j in range(9)]))
    assert list(named.loadings_.index) == [f"t{j}" for j in range(9)]
    again = LatentAbility().fit(scores)
    assert np.array_equal(named.transform(scores), again.transform(scores))


def test_a_model_without_scores_has_no_ability():
    scores, _ = planted()
    row = np.full((1, 9), np.nan)
    for model in ("factor", "pca"):
        fit = LatentAbility(model=model).fit(scores)
        assert np.isnan(fit.transform(row)).all() and np.isnan(fit.standard_error(row)).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model": "ica"}, "model: got 'ica'"),
        ({"n_factors": 0}, "n_factors: got 0"),
        ({"n_factors": 1.5}, "n_factors: got 1.5"),
        ({"noise_floor": 1.0}, "noise_floor: got 1.0"),
        ({"max_iter": 0}, "max_iter, tol"),
        ({"tol": 0.0}, "max_iter, tol"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, text):
    with pytest.raises(UsageError, match=text):
        LatentAbility(**settings).fit(planted()[0])


def broken(row, column, value):
    scores = planted()[0]
    scores[row, column] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (broken(3, 2, np.inf), "infinite score of task task2"),
        (broken(slice(None), 4, 0.5), "task task4 has fewer than two different"),
        (broken(slice(None), 4, np.nan), "task task4 has fewer than two different"),
        (broken(7, slice(None), np.nan), "model 7 has no score"),
        (np.zeros(5), r"got shape \(5,\)"),
        (np.arange(5.0)[:, None], "got 5 models by 1 tasks"),
    ],
)
def test_scores_that_cannot_be_fitted_are_refused(scores, text):
    with pytest.raises(StagewiseError, match=text):
        LatentAbility().fit(scores)


def test_other_tasks_than_it_was_fitted_to_are_refused():
    fit = LatentAbility().fit(planted()[0])
    with pytest.raises(StagewiseError, match="got 4 tasks, was fitted to 9"):
        fit.transform(np.zeros((2, 4)))


def test_too_few_rounds_are_said():
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        LatentAbility(max_iter=1).fit(planted()[0])


# The matrix


@pytest.mark.parametrize("scale", ["logit", "plain"])
@pytest.mark.parametrize("metric", ["acc", "bpb", "ce_loss"])
def test_units_go_back_and_larger_is_better(metric, scale):
    """Oracle: the inverse, and monotonicity."""
    y = np.linspace(0.0, 1.0, 11) if metric == "acc" else np.linspace(0.1, 5.0, 11)
    z = to_comparable(y, metric_info(metric), scale)
    assert np.allclose(from_comparable(z, metric_info(metric), scale), y)
    assert (np.diff(z) > 0).all() if metric == "acc" else (np.diff(z) < 0).all()


def test_suites_hold_splits_and_subjects():
    assert suite_of("arc_easy") == suite_of("arc_challenge")
    assert suite_of("mmlu_mc") == suite_of("mmlu_anatomy_mc")
    assert suite_of("piqa") != suite_of("hellaswag")


def test_matrix_holds_every_cell_once():
    """Oracle: the frame it was made from, by pandas' own pivot."""
    frame = family_frame()
    matrix = score_matrix(table_of(frame), scale="plain")
    pivot = frame.pivot(index="model", columns="task", values="score").loc[matrix.runs["model"]]
    assert np.allclose(matrix.values.to_numpy(), pivot[[key.task for key in matrix.keys]].to_numpy())
    assert matrix.points == "final" and np.isnan(matrix.runs["log10_flops"]).sum() == 1
    assert "24 runs by 6 tasks" in matrix._repr_html_() and len(matrix.to_frame()) == 24


def test_thin_tasks_and_runs_are_left_out_and_counted():
    """Oracle: the rows taken away."""
    frame = family_frame()
    thin = (frame["task"] == "ax_test") & (frame["family"] != "plain")  # 8 runs are left, then 7
    thin |= (frame["model"] == "plain0") & (frame["task"] >= "cx")
    flat = frame["task"] == "bx_test"
    frame.loc[flat, "score"] = 0.5
    matrix = score_matrix(table_of(frame[~thin]))
    assert [key.task for key in matrix.keys] == ["cx_test", "dx_test", "ex_test", "fx_test"]
    assert "plain0" not in set(matrix.runs["model"]) and len(matrix.runs) == 23
    assert {o.what.split(" with")[0]: o.count for o in matrix.omissions} == {"task": 2, "run": 1}


def test_all_checkpoints_are_rows_where_asked():
    frame = family_frame(unknown=False)
    early = frame.assign(step=100, flops=frame["flops"] / 2, score=frame["score"] * 0.9)
    table = table_of(pd.concat([frame.assign(step=200), early]))
    assert len(score_matrix(table, points="all").runs) == 48
    final = score_matrix(table)
    assert len(final.runs) == 24 and [o.count for o in final.omissions] == [144]
    axis = effective_compute(table, points="all")
    applied = axis.apply(table)
    assert len(applied) == 288 and len(effective_compute(table).apply(table)) == 144


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scale": "probit"}, "scale: got 'probit'"),
        ({"points": "last"}, "points: got 'last'"),
        ({"by": ("variant",)}, "by: got"),
        ({"exclude": ["nothing"]}, "the table has no task nothing"),
    ],
)
def test_a_matrix_option_that_is_not_valid_is_refused(options, text):
    with pytest.raises(UsageError, match=text):
        score_matrix(table_of(family_frame()), **options)


def test_a_matrix_too_small_is_refused():
    frame = family_frame()
    with pytest.raises(StagewiseError, match=r"0 run\(s\) by 0 task\(s\) are left"):
        score_matrix(table_of(frame[frame["task"] < "cx"]))
    with pytest.raises(StagewiseError, match="no score is left"):
        score_matrix(table_of(frame[frame["task"] < "cx"]), exclude=["ax_test", "bx_test"])


# The axis


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_efficiency_comes_back(seed):
    """Oracle: the planted compute of each run in the unit of the reference family, in decades."""
    frame = family_frame(seed=seed)
    axis = effective_compute(table_of(frame), reference="plain")
    truth = frame.groupby("model")["truth"].first()[axis.frame["model"]].to_numpy()
    assert spearmanr(axis.frame["effective_log10_flops"], truth).statistic > 0.99
    assert np.abs(axis.frame["effective_log10_flops"] - truth).max() < 0.6
    found = axis.efficiency().set_index("family")["multiplier"]
    assert np.abs(axis.frame["effective_log10_flops"] - truth).median() < 0.15
    for family, gain in EFFICIENCY.items():
        assert np.log10(found[family]) == pytest.approx(gain, abs=0.15)


def test_effective_compute_rises_with_ability():
    """Oracle: monotonicity, beyond the abilities seen as well."""
    axis = effective_compute(table_of(family_frame(noise=0.03)))
    assert (np.diff(axis.map.predict(np.linspace(-6, 6, 500))) > 0).all()
    order = np.argsort(axis.frame["ability"].to_numpy())
    assert (np.diff(axis.frame["effective_log10_flops"].to_numpy()[order]) > 0).all()
    assert (axis.frame["se"] > 0).all()


def test_an_excluded_task_has_no_influence():
    """Oracle: the same axis after its scores, and its suite's, were replaced by noise."""
    frame = family_frame()
    more = frame[frame["task"] == "bx_test"].assign(task="ax_other")
    frame = pd.concat([frame, more])
    changed = frame.copy()
    theirs = changed["task"].str.startswith("ax")
    changed.loc[theirs, "score"] = np.random.default_rng(0).random(int(theirs.sum()))
    one, other = (effective_compute(table_of(f), exclude=["ax_test"]) for f in (frame, changed))
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert not any(key.task.startswith("ax") for key in one.matrix.keys)
    kept = effective_compute(table_of(changed))
    assert not np.allclose(kept.frame["ability"], effective_compute(table_of(frame)).frame["ability"])


def test_a_run_of_unknown_compute_has_a_place_and_curves_use_it():
    """Oracle: the planted truth; the families fall on one curve over the new axis."""
    frame = family_frame()
    axis = effective_compute(table_of(frame), "plain", exclude=["cx_test"])
    applied = axis.apply(table_of(frame))
    assert len(applied) == len(frame) and applied.frame["flops"].notna().all()
    fitted = {
        name: fit_curves(
            table.where(table.frame["task"] == "cx_test", "other task"),
            replicates=0, facts=facts(cx_test={"chance": 0.05}),
        )["cx_test"]
        for name, table in (("flops", table_of(frame)), ("effective", applied))
    }  # fmt: skip
    rms = {
        name: np.sqrt(np.mean((curve.series.y - curve.values(curve.series.x)[0]) ** 2))
        for name, curve in fitted.items()
    }
    assert rms["effective"] < 0.3 * rms["flops"]


def test_measuring_the_same_table_again_gives_the_same_places():
    """Oracle: the frame itself."""
    table = table_of(family_frame())
    axis = effective_compute(table)
    pd.testing.assert_frame_equal(axis.measure(table), axis.frame)
    part = table.where(table.frame["task"].isin(["ax_test", "bx_test"]), "too few")
    assert axis.measure(part)["effective_log10_flops"].isna().all()


def test_rows_without_a_place_are_left_out_and_counted():
    """Oracle: the rows of runs with too few tasks."""
    frame = family_frame()
    frame = frame[~((frame["model"] == "plain0") & (frame["task"] > "bx_test"))]
    table = table_of(frame)
    applied = effective_compute(table).apply(table)
    assert "plain0" not in set(applied.frame["model"])
    assert applied.omissions[-1].what == "no effective compute" and applied.omissions[-1].count == 2
    other = frame.assign(model=frame["model"] + "b")
    with pytest.raises(StagewiseError, match="no row of the table belongs"):
        effective_compute(table).apply(table_of(other))


def test_the_reference_is_the_family_that_says_most_and_can_be_named():
    """Oracle: the rule; the sum of squares of log10 FLOPs."""
    frame = family_frame()
    short = frame[~((frame["family"] != "wasteful") & (frame["flops"] > 1e21))]
    assert effective_compute(table_of(short)).reference == "wasteful"
    axis = effective_compute(table_of(short), "thrifty")
    assert axis.reference == "thrifty" and "thrifty would have needed" in axis._repr_html_()
    assert axis.to_frame() is axis.frame
    with pytest.raises(UsageError, match=r"reference: got 'nobody', valid are .* plain, thrifty, wasteful"):
        effective_compute(table_of(frame), "nobody")


def test_an_axis_needs_runs_of_one_family_and_ability_that_rises():
    frame = family_frame()
    with pytest.raises(StagewiseError, match="no family has two runs of different known compute"):
        effective_compute(table_of(frame.assign(family=frame["model"])))
    with pytest.raises(StagewiseError, match="ability does not rise with compute"):
        effective_compute(table_of(frame.assign(flops=1e42 / frame["flops"])))


def test_public_models_fall_on_one_axis(shared):
    """Oracle: the issue's claim on real scores: one factor holds most of the variance."""
    table = read_scores([shared / "sources" / "obsscaling_eval_results.tar.zst"], drop_bad=True)
    table = table.where((table.frame["variant"] == "obs_base").fillna(False), "other files")
    axis = effective_compute(table)
    assert axis.ability.explained_variance_ratio_[0] > 0.6
    known = axis.frame.dropna(subset=["log10_flops"])
    assert spearmanr(known["effective_log10_flops"], known["log10_flops"]).statistic > 0.6
    assert len(axis.frame) > len(known) > 100
