"""The batched fitter: many separable curves at once, without random restarts.

Variable projection (Golub and Pereyra 1973) in two stages. A grid over the nonlinear parameters is
scored for all rows by matrix products; the best points of the best grid segments are then refined
by Levenberg-Marquardt steps on the projected problem (Kaufman's approximation), all rows
at once. Everything a step needs comes from one small weighted moment matrix per row. The answer
depends on no start and no seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.laws import Array, Shape

CHUNK = 2_000_000  # numbers in one [rows, grid] or [rows, columns, points] block: about 16 MB
CACHE = 100_000  # numbers that stay in a core's cache
WORTH = 1.5  # a grid segment this much worse than the best one is not refined


@dataclass(frozen=True)
class BatchFit:
    """Fits of one law to R rows.

    Attributes:
        shape: the law.
        theta: nonlinear parameters as searched, [R, t].
        linear: (c0, c1) of `y = c0 + c1 phi`, [R, 2].
        sse: weighted sum of squared residuals, [R].
        free: which of the two linear coefficients (in the law's own statement, see `Shape.ends`)
            lies strictly inside its bounds, [R, 2].
    """

    shape: Shape
    theta: Array
    linear: Array
    sse: Array
    free: np.ndarray

    def predict(self, x: Array) -> Array:
        """Curve values [R, n] at x [n] (log10 FLOPs)."""
        phi = self.shape.phi(self.theta, np.atleast_1d(np.asarray(x, dtype=float)))
        return self.linear[:, :1] + self.linear[:, 1:] * phi

    @property
    def parameters(self) -> Array:
        """Parameters in natural units, [R, t + 2], named by `shape.parameters`."""
        pair = self.linear
        if self.shape.ends:
            pair = np.column_stack([pair[:, 0], pair.sum(axis=1)])
        return np.column_stack([self.shape.natural(self.theta), pair])

    def jacobian(self, x: Array) -> Array:
        """Derivatives of the curve by (theta, free linear coefficients), [R, t + 2, n].

        Columns of linear coefficients that sit on a bound are zero: the data do not move them.
        """
        phi, slopes = self.shape.slopes(self.theta, x)
        if self.shape.ends:
            columns = np.stack([1.0 - phi, phi], axis=1)
        else:
            columns = np.stack([np.ones_like(phi), phi], axis=1)
        columns = columns * self.free[:, :, None]
        return np.concatenate([self.linear[:, 1, None, None] * slopes, columns], axis=1)

    def rows(self, index) -> BatchFit:
        """The fits of some rows."""
        return BatchFit(
            self.shape, self.theta[index], self.linear[index], self.sse[index], self.free[index]
        )


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
        """The boxes for scores lowered by `by` [R], in single precision; `both` where both ends move."""
        move = np.column_stack([by, by if both else np.zeros_like(by)])
        return Box((self.low - move).astype(np.float32), (self.high - move).astype(np.float32))


def _solve_pair(g00, g01, g11, h0, h1, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimise `p'Gp - 2h'p` over a box, for 2-vectors p, elementwise over any leading shape.

    Args:
        g00, g01, g11, h0, h1: [r, ...]; box: [r, 2], broadcast over the trailing axes.

    Returns:
        p0, p1 and the objective, each of the shape of the inputs.
    """
    extra = (1,) * (h1.ndim - 1)
    low0, low1 = (box.low[:, i].reshape(-1, *extra) for i in (0, 1))
    high0, high1 = (box.high[:, i].reshape(-1, *extra) for i in (0, 1))
    tiny = np.finfo(g11.dtype).eps * (g00 + g11) + np.finfo(g11.dtype).tiny

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
    safe = determinant > np.maximum(8 * np.finfo(g11.dtype).eps * g00 * g11, np.finfo(g11.dtype).tiny * 1e8)
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


def _normal(shape: Shape, s0, s1, s2, t0, t1):
    """Normal equations of the linear pair from the moments of (1, phi) and (y, y phi)."""
    if shape.ends:
        return s0 - 2.0 * s1 + s2, s1 - s2, s2, t0 - t1, t1
    return s0, s1, s2, t0, t1


def _grid_candidates(shape: Shape, x, y, w, box: Box, keep: int) -> tuple[Array, np.ndarray]:
    """The best grid point of each of the `keep` best segments, [R, keep, t], and which are worth refining."""
    segments = shape.grid(x)
    theta = np.concatenate(segments)
    ends = np.cumsum([len(segment) for segment in segments])
    starts = np.concatenate([[0], ends[:-1]])
    keep = min(keep, len(segments))
    rows = len(y)
    out = np.empty((rows, keep, theta.shape[1]))
    worth = np.empty((rows, keep), dtype=bool)
    # Single precision suffices to rank starting points once the scores are centred.
    phi = shape.phi(theta, x).T.astype(np.float32)  # [n, G]
    phi2 = phi * phi
    step = max(1, CHUNK // len(theta))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        weights = w[part]
        # A floor that is known everywhere leaves one coefficient, and half the work.
        fixed = shape.ends and bool((box.low[part, 0] == box.high[part, 0]).all())
        centre = box.low[part, 0] if fixed else (weights * y[part]).sum(axis=1) / weights.sum(axis=1)
        shifted = y[part] - centre[:, None]
        weighted = (weights * shifted).astype(np.float32)
        moved = box.rows(part).shifted(centre, both=shape.ends)
        light = weights.astype(np.float32)
        if fixed:
            curvature, pull = light @ phi2, weighted @ phi
            top = np.clip(pull / (curvature + np.finfo(np.float32).tiny), moved.low[:, 1:], moved.high[:, 1:])
            value = top * (curvature * top - 2.0 * pull)
        else:
            moments = (
                light.sum(axis=1)[:, None],
                light @ phi,
                light @ phi2,
                weighted.sum(axis=1)[:, None],
                weighted @ phi,
            )
            value = _solve_pair(*_normal(shape, *moments), moved)[2]
        best = np.stack([a + value[:, a:b].argmin(axis=1) for a, b in zip(starts, ends, strict=True)], axis=1)
        scores = np.take_along_axis(value, best, axis=1)
        order = np.argsort(scores, axis=1)[:, :keep]
        out[part] = theta[np.take_along_axis(best, order, axis=1)]
        sse = np.take_along_axis(scores, order, axis=1) + (weights * shifted**2).sum(axis=1)[:, None]
        worth[part] = sse <= WORTH * sse[:, :1]
        worth[part, 0] = True
    return out, worth


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


class _State:
    """Where some rows stand: parameters, objective, gradient and curvature of the projected problem."""

    __slots__ = ("curvature", "free", "gradient", "linear", "sse", "theta")

    def __init__(self, shape: Shape, theta, x, y, w, box: Box) -> None:
        moment = _moments(shape, theta, x, y, w)
        normal = _normal(
            shape, moment[:, 0, 0], moment[:, 0, 1], moment[:, 1, 1], moment[:, 0, 2], moment[:, 1, 2]
        )
        p0, p1, value = _solve_pair(*normal, box)
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

    def take(self, index) -> _State:
        other = object.__new__(_State)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name)[index])
        return other

    def put(self, index, other: _State) -> None:
        for name in self.__slots__:
            getattr(self, name)[index] = getattr(other, name)


def _refine(shape: Shape, theta, x, y, w, box: Box, tolerance: float, iterations: int) -> _State:
    low, high = shape.bounds(x)
    state = _State(shape, np.clip(theta, low, high), x, y, w, box)
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
        matrix[:, index, index] += np.where(stuck, 1.0, lift + stuck * diagonal)
        matrix[:, index, index] = np.where(stuck, 1.0, diagonal + lift)
        step = np.linalg.solve(matrix, np.where(stuck, 0.0, now.gradient)[..., None])[..., 0]
        # A trust bound: no step wider than one grid cell or so.
        trial = _State(
            shape, np.clip(now.theta + np.clip(step, -1.0, 1.0), low, high), x, y[active], w[active],
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


def fit_batch(
    shape: Shape,
    x: Array,
    y: Array,
    w: Array,
    box: Box,
    *,
    candidates: int = 3,
    tolerance: float = 1e-5,
    iterations: int = 40,
    progress: Callable[[int, int], None] | None = None,
) -> BatchFit:
    """Fit one law to many rows that share their x.

    Minimises `sum_i w_i (y_i - c0 - c1 phi(x_i; theta))^2` for each row, subject to `box`.

    Args:
        shape: the law.
        x: log10 FLOPs, [n].
        y: scores, [R, n] (or [1, n], for replicates of one row that differ in weights alone).
        w: weights, [R, n], not negative; zero leaves a point out.
        box: bounds of the linear pair, R rows.
        candidates: how many grid segments are refined; the best result is kept.
        tolerance: relative gain in the objective below which a row is finished.
        iterations: at most so many refinement steps.
        progress: called with (rows done, rows).

    Returns:
        The R fits.

    Example:
        >>> import numpy as np
        >>> from scaling.laws import Sigmoid
        >>> x = np.linspace(17, 22, 12)
        >>> y = (0.25 + 0.5 / (1 + np.exp(-2 * (x - 20))))[None]
        >>> fit = fit_batch(Sigmoid(), x, y, np.ones_like(y), Box.of(1, (0.25, 0.25), (0, 1)))
        >>> fit.parameters.round(2).tolist()
        [[20.0, 2.0, 0.25, 0.75]]
    """
    x = np.ascontiguousarray(x, dtype=float)
    w = np.ascontiguousarray(w, dtype=float)
    y = np.broadcast_to(np.asarray(y, dtype=float), w.shape)
    rows = len(w)
    pieces: list[_State] = []
    step = max(1, CHUNK // (6 * len(x)))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        size = part.stop - part.start
        # Scaling the weights to mean one keeps every tolerance relative.
        scale = w[part].mean(axis=1, keepdims=True)
        weights = w[part] / np.where(scale > 0, scale, 1.0)
        values = y[part]
        inner = box.rows(part)
        starts, worth = _grid_candidates(shape, x, values, weights, inner, candidates)
        rowwise, which = np.nonzero(worth)
        state = _refine(
            shape, starts[rowwise, which], x, values[rowwise], weights[rowwise],
            inner.rows(rowwise), tolerance, iterations,
        )
        # The best refined candidate of each row: rows come in order, so the first after sorting.
        order = np.lexsort((state.sse, rowwise))
        first = np.searchsorted(rowwise[order], np.arange(size))
        state = state.take(order[first])
        state.sse *= np.where(scale > 0, scale, 1.0)[:, 0]
        pieces.append(state)
        if progress:
            progress(part.stop, rows)
    joined = {name: np.concatenate([getattr(p, name) for p in pieces]) for name in ("theta", "linear", "sse", "free")}
    return BatchFit(shape, **joined)
