"""Windows of single items: planted curves and noise come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from scipy.stats import norm

from scaling.errors import StagewiseError, UsageError
from scaling.item_windows import early_late, item_windows
from scaling.items import ItemScores

DOUBLING = np.log10(2.0)


def planted(
    middles, *, fall=3.0, steepness=2.0, noise=0.0, common=0.0, runs=10, checkpoints=15, seed=0, low=18.0
) -> ItemScores:
    """Losses that fall by `fall` around each item's middle (log10 FLOPs), from 5.

    Runs end evenly over three decades from `low` + 1, each with checkpoints at equal steps. `noise` is
    an item's own at each checkpoint, `common` the same for all items.
    """
    rng = np.random.default_rng(seed)
    steps = np.tile(np.arange(1, checkpoints + 1), runs)
    run = np.repeat(np.arange(runs), checkpoints)
    flops = 10.0 ** np.linspace(low + 1, low + 4, runs)[run] * steps / checkpoints
    middles = np.asarray(middles, dtype=float)
    drop = np.broadcast_to(fall, middles.shape) / (
        1 + np.exp(-steepness * (np.log10(flops)[:, None] - middles))
    )
    wobble = noise * rng.normal(size=(len(steps), len(middles))) + common * rng.normal(size=(len(steps), 1))
    return ItemScores(
        "planted", "gold_ce_loss", np.array([f"run{i:02d}" for i in run]), steps, flops,
        5.0 - drop + wobble, np.arange(len(middles)), False,
    )  # fmt: skip


def test_planted_middles_come_back():
    """Oracle: the planted sigmoids; half of the fall seen within the span, by bisection on the true curve."""
    middles = np.linspace(18.8, 21.2, 25)
    items = planted(middles, noise=0.1, steepness=3.0)
    windows = item_windows(items)
    low, high = windows.span
    fine = np.linspace(low, high, 20001)
    for middle, centre in zip(middles, windows.centre, strict=True):
        done = 1 / (1 + np.exp(-3.0 * (fine - middle)))
        half = fine[np.argmin(np.abs(done - (done[0] + done[-1]) / 2))]
        assert centre == pytest.approx(half, abs=0.08)


def test_curves_without_outliers_are_least_squares():
    """Oracle: scipy.optimize.curve_fit from the true parameters, on noise too small for down-weighting."""
    items = planted([19.5, 20.5], noise=0.02, seed=1)
    windows = item_windows(items)
    grid = np.linspace(*windows.span, 50)

    def law(x, m, k, lower, upper):
        return lower + (upper - lower) / (1 + np.exp(-k * (x - m)))

    for i, middle in enumerate([19.5, 20.5]):
        theta = curve_fit(law, items.x, items.scores[:, i], p0=[middle, 2.0, 5.0, 2.0])[0]
        assert np.abs(windows.fit.predict(grid)[i] - law(grid, *theta)).max() < 0.02


def test_a_wild_checkpoint_does_not_move_the_centre():
    """Oracle: the same items without the spoilt checkpoints."""
    items = planted(np.linspace(19.5, 20.5, 9), noise=0.05, seed=2)
    spoilt = items.scores.copy()
    spoilt[np.random.default_rng(3).choice(len(spoilt), 6, replace=False)] += 8.0
    moved = item_windows(replace(items, scores=spoilt)).centre - item_windows(items).centre
    assert np.abs(moved).max() < 0.06


def test_noise_is_what_straight_lines_leave():
    """Oracle: numpy.polyfit on each stretch of ten checkpoints, counted from a run's end, over n - 2."""
    items = planted([19.0, 20.0, 21.0], noise=0.3, checkpoints=17, seed=4)
    left, df = np.zeros(3), 0
    for model in np.unique(items.model):
        part = items.where(items.model == model)
        for stretch in (slice(7, 17), slice(0, 7)):
            x, y = part.x[stretch], part.scores[stretch]
            line = np.polyfit(x, y, 1)
            left += ((y - (np.outer(x, line[0]) + line[1])) ** 2).sum(axis=0)
            df += len(x) - 2
    windows = item_windows(items)
    assert windows.df == df
    assert np.allclose(windows.noise, np.sqrt(left / df), rtol=1e-9)
    assert np.allclose(windows.noise, 0.3, rtol=0.15)


def test_information_and_window_follow_from_curve_and_noise():
    """Oracle: the definitions, from the fitted curve on a fine grid."""
    items = planted([19.5, 20.5, 23.5], noise=0.2, fall=4.0, seed=5)
    windows = item_windows(items)
    gain = windows.fit.predict(windows.x) - windows.fit.predict(windows.x + DOUBLING)
    assert np.allclose(windows.information, gain / windows.noise[:, None], rtol=1e-6, atol=1e-9)
    informative = norm.cdf(windows.information / np.sqrt(2)) >= 0.8
    for i in (0, 1):
        assert (windows.opens[i], windows.closes[i]) == (
            windows.x[informative[i]].min(), windows.x[informative[i]].max()
        )  # fmt: skip
        assert windows.opens[i] < windows.centre[i] < windows.closes[i] + DOUBLING
    assert not informative[2].any() and np.isnan(windows.opens[2]) and np.isnan(windows.closes[2])


def test_a_window_still_open_at_the_end_closes_nowhere():
    # Oracle: an item whose middle is the end of the data.
    windows = item_windows(planted([22.0], noise=0.05, fall=6.0))
    assert windows.opens[0] < 22.0 and windows.closes[0] == np.inf


def test_items_that_do_not_improve_have_no_centre():
    """Oracle: flat, rising and constant items by construction; warnings are errors here."""
    items = planted([20.0, 20.0, 20.0, 20.0], fall=np.array([3.0, 0.0, -3.0, 0.0]), noise=0.1, seed=6)
    scores = items.scores.copy()
    scores[:, 3] = 2.5
    windows = item_windows(replace(items, scores=scores))
    assert np.isfinite(windows.centre).tolist() == [True, False, False, False]
    assert np.isfinite(windows.opens).tolist() == [True, False, False, False]
    assert windows.improvement[2] < -2 and (windows.information[2] <= 0).all()
    assert (windows.information[3] == 0).all()


def test_gain_over_an_interval_is_the_mean_per_doubling():
    """Oracle: the mean of the fitted gain per doubling, on a fine grid of starting points."""
    windows = item_windows(planted([19.5, 20.5], noise=0.1))
    low, high = 19.5, 20.5
    ends = windows.fit.predict(np.array([low, high]))
    assert np.allclose(windows.gain(10**low, 10**high), (ends[:, 0] - ends[:, 1]) * DOUBLING, rtol=1e-9)
    cut = windows.gain(1.0, 10**high)
    assert np.allclose(cut, windows.gain(10 ** windows.span[0], 10**high))
    for bad in ((1e20, 1e20), (0.0, 1e20), (1e25, 1e26)):
        with pytest.raises(UsageError, match="compute interval"):
            windows.gain(*bad)


def test_early_and_late_items_are_told_apart():
    """Oracle: the planted middles; items within 0.2 decades of the cut may fall on either side."""
    rng = np.random.default_rng(7)
    middles = rng.uniform(18.8, 21.2, 60)
    windows = item_windows(planted(middles, noise=0.3, steepness=3.0, seed=8))
    halves = early_late(windows, at=1e20)
    assert halves.at == 20.0
    assert (middles[halves.early] < 20.2).all() and (middles[halves.late] > 19.8).all()
    assert len(halves.early) + len(halves.late) + len(halves.neither) == 60 and len(halves.neither) < 3
    equal = early_late(windows)
    assert abs(len(equal.early) - len(equal.late)) <= 1
    frame = halves.to_frame()
    assert (frame["half"] == "early").sum() == len(halves.early)
    assert windows.to_frame().shape[0] == 60


def test_nothing_to_part_is_said():
    windows = item_windows(planted([20.0], fall=0.0, noise=0.1))
    with pytest.raises(StagewiseError, match="no item improves"):
        early_late(windows)
    with pytest.raises(UsageError, match="at: got -1"):
        early_late(item_windows(planted([20.0], noise=0.1)), at=-1.0)


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (planted([20.0], checkpoints=4), "no model has 5 checkpoints"),
        (planted([20.0], runs=1, checkpoints=3), "3 computes"),
        (planted([20.0]).where(planted([20.0]).flops < 1.5e18), "decades"),
    ],
)
def test_too_little_data_is_refused(items, said):
    with pytest.raises(StagewiseError, match=said):
        item_windows(items)


@pytest.mark.parametrize("threshold", [0.5, 1.0, np.nan])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(UsageError, match="threshold"):
        item_windows(planted([20.0]), threshold)
    with pytest.raises(UsageError, match="last"):
        item_windows(planted([20.0]), last=4)


@settings(max_examples=25)
@given(
    shift=st.floats(-3, 3), scale=st.floats(0.1, 10), seed=st.integers(0, 20), turned=st.booleans(),
)  # fmt: skip
def test_units_direction_and_order_do_not_matter(shift, scale, seed, turned):
    """Oracle: windows are in FLOPs and information has no unit, so neither changes with the score's scale."""
    items = planted([19.3, 20.0, 20.7], noise=0.3, seed=seed)
    order = np.random.default_rng(seed).permutation(len(items.step))
    sign = -1.0 if turned else 1.0
    other = replace(items, scores=sign * (items.scores * scale) + shift, higher_is_better=turned).where(
        np.ones(len(order), dtype=bool)
    )
    other = replace(
        other, model=other.model[order], step=other.step[order], flops=other.flops[order],
        scores=other.scores[order],
    )  # fmt: skip
    one, two = item_windows(items), item_windows(other)
    assert np.allclose(one.noise * scale, two.noise, rtol=1e-6)
    assert np.allclose(one.centre, two.centre, atol=0.03)
    assert np.allclose(one.information, two.information, atol=0.05)


def test_a_higher_threshold_never_widens_a_window():
    # Oracle: monotone by definition.
    items = planted(np.linspace(19, 21, 15), noise=0.3, fall=5.0, seed=9)
    loose, strict = item_windows(items, 0.7), item_windows(items, 0.9)
    both = np.isfinite(strict.opens)
    assert both.any() and (np.isfinite(loose.opens) | ~both).all()
    assert (loose.opens[both] <= strict.opens[both]).all()
    assert (loose.closes[both] >= strict.closes[both]).all()
