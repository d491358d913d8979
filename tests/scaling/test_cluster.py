"""Clusters of tasks: planted groups come back, formats stay apart, correlations are Spearman's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from scaling.cluster import adjusted_rand, cluster_tasks
from scaling.curves import fit_curves
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from tests.scaling.synthetic import facts, frame_of, sigmoid


def planted(groups: dict[str, int], *, runs=24, shared=0.02, own=0.004, seed=0):
    """Curves of tasks named by their group; a run is good or bad at a whole group."""
    rng = np.random.default_rng(seed)
    names = [f"{group}{i}" for group, count in groups.items() for i in range(count)]
    truth = sigmoid(0.25, 0.8, 20.0, 1.0)
    frame = frame_of({name: truth for name in names}, runs=runs, checkpoints=1, checkpoint_sd=own, seed=seed)
    skill = {group: rng.normal(0, shared, runs) for group in groups}
    for name in names:
        frame.loc[frame["task"] == name, "score"] += skill[name.rstrip("0123456789")]
    return frame


def curves_of(frame, formats=None):
    known = (
        {name: {"format": formats[name.rstrip("0123456789")]} for name in frame["task"].unique()}
        if formats
        else {}
    )
    return fit_curves(ScoreTable.from_frame(frame), replicates=0, facts=facts(**known))


def groups_of(clusters) -> list[set[str]]:
    frame = clusters.to_frame()
    return [set(rows["task"]) for _, rows in frame.groupby("cluster")]


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_groups_are_found(seed):
    # Oracle: the construction.
    clusters = cluster_tasks(curves_of(planted({"a": 4, "b": 5}, seed=seed)), resamples=30)
    assert groups_of(clusters) == [{f"a{i}" for i in range(4)}, {f"b{i}" for i in range(5)}]
    assert clusters.labels[clusters.keys[0]] == 1 and "2 clusters, most stable" in clusters.criterion


def test_three_groups_are_found_too():
    # Oracle: the construction.
    clusters = cluster_tasks(curves_of(planted({"a": 4, "b": 4, "c": 4}, seed=2)), resamples=30)
    assert sorted(map(len, groups_of(clusters))) == [4, 4, 4]
    best = clusters.stability.sort_values("score").iloc[-1]
    assert best["k"] == 3 and 0.8 < best["score"] <= 1.0


def test_correlations_are_spearmans():
    # Oracle: scipy.stats.spearmanr of residuals around the curves, on complete data.
    curves = curves_of(planted({"a": 2, "b": 2}, own=0.02))
    clusters = cluster_tasks(curves, resamples=5)
    residual = np.column_stack([curve.series.y - curve.values(curve.series.x)[0] for curve in curves])
    assert np.allclose(clusters.rho, spearmanr(residual).statistic, atol=1e-9)


def test_correlations_over_shared_points_are_close_to_spearmans():
    # Oracle: scipy.stats.spearmanr over the runs that both tasks have.
    frame = planted({"a": 2}, own=0.02, runs=40)
    frame = frame[~((frame["task"] == "a1") & (frame["model"] < "run010"))]
    curves = curves_of(frame)
    residual = [dict(zip(c.series.run, c.series.y - c.values(c.series.x)[0], strict=True)) for c in curves]
    shared = sorted(set(residual[0]) & set(residual[1]))
    oracle = spearmanr([residual[0][r] for r in shared], [residual[1][r] for r in shared]).statistic
    assert cluster_tasks(curves).rho[0, 1] == pytest.approx(oracle, abs=0.05)


def test_tasks_without_shared_points_are_not_correlated():
    # Oracle: the rule, eight shared points.
    frame = planted({"a": 2}, runs=20)
    first = (frame["task"] == "a0") & (frame["model"] < "run010")
    second = (frame["task"] == "a1") & (frame["model"] >= "run010")
    assert cluster_tasks(curves_of(frame[first | second])).rho[0, 1] == 0.0


@pytest.mark.parametrize("count", [2, 3, 4, None])
def test_no_cluster_mixes_formats(count):
    # Oracle: the construction; the tasks of both formats rank the runs alike.
    frame = planted({"a": 5, "b": 3})
    copied = frame.loc[frame["task"] == "a0", "score"].to_numpy()
    frame.loc[frame["task"].str.startswith("b"), "score"] = np.tile(copied, 3)
    clusters = cluster_tasks(curves_of(frame, {"a": "text", "b": "letter"}), count=count, resamples=20)
    assert all(len({name[0] for name in group}) == 1 for group in groups_of(clusters))


@pytest.mark.parametrize("count", [2, 3])
def test_no_cluster_mixes_formats_where_one_format_has_many_tasks(count):
    # Oracle: the construction; Ward's distance grows with the size of what is joined.
    frame = planted({"a": 30, "b": 30, "c": 1}, own=0.002)
    clusters = cluster_tasks(
        curves_of(frame, {"a": "text", "b": "text", "c": "letter"}), count=count, resamples=3
    )
    assert {"c0"} in groups_of(clusters)


@pytest.mark.parametrize(("count", "text"), [(1, "got 1, valid is 2 .* to 4"), (5, "got 5"), (0, "got 0")])
def test_a_count_that_the_tasks_do_not_allow_is_refused(count, text):
    curves = curves_of(planted({"a": 2, "b": 2}), {"a": "text", "b": "letter"})
    with pytest.raises(UsageError, match=text):
        cluster_tasks(curves, count=count)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_count_is_obeyed(count):
    # Oracle: the number asked for.
    clusters = cluster_tasks(curves_of(planted({"a": 2, "b": 2})), count=count, resamples=3)
    assert len(groups_of(clusters)) == count and f"{count} clusters, as asked" in clusters.criterion


def test_one_curve_cannot_be_clustered():
    with pytest.raises(StagewiseError, match="got 1 curve"):
        cluster_tasks(curves_of(planted({"a": 1})))


def test_two_tasks_are_too_few_to_choose():
    clusters = cluster_tasks(curves_of(planted({"a": 2})))
    assert "too few to divide" in clusters.criterion and len(clusters.labels) == 2


def test_the_same_seed_gives_the_same_clusters():
    # Oracle: the same call again.
    curves = curves_of(planted({"a": 3, "b": 3}, shared=0.005, own=0.01))
    first, second = (cluster_tasks(curves, resamples=20, seed=3) for _ in range(2))
    assert first.labels == second.labels and first.stability.equals(second.stability)


def test_scores_that_never_differ_are_clustered_without_a_warning():
    # Oracle: none needed; warnings are errors here.
    frame = planted({"a": 3}).assign(score=0.5)
    assert np.isfinite(cluster_tasks(curves_of(frame), resamples=5).rho).all()


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=2, max_size=40))
def test_adjusted_rand(pairs):
    """Oracle: scikit-learn's."""
    labels, others = np.array(pairs).T
    assert adjusted_rand(labels, others) == pytest.approx(adjusted_rand_score(labels, others), abs=1e-12)
    assert adjusted_rand(labels, labels) == 1.0
