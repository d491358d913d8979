"""Choosing items for a stage, and counting how many are enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import item_subsets
from scaling.errors import StagewiseError, UsageError
from scaling.item_subsets import choose_items, items_needed, like_pairs
from scaling.item_windows import item_windows
from scaling.items import ItemScores
from tests.scaling.test_item_windows import planted


def test_the_items_of_a_stage_are_chosen():
    """Oracle: the planted middles: 20 items fall at 1e19, 20 at 1e21, and 20 never.

    Two or three of the others may be taken to cancel noise.
    """
    middles = np.repeat([19.0, 21.0, 30.0], 20)
    items = planted(middles, noise=0.3, steepness=3.0, seed=1)
    windows = item_windows(items)
    for low, high, middle in ((1e18, 1e20, 19.0), (1e20, 1e22, 21.0)):
        for redundancy in (True, False):
            choice = choose_items(windows, low, high, 15, redundancy=redundancy)
            assert (middles[choice.index] == middle).sum() >= 12
    assert np.array_equal(
        choose_items(items, 1e18, 1e20, 15).index, choose_items(windows, 1e18, 1e20, 15).index
    )


@pytest.mark.parametrize("dense", [True, False])
def test_each_step_takes_what_helps_the_mean_most(dense, monkeypatch):
    """Oracle: every candidate tried at every step, its SNR from the mean's own residuals."""
    if not dense:
        monkeypatch.setattr(item_subsets, "DENSE", 0)
    items = planted(np.linspace(19, 21, 12), noise=0.3, common=0.4, seed=2)
    windows = item_windows(items)
    gain = windows.gain(1e19, 1e21)
    chosen: list[int] = []
    for _ in range(6):
        best = {
            j: gain[[*chosen, j]].mean()
            / np.sqrt((windows.wobble[[*chosen, j]].mean(axis=0) ** 2).sum() / windows.df)
            for j in set(range(12)) - set(chosen)
        }
        chosen.append(max(best, key=best.__getitem__))
    found = choose_items(windows, 1e19, 1e21, 6)
    assert found.index.tolist() == chosen
    assert found.together[-1] == pytest.approx(max(best.values()), rel=1e-4)
    assert found.information[0] == pytest.approx(found.together[0], rel=1e-4)


def test_items_that_wobble_together_are_not_piled_up():
    """Oracle: the SNR of a mean: ten items with common noise say less than a few with their own."""
    items = planted(np.full(20, 20.0), noise=0.02, seed=3)
    rng = np.random.default_rng(4)
    scores = items.scores.copy()
    scores[:, :10] += 0.30 * rng.normal(size=(len(scores), 1))  # one wobble for the first ten
    scores[:, 10:] += 0.33 * rng.normal(size=(len(scores), 10))
    windows = item_windows(replace(items, scores=scores))
    aware, alone = (choose_items(windows, 1e19, 1e21, 8, redundancy=flag) for flag in (True, False))
    assert (alone.index < 10).sum() >= 6 and (aware.index < 10).sum() <= 2
    assert aware.together[-1] > 1.5 * alone.together[-1]


def test_items_without_noise_give_no_nan():
    # Oracle: none needed; warnings are errors here.
    choice = choose_items(planted([19.5, 20.0, 20.5]), 1e19, 1e21, 3)
    assert np.isfinite(choice.together).all() and sorted(choice.index) == [0, 1, 2]
    assert len(choice.to_frame()) == 3


@settings(max_examples=25)
@given(count=st.integers(1, 12), seed=st.integers(0, 5))
def test_shorter_choices_are_the_beginnings_of_longer_ones(count, seed):
    # Oracle: the invariant.
    windows = item_windows(planted(np.linspace(19, 21, 12), noise=0.3, common=0.2, seed=seed, runs=4))
    longest = choose_items(windows, 1e19, 1e21, 12).index
    assert sorted(longest) == list(range(12))
    assert np.array_equal(choose_items(windows, 1e19, 1e21, count).index, longest[:count])


@pytest.mark.parametrize("count", [0, 4])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(UsageError, match="1 to the 3 items"):
        choose_items(planted([19.5, 20.0, 20.5]), 1e19, 1e21, count)


def spread_items(total=400, seed=0, models=6) -> ItemScores:
    """Checkpoints whose items differ much from each other, and models that differ less on each item."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(2.0, 2.0, total)
    scores = hard + rng.normal(size=(models * 2, total)) * 0.7
    model = np.repeat([f"m{i}" for i in range(models)], 2)
    flops = np.tile([1e20, 1.2e20], models)
    return ItemScores(
        "t", "gold_ce_loss", model, np.tile([1, 2], models), flops, scores, np.arange(total), False
    )


@pytest.mark.parametrize("se", [0.1, 0.2])
def test_subsets_of_the_size_found_have_the_error_asked_for(se):
    """Oracle: 4000 subsets drawn without replacement; the RMS error over checkpoints, and over pairs."""
    items = spread_items()
    found = items_needed(items, se, (1e19, 1e21))
    rng = np.random.default_rng(1)
    draws = np.argsort(rng.random((4000, items.n_items)), axis=1)
    one = np.stack([items.scores[:, draw[: found.needed]].mean(axis=1) for draw in draws]) - items.mean()
    assert np.sqrt((one**2).mean()) == pytest.approx(se, rel=0.05)
    a, b = like_pairs(items)
    means = np.stack([items.scores[:, draw[: found.needed_paired]].mean(axis=1) for draw in draws])
    error = (means[:, a] - means[:, b]) - (items.mean()[a] - items.mean()[b])
    assert found.needed_paired < found.needed / 3
    assert np.sqrt((error**2).mean()) == pytest.approx(se, rel=0.05)


def test_counts_follow_the_closed_form():
    """Oracle: numpy variances of scores and of differences, pair by pair, put into the formula."""
    items = spread_items(total=50, seed=2)
    found = items_needed(items, 0.3, (1e19, 1e21))
    own = items.scores.var(axis=1, ddof=1).mean()
    pairs = [
        (items.scores[i] - items.scores[j]).var(ddof=1)
        for i in range(12) for j in range(i) if items.model[i] != items.model[j]
    ]  # fmt: skip
    assert (found.pairs, found.checkpoints, found.total) == (len(pairs), 12, 50)
    assert found.variance == pytest.approx(own) and found.variance_paired == pytest.approx(np.mean(pairs))
    assert found.needed == np.ceil(own / (0.3**2 + own / 50))
    assert found.needed_paired == np.ceil(np.mean(pairs) / (0.3**2 + np.mean(pairs) / 50))
    endless = items_needed(items, 0.3, (1e19, 1e21), finite=False)
    assert endless.needed == np.ceil(own / 0.3**2)
    assert found.to_frame()["needed"].item() == found.needed


def test_pairs_are_like_compute_and_other_models():
    # Oracle: by hand; 1e20 and 1.2e20 are alike, 2e20 is not, and m0 is never paired with itself.
    items = replace(spread_items(models=2), flops=np.array([1e20, 1.2e20, 1e20, 2e20]))
    assert [pair.tolist() for pair in like_pairs(items)] == [[0, 1], [2, 2]]


def test_one_model_alone_has_no_pairs():
    items = spread_items(models=1)
    found = items_needed(items, 0.1, (1e19, 1e21))
    assert found.needed_paired is None and np.isnan(found.variance_paired) and found.pairs == 0


@given(se=st.floats(1e-6, 10.0), factor=st.floats(1.0, 5.0))
def test_a_smaller_error_never_takes_fewer_items(se, factor):
    # Oracle: monotone, at most the whole benchmark, which has no error at all.
    items = spread_items(total=60)
    strict, loose = (items_needed(items, value, (1e19, 1e21)) for value in (se, se * factor))
    assert 1 <= loose.needed <= strict.needed <= 60
    assert loose.needed_paired <= strict.needed_paired <= 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"se": 0.0}, "se: got"), ({"at": (1e21, 1e20)}, "at: got"), ({"ratio": 0.5}, "ratio: got"),
        ({"at": (1e10, 1e11)}, "no checkpoint in"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(options, said):
    with pytest.raises(StagewiseError, match=said):
        items_needed(**({"items": spread_items(), "se": 0.1, "at": (1e19, 1e21)} | options))


def test_one_item_has_no_spread():
    with pytest.raises(StagewiseError, match="at least two"):
        items_needed(spread_items(total=1), 0.1, (1e19, 1e21))
