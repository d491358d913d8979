"""The batched fitter against scipy, on its edges, and under changes that must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares, lsq_linear

from scaling import fit as engine
from scaling.fit import Box, fit_batch
from scaling.laws import BrokenPower, Gompertz, Power, Sigmoid

X = np.linspace(18.0, 22.0, 24)
UNIT = ((0.0, 1.0), (0.0, 1.0))
CHANCE = ((0.25, 0.25), (0.0, 1.0))
LOSS = ((0.0, np.inf), (-np.inf, np.inf))


def columns(shape, theta, x):
    """The two columns whose coefficients the box holds, [n, 2]."""
    phi = shape.phi(theta[None], x)[0]
    return np.column_stack([1.0 - phi, phi] if shape.ends else [np.ones_like(phi), phi])


def scipy_best(shape, x, y, w, ends, rng, starts=10) -> float:
    """The lowest sum of squares scipy finds from many starts inside the same bounds."""
    low, high = shape.bounds(x)
    fixed = ends[0][0] == ends[0][1]
    box_low = [ends[1][0]] if fixed else [ends[0][0], ends[1][0]]
    box_high = [ends[1][1]] if fixed else [ends[0][1], ends[1][1]]
    t, root = len(low), np.sqrt(w)

    def pair(p):
        return np.concatenate([[ends[0][0]], p[t:]]) if fixed else p[t:]

    def residual(p):
        return root * (columns(shape, p[:t], x) @ pair(p) - y)

    bounds = (np.concatenate([low, box_low]), np.concatenate([high, box_high]))
    best = np.inf
    for _ in range(starts):
        theta = rng.uniform(low, high)
        linear = rng.uniform(y.min(), y.max(), size=len(box_low))
        begin = np.clip(np.concatenate([theta, linear]), bounds[0] + 1e-9, bounds[1] - 1e-9)
        best = min(best, 2.0 * least_squares(residual, begin, bounds=bounds, max_nfev=200).cost)
    return best


def random_problem(shape, rng, noise):
    low, high = shape.bounds(X)
    theta = np.clip(
        np.concatenate([[rng.uniform(17.5, 22.5)], [np.log(rng.uniform(0.4, 6.0))]]), low[:2], high[:2]
    )
    return columns(shape, theta, X) @ [0.25, rng.uniform(0.4, 1.0)] + rng.normal(0, noise, len(X))


@pytest.mark.parametrize("shape", [Sigmoid(), Gompertz()], ids=lambda shape: shape.name)
@pytest.mark.parametrize("ends", [UNIT, CHANCE], ids=["free floor", "chance floor"])
def test_proportions_are_never_worse_than_scipy(shape, ends):
    # Oracle: scipy.optimize.least_squares, the best of 10 random starts inside the same bounds.
    rng = np.random.default_rng(1)
    y = np.stack([np.clip(random_problem(shape, rng, sd), 0, 1) for sd in (0.005, 0.02, 0.02, 0.05, 0.1)])
    w = rng.uniform(0.2, 5.0, y.shape)
    fit = fit_batch(shape, X, y, w, Box.of(len(y), *ends))
    for i in range(len(y)):
        assert fit.sse[i] <= 1.001 * scipy_best(shape, X, y[i], w[i], ends, rng)


@pytest.mark.parametrize("shape", [Power(centre=20.0), BrokenPower()], ids=lambda shape: shape.name)
def test_losses_are_never_worse_than_scipy(shape):
    # Oracle: scipy.optimize.least_squares, the best of 10 random starts inside the same bounds.
    rng = np.random.default_rng(2)
    truth = [1.5 + 10 ** (-a * (X - 20)) for a in (0.05, 0.15, 0.4)]
    y = np.stack([t * (1 + rng.normal(0, sd, len(X))) for t in truth for sd in (0.002, 0.02)])
    w = 1.0 / y**2
    fit = fit_batch(shape, X, y, w, Box.of(len(y), *LOSS))
    for i in range(len(y)):
        assert fit.sse[i] <= 1.001 * scipy_best(shape, X, y[i], w[i], LOSS, rng) + 1e-12


@pytest.mark.parametrize("shape", [Sigmoid(), Gompertz()], ids=lambda shape: shape.name)
def test_pure_noise_has_no_better_optimum_that_scipy_finds(shape):
    # Oracle: scipy.optimize.least_squares as above, where the surface has many small valleys.
    rng = np.random.default_rng(3)
    y = 0.5 + rng.normal(0, 0.05, (4, len(X)))
    fit = fit_batch(shape, X, y, np.ones_like(y), Box.of(4, *CHANCE))
    for i in range(4):
        assert fit.sse[i] <= 1.001 * scipy_best(shape, X, y[i], np.ones(len(X)), CHANCE, rng, starts=20)


def test_the_objective_is_what_the_curve_leaves():
    # Oracle: sum of w (y - predict)^2 by hand.
    rng = np.random.default_rng(4)
    y = np.stack([random_problem(Sigmoid(), rng, 0.02) for _ in range(3)])
    w = rng.uniform(0.5, 2.0, y.shape)
    fit = fit_batch(Sigmoid(), X, y, w, Box.of(3, *UNIT))
    assert np.allclose(fit.sse, (w * (y - fit.predict(X)) ** 2).sum(axis=1), rtol=1e-8)


def test_a_weight_of_zero_leaves_the_point_out():
    # Oracle: the same fit with the point's score set to nonsense, and the fit without the point.
    rng = np.random.default_rng(5)
    y = np.clip(random_problem(Sigmoid(), rng, 0.02), 0, 1)
    w = np.ones_like(y)
    w[[4, 11]] = 0.0
    box = Box.of(1, *CHANCE)
    wild = y.copy()
    wild[[4, 11]] = 0.99
    first = fit_batch(Sigmoid(), X, y[None], w[None], box)
    second = fit_batch(Sigmoid(), X, wild[None], w[None], box)
    keep = w > 0
    third = fit_batch(Sigmoid(), X[keep], y[None, keep], w[None, keep], box)
    assert np.allclose(first.parameters, second.parameters, rtol=1e-5)
    assert third.sse[0] == pytest.approx(first.sse[0], rel=1e-4)


def test_a_known_floor_stays_where_it_is():
    # Oracle: the bound itself.
    rng = np.random.default_rng(6)
    y = np.stack([random_problem(Sigmoid(), rng, 0.03) for _ in range(20)])
    floors = np.linspace(0.1, 0.5, 20)
    fit = fit_batch(Sigmoid(), X, y, np.ones_like(y), Box.of(20, (floors, floors), (0.0, 1.0)))
    assert np.array_equal(fit.parameters[:, 2], floors)
    assert not fit.free[:, 0].any()
    assert not fit.jacobian(X)[:, 2].any()


@pytest.mark.parametrize(
    "ends", [UNIT, ((0.25, 0.25), (0.0, 0.6)), ((0.3, 1.0), (0.0, 0.5)), ((0, 0.1), (0.8, 0.9))]
)
def test_the_linear_pair_is_optimal_on_every_edge_of_its_box(ends):
    # Oracle: scipy.optimize.lsq_linear at the theta that was found.
    rng = np.random.default_rng(7)
    y = np.stack([random_problem(Sigmoid(), rng, 0.05) for _ in range(12)])
    w = rng.uniform(0.5, 2.0, y.shape)
    fit = fit_batch(Sigmoid(), X, y, w, Box.of(len(y), *ends))
    for i in range(len(y)):
        a = columns(Sigmoid(), fit.theta[i], X)
        b = y[i]
        low, high = (np.array([end[side] for end in ends], dtype=float) for side in (0, 1))
        loose = low < high
        b = b - a[:, ~loose] @ low[~loose]
        root = np.sqrt(w[i])
        solved = lsq_linear(
            root[:, None] * a[:, loose], root * b, bounds=(low[loose], high[loose]), method="bvls"
        )
        # Where phi is zero everywhere one end is free: compare curves, not ends.
        assert np.allclose(a[:, loose] @ fit.parameters[i, 2:][loose], a[:, loose] @ solved.x, atol=1e-6)
        assert fit.sse[i] == pytest.approx(2.0 * solved.cost, rel=1e-6)
        assert (fit.parameters[i, 2:] >= low - 1e-12).all() and (fit.parameters[i, 2:] <= high + 1e-12).all()


def test_an_upper_end_at_the_ceiling_is_not_free():
    # Oracle: data above the ceiling, so that the constraint binds.
    y = np.full((1, len(X)), 0.25)
    y[0, 12:] = 0.9
    fit = fit_batch(Sigmoid(), X, y, np.ones_like(y), Box.of(1, (0.25, 0.25), (0.0, 0.8)))
    assert fit.parameters[0, 3] == 0.8 and not fit.free[0, 1]


@pytest.mark.parametrize(("shape", "ends"), [(Sigmoid(), CHANCE), (Gompertz(), UNIT), (BrokenPower(), LOSS)])
def test_neither_the_order_of_rows_nor_chunks_matter(monkeypatch, shape, ends):
    # Oracle: the same rows in one block and in the order given.
    rng = np.random.default_rng(8)
    y = np.stack([random_problem(Sigmoid(), rng, 0.03) for _ in range(17)])
    w = rng.uniform(0.2, 3.0, y.shape)
    box = Box.of(17, *ends)
    whole = fit_batch(shape, X, y, w, box)
    order = rng.permutation(17)
    mixed = fit_batch(shape, X, y[order], w[order], box)
    assert np.allclose(mixed.sse, whole.sse[order], rtol=1e-4)
    assert np.allclose(mixed.predict(X), whole.predict(X)[order], atol=1e-3)
    seen = []
    monkeypatch.setattr(engine, "CHUNK", 500)
    pieces = fit_batch(shape, X, y, w, box, progress=lambda done, total: seen.append((done, total)))
    assert np.allclose(pieces.sse, whole.sse, rtol=1e-4)
    assert np.allclose(pieces.predict(X), whole.predict(X), atol=1e-3)
    assert seen[-1] == (17, 17) and len(seen) > 3


def test_the_order_of_points_does_not_matter():
    # Oracle: the same points in ascending order.
    rng = np.random.default_rng(9)
    y = np.stack([random_problem(Sigmoid(), rng, 0.03) for _ in range(5)])
    order = rng.permutation(len(X))
    box = Box.of(5, *CHANCE)
    first = fit_batch(Sigmoid(), X, y, np.ones_like(y), box)
    second = fit_batch(Sigmoid(), X[order], y[:, order], np.ones_like(y), box)
    assert np.allclose(first.predict(X), second.predict(X), atol=1e-5)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_of_weights_and_losses_do_not_matter(factor):
    # Oracle: y -> c y gives curve -> c curve; w -> c w gives sse -> c sse.
    rng = np.random.default_rng(10)
    y = np.stack([(1.5 + 10 ** (-0.2 * (X - 20))) * (1 + rng.normal(0, 0.01, len(X))) for _ in range(4)])
    w = rng.uniform(0.5, 2.0, y.shape)
    box = Box.of(4, *LOSS)
    for shape in (Power(centre=20.0), BrokenPower()):
        base = fit_batch(shape, X, y, w, box)
        larger = fit_batch(shape, X, factor * y, w, box)
        assert np.allclose(larger.predict(X), factor * base.predict(X), rtol=1e-4)
        heavier = fit_batch(shape, X, y, factor * w, box)
        assert np.allclose(heavier.sse, factor * base.sse, rtol=1e-6)
        assert np.allclose(heavier.predict(X), base.predict(X), rtol=1e-5)


def test_one_row_of_scores_serves_many_rows_of_weights():
    # Oracle: the same row repeated.
    rng = np.random.default_rng(11)
    y = random_problem(Sigmoid(), rng, 0.03)
    w = rng.multinomial(24, np.full(24, 1 / 24), size=9).astype(float)
    box = Box.of(9, *CHANCE)
    assert np.array_equal(
        fit_batch(Sigmoid(), X, y[None], w, box).sse, fit_batch(Sigmoid(), X, np.tile(y, (9, 1)), w, box).sse
    )


@pytest.mark.parametrize(("shape", "ends"), [(Sigmoid(), CHANCE), (Gompertz(), UNIT), (Power(20.0), LOSS)])
def test_a_curve_without_noise_is_found(shape, ends):
    # Oracle: the truth.
    theta = np.array([20.3, np.log(1.7)]) if shape.ends else np.log([0.21])
    y = columns(shape, theta, X) @ [0.25, 0.8]
    fit = fit_batch(
        shape, X, y[None], np.ones((1, len(X))), Box.of(1, *ends), tolerance=1e-12, iterations=200
    )
    assert np.allclose(fit.theta[0], theta, atol=1e-4)
    assert np.allclose(fit.predict(X)[0], y, atol=1e-6)


@pytest.mark.parametrize(
    "y",
    [
        np.full(24, 0.25),
        np.full(24, 0.5),
        np.zeros(24),
        np.ones(24),
        np.linspace(0.9, 0.1, 24),
        np.arange(24) % 2.0,
    ],
    ids=["at chance", "all equal", "zeros", "ones", "falling", "alternating"],
)
@pytest.mark.parametrize(
    ("shape", "ends"),
    [
        (Sigmoid(), CHANCE),
        (Sigmoid(), UNIT),
        (Gompertz(), CHANCE),
        (Power(20.0), LOSS),
        (BrokenPower(), LOSS),
    ],
)
def test_degenerate_scores_give_finite_curves(y, shape, ends):
    # Oracle: no law is worse than the best constant its box allows; warnings are errors here.
    fit = fit_batch(shape, X, y[None], np.ones((1, 24)), Box.of(1, *ends))
    assert np.isfinite(fit.predict(X)).all() and np.isfinite(fit.parameters).all()
    level = max(y.mean(), ends[0][0]) if shape.ends and ends[0][0] == ends[0][1] else y.mean()
    assert fit.sse[0] <= ((y - level) ** 2).sum() * 1.02 + 1e-4


@pytest.mark.parametrize(("shape", "ends"), [(Sigmoid(), CHANCE), (Power(20.0), LOSS), (BrokenPower(), LOSS)])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_points_give_finite_curves(shape, ends, count):
    # Oracle: none needed; warnings are errors here.
    x = np.linspace(18, 22, count)
    y = np.linspace(0.3, 0.6, count)
    fit = fit_batch(shape, x, y[None], np.ones((1, count)), Box.of(1, *ends))
    assert np.isfinite(fit.predict(np.array([17.0, 20.0, 23.0]))).all() and fit.sse[0] < 0.05


def test_one_compute_for_all_points_gives_their_mean():
    # Oracle: the mean, which is all that such data say.
    x, y = np.full(8, 20.0), np.linspace(0.3, 0.6, 8)
    for shape, ends in ((Sigmoid(), CHANCE), (Gompertz(), UNIT), (Power(20.0), LOSS), (BrokenPower(), LOSS)):
        fit = fit_batch(shape, x, y[None], np.ones((1, 8)), Box.of(1, *ends))
        assert fit.predict(np.array([20.0]))[0, 0] == pytest.approx(y.mean(), abs=1e-4)
