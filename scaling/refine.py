"""Levenberg-Marquardt on the projected problem, all rows of a batch at once."""

from __future__ import annotations

import numpy as np

from scaling.box import Box, normal_equations, solve_pair
from scaling.laws import Array, Shape

CACHE = 100_000  # numbers that stay in a core's cache


def _moments(shape: Shape, theta, x, y, w) -> Array:
    """Weighted moments of the columns (1, phi, y, dphi/dtheta), [R, 3 + t, 3 + t]."""
    rows, t = theta.shape
    out = np.empty((rows, 3 + t, 3 + t))
    step = max(1, CACHE // ((3 + t) * len(x)))
    columns = np.empty((min(step, rows), 3 + t, len(x)))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        block = columns[: part.stop - part.start]
        block[:, 0] = 1.0
        block[:, 1], block[:, 3:] = shape.slopes(theta[part], x)
        block[:, 2] = y[part]
        block *= np.sqrt(w[part])[:, None, :]
        out[part] = block @ block.transpose(0, 2, 1)
    return out


class State:
    """Where some rows stand: parameters, objective, gradient and curvature of the projected problem."""

    __slots__ = ("curvature", "free", "gradient", "linear", "sse", "theta")

    def __init__(self, shape: Shape, theta, x, y, w, box: Box) -> None:
        moment = _moments(shape, theta, x, y, w)
        normal = normal_equations(
            shape, moment[:, 0, 0], moment[:, 0, 1], moment[:, 1, 1], moment[:, 0, 2], moment[:, 1, 2]
        )
        p0, p1, value = solve_pair(*normal, box)
        c0, c1 = (p0, p1 - p0) if shape.ends else (p0, p1)
        self.theta = theta
        self.linear = np.stack([c0, c1], axis=1)
        self.sse = np.maximum(value + moment[:, 2, 2], 0.0)
        pair = np.stack([p0, p1], axis=1)
        self.free = (pair > box.low) & (pair < box.high)

        scale = c1[:, None]
        with_slopes = moment[:, :3, 3:]
        self.gradient = scale * (
            with_slopes[:, 2] - c0[:, None] * with_slopes[:, 0] - scale * with_slopes[:, 1]
        )
        curvature = (scale**2)[:, :, None] * moment[:, 3:, 3:]
        # Kaufman: project the free linear columns out of the Jacobian (a Schur complement).
        first = with_slopes[:, 0] - with_slopes[:, 1] if shape.ends else with_slopes[:, 0]
        cross = scale[:, None, :] * np.stack([first, with_slopes[:, 1]], axis=1) * self.free[:, :, None]
        g00 = np.where(self.free[:, 0], normal[0], 1.0)
        g11 = np.where(self.free[:, 1], normal[2], 1.0)
        g01 = np.where(self.free.all(axis=1), normal[1], 0.0)
        determinant = np.maximum(g00 * g11 - g01 * g01, 1e-300)
        inner = np.stack(
            [
                (g11[:, None] * cross[:, 0] - g01[:, None] * cross[:, 1]) / determinant[:, None],
                (g00[:, None] * cross[:, 1] - g01[:, None] * cross[:, 0]) / determinant[:, None],
            ],
            axis=1,
        )
        self.curvature = curvature - np.einsum("rit,riu->rtu", cross, inner)

    def take(self, index) -> State:
        other = object.__new__(State)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name)[index])
        return other

    def put(self, index, other: State) -> None:
        for name in self.__slots__:
            getattr(self, name)[index] = getattr(other, name)


def refine(shape: Shape, theta, x, y, w, box: Box, tolerance: float, iterations: int) -> State:
    """Move every row from its start to a local minimum.

    Args:
        shape: the law. theta: starts, [R, t]. x: [n]. y, w: scores and weights, [R, n]. box: R rows.
        tolerance: relative gain in the objective below which a row is finished.
        iterations: at most so many steps.
    """
    low, high = shape.bounds(x)
    state = State(shape, np.clip(theta, low, high), x, y, w, box)
    damping = np.full(len(theta), 1e-2)
    floor = 1e-12 * np.einsum("rn,rn,rn->r", w, y, y) + 1e-300
    active = np.arange(len(theta))
    for _ in range(iterations):
        now = state.take(active)
        diagonal = np.einsum("rtt->rt", now.curvature)
        top = np.maximum(diagonal.max(axis=1, keepdims=True), 1e-30)
        lift = damping[active, None] * diagonal + 1e-9 * top
        # A parameter on its bound whose gradient points outward stays there.
        stuck = ((now.theta <= low) & (now.gradient < 0)) | ((now.theta >= high) & (now.gradient > 0))
        matrix = now.curvature.copy()
        matrix[stuck[:, :, None] | stuck[:, None, :]] = 0.0
        index = np.arange(matrix.shape[1])
        matrix[:, index, index] = np.where(stuck, 1.0, diagonal + lift)
        step = np.linalg.solve(matrix, np.where(stuck, 0.0, now.gradient)[..., None])[..., 0]
        # A trust bound: no step wider than one grid cell or so.
        trial = State(
            shape,
            np.clip(now.theta + np.clip(step, -1.0, 1.0), low, high),
            x,
            y[active],
            w[active],
            box.rows(active),
        )
        gain = now.sse - trial.sse
        better = gain > 0
        state.put(active[better], trial.take(better))
        damping[active] = np.where(better, damping[active] * 0.2, damping[active] * 8.0)
        small = gain < tolerance * now.sse + floor[active]
        done = (better & small) | (damping[active] > 1e4)
        active = active[~done]
        if not len(active):
            break
    return state
