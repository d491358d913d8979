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

from scaling.box import Box, normal_equations, solve_pair
from scaling.laws import Array, Shape
from scaling.refine import State, refine

CHUNK = 2_000_000  # numbers in one [rows, grid] or [rows, columns, points] block: about 16 MB
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
        return BatchFit(self.shape, self.theta[index], self.linear[index], self.sse[index], self.free[index])


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
    # A floor that is known everywhere leaves one coefficient: half the work, and single precision
    # suffices to rank starting points.
    fixed = shape.ends and bool((box.low[:, 0] == box.high[:, 0]).all())
    kind = np.float32 if fixed else np.float64
    phi = shape.phi(theta, x).T.astype(kind)  # [n, G]
    phi2 = phi * phi
    step = max(1, CHUNK // len(theta))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        weights = w[part]
        centre = box.low[part, 0] if fixed else (weights * y[part]).sum(axis=1) / weights.sum(axis=1)
        shifted = y[part] - centre[:, None]
        weighted = (weights * shifted).astype(kind)
        moved = box.rows(part).shifted(centre, both=shape.ends)
        light = weights.astype(kind)
        if fixed:
            curvature, pull = light @ phi2, weighted @ phi
            edges = moved.low[:, 1:].astype(kind), moved.high[:, 1:].astype(kind)
            top = np.clip(pull / (curvature + np.finfo(kind).tiny), *edges)
            value = top * (curvature * top - 2.0 * pull)
        else:
            moments = (
                light.sum(axis=1)[:, None],
                light @ phi,
                light @ phi2,
                weighted.sum(axis=1)[:, None],
                weighted @ phi,
            )
            value = solve_pair(*normal_equations(shape, *moments), moved)[2]
        best = np.stack([a + value[:, a:b].argmin(axis=1) for a, b in zip(starts, ends, strict=True)], axis=1)
        scores = np.take_along_axis(value, best, axis=1)
        order = np.argsort(scores, axis=1)[:, :keep]
        out[part] = theta[np.take_along_axis(best, order, axis=1)]
        sse = np.take_along_axis(scores, order, axis=1) + (weights * shifted**2).sum(axis=1)[:, None]
        worth[part] = sse <= WORTH * sse[:, :1]
        worth[part, 0] = True
    return out, worth


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
        w: weights, [R, n], not negative; zero leaves a point out. A row of zeros alone is fitted with equal
            weights, and its SSE is zero.
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
    pieces: list[State] = []
    step = max(1, CHUNK // (6 * len(x)))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        size = part.stop - part.start
        # Scaling the weights to mean one keeps every tolerance relative.
        scale = w[part].mean(axis=1, keepdims=True)
        # A row that weighs nothing (the only run left out) must not poison the batch with NaN.
        weights = np.where(scale > 0, w[part] / np.where(scale > 0, scale, 1.0), 1.0)
        values = y[part]
        inner = box.rows(part)
        starts, worth = _grid_candidates(shape, x, values, weights, inner, candidates)
        rowwise, which = np.nonzero(worth)
        state = refine(
            shape,
            starts[rowwise, which],
            x,
            values[rowwise],
            weights[rowwise],
            inner.rows(rowwise),
            tolerance,
            iterations,
        )
        # The best refined candidate of each row: rows come in order, so the first after sorting.
        order = np.lexsort((state.sse, rowwise))
        first = np.searchsorted(rowwise[order], np.arange(size))
        state = state.take(order[first])
        state.sse *= scale[:, 0]
        pieces.append(state)
        if progress:
            progress(part.stop, rows)
    theta, linear, sse, free = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("theta", "linear", "sse", "free")
    )
    return BatchFit(shape, theta, linear, sse, free)
