"""The linear pair of a separable law: its bounds, and the best pair within them in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws import Array, Shape


@dataclass(frozen=True)
class Box:
    """Bounds on the linear pair of each row, in the law's own statement.

    Attributes:
        low, high: [R, 2]. Equal ends fix a coefficient (a chance floor that is known).
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, rows: int, first: tuple, second: tuple) -> Box:
        """One box for all rows, or one end per row where an array is given."""
        low = np.empty((rows, 2))
        high = np.empty((rows, 2))
        low[:, 0], high[:, 0] = first
        low[:, 1], high[:, 1] = second
        return cls(low, high)

    def rows(self, index) -> Box:
        """The boxes of some rows."""
        return Box(self.low[index], self.high[index])

    def shifted(self, by: Array, *, both: bool) -> Box:
        """The boxes for scores lowered by `by` [R]; `both` where both coefficients move with them."""
        move = np.column_stack([by, by if both else np.zeros_like(by)])
        return Box(self.low - move, self.high - move)


def solve_pair(g00, g01, g11, h0, h1, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimise `p'Gp - 2h'p` over a box, for 2-vectors p, elementwise over any leading shape.

    Args:
        g00, g01, g11, h0, h1: [r, ...]; box: [r, 2], broadcast over the trailing axes.

    Returns:
        p0, p1 and the objective, each of the shape of the inputs.
    """
    extra = (1,) * (h1.ndim - 1)
    low0, low1 = (box.low[:, i].reshape(-1, *extra) for i in (0, 1))
    high0, high1 = (box.high[:, i].reshape(-1, *extra) for i in (0, 1))
    tiny = 1e-12 * (g00 + g11) + 1e-300

    def objective(p0, p1):
        return p0 * (g00 * p0 + 2.0 * (g01 * p1 - h0)) + p1 * (g11 * p1 - 2.0 * h1)

    def best_second(p0):
        return np.clip((h1 - g01 * p0) / (g11 + tiny), low1, high1)

    fixed = box.low[:, 0] == box.high[:, 0]
    if fixed.all():
        p0 = np.broadcast_to(low0, h1.shape)
        p1 = best_second(p0)
        return p0, p1, objective(p0, p1)

    determinant = g00 * g11 - g01 * g01
    safe = determinant > np.maximum(1e-12 * g00 * g11, 1e-200)
    scale = 1.0 / np.where(safe, determinant, 1.0)
    p0 = np.where(safe, (g11 * h0 - g01 * h1) * scale, h0 / (g00 + tiny))
    p1 = np.where(safe, (g00 * h1 - g01 * h0) * scale, 0.0)
    outside = ~((p0 >= low0) & (p0 <= high0) & (p1 >= low1) & (p1 <= high1))
    value = np.where(outside, np.inf, objective(p0, p1))
    if outside.any():
        # The minimum of a convex function over a box lies inside or on an edge: try all four.
        for edge in (low0, high0):
            q0 = np.broadcast_to(edge, h1.shape)
            finite = np.isfinite(q0)
            q0 = np.where(finite, q0, 0.0)
            q1 = best_second(q0)
            trial = np.where(finite, objective(q0, q1), np.inf)
            better = outside & (trial < value)
            p0, p1, value = np.where(better, q0, p0), np.where(better, q1, p1), np.where(better, trial, value)
        for edge in (low1, high1):
            q1 = np.broadcast_to(edge, h1.shape)
            finite = np.isfinite(q1)
            q1 = np.where(finite, q1, 0.0)
            q0 = np.clip((h0 - g01 * q1) / (g00 + tiny), low0, high0)
            trial = np.where(finite, objective(q0, q1), np.inf)
            better = outside & (trial < value)
            p0, p1, value = np.where(better, q0, p0), np.where(better, q1, p1), np.where(better, trial, value)
    return p0, p1, value


def normal_equations(shape: Shape, s0, s1, s2, t0, t1):
    """Normal equations of the linear pair from the moments of (1, phi) and (y, y phi)."""
    if shape.ends:
        return s0 - 2.0 * s1 + s2, s1 - s2, s2, t0 - t1, t1
    return s0, s1, s2, t0, t1
