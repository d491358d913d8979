"""Single laws behave like scikit-learn's regressors and find the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, cross_val_score

from scaling.errors import StagewiseError
from scaling.estimators import ConstantLaw, GompertzLaw, PowerLaw, SigmoidLaw, SizeDataLaw

X = np.linspace(18.0, 22.0, 20)
RISE = 0.25 + 0.5 / (1 + np.exp(-2 * (X - 20)))
FALL = 1.5 + 10 ** (-0.2 * (X - 20))
LAWS = [
    SigmoidLaw(lower=0.25),
    SigmoidLaw(),
    GompertzLaw(ceiling=0.9),
    PowerLaw(),
    PowerLaw(broken=True),
    ConstantLaw(),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_clone_and_parameters_work(law):
    # Oracle: scikit-learn's own clone.
    assert clone(law).get_params() == law.get_params()
    fitted = clone(law).fit(X, RISE)
    assert clone(fitted).get_params() == law.get_params()
    assert not hasattr(clone(fitted), "parameters_")


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_cross_validation_works(law):
    # Oracle: a law that holds the truth predicts points it has not seen.
    scores = cross_val_score(law, X[:, None], RISE, cv=KFold(4, shuffle=True, random_state=0))
    assert np.isfinite(scores).all()
    if isinstance(law, SigmoidLaw) and not isinstance(law, GompertzLaw):
        assert (scores > 0.999).all()


def test_a_sigmoid_is_recovered():
    # Oracle: the truth.
    found = SigmoidLaw(lower=0.25).fit(X, RISE).parameters_
    assert found == pytest.approx(
        {"midpoint": 20.0, "steepness": 2.0, "lower": 0.25, "upper": 0.75}, rel=1e-4
    )
    free = SigmoidLaw().fit(X, RISE).parameters_
    assert free == pytest.approx(found, rel=1e-3)


def test_a_gompertz_curve_is_recovered():
    # Oracle: the truth.
    y = 0.25 + 0.5 * np.exp(-np.exp(-1.5 * (X - 19.5)))
    found = GompertzLaw(lower=0.25).fit(X, y).parameters_
    assert found == pytest.approx(
        {"midpoint": 19.5, "steepness": 1.5, "lower": 0.25, "upper": 0.75}, rel=1e-4
    )


def test_a_power_law_is_recovered():
    # Oracle: the truth; x0 is the mean of x, here 20.
    found = PowerLaw().fit(X, FALL).parameters_
    assert found == pytest.approx({"exponent": 0.2, "asymptote": 1.5, "amplitude": 1.0}, rel=1e-3)


def test_an_onset_is_recovered():
    # Oracle: the truth.
    y = 1.0 + 0.8 * (1 + 10 ** ((X - 20) / 0.3)) ** (-0.5 * 0.3)
    found = PowerLaw(broken=True).fit(X, y).parameters_
    assert found == pytest.approx(
        {"onset": 20.0, "exponent": 0.5, "asymptote": 1.0, "amplitude": 0.8}, rel=5e-3
    )


def test_noisy_data_give_the_fit_that_scipy_gives():
    # Oracle: scipy.optimize.curve_fit from the true parameters.
    def curve(x, m, k, low, high):
        return low + (high - low) / (1 + np.exp(-k * (x - m)))

    y = RISE + np.random.default_rng(0).normal(0, 0.01, len(X))
    best, _ = curve_fit(curve, X, y, p0=[20, 2, 0.25, 0.75])
    law = SigmoidLaw().fit(X, y)
    assert np.allclose(list(law.parameters_.values()), best, rtol=1e-3)
    assert law.sse_ == pytest.approx(((y - curve(X, *best)) ** 2).sum(), rel=1e-6)


def test_sample_weights_count_like_repeated_points():
    # Oracle: the same points repeated.
    rng = np.random.default_rng(1)
    y = RISE + rng.normal(0, 0.02, len(X))
    counts = rng.integers(1, 4, len(X))
    weighted = SigmoidLaw(lower=0.25).fit(X, y, sample_weight=counts)
    repeated = SigmoidLaw(lower=0.25).fit(np.repeat(X, counts), np.repeat(y, counts))
    assert np.allclose(weighted.predict(X), repeated.predict(X), atol=1e-5)
    level = ConstantLaw().fit(X, y, sample_weight=counts).parameters_["level"]
    assert level == pytest.approx(np.repeat(y, counts).mean())


def test_a_constant_is_the_mean():
    # Oracle: numpy's mean and sum of squares.
    law = ConstantLaw().fit(X, RISE)
    assert np.allclose(law.predict([1.0, 2.0]), RISE.mean())
    assert law.sse_ == pytest.approx(((RISE - RISE.mean()) ** 2).sum())


@pytest.mark.parametrize("law", [*LAWS, SizeDataLaw()], ids=repr)
def test_a_law_that_is_not_fitted_says_so(law):
    with pytest.raises(NotFittedError):
        clone(law).predict(np.ones((3, 2)) if isinstance(law, SizeDataLaw) else X)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        ([18.0, 19.0], [0.1, 0.2], "got 2 x and 2 y; valid is 3 or more"),
        ([18.0, 19.0, 20.0], [0.1, 0.2], "got 3 x and 2 y"),
        (np.ones((3, 2)), [0.1, 0.2, 0.3], r"x: got shape \(3, 2\), valid is \[n\] or \[n, 1\]"),
        ([18.0, np.nan, 20.0], [0.1, 0.2, 0.3], "x: row 1 is not a finite number"),
        ([18.0, 19.0, 20.0], [0.1, 0.2, np.inf], "y: row 2 is not a finite number"),
    ],
)
@pytest.mark.parametrize("law", [SigmoidLaw(), PowerLaw()], ids=repr)
def test_bad_input_is_named(law, x, y, text):
    with pytest.raises(StagewiseError, match=text):
        law.fit(x, y)


def test_a_constant_refuses_lengths_that_differ():
    with pytest.raises(StagewiseError, match="got 3 x and 2 y"):
        ConstantLaw().fit([18.0, 19.0, 20.0], [0.1, 0.2])


@pytest.mark.parametrize("weights", [[1.0, 1.0, -1.0, 1.0], [1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(StagewiseError, match="sample_weight"):
        SigmoidLaw().fit(X[:4], RISE[:4], sample_weight=weights)


def test_size_and_data_are_recovered():
    # Oracle: the truth (Hoffmann et al. 2022), whose amplitudes are stated at the data's centre.
    n, d = (v.ravel() for v in np.meshgrid(np.linspace(7, 10, 5), np.linspace(9, 12, 5)))
    y = 1.69 + 406 * 10 ** (-0.34 * n) + 411 * 10 ** (-0.28 * d)
    law = SizeDataLaw().fit(np.column_stack([n, d]), y)
    assert law.parameters_ == pytest.approx(
        {
            "asymptote": 1.69, "size_amplitude": 406 * 10 ** (-0.34 * n.mean()),
            "data_amplitude": 411 * 10 ** (-0.28 * d.mean()), "size_exponent": 0.34, "data_exponent": 0.28,
        },
        rel=2e-3,
    )  # fmt: skip
    assert np.allclose(law.predict(np.column_stack([n, d])), y, atol=1e-5)
    assert clone(law).fit(np.column_stack([n, d]), y).sse_ == law.sse_


@pytest.mark.parametrize("shape", [(25, 3), (25,), (4, 2)])
def test_size_and_data_need_two_columns_and_five_points(shape):
    X2 = np.ones(shape)
    with pytest.raises(StagewiseError, match=r"valid is \[n, 2\] and \[n\], n >= 5"):
        SizeDataLaw().fit(X2, np.ones(len(X2)))
