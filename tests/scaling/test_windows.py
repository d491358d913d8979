"""Decision probability and windows against simulation and closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from scaling.curves import fit_curves
from scaling.windows import DOUBLING, STEP, _longest, chance_floor, decision_probability, windows_of
from tests.scaling.synthetic import constant, facts, power, sigmoid, table_of

RISE = sigmoid(0.25, 0.75, 20.0, 2.0)


@pytest.mark.parametrize(
    ("gain", "noise", "doubt"), [(0.01, 0.01, 0.0), (0.02, 0.01, 0.015), (-0.01, 0.02, 0.01)]
)
def test_decision_probability_is_how_often_the_larger_run_wins(gain, noise, doubt):
    # Oracle: 200,000 simulated pairs; their share has a standard error of 0.001.
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, noise, (2, 200_000))
    wins = gain + rng.normal(0, doubt, 200_000) + second - first > 0
    assert decision_probability(np.array(gain), np.array(noise), doubt) == pytest.approx(
        wins.mean(), abs=0.005
    )


def test_decision_probability_without_noise_is_the_sign():
    # Oracle: the limits of Phi.
    found = decision_probability(np.array([1e-9, 0.0, -1e-9]), np.zeros(3))
    assert found.tolist() == [1.0, 0.5, 0.0]
    assert decision_probability(np.array(0.0), np.array(0.1)) == 0.5


def curve_of(truth, total, *, metric="acc", info=None, n_items=2000, **options):
    """A curve fitted to exact scores, with its noise put in by hand and no doubt about the curve."""
    table = table_of({"t": truth}, runs=16, checkpoints=1, metric=metric, n_items=n_items, **options)
    curve = fit_curves(table, replicates=3, facts=facts(t=info or {}))["t"]
    return dataclasses.replace(curve, noise=dataclasses.replace(curve.noise, total=total))


def probability(truth, x, total):
    """The closed form for a proportion: noise is total * sqrt(p (1 - p)) halfway between the two runs."""
    here, there = (truth(np.atleast_1d(v))[0] for v in (x, x + DOUBLING))
    middle = (here + there) / 2
    return stats.norm.cdf((there - here) / (np.sqrt(2) * total * np.sqrt(middle * (1 - middle))))


def test_a_window_opens_and_closes_where_the_closed_form_says():
    # Oracle: scipy.optimize.brentq on the closed form of the truth.
    total = 0.04
    windows = windows_of(curve_of(RISE, total, high=23.0), threshold=0.8)
    opens = brentq(lambda x: probability(RISE, x, total) - 0.8, 17, 19.8)
    closes = brentq(lambda x: probability(RISE, x, total) - 0.8, 19.9, 24)
    assert 18.2 < opens < closes < 23
    assert windows.opens[0] == pytest.approx(opens, abs=2 * STEP)
    assert windows.closes[0] == pytest.approx(closes, abs=2 * STEP)
    at = int(np.argmin(np.abs(windows.x - 20)))
    assert windows.probability[0, at] == pytest.approx(probability(RISE, windows.x[at], total), abs=5e-3)


def test_a_higher_threshold_gives_a_narrower_window():
    # Oracle: monotony.
    curve = curve_of(RISE, 0.04, high=23.0)
    wide, narrow = windows_of(curve, threshold=0.7), windows_of(curve, threshold=0.9)
    assert wide.opens[0] < narrow.opens[0] < narrow.closes[0] < wide.closes[0]


def test_a_window_that_does_not_close_is_open_to_infinity():
    # Oracle: the truth, which rises beyond everything that is looked at.
    windows = windows_of(curve_of(sigmoid(0.25, 0.95, 22.5, 1.0), 0.01), threshold=0.8)
    assert np.isposinf(windows.closes[0])


def test_a_window_may_be_open_from_the_first_point():
    # Oracle: the smallest measured compute.
    curve = curve_of(power(0.6, 0.6, 0.25), 0.005, metric="bpb")
    windows = windows_of(curve)
    assert windows.opens[0] == curve.span[0] == windows.x[0]


@pytest.mark.parametrize(
    ("truth", "total"), [(RISE, 2.0), (constant(0.4), 0.01), (sigmoid(0.25, 0.1, 20, 2), 0.01)]
)
def test_no_window_is_nan(truth, total):
    # Oracle: noise that swallows everything; nothing to see; a score that falls.
    windows = windows_of(curve_of(truth, total))
    assert np.isnan(windows.opens[0]) and np.isnan(windows.closes[0])


def test_noise_of_each_draw_counts_for_that_draw():
    # Oracle: the rule, row by row.
    curve = curve_of(RISE, 0.02)
    totals = np.full(len(curve.draws), 0.02)
    totals[-1] = 5.0
    windows = windows_of(curve, noise_draws=totals)
    assert np.isfinite(windows.opens[:-1]).all() and np.isnan(windows.opens[-1])


def test_doubt_about_the_curve_lowers_the_estimate_alone():
    # Oracle: the same curve without doubt, whose other rows are equal.
    table = table_of({"t": RISE}, runs=12, checkpoints=1, run_sd=0.02, seed=1)
    curve = fit_curves(table, replicates=5, facts=facts())["t"]
    probability = windows_of(curve).probability[0]
    x = windows_of(curve).x
    gain = curve.values(x + DOUBLING)[0] - curve.values(x)[0]
    middle = (curve.values(x + DOUBLING)[0] + curve.values(x)[0]) / 2
    plain = decision_probability(gain, curve.noise.total * np.sqrt(np.maximum(middle * (1 - middle), 0.0099)))
    rising = gain > 0
    assert (probability[rising] <= plain[rising] + 1e-12).all() and (probability < plain - 1e-4).any()


@pytest.mark.parametrize(
    ("info", "level", "items"),
    [({}, 0.25, 2000), ({"majority_rate": 0.4}, 0.4, 2000), ({"chance": 0.0}, 0.0, 2000)],
)
def test_clearing_chance_is_three_standard_errors(info, level, items):
    # Oracle: scipy.optimize.brentq on truth = level + 3 sqrt(max(c (1 - c), 0.0099) / n).
    truth = sigmoid(info.get("chance", 0.25), 0.75, 20.0, 2.0)
    curve = curve_of(truth, 0.02, info=info)
    error = np.sqrt(max(level * (1 - level), 0.0099) / items)
    assert chance_floor(curve) == pytest.approx((level, error))
    root = brentq(lambda x: truth(np.array([x]))[0] - level - 3 * error, 16, 22)
    # A curve that is clear of chance before the data clears it at their first point.
    assert windows_of(curve).clears[0] == pytest.approx(max(root, 18.0), abs=2 * STEP)


def test_clearing_chance_needs_items_and_a_proportion():
    # Oracle: the rule.
    assert chance_floor(curve_of(RISE, 0.02, n_items=None)) is None
    assert chance_floor(curve_of(power(0.6, 0.5, 0.2), 0.02, metric="bpb")) is None
    assert np.isnan(windows_of(curve_of(constant(0.25), 0.02)).clears).all()


def test_the_longest_stretch_is_found():
    # Oracle: brute force over all stretches.
    rng = np.random.default_rng(2)
    mask = rng.random((200, 15)) < 0.6
    mask[0], mask[1] = False, True
    first, last = _longest(mask)
    for row, a, b in zip(mask, first, last, strict=True):
        stretches = [(j - i, -i, i, j) for i in range(15) for j in range(i, 15) if row[i : j + 1].all()]
        if stretches:
            length = max(stretches)[0]
            assert row[a : b + 1].all() and b - a == length
        else:
            assert (a, b) == (0, 0)
