"""What a series is expected to show next."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evalsuite import expectation
from evalsuite.expectation import expected, from_forecasts
from evalsuite.sequential import CORRELATION, law
from scaling.series import Key


def test_one_law_gives_the_prediction_interval_of_generalised_least_squares(monkeypatch):
    """Oracle: GLS by hand, and scipy's t quantile."""
    monkeypatch.setattr(expectation, "EXPONENTS", (0.5,))
    monkeypatch.setattr(expectation, "BENDS", (0.0,))
    rng = np.random.default_rng(0)
    n = 9
    x = np.sort(rng.uniform(0, 3, n))
    variance = rng.uniform(1, 3, n)
    y = 1 + 2 * law(x - x[0], 0.5) + 0.1 * rng.standard_normal(n)
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    inverse = np.linalg.inv(np.sqrt(np.outer(variance, variance)) * CORRELATION**apart)
    design = np.column_stack([np.ones(n), law(x - x[0], 0.5)])
    gram = np.linalg.inv(design.T @ inverse @ design)
    beta = gram @ design.T @ inverse @ y
    rest = y - design @ beta
    row = np.array([1.0, law(np.array(3.4 - x[0]), 0.5)])
    sd = np.sqrt(rest @ inverse @ rest / (n - 2) * (2.0 + row @ gram @ row))
    made = expected(x, y, np.array([3.4]), [n], variance=variance, at_variance=np.array([2.0]))
    assert made.value[0] == pytest.approx(row @ beta)
    assert made.high[0] == pytest.approx(row @ beta + stats.t.ppf(0.975, n - 2) * sd, rel=1e-6)
    assert made.low[0] == pytest.approx(row @ beta - stats.t.ppf(0.975, n - 2) * sd, rel=1e-6)
    assert made.trend[0] == pytest.approx(beta[1] * np.exp(-0.5 * (3.4 - x[0])) * np.log(2))


@pytest.mark.parametrize("exponent", [0.0, 0.35, 1.0])
def test_bands_hold_about_what_they_say(exponent):
    """Oracle: the share of simulated next points inside, by n."""
    rng = np.random.default_rng(1)
    x = np.log(np.arange(1.0, 21.0))
    inside = []
    for _ in range(100):
        y = 0.2 * law(x, exponent) + 0.01 * rng.standard_normal(20)
        place = np.arange(5, 20)
        band = expected(x, y, x[place], place)
        inside.append((band.low <= y[place]) & (y[place] <= band.high))
    assert 0.90 < np.mean(inside) < 0.985


def test_little_past_says_little():
    rng = np.random.default_rng(0)
    x, before = np.log(np.arange(1.0, 21.0)), np.array([1, 2, 3, 6, 18])
    made = [expected(x, 0.2 * x + 0.01 * rng.standard_normal(20), x[before], before) for _ in range(40)]
    assert all(np.isnan([one.value[:2], one.low[:2], one.high[:2], one.trend[:2]]).all() for one in made)
    wide = np.median([one.high - one.low for one in made], axis=0)
    assert wide[2] > wide[3] > wide[4] > 0
    assert np.isnan(expected(x[:0], x[:0], np.array([1.0]), [0]).value).all()


def test_a_constant_stays():
    made = expected(np.arange(6.0), np.full(6, 0.25), np.array([6.0]), [6])
    assert made.value[0] == pytest.approx(0.25)
    assert made.trend[0] == pytest.approx(0.0, abs=1e-6)
    assert 0 <= made.high[0] - made.low[0] < 1e-4


class Made:
    """What the bridge reads of a `scaling.forecasts.Forecast`."""

    def __init__(self, key: Key, value: list[float]) -> None:
        self.key, self.flops = key, np.array([1e18, 1e20])
        self.value, self.low, self.high = np.array(value), np.array(value) * 0.9, np.array(value) * 1.1


def test_forecasts_of_tasks_become_one_of_their_capability():
    rows = [
        {"task": "a", "metric": "bpb", "shots": 0, "weight": 0.3, "cluster": 1, "capability": "code"},
        {"task": "b", "metric": "acc", "shots": 0, "weight": 0.1, "cluster": 1, "capability": "code"},
        {"task": "c", "metric": "acc", "shots": 0, "weight": 0.6, "cluster": 2, "capability": None},
    ]
    series = pd.DataFrame(rows).astype({"shots": "Int64"})
    both = [Made(Key("a", "bpb", 0), [2.0, 1.0]), Made(Key("b", "acc", 0), [0.2, 0.4])]
    found = from_forecasts(both, series)  # pyright: ignore[reportArgumentType]
    assert list(found) == ["code"]  # the task of the other has none
    value, low, high = found["code"](np.array([1e18, 1e19, 1e21]))
    start = 0.75 * np.log(8 / 2.0) + 0.25 * 0.2
    end = 0.75 * np.log(8 / 1.0) + 0.25 * 0.4
    np.testing.assert_allclose(value[:2], [start, (start + end) / 2])
    assert low[0] == pytest.approx(0.75 * np.log(8 / 2.2) + 0.25 * 0.18)
    assert high[0] == pytest.approx(0.75 * np.log(8 / 1.8) + 0.25 * 0.22)
    assert np.isnan(value[2])
