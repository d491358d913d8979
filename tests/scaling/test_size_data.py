"""The law in model size and data apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from scaling.errors import StagewiseError
from scaling.size_data import HIGH, LOW, fit_size_data

N, D = (v.ravel() for v in np.meshgrid(np.linspace(7, 10, 6), np.linspace(9, 12, 5)))


def scipy_best(y, w, rng, starts=12) -> float:
    n, d = N - N.mean(), D - D.mean()

    def residual(p):
        a, b = np.exp(p[:2])
        return np.sqrt(w) * (p[2] + p[3] * 10 ** (-a * n) + p[4] * 10 ** (-b * d) - y)

    bounds = ([LOW, LOW, 0, 0, 0], [HIGH, HIGH, np.inf, np.inf, np.inf])
    begins = [np.concatenate([rng.uniform(LOW, HIGH, 2), rng.uniform(0.01, 2.0, 3)]) for _ in range(starts)]
    return min(2 * least_squares(residual, p, bounds=bounds, x_scale="jac").cost for p in begins)


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.1])
@pytest.mark.parametrize("exponents", [(0.34, 0.28), (0.1, 0.6), (0.5, 0.05)])
def test_never_worse_than_scipy(noise, exponents):
    # Oracle: scipy.optimize.least_squares, the best of 12 random starts inside the same bounds.
    rng = np.random.default_rng(0)
    a, b = exponents
    y = (1.7 + 0.5 * 10 ** (-a * (N - 8.5)) + 0.4 * 10 ** (-b * (D - 10.5))) * (
        1 + rng.normal(0, noise, len(N))
    )
    w = 1.0 / y**2
    fit = fit_size_data(N, D, y[None], w[None])
    assert (fit.linear >= 0).all()
    assert fit.sse[0] == pytest.approx((w * (y - fit.predict(N, D)[0]) ** 2).sum(), rel=1e-4)
    assert fit.sse[0] <= 1.001 * scipy_best(y, w, rng)


def test_rows_do_not_depend_on_each_other():
    # Oracle: each row alone.
    rng = np.random.default_rng(1)
    y = (
        1.7
        + 0.5 * 10 ** (-0.3 * (N - 8.5))
        + 0.4 * 10 ** (-0.3 * (D - 10.5))
        + rng.normal(0, 0.02, (4, len(N)))
    )
    w = rng.uniform(0.5, 2, y.shape)
    together = fit_size_data(N, D, y, w)
    for i in range(4):
        alone = fit_size_data(N, D, y[i : i + 1], w[i : i + 1])
        assert np.allclose(alone.predict(N, D), together.predict(N, D)[i], rtol=1e-6)


def test_a_loss_that_depends_on_nothing_is_its_mean():
    # Oracle: the constant; warnings are errors here.
    fit = fit_size_data(N, D, np.full((1, len(N)), 2.5), np.ones((1, len(N))))
    assert np.allclose(fit.predict(N, D), 2.5, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "data", "text"),
    [
        (np.full(9, 8.0), np.linspace(9, 11, 9), "model size does not vary"),
        (np.linspace(7, 9, 9), np.full(9, 10.0), "training tokens does not vary"),
        (np.linspace(7, 9, 9), np.linspace(7, 9, 9) + 1.3, "grow in step"),
        (np.linspace(7, 9, 9), np.linspace(20, 18, 9), "grow in step"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(size, data, text):
    with pytest.raises(StagewiseError, match=text):
        fit_size_data(size, data, np.ones((1, 9)), np.ones((1, 9)))
