"""Recipes at one compute: the right run stands for each, in like units, and unlike pairs are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.errors import StagewiseError, UsageError
from scaling.recipes import comparable, like_pairs, pair_differences, recipes_of
from scaling.scores import ScoreTable
from scaling.series import Key
from tests.scaling.synthetic import facts

ACC, BPB = Key("a", "acc", 0), Key("a", "bpb", 0)


def row(variant: str, flops: float, score: float, **more) -> dict:
    given = {
        "source": "s",
        "family": "f",
        "variant": variant,
        "model": f"{variant}-{flops:g}",
        "flops": flops,
    }
    return given | {"task": "a", "metric": "acc", "shots": 0, "score": score} | more


def table_of(*rows: dict) -> ScoreTable:
    return ScoreTable.from_frame(pd.DataFrame(rows))


def recipes(table: ScoreTable, flops, **options):
    return recipes_of(table, flops, facts=facts(), **options)


def test_the_nearest_run_stands_for_a_recipe_or_the_largest_of_an_interval() -> None:
    """Planted: runs at 1e18, 8e18, 3e19; 1e19 is nearest to the second in log compute."""
    table = table_of(row("x", 1e18, 0.3), row("x", 8e18, 0.4), row("x", 3e19, 0.5), row("y", 2e20, 0.6))
    found = recipes(table, 1e19)
    assert found.frame.index.tolist() == ["s / f / x"]
    assert found.frame["flops"].tolist() == [8e18]
    assert recipes(table, (1e18, 1e20)).frame["flops"].tolist() == [3e19]
    assert len(recipes(table, 1e20, reach=4)) == 2
    with pytest.raises(StagewiseError, match="between 5e\\+21 and 2e\\+22"):
        recipes(table, 1e22)


def test_reach_is_a_factor_and_its_end_counts() -> None:
    """Closed form: 2e19 is exactly a factor 2 from 1e19."""
    table = table_of(row("x", 2e19, 0.3))
    assert len(recipes(table, 1e19, reach=2.0)) == 1
    with pytest.raises(StagewiseError):
        recipes(table, 1e19, reach=1.99)


def test_repeats_are_averaged_and_other_scales_are_not() -> None:
    """Closed form: the mean of 0.4 and 0.6; a run of the recipe at 1.2e19 is no repeat."""
    one, two = (row("x", 1e19, score, seed=seed) for seed, score in enumerate((0.4, 0.6)))
    found = recipes(table_of(one, two, row("x", 1.2e19, 0.9)), 1e19)
    assert found.frame["repeats"].tolist() == [2]
    assert found.frame["seed"].isna().all()
    assert found.column(ACC) == pytest.approx([(0.5 - 0.25) / 0.75])


def test_intermediate_checkpoints_stand_only_where_asked() -> None:
    rows = [row("x", 1e19, 0.3, model="m", step=1), row("x", 1e20, 0.5, model="m", step=10)]
    with pytest.raises(StagewiseError, match="points='all'"):
        recipes(table_of(*rows), 1e19)
    assert recipes(table_of(*rows), 1e19, points="all").column(ACC) == pytest.approx([0.05 / 0.75])


def test_a_checkpoint_with_few_scores_is_passed_over() -> None:
    """Planted: the nearest checkpoint holds one of three tasks, the next nearest all."""
    rows = [row("x", 1e19, 0.3, model="m", step=1)]
    rows += [row("x", 1.2e19, 0.4, model="m", step=2, task=task) for task in "abc"]
    found = recipes(table_of(*rows), 1e19, points="all")
    assert found.frame["flops"].tolist() == [1.2e19]
    assert not np.isnan(found.scores).any()


def test_units_are_alike_across_metrics_and_others_are_left_out() -> None:
    """Closed form: chance-centred share, minus log of bits; perplexity is of no fitted family."""
    rows = [row("x", 1e19, 0.4), row("x", 1e19, 0.5, metric="bpb"), row("x", 1e19, 9.0, metric="ppl")]
    found = recipes(table_of(*rows), 1e19)
    assert found.keys == (ACC, BPB)
    assert found.scores == pytest.approx(np.array([[0.15 / 0.75, np.log(2.0)]]))
    assert comparable(np.array([0.4]), "acc", None) == pytest.approx([0.4])
    assert np.isnan(comparable(np.array([0.0]), "bpb", None)).all()


def test_a_score_is_the_weighted_mean_and_missing_where_a_key_is() -> None:
    """Closed form: (1 * 0.2 + 3 * ln 2) / 4."""
    table = table_of(row("x", 1e19, 0.4), row("x", 1e19, 0.5, metric="bpb"), row("y", 1e19, 0.4))
    found = recipes(table, 1e19)
    score = found.score({ACC: 1.0, BPB: 3.0})
    assert score["s / f / x"] == pytest.approx((0.2 + 3 * np.log(2)) / 4)
    assert np.isnan(score["s / f / y"])
    assert found.mean([ACC]).tolist() == pytest.approx([0.2, 0.2])
    with pytest.raises(UsageError, match="b \\(acc, 0-shot\\): no recipe has it"):
        found.mean([Key("b", "acc", 0)])
    with pytest.raises(UsageError, match="positive sum"):
        found.score({ACC: 0.0})


def test_a_recipe_is_what_by_says() -> None:
    table = table_of(row("x", 1e19, 0.4), row("y", 1.1e19, 0.5))
    assert len(recipes(table, 1e19, by=("family",))) == 1
    assert recipes(table, 1e19, by=("model",)).frame.index.tolist() == ["s / x-1e+19", "s / y-1.1e+19"]


@pytest.mark.parametrize(
    ("flops", "options", "said"),
    [
        (-1.0, {}, "positive number"),
        ((2e19, 1e19), {}, "low <= high"),
        (1e19, {"reach": 0.5}, "at least 1"),
        (1e19, {"by": ("seed",)}, "family, variant, model"),
        (1e19, {"points": "auto"}, "'final' and 'all'"),
    ],
)
def test_bad_arguments_are_named(flops, options, said) -> None:
    with pytest.raises(UsageError, match=said):
        recipes(table_of(row("x", 1e19, 0.4)), flops, **options)


def side(flops, params, tokens=None, models=None):
    """A recipe table of recipes a, b, ... with these figures."""
    names = "abcdefgh"[: len(flops)]
    tokens = tokens or [1e10] * len(flops)
    rows = [
        row(name, flops[i], 0.4 + 0.01 * i, params=params[i], tokens=tokens[i])
        | ({"model": models[i]} if models else {})
        for i, name in enumerate(names)
    ]
    return recipes(table_of(*rows), (min(flops), max(flops)))


def test_pairs_of_unlike_compute_or_hyper_parameters_are_refused_and_counted() -> None:
    """Planted: a and b are alike; c has thrice the size; d thrice the compute at the target."""
    small = side([1e19, 1.2e19, 1e19, 1e19], [1e8, 1e8, 3e8, 1e8])
    target = side([1e21, 1e21, 1e21, 3e21], [1e9] * 4)
    pairs = like_pairs(small, target)
    assert pairs.to_frame().to_numpy().tolist() == [["s / f / a", "s / f / b"]]
    assert pairs.reasons() == {"unlike compute on the target side": 3, "unlike params on the small side": 2}
    assert pairs.refused["factor"].tolist() == pytest.approx([3.0] * 5)
    assert len(pairs) + len(pairs.refused) == 6
    assert len(like_pairs(small, target, match=None)) == 3
    assert len(like_pairs(small, target, like=3.0, match=3.0)) == 6


def test_a_size_known_of_one_recipe_alone_cannot_be_matched() -> None:
    small = side([1e19] * 3, [1e8, None, None])
    pairs = like_pairs(small, side([1e21] * 3, [1e9] * 3))
    assert pairs.reasons() == {"params of one unknown on the small side": 2}
    assert len(pairs) == 1


def test_one_model_under_two_labels_is_no_pair_and_a_target_must_be_larger() -> None:
    small = side([1e19, 1e19], [1e8, 1e8], models=["m", "m"])
    target = side([1e21, 1e21], [1e9, 1e9])
    assert like_pairs(small, target).reasons() == {"two labels of one model": 1}
    reasons = like_pairs(target, target).reasons()
    assert reasons == {"the target run has no more compute than the small run": 1}


def test_differences_are_first_minus_second() -> None:
    """Closed form: scores rise by 0.01 per recipe, in units of 1 - chance."""
    small = side([1e19] * 3, [1e8] * 3)
    pairs = like_pairs(small, side([1e21] * 3, [1e9] * 3))
    found = pair_differences(small, pairs)
    assert found[:, 0] == pytest.approx(np.array([-0.01, -0.02, -0.01]) / 0.75)


@settings(max_examples=25)
@given(st.lists(st.floats(18.0, 19.0), min_size=2, max_size=8), st.floats(1.0, 10.0))
def test_kept_and_refused_pairs_are_all_pairs_and_the_kept_are_alike(x, like) -> None:
    """Property: counts add up; every kept pair is within the factor."""
    flops = [10.0**one for one in x]
    small = side(flops, [1e8] * len(x))
    target = side([1e21] * len(x), [1e9] * len(x))
    pairs = like_pairs(small, target, like=like)
    assert len(pairs) + len(pairs.refused) == len(x) * (len(x) - 1) // 2
    value = small.of(pairs.recipes).frame["flops"].to_numpy(dtype=float)[pairs.index]
    assert (value.max(axis=1, initial=1.0) <= like * value.min(axis=1, initial=1e99) * (1 + 1e-6)).all()
