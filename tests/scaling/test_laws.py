"""The laws: slopes, limits, and grids that stay inside their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.laws import BrokenPower, Gompertz, Power, Sigmoid

X = np.linspace(17.0, 23.0, 13)
LAWS = [Sigmoid(), Sigmoid(max_steepness=5.0), Gompertz(), Power(centre=20.0), BrokenPower()]


def inside(shape, shares) -> np.ndarray:
    low, high = shape.bounds(X)
    return (low + np.asarray(shares[: len(low)]) * (high - low))[None]


@pytest.mark.parametrize("shape", LAWS, ids=lambda shape: shape.name)
@settings(max_examples=60, deadline=None)
@given(shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_slopes_are_the_derivatives_of_phi(shape, shares):
    # Oracle: central differences.
    theta = inside(shape, shares)
    phi, slopes = shape.slopes(theta, X)
    assert np.allclose(phi, shape.phi(theta, X), rtol=1e-12, atol=1e-300)
    for i in range(theta.shape[1]):
        step = np.zeros_like(theta)
        step[0, i] = 1e-5
        numeric = (shape.phi(theta + step, X) - shape.phi(theta - step, X)) / 2e-5
        scale = max(1.0, float(np.abs(numeric).max()))
        assert np.allclose(slopes[:, i], numeric, rtol=1e-4, atol=1e-7 * scale)


@pytest.mark.parametrize("shape", LAWS, ids=lambda shape: shape.name)
@pytest.mark.parametrize(
    "x", [X, np.array([20.0, 20.5]), np.array([15.0, 27.0])], ids=["six", "half", "twelve"]
)
def test_the_grid_lies_inside_the_bounds(shape, x):
    # Oracle: the bounds that refinement clips to.
    low, high = shape.bounds(x)
    for segment in shape.grid(x):
        assert segment.shape[1] == len(low) == len(shape.parameters) - 2
        assert (segment >= low - 1e-9).all() and (segment <= high + 1e-9).all()


@pytest.mark.parametrize("shape", [Sigmoid(), Gompertz()], ids=lambda shape: shape.name)
def test_rising_laws_go_from_zero_to_one(shape):
    # Oracle: the limits in closed form, and the value at the midpoint.
    theta = np.array([[20.0, np.log(2.0)]])
    far = shape.phi(theta, np.array([-100.0, 20.0, 140.0]))[0]
    middle = {"sigmoid": 0.5, "gompertz": np.exp(-1.0)}[shape.name]
    assert np.allclose(far, [0.0, middle, 1.0], atol=1e-12)


def test_a_steeper_cap_is_the_bound_of_steepness():
    # Oracle: the definition, k <= max_steepness.
    assert np.exp(Sigmoid(max_steepness=7.0).bounds(X)[1][1]) == pytest.approx(7.0)


def test_power_is_one_at_its_centre_and_halves_as_told():
    # Oracle: 10^(-a (x - x0)) by hand.
    phi = Power(centre=20.0).phi(np.log([[0.3]]), np.array([20.0, 21.0, 30.0]))[0]
    assert np.allclose(phi, [1.0, 10**-0.3, 10**-3.0])


def test_a_broken_power_is_flat_before_its_onset_and_a_power_law_after():
    # Oracle: both limits in closed form.
    theta = np.array([[20.0, np.log(0.5)]])
    phi = BrokenPower(sharpness=0.1).phi(theta, np.array([15.0, 22.0, 24.0]))[0]
    assert np.allclose(phi, [1.0, 10**-1.0, 10**-2.0], rtol=1e-9)


@pytest.mark.parametrize("shape", LAWS, ids=lambda shape: shape.name)
def test_extreme_compute_gives_finite_numbers(shape):
    # Oracle: none needed; warnings are errors here.
    x = np.array([0.0, 20.0, 60.0])
    for segment in shape.grid(X):
        phi, slopes = shape.slopes(segment[[0, -1]], x)
        assert np.isfinite(phi).all() and np.isfinite(slopes).all()


def test_natural_units_name_every_parameter():
    # Oracle: exp of the searched logarithms.
    assert np.allclose(Sigmoid().natural(np.array([[20.0, np.log(3.0)]])), [[20.0, 3.0]])
    assert np.allclose(Power().natural(np.log([[0.2]])), [[0.2]])
    assert np.allclose(BrokenPower().natural(np.array([[19.0, np.log(0.2)]])), [[19.0, 0.2]])
