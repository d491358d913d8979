"""Quality of a way to choose, on made-up evidence whose agreement follows from how it was made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from evalsuite.objective import Objective, from_recipes
from evalsuite.quality import agreement, assess
from evalsuite.thinning import Offer
from scaling.agreement import share_alike
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable
from scaling.series import Key
from tests.evalsuite.world import TASKS, offer, one_factor, recipe_scores

FEW = {"splits": 3, "draws": 10, "resamples": 40}
NINE = np.full(9, 0.6)


def judged(world: Objective, share: float = 0.4, *, given: Offer | None = None, **options):
    return assess(world, given or offer([200] * len(world.keys), 10.0), share, **FEW | options)


def row(found, choice: str) -> pd.Series:
    return found.rows.set_index("choice").loc[choice]


@pytest.fixture(scope="module")
def factor():
    return judged(one_factor(NINE, rows=600), 0.5, standard=["b0", "b1"])


def test_all_tasks_agree_as_the_factor_says(factor) -> None:
    """Closed form: means of a and b tasks of load l correlate l^2 / sqrt((l^2 + (1-l^2)/a)(l^2 + (1-l^2)/b)),
    and Spearman's is 6/pi asin(r/2) of a normal pair."""
    square = 0.36
    r = square / np.sqrt((square + (1 - square) / 6) * (square + (1 - square) / 3))
    assert row(factor, "all tasks")["agreement"] == pytest.approx(6 / np.pi * np.arcsin(r / 2), abs=0.05)
    assert row(factor, "all tasks")["cost"] == 1.0 and row(factor, "all tasks")["tasks"] == 6
    # Half of six like tasks are three.
    r = square / np.sqrt((square + (1 - square) / 3) * (square + (1 - square) / 3))
    assert row(factor, "suite")["agreement"] == pytest.approx(6 / np.pi * np.arcsin(r / 2), abs=0.06)
    assert row(factor, "single best")["tasks"] == 1


def test_of_noise_nothing_agrees_with_anything() -> None:
    """Planted: tasks that share nothing; even what was chosen agrees with nothing. A choice that had seen the
    target's scores would not know more either, since other models are judged."""
    found = judged(one_factor(np.zeros(9), rows=600))
    assert abs(row(found, "suite")["agreement"]) < 0.1
    assert abs(row(found, "all tasks")["agreement"]) < 0.1


def test_a_choice_has_not_seen_the_benchmarks_it_is_judged_by() -> None:
    """Planted: ten benchmarks in pairs that are one column each, and nothing else in common. Who knew the
    target would pick its twin and agree with it; who does not gets what random tasks get."""
    world = one_factor(np.zeros(10), rows=300, groups=60)
    values = np.repeat(world.small[:, :5], 2, axis=1)
    world = replace(world, small=values, target=values)
    found = judged(world, 0.3, splits=6, draws=20)
    assert row(found, "suite")["agreement"] < row(found, "random")["high"]


def test_the_interval_holds_the_estimate_and_rows_are_means_of_records(factor) -> None:
    for found in (factor, judged(one_factor(NINE, rows=100, groups=20), 0.2)):
        centre, low, high = found.difference
        assert low <= centre <= high
        suite, every = row(found, "suite")["agreement"], row(found, "all tasks")["agreement"]
        assert centre == pytest.approx(suite - every)
        for one in found.rows.to_dict("records"):
            assert one["low"] <= one["agreement"] <= one["high"]
            mine = found.records[found.records["choice"].str.startswith(one["choice"])]
            assert one["agreement"] == pytest.approx(mine["agreement"].mean())
            assert one["cost"] == pytest.approx(mine["cost"].mean())
            assert one["tasks"] == pytest.approx(mine["tasks"].mean())
        assert sorted(found.records["split"].unique()) == list(range(found.splits))


def test_random_suites_of_like_cost_stay_below_all_tasks(factor) -> None:
    """Planted: like tasks, so that three random ones say less than six."""
    assert row(factor, "random")["agreement"] < row(factor, "all tasks")["agreement"]
    assert row(factor, "random")["cost"] <= 0.5
    low, high = factor.random_means
    assert low <= row(factor, "random")["agreement"] <= high and 0 <= factor.above <= 1


def test_a_choice_beats_random_ones_where_tasks_differ() -> None:
    """Planted: four of twelve tasks share a factor, the others are noise that no choice should pay for."""
    load = np.where(np.arange(12) % 3 == 0, 0.9, 0.0)
    found = judged(one_factor(load, rows=300), 0.25)
    assert row(found, "suite")["agreement"] > row(found, "random")["agreement"] + 0.1
    assert found.above > 0.6


def test_tasks_without_evidence_have_no_part_in_it() -> None:
    """Oracle: the same without them. Planted: two more tasks, dear, that share no row with them."""
    world = one_factor(np.full(6, 0.6), rows=100)
    nothing = np.zeros((100, 2))
    more = replace(
        world, small=np.hstack([world.small, nothing]), target=np.hstack([world.target, nothing]),
        keys=(*world.keys, Key("x", "acc", 0), Key("y", "acc", 0)), sampling=np.zeros(8),
        benchmarks=np.append(world.benchmarks, ["x", "y"]),
        target_benchmarks=np.append(world.target_benchmarks, ["x", "y"]),
    )  # fmt: skip
    wide = offer([200] * 6 + [9000] * 2, 10.0)
    found = judged(more, 0.5, given=wide, standard=["x", "b0"])
    pd.testing.assert_frame_equal(found.rows, judged(world, 0.5, standard=["b0"]).rows)


def test_seeds_reproduce(factor) -> None:
    world = one_factor(NINE, rows=600)
    again = judged(world, 0.5, standard=["b0", "b1"])
    pd.testing.assert_frame_equal(again.rows, factor.rows)
    pd.testing.assert_frame_equal(again.records, factor.records)
    assert (again.difference, again.above, again.random_means) == (
        factor.difference, factor.above, factor.random_means,
    )  # fmt: skip
    assert not judged(world, 0.5, seed=1).records.equals(factor.records)


def test_progress_and_bounds_of_what_is_judged() -> None:
    seen = []
    world = one_factor(np.full(5, 0.6), rows=100)
    judged(world, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(StagewiseError, match="none of 3 splits has points to judge on"):
        judged(world, beyond=25.0)


def test_recipes_are_judged_by_the_share_of_pairs() -> None:
    """Oracle: scaling.agreement.share_alike on the whole of the planted pairs; without noise all agree."""
    frame, _ = recipe_scores(10)
    keys = [Key(task, "acc", 0) for task in TASKS]
    scales = (1e19, 1e21), (1e21 * 1.001, 1e30)
    found = from_recipes(ScoreTable.from_frame(frame), keys, *scales, sampling=np.zeros(7))
    assert found is not None
    quality = judged(found, 0.5)
    assert quality.kind == "decision accuracy" and quality.groups == 10
    assert row(quality, "suite")["agreement"] == row(quality, "all tasks")["agreement"] == 1.0
    noisy, _ = recipe_scores(10, noise=dict.fromkeys(TASKS, 0.1), seed=2)
    found = from_recipes(ScoreTable.from_frame(noisy), keys, *scales, sampling=np.zeros(7))
    assert found is not None
    weak = judged(found, 0.5)
    every = share_alike(found.small.mean(axis=1), found.goal())
    assert 0.5 < row(weak, "all tasks")["agreement"] < 1.0
    assert row(weak, "all tasks")["agreement"] == pytest.approx(float(every), abs=0.1)


def test_agreement_is_scipys_and_the_share_alike() -> None:
    """Oracles: scipy.stats.spearmanr; share_alike; a weight of two is a row that is there twice."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    a[:2] = 0.0
    weights = rng.integers(0, 3, 50).astype(float)
    assert agreement("latent agreement", a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert agreement("decision accuracy", a, b) == pytest.approx(float(share_alike(a, b)))
    at = np.repeat(np.arange(50), weights.astype(int))
    assert agreement("decision accuracy", a, b, weights) == pytest.approx(float(share_alike(a[at], b[at])))
    assert np.isnan(agreement("latent agreement", a[:2], b[:2]))
    assert agreement("latent agreement", np.zeros(5), b[:5]) == 0.0
    assert np.isnan(agreement("decision accuracy", a, b, np.zeros(50)))


@pytest.mark.parametrize(
    ("world", "said"),
    [
        (one_factor(np.full(3, 0.5)), r"3 benchmark\(s\) and 40 run"),
        (one_factor(NINE, groups=4), r"9 benchmark\(s\) and 4 run"),
        (one_factor(NINE, benchmarks=["a", "b", "c"] * 3), r"3 benchmark\(s\)"),
    ],
)
def test_too_little_to_judge_by_is_an_error(world: Objective, said: str) -> None:
    with pytest.raises(StagewiseError, match=said):
        judged(world)
