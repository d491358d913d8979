"""The law in model size and data apart: `y = E + A N^-a + B D^-b` (Hoffmann et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from scaling.errors import StagewiseError
from scaling.laws import Array

LOW, HIGH = np.log(0.02), np.log(2.0)  # ln of the exponents looked at
CELLS = 20  # grid points per exponent
ZOOMS = 14  # halvings of the cell after the grid: exponents to about one part in 10^5


@dataclass(frozen=True)
class SizeDataFit:
    """R fits of `y = E + A 10^(-a (n - n0)) + B 10^(-b (d - d0))`, n = log10 N, d = log10 D.

    Attributes:
        exponents: (a, b), [R, 2]. linear: (E, A, B), none negative, [R, 3].
        centre: (n0, d0). sse: weighted sum of squared residuals, [R].
    """

    exponents: Array
    linear: Array
    centre: tuple[float, float]
    sse: Array

    def predict(self, log_size: Array, log_data: Array) -> Array:
        """Curve values [R, n]."""
        fall = [
            10.0 ** (-self.exponents[:, i : i + 1] * (np.atleast_1d(v) - self.centre[i]))
            for i, v in enumerate((log_size, log_data))
        ]
        e, a, b = (self.linear[:, i : i + 1] for i in range(3))
        return e + a * fall[0] + b * fall[1]


def fit_size_data(log_size: Array, log_data: Array, y: Array, w: Array) -> SizeDataFit:
    """Fit the law to many rows that share their models, by variable projection.

    The three linear coefficients have a closed form under their signs (all eight sets of active
    constraints are tried); the two exponents are found on a grid by matrix products and then by
    halving a 5 x 5 neighbourhood, so that the answer depends on no start.

    Args:
        log_size, log_data: log10 of parameters and of training tokens, [n].
        y: losses, [R, n] or [1, n]. w: weights, [R, n].

    Raises:
        StagewiseError: size or data does not vary, so that the two cannot be told apart.

    Example:
        >>> n, d = np.meshgrid([7.0, 8.0, 9.0], [9.0, 10.0, 11.0])
        >>> y = 1.7 + 400 * 10 ** (-0.34 * n) + 410 * 10 ** (-0.28 * d)
        >>> fit = fit_size_data(n.ravel(), d.ravel(), y.reshape(1, -1), np.ones((1, 9)))
        >>> fit.exponents.round(3).tolist()
        [[0.34, 0.28]]
    """
    n, d = np.asarray(log_size, dtype=float), np.asarray(log_data, dtype=float)
    for name, values in (("model size", n), ("training tokens", d)):
        if np.ptp(values) < 1e-9:
            raise StagewiseError(f"size-data law: {name} does not vary; fit a power law in compute instead")
    design = np.column_stack([np.ones_like(n), n - n.mean(), d - d.mean()])
    if np.linalg.matrix_rank(design, tol=1e-6) < 3:
        raise StagewiseError(
            "size-data law: size and data grow in step, so their effects cannot be told apart; "
            "fit a power law in compute instead"
        )
    w = np.asarray(w, dtype=float)
    y = np.broadcast_to(np.asarray(y, dtype=float), w.shape)
    centre = (float(n.mean()), float(d.mean()))
    axis = np.linspace(LOW, HIGH, CELLS)
    theta = np.array(list(product(axis, axis)))
    best = np.empty((len(w), 2))
    step = max(1, 400_000 // len(theta))
    for start in range(0, len(w), step):
        part = slice(start, start + step)
        moments = _moments(theta[None], n - centre[0], d - centre[1], y[part], w[part])
        best[part] = theta[_solve(*moments)[1].argmin(axis=1)]
    cell = axis[1] - axis[0]
    around = np.array(list(product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=2)))
    linear, sse = np.empty((len(w), 3)), np.empty(len(w))
    rows = np.arange(len(w))
    for _ in range(ZOOMS):
        trial = np.clip(best[:, None, :] + cell * around, LOW, HIGH)
        solved, value = _solve(*_moments(trial, n - centre[0], d - centre[1], y, w))
        pick = value.argmin(axis=1)
        best, linear, sse = trial[rows, pick], solved[rows, pick], value[rows, pick]
        cell /= 2.0
    return SizeDataFit(np.exp(best), linear, centre, np.maximum(sse, 0.0))


def _moments(theta: Array, n: Array, d: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """Normal matrix [R, G, 3, 3], right side [R, G, 3] and sum of squares [R] for theta [R or 1, G, 2]."""
    exponent = -np.log(10.0) * np.exp(theta)
    first = np.exp(exponent[..., :1] * n)  # [R or 1, G, points]
    second = np.exp(exponent[..., 1:] * d)

    def total(values: Array) -> Array:
        """Weighted sum over points of [R or 1, G, points] for every row."""
        if values.shape[0] == 1:
            return w @ values[0].T
        return np.einsum("rgn,rn->rg", values, w)

    def with_y(values: Array) -> Array:
        if values.shape[0] == 1:
            return (w * y) @ values[0].T
        return np.einsum("rgn,rn->rg", values, w * y)

    ones = np.ones_like(first[..., :1]) * np.ones_like(n)
    columns = (ones, first, second)
    matrix = np.stack([np.stack([total(a * b) for b in columns], axis=-1) for a in columns], axis=-2)
    right = np.stack([with_y(a) for a in columns], axis=-1)
    return matrix, right, (w * y * y).sum(axis=1)


def _solve(matrix: Array, right: Array, square: Array) -> tuple[Array, Array]:
    """Non-negative linear coefficients [R, G, 3] and the objective [R, G]."""
    best = np.zeros_like(right)
    value = np.broadcast_to(square[:, None], right.shape[:-1]).copy()
    ridge = 1e-12 * np.einsum("...ii->...", matrix)[..., None]
    for active in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
        sub = matrix[..., active, :][..., active].copy()
        index = np.arange(len(active))
        sub[..., index, index] += ridge
        solved = np.linalg.solve(sub, right[..., active][..., None])[..., 0]
        objective = square[:, None] - (solved * right[..., active]).sum(axis=-1)
        better = (solved >= 0).all(axis=-1) & (objective < value)
        value = np.where(better, objective, value)
        full = np.zeros_like(right)
        full[..., active] = solved
        best = np.where(better[..., None], full, best)
    return best, value
