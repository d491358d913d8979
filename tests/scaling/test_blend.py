"""One forecast from several methods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from scaling.blend import OWN, SHARPNESS, blend, method_weights, past_errors, split_runs
from scaling.methods import LOSSES, PROPORTIONS, methods_for
from scaling.panel import Panel
from tests.scaling import synthetic
from tests.scaling.panels import points, scored

SIGMOID = synthetic.sigmoid(0.22, 0.81, 20.3, 1.5)
GOMPERTZ = synthetic.gompertz(0.2, 0.85, 20.2, 1.1)
POWER = synthetic.power(0.55, 0.5, 0.21)
LATE = synthetic.sigmoid(0.25, 0.9, 22.5, 1.5)
NAMES = tuple(PROPORTIONS)


def link(bits):
    return 0.2 + 0.7 / (1.0 + np.exp(9.0 * (bits - 0.85)))


def noisy(panel: Panel, sd: float, seed: int = 0) -> Panel:
    """The panel with an effect of its own on each run."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0.0, sd, (len(panel.keys), panel.run.max() + 1))
    return replace(panel, y=panel.y + effects[:, panel.run])


def made(panel: Panel, *x: float, **options):
    return blend(panel, np.array(x or (23.0,)), np.full(max(len(x), 1), np.nan), **options)


@pytest.mark.parametrize(
    ("right", "truth", "through"),
    [
        ("sigmoid", SIGMOID, None),
        ("gompertz", GOMPERTZ, None),
        ("chain", lambda x: link(POWER(x)), POWER),
    ],
)
def test_the_method_that_was_right_in_the_past_weighs_most(right, truth, through):
    # Oracle: planted truth without noise; the law that made it has the least error in the past.
    at = points(runs=12)
    found = made(scored(at, truth(at.x), bits=None if through is None else through(at.x)))
    weight = dict(zip(found.methods, found.weights[0], strict=True))
    past = dict(zip(found.methods, found.past[0], strict=True))
    assert weight[right] > 0.99 and past[right] < 1e-3
    assert min(past, key=lambda name: np.inf if np.isnan(past[name]) else past[name]) == right
    assert found.value[0, 0] == pytest.approx(truth(np.array([23.0]))[0], abs=1e-3)


def test_bits_and_losses():
    # Oracle: planted truth.
    at = points(runs=12)
    found = made(scored(at, POWER(at.x), family="bits"))
    assert found.methods == tuple(LOSSES)
    assert found.value[0, 0] == pytest.approx(POWER(np.array([23.0]))[0], abs=1e-3)
    assert found.weights[0, found.methods.index("size-data")] == 0.0  # one recipe


def test_the_value_is_the_weighted_mean():
    # Oracle: numpy.
    at = points(runs=10)
    found = made(noisy(scored(at, SIGMOID(at.x), GOMPERTZ(at.x)), 0.02), 22.5, 23.0)
    assert found.weights.sum(axis=1) == pytest.approx([1.0, 1.0])
    mean = np.nansum(found.members * found.weights[:, :, None], axis=1)
    assert found.value == pytest.approx(mean) and np.isfinite(found.value).all()


def test_the_weights_do_not_depend_on_the_target():
    # Oracle: the same panel asked about other targets.
    at = points(runs=10)
    panel = noisy(scored(at, SIGMOID(at.x), GOMPERTZ(at.x), bits=POWER(at.x)), 0.02)
    first, second, both = made(panel, 22.3), made(panel, 24.0), made(panel, 22.3, 24.0)
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.past, second.past, equal_nan=True)
    assert np.array_equal(first.weights, both.weights)
    assert np.allclose(both.value, np.hstack([first.value, second.value]))
    assert first.value[0, 0] != pytest.approx(second.value[0, 0])


def test_the_order_of_the_tasks_does_not_matter():
    # Oracle: the same tasks in another order.
    at = points(runs=10)
    panel = noisy(scored(at, SIGMOID(at.x), GOMPERTZ(at.x), 0.4 + 0 * at.x, bits=POWER(at.x)), 0.02)
    order = [2, 0, 1]
    found, moved = made(panel), made(panel.tasks(order))
    for name in ("value", "low", "high", "weights", "past", "se", "noise"):
        there, here = getattr(moved, name), getattr(found, name)[order]
        assert np.allclose(there, here, rtol=1e-6, atol=1e-9, equal_nan=True), name


def test_one_task_alone_has_what_it_has_among_the_others():
    # Oracle: the forecast of all.
    at = points(runs=10)
    panel = noisy(scored(at, SIGMOID(at.x), GOMPERTZ(at.x), bits=POWER(at.x)), 0.02)
    whole, alone = made(panel, 22.5, 23.0), made(panel, 22.5, 23.0, only=1)
    assert alone.panel.keys == (panel.keys[1],)
    for name in ("value", "low", "high", "weights", "past", "se", "noise", "members"):
        assert np.allclose(getattr(alone, name)[0], getattr(whole, name)[1], rtol=1e-9, equal_nan=True), name
    assert not np.allclose(alone.weights, made(panel.tasks(1)).weights)


def test_the_interval_is_a_t_interval():
    # Oracle: scipy.stats.t with one degree of freedom less than clusters.
    at = points(runs=12)
    panel = noisy(scored(at, SIGMOID(at.x)), 0.01)
    found = made(panel)
    for level in (0.95, 0.5):
        found = made(panel, level=level)
        half = stats.t.ppf(0.5 + level / 2, 11) * found.se
        assert found.high - found.value == pytest.approx(half) == found.value - found.low
    assert (found.se >= found.noise[:, None]).all()


def test_an_interval_stays_in_the_range_of_the_metric():
    # Oracle: a proportion is at most 1.
    at = points(runs=12)
    panel = noisy(scored(at, synthetic.sigmoid(0.25, 0.995, 19.5, 2.0)(at.x)), 0.01)
    found = made(replace(panel, y=np.clip(panel.y, 0, 1)))
    assert found.high[0, 0] == 1.0 > found.value[0, 0] > found.low[0, 0]


@pytest.mark.parametrize("runs", [5, 6])
def test_an_interval_needs_six_clusters(runs):
    # Oracle: by construction; without noise it would be narrow.
    at = points(runs=runs)
    found = made(scored(at, SIGMOID(at.x)))
    assert np.isfinite(found.value).all()
    assert np.isfinite([found.low, found.high]).all() == (runs >= 6)
    # Runs of one family are one cluster.
    together = replace(scored(at, SIGMOID(at.x)), cluster=at.run // 2)
    assert np.isnan(made(together).low).all()


def test_no_interval_while_the_curve_still_accelerates():
    # Oracle: planted midpoints, one inside the data and one half a decade beyond them.
    at = points(runs=12)
    found = made(scored(at, SIGMOID(at.x), LATE(at.x)), 22.0, 22.2)
    width = 2 * stats.t.ppf(0.975, 11) * found.se
    assert (width < np.ptp(found.panel.y, axis=1)[:, None]).all()  # it is not for want of precision
    assert np.isfinite(found.low[:, 0]).all() and np.isfinite(found.low[0]).all()
    assert np.isnan(found.low[1, 1]) and np.isnan(found.high[1, 1])


def test_no_interval_for_what_falls_below_chance():
    """Planted: a fall from chance that has nearly ended; what gets worse with scale may turn."""
    at = points(runs=12)
    fall = synthetic.sigmoid(0.25, 0.12, 19.8, 2.0)
    found = made(scored(at, SIGMOID(at.x), fall(at.x)), 22.5)
    assert found.value[1, 0] == pytest.approx(fall(np.array([22.5]))[0], abs=0.005)
    assert np.isfinite(found.low[0, 0]) and np.isnan([found.low[1, 0], found.high[1, 0]]).all()


def test_the_standard_error_is_made_of_three_variances():
    # Oracle: by hand: each run left out of the data in a loop (CV3), the laws' mean square around the
    # forecast, and the spread between runs.
    at = points(runs=8)
    panel = noisy(scored(at, SIGMOID(at.x)), 0.02)
    x, ratio = np.array([22.7]), np.array([np.nan])
    found = made(panel, 22.7)
    weight = np.exp(panel.x - panel.x.max())
    jackknife = apart = laws = 0.0
    for name, share, whole in zip(found.methods, found.weights[0], found.members[0, :, 0], strict=True):
        if np.isnan(whole):
            continue
        law = methods_for(panel)[name]
        left = [
            law(panel.at(keep := panel.run != run), 0.0, weight[None, keep], x, ratio)[0, 0, 0]
            for run in range(8)
        ]
        jackknife += share * 7 / 8 * ((np.array(left) - whole) ** 2).sum()
        if name != "level":
            apart, laws = apart + (whole - found.value[0, 0]) ** 2, laws + 1
    parts = np.array([jackknife, apart / laws, found.noise[0] ** 2])
    assert found.se[0, 0] ** 2 == pytest.approx(parts.sum(), rel=0.01)
    assert (parts > 0.02 * parts.sum()).all()  # none of them could be missing


def test_no_interval_wider_than_all_that_was_seen():
    # Oracle: by construction: a task that moves less than its runs differ.
    at = points(runs=8)
    found = made(noisy(scored(at, SIGMOID(at.x), 0.4 + 0.002 * (at.x - 20)), 0.03), 24.0)
    shown = np.ptp(found.panel.y, axis=1)
    width = 2 * stats.t.ppf(0.975, 7) * found.se[:, 0]
    assert (np.isnan(found.low[:, 0]) == (width > shown)).all() and np.isnan(found.low[1, 0])


def test_the_spread_between_runs():
    # Oracle: planted run effects of 2 points, within the error of an SD from so many runs.
    at = points(runs=60, checkpoints=3)
    panel = noisy(scored(at, *[SIGMOID(at.x)] * 20), 0.02)
    assert made(panel, 22.1).noise.mean() == pytest.approx(0.02, rel=0.1)


def test_errors_of_the_past_are_those_of_forecasts_from_below():
    # Oracle: by hand: fits of numpy and of the method itself to the runs below one cut.
    at = points(runs=10, checkpoints=3)
    panel = noisy(scored(at, SIGMOID(at.x)), 0.02)
    errors = past_errors(panel, NAMES)
    assert errors is not None
    # Of ten finished runs the 35, 50, 65 and 80% quantiles are the 4th, 5th, 6th and 8th.
    assert errors.shape == (1, len(NAMES), 6 + 5 + 4 + 2)
    finals = panel.y[0, panel.final]
    below = panel.run <= 7
    train, held = split_runs(panel, below)
    assert held.y[0].tolist() == finals[8:].tolist() and set(train.run) == set(range(8))
    weights = np.exp(train.x - train.x.max())[None]
    for i, name in enumerate(NAMES):
        says = methods_for(panel)[name](train, 0.0, weights, held.x, held.ratio)[0, 0]
        assert np.allclose(errors[0, i, -2:], says - finals[8:], equal_nan=True), name


def test_without_a_past_all_laws_weigh_alike():
    # Oracle: by construction: no cut of three runs leaves four below it.
    at = points(runs=3)
    panel = scored(at, SIGMOID(at.x))
    assert past_errors(panel, NAMES) is None
    found = made(panel)
    assert found.weights[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0, 0])  # no bridge, no level
    assert np.isnan(found.past).all()
    assert past_errors(replace(panel, final=np.zeros_like(panel.final)), NAMES) is None


def test_weights_by_hand():
    # Oracle: the formula: (own MSE)^(-s w) (geometric mean of relative MSE over tasks)^(-s (1 - w)).
    errors = np.array([[[0.01, 0.01], [0.02, 0.02]], [[0.03, 0.03], [0.01, 0.01]]])
    square = np.array([[1.0, 4.0], [9.0, 1.0]])
    relative = square / square.mean(axis=1, keepdims=True)
    pooled = np.sqrt(relative[0] * relative[1])
    raw = relative ** (-SHARPNESS * OWN) * pooled ** (-SHARPNESS * (1 - OWN))
    found = method_weights(errors, np.ones((2, 2), dtype=bool), ("a", "b"))
    assert found == pytest.approx(raw / raw.sum(axis=1, keepdims=True))


@st.composite
def histories(draw):
    """Past errors with gaps, and which methods have an answer now."""
    tasks, count, targets = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    number = st.one_of(st.floats(-1e3, 1e3), st.just(float("nan")), st.just(0.0))
    errors = draw(st.none() | arrays(float, (tasks, count, targets), elements=number))
    usable = draw(arrays(bool, (tasks, count)))
    names = (*(f"law {i}" for i in range(count - 1)), draw(st.sampled_from(["level", "last law"])))
    return errors, usable, names


@given(histories())
def test_weights_are_shares(history):
    # Oracle: the definition of a share; a method without an answer has none.
    errors, usable, names = history
    weights = method_weights(errors, usable, names)
    assert weights.shape == usable.shape and np.isfinite(weights).all() and (weights >= 0).all()
    assert (weights[~usable] == 0).all()
    assert weights.sum(axis=1) == pytest.approx(usable.any(axis=1).astype(float))


@given(histories(), st.randoms(use_true_random=False))
def test_weights_move_with_tasks(history, random):
    # Oracle: permutation.
    errors, usable, names = history
    order = list(range(len(usable)))
    random.shuffle(order)
    moved = method_weights(None if errors is None else errors[order], usable[order], names)
    assert np.allclose(moved, method_weights(errors, usable, names)[order], atol=1e-9)
