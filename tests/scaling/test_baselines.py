"""Plain ways to extrapolate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from scaling.baselines import BASELINES, isotonic, last_value, linear, scipy_curve_fit
from tests.scaling import synthetic
from tests.scaling.panels import points, scored

TARGETS = np.array([22.0, 23.0, 24.0])
SIGMOID = synthetic.sigmoid(0.25, 0.81, 20.3, 1.5)
POWER = synthetic.power(0.55, 0.5, 0.21)


def noisy(family: str = "proportion", runs: int = 8, **options):
    at = points(runs=runs, **options)
    rng = np.random.default_rng(3)
    truth = SIGMOID if family == "proportion" else POWER
    return scored(at, *(truth(at.x) + rng.normal(0, 0.01, (3, len(at.x)))), family=family)


def test_last_value():
    # Oracle: by hand; two runs end at the largest compute.
    at = points(runs=4, checkpoints=1)
    at = replace(at, x=np.array([18.0, 20.0, 22.0, 22.0]))
    panel = scored(at, np.array([0.3, 0.4, 0.5, 0.6]), np.array([0.9, 0.8, 0.7, 0.6]))
    assert last_value(panel, TARGETS) == pytest.approx(np.array([[0.55] * 3, [0.65] * 3]))


@pytest.mark.parametrize("family", ["proportion", "bits"])
def test_linear(family):
    # Oracle: numpy.polyfit, task by task.
    panel = noisy(family)
    expected = [np.polyval(np.polyfit(panel.x, y, 1), TARGETS) for y in panel.y]
    assert linear(panel, TARGETS) == pytest.approx(np.array(expected), rel=1e-8)


@pytest.mark.parametrize(("family", "rising"), [("proportion", True), ("bits", False)])
def test_isotonic(family, rising):
    # Oracle: sklearn's, rising for accuracies and falling for bits; level beyond the data.
    panel = noisy(family)
    x = np.array([17.0, 19.3, 23.0])
    for i, y in enumerate(panel.y):
        oracle = IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(panel.x, y)
        assert isotonic(panel, x)[i] == pytest.approx(oracle.predict(x))
        assert isotonic(panel, x)[i, 2] == pytest.approx(oracle.predict(panel.x)[-1])
    assert (np.diff(isotonic(panel, x), axis=1) * (1 if rising else -1) > 0).all()


def test_curve_fit_of_a_sigmoid():
    # Oracle: scipy.optimize.curve_fit of the same law from the truth's own parameters.
    panel = noisy()

    def law(x, upper, steepness, midpoint):
        return 0.25 + (upper - 0.25) * expit(steepness * (x - midpoint))

    for i, y in enumerate(panel.y):
        best, _ = curve_fit(law, panel.x, y, p0=[0.81, 1.5, 20.3])
        assert scipy_curve_fit(panel, TARGETS)[i] == pytest.approx(law(TARGETS, *best), abs=1e-4)


def test_curve_fit_of_a_power_law():
    # Oracle: planted truth.
    at = points(runs=8)
    panel = scored(at, POWER(at.x), family="bits")
    assert scipy_curve_fit(panel, TARGETS)[0] == pytest.approx(POWER(TARGETS), abs=1e-4)


def test_chance_that_is_unknown_counts_as_zero():
    # Oracle: planted truth from zero.
    truth = synthetic.sigmoid(0.0, 0.8, 20.3, 1.5)
    at = points(runs=8)
    panel = scored(at, truth(at.x), chance=np.nan)
    assert scipy_curve_fit(panel, TARGETS)[0] == pytest.approx(truth(TARGETS), abs=1e-4)


def test_failures_are_missing():
    # Oracle: by construction; warnings are errors here.
    two = noisy(runs=2, checkpoints=1)  # fewer points than parameters
    assert np.isnan(scipy_curve_fit(two, TARGETS)).all()
    assert np.isfinite(linear(two, TARGETS)).all()
    one = replace(two, x=np.array([20.0, 20.0]))  # no line through one compute
    assert np.isnan(linear(one, TARGETS)).all()
    assert np.isfinite(last_value(one, TARGETS)).all() and np.isfinite(isotonic(one, TARGETS)).all()


def test_one_failure_leaves_the_others():
    # Oracle: the task alone; y = 0 throughout has no sigmoid that curve_fit would find, nor does it matter.
    panel = noisy()
    panel.y[1] = np.where(np.arange(len(panel.x)) % 2, 1.0, 0.0)
    found = scipy_curve_fit(panel, TARGETS)
    assert found[[0, 2]] == pytest.approx(scipy_curve_fit(panel.tasks([0, 2]), TARGETS))


@pytest.mark.parametrize("name", BASELINES)
def test_shape(name):
    assert BASELINES[name](noisy(), TARGETS).shape == (3, 3)
