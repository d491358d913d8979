"""Ways to say what a larger run will score: each is right where its own law holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import expit

from scaling import methods
from scaling.methods import (
    LOSSES,
    MIN_LINK,
    PROPORTIONS,
    effective,
    methods_for,
    point_weights,
    ratio_exponent,
)
from scaling.panel import Panel
from tests.scaling import synthetic
from tests.scaling.panels import points, scored, size_and_data

TARGET = np.array([23.0])  # ten times the largest run
UNKNOWN = np.array([np.nan])
SIGMOID = synthetic.sigmoid(0.22, 0.81, 20.6, 1.4)
GOMPERTZ = synthetic.gompertz(0.2, 0.85, 20.4, 1.1)
POWER = synthetic.power(0.55, 0.5, 0.21)


def log_power(x):
    return np.exp(-(0.12 + 0.9 * 10.0 ** (-0.3 * (x - 20.0))))


def by_size_and_data(x, ratio):
    n, d = size_and_data(x, ratio)
    return 0.4 + 2.0 * n**-0.1 + 3000.0 * d**-0.4


def says(method, panel: Panel, exponent: float = 0.0, x=TARGET, ratio=UNKNOWN) -> np.ndarray:
    """What a method says of every task, [T, m]."""
    return method(panel, exponent, point_weights(panel)[None], x, ratio)[:, 0]


@pytest.mark.parametrize(
    ("method", "truth", "family"),
    [
        (methods.sigmoid, SIGMOID, "proportion"),
        (methods.gompertz, GOMPERTZ, "proportion"),
        (methods.log_power, log_power, "proportion"),
        (methods.power, POWER, "bits"),
        (methods.power, POWER, "loss"),
    ],
)
def test_a_law_in_compute_finds_its_own_truth(method, truth, family):
    # Oracle: planted truth, ten times beyond data without noise.
    at = points()
    found = says(method, scored(at, truth(at.x), family=family))
    assert found[0, 0] == pytest.approx(truth(TARGET)[0], abs=1e-4)


@pytest.mark.parametrize(
    ("method", "truth"),
    [(methods.sigmoid, GOMPERTZ), (methods.gompertz, SIGMOID), (methods.log_power, SIGMOID)],
)
def test_and_not_that_of_another(method, truth):
    """The planted truths above can tell the laws apart."""
    at = points()
    found = says(method, scored(at, truth(at.x)))
    assert abs(found[0, 0] - truth(TARGET)[0]) > 3e-3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["sigmoid", "gompertz", "log-power", "power"])
def test_weighted_fits_are_those_of_scipy(name, seed):
    """Oracle: scipy.optimize.curve_fit under the same weights and bounds, begun at the truth."""
    at = points(runs=12)
    rng = np.random.default_rng(seed)
    laws = {
        "sigmoid": (lambda x, m, k, low, top: low + (top - low) * expit(k * (x - m)), SIGMOID),
        "gompertz": (lambda x, m, k, low, top: low + (top - low) * np.exp(-np.exp(-k * (x - m))), GOMPERTZ),
        "log-power": (lambda x, b, a, g: np.exp(-(b + a * 10.0 ** (-g * (x - 20.0)))), log_power),
        "power": (lambda x, e, a, g: e + a * 10.0 ** (-g * (x - 20.0)), POWER),
    }
    law, truth = laws[name]
    start, low, high = {
        "sigmoid": ([20.6, 1.4, 0.22, 0.81], [10.0, 0.2, 0.0, 0.0], [30.0, 12.0, 0.25, 1.0]),
        "gompertz": ([20.4, 1.1, 0.2, 0.85], [10.0, 0.2, 0.0, 0.0], [30.0, 12.0, 0.25, 1.0]),
        "log-power": ([0.12, 0.9, 0.3], [0.0, 0.0, 0.09], [9.0, 9.0, 5.0]),
        "power": ([0.55, 0.5, 0.21], [0.0, 0.0, 0.005], [9.0, 9.0, 3.0]),
    }[name]
    y = truth(at.x) + rng.normal(0.0, 0.004, len(at.x))
    weights = np.exp(rng.normal(0.0, 1.0, len(at.x)))
    best, _ = curve_fit(law, at.x, y, p0=start, sigma=weights**-0.5, bounds=(low, high), xtol=1e-12)
    family = "bits" if name == "power" else "proportion"
    x = np.array([21.0, 22.5, 23.0])
    method = (LOSSES if name == "power" else PROPORTIONS)[name]
    found = method(scored(at, y, family=family), 0.0, weights[None], x, np.full(3, np.nan))[0, 0]
    assert found == pytest.approx(law(x, *best), abs=5e-4)


def test_chance_that_is_unknown_leaves_the_lower_end_free():
    # Oracle: planted truth whose lower end lies at 0.4; a floor of at most 0.25 would contradict it.
    truth = synthetic.sigmoid(0.4, 0.8, 20.6, 1.4)
    at = points()
    panel = scored(at, truth(at.x), chance=np.nan)
    assert says(methods.sigmoid, panel)[0, 0] == pytest.approx(truth(TARGET)[0], abs=1e-4)


def test_size_and_data_apart():
    # Oracle: planted truth; the target has eight times the tokens per parameter of any run.
    at = points(ratios=(1.0, 1.8, 0.6))
    panel = scored(at, by_size_and_data(at.x, at.ratio), family="bits")
    ratio = np.array([2.7])
    found = says(methods.size_data, panel, ratio=ratio)
    assert found[0, 0] == pytest.approx(by_size_and_data(TARGET, ratio)[0], abs=1e-3)
    assert abs(says(methods.power, panel)[0, 0] - found[0, 0]) > 0.005


def link(bits):
    """A score that follows from the surprise, whatever size and data."""
    return 0.2 + 0.7 / (1.0 + np.exp(9.0 * (bits - 0.85)))


def test_the_chain_goes_through_the_bits():
    # Oracle: planted truth of both links; a law in compute alone misses their composition.
    at = points()
    panel = scored(at, link(POWER(at.x)), bits=POWER(at.x))
    truth = link(POWER(TARGET))[0]
    assert says(methods.chain, panel)[0, 0] == pytest.approx(truth, abs=1e-4)


def test_the_chain_with_size_and_data_apart():
    # Oracle: planted truth of both links.
    at = points(ratios=(1.0, 1.8, 0.6))
    bits = by_size_and_data(at.x, at.ratio)
    ratio = np.array([2.5])
    panel = scored(at, link(bits), bits=bits)
    truth = link(by_size_and_data(TARGET, ratio))[0]
    assert says(methods.chain_size_data, panel, ratio=ratio)[0, 0] == pytest.approx(truth, abs=2e-3)
    assert abs(says(methods.chain, panel, ratio=ratio)[0, 0] - truth) > 5e-3


def test_the_chain_uses_the_points_whose_bits_are_known():
    # Oracle: planted truth; scores without bits contradict it and must not matter.
    at = points()
    bits, y = POWER(at.x), link(POWER(at.x))
    lost = np.arange(len(at.x)) % 9 == 4
    bits[lost], y[lost] = np.nan, 0.5
    found = says(methods.chain, scored(at, y, bits=bits))
    assert found[0, 0] == pytest.approx(link(POWER(TARGET))[0], abs=1e-4)


def test_where_a_method_does_not_apply_it_says_nothing():
    # Oracle: by construction.
    at = points()
    y = SIGMOID(at.x)
    assert np.isnan(says(methods.chain, scored(at, y))).all()  # no bits
    few = np.where(np.arange(len(at.x)) < MIN_LINK - 1, POWER(at.x), np.nan)
    assert np.isnan(says(methods.chain, scored(at, y, bits=few))).all()
    one_recipe = scored(at, POWER(at.x), family="bits")
    assert np.isnan(says(methods.size_data, one_recipe, ratio=np.array([1.3]))).all()
    assert np.isnan(
        says(methods.chain_size_data, scored(at, y, bits=POWER(at.x)), ratio=np.array([1.3]))
    ).all()
    apart = points(ratios=(1.0, 2.0))
    varied = scored(apart, POWER(apart.x), family="bits")
    assert np.isfinite(says(methods.size_data, varied, ratio=np.array([1.3]))).all()
    assert np.isnan(says(methods.size_data, varied, ratio=UNKNOWN)).all()


def test_tasks_with_and_without_a_bridge_share_a_panel():
    # Oracle: each task alone.
    at = points()
    panel = scored(at, link(POWER(at.x)), SIGMOID(at.x), bits=POWER(at.x))
    panel.bits[1] = np.nan
    panel = replace(panel, bridge=("bits", ""))
    found = says(methods.chain, panel)
    assert found[0] == pytest.approx(says(methods.chain, panel.tasks(0))[0]) and np.isnan(found[1]).all()


@pytest.mark.parametrize("planted", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("family", ["proportion", "bits"])
def test_the_exponent_of_tokens_per_parameter(planted, family):
    # Oracle: planted; effective compute is C (D/N)^g.
    at = points(runs=14, ratios=(1.0, 1.8, 0.6))
    seen = at.x + planted * (at.ratio - at.ratio.mean())
    truths = [SIGMOID, GOMPERTZ] if family == "proportion" else [POWER, synthetic.power(0.2, 0.7, 0.1)]
    panel = scored(at, *(truth(seen) for truth in truths), family=family)
    assert ratio_exponent(panel) == pytest.approx(planted)
    law = methods.sigmoid if family == "proportion" else methods.power
    ratio = np.array([2.2])
    target = effective(panel, planted, TARGET, ratio)
    assert target[0] == pytest.approx(23.0 + planted * (2.2 - at.ratio.mean()))
    assert says(law, panel, planted, ratio=ratio)[0, 0] == pytest.approx(truths[0](target)[0], abs=1e-4)


def test_one_recipe_has_no_exponent():
    """Checkpoints of one recipe differ in D/N, but have not decayed either. Oracle: by construction."""
    at = points(runs=14)
    assert ratio_exponent(scored(at, SIGMOID(at.x + 0.3 * at.ratio))) == 0.0


def test_weights_fall_with_the_distance_to_the_frontier():
    # Oracle: by hand, 1/e for each decade.
    at = points(runs=5, checkpoints=1)
    assert point_weights(at) == pytest.approx(np.exp(-np.arange(4, -1, -1.0)))


def test_the_level_is_the_mean_near_the_frontier():
    # Oracle: by hand: e^-d of a point's own weight and e^-(d / 0.15) of nearness, at 0, 0.15 and 3 decades.
    at = points(runs=3, checkpoints=1)
    at = replace(at, x=np.array([19.0, 21.85, 22.0]))
    panel = scored(at, np.array([0.9, 0.5, 0.6]))
    share = np.exp(-np.array([3.0 + 20.0, 0.15 + 1.0, 0.0]))
    expected = share @ [0.9, 0.5, 0.6] / share.sum()
    found = says(methods.level, panel, x=np.array([22.5, 24.0]), ratio=np.full(2, np.nan))
    assert found == pytest.approx(np.full((1, 2), expected)) and 0.57 < expected < 0.58


@pytest.mark.parametrize("name", [*PROPORTIONS, *LOSSES])
def test_rows_of_weights_are_fits_of_their_own(name):
    # Oracle: the panel without the run that a row leaves out, under the same weights of the points.
    proportion = name in PROPORTIONS and name != "level"
    at = points(runs=8, ratios=(1.0, 2.0, 0.7))
    rng = np.random.default_rng(0)
    truth = SIGMOID if proportion else POWER
    noise = 0.01 * rng.normal(size=(2, len(at.x)))
    family = "proportion" if proportion else "bits"
    panel = scored(at, *(truth(at.x) + noise), family=family, bits=POWER(at.x) + noise[0])
    method = (PROPORTIONS if proportion else LOSSES)[name]
    weights = np.stack([point_weights(panel), point_weights(panel) * (panel.run != 6)])
    x, ratio = np.array([22.5, 23.0]), np.array([1.4, 1.4])
    found = method(panel, 0.0, weights, x, ratio)
    assert found.shape == (2, 2, 2) and not np.allclose(found[:, 0], found[:, 1], atol=1e-5)
    kept = panel.run != 6
    alone = method(panel.at(kept), 0.0, weights[:1, kept], x, ratio)
    assert found[:, 1] == pytest.approx(alone[:, 0], abs=2e-3 if "size" in name else 1e-4)


def test_each_family_has_its_methods():
    at = points()
    assert methods_for(scored(at, SIGMOID(at.x))) is PROPORTIONS
    for family in ("bits", "loss"):
        assert methods_for(scored(at, POWER(at.x), family=family)) is LOSSES
