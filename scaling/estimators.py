"""Single laws with the interface of scikit-learn: `SigmoidLaw().fit(x, y).predict(x)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from scaling.box import Box
from scaling.errors import StagewiseError
from scaling.fit import BatchFit, fit_batch
from scaling.laws import MAX_STEEPNESS, Array, BrokenPower, Gompertz, Power, Shape, Sigmoid
from scaling.size_data import fit_size_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _column(x, name: str = "x") -> Array:
    values = np.asarray(x, dtype=float)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise StagewiseError(f"{name}: got shape {values.shape}, valid is [n] or [n, 1] of log10 FLOPs")
    if not np.isfinite(values).all():
        raise StagewiseError(f"{name}: row {int(np.argmin(np.isfinite(values)))} is not a finite number")
    return values


def _weights(sample_weight, y: Array) -> Array:
    if sample_weight is None:
        return np.ones_like(y)
    w = _column(sample_weight, "sample_weight")
    if w.shape != y.shape or (w < 0).any() or not w.any():
        raise StagewiseError(
            f"sample_weight: got {len(w)} values from {w.min():g} to {w.max():g}; valid are {len(y)} values, "
            "none negative and not all zero"
        )
    return w


class _Law(RegressorMixin, BaseEstimator):
    """What the laws in one variable share.

    Attributes (after `fit`):
        parameters_: name -> value. sse_: weighted sum of squared residuals. fit_: the engine's result.
    """

    parameters_: dict[str, float]
    sse_: float
    fit_: BatchFit

    def _shape(self, x: Array) -> Shape:
        raise NotImplementedError

    def _box(self) -> Box:
        raise NotImplementedError

    def fit(self, x, y, sample_weight=None):
        """Fit to scores y at x.

        Args:
            x: log10 FLOPs, [n] or [n, 1]. y: scores, [n].
            sample_weight: weights, [n]; equal where absent.

        Returns:
            self.

        Raises:
            StagewiseError: too few points, unequal lengths, or a value that is no finite number.
        """
        x, y = _column(x), _column(y, "y")
        if len(x) != len(y) or len(x) < 3:
            raise StagewiseError(
                f"{type(self).__name__}: got {len(x)} x and {len(y)} y; valid is 3 or more of both"
            )
        w = _weights(sample_weight, y)
        self.fit_ = fit_batch(
            self._shape(x), x, y[None], w[None], self._box(), tolerance=1e-10, iterations=200
        )
        names = self.fit_.shape.parameters
        self.parameters_ = {name: float(v) for name, v in zip(names, self.fit_.parameters[0], strict=True)}
        self.sse_ = float(self.fit_.sse[0])
        self.x_, self.y_ = x, y
        self.n_features_in_ = 1
        return self

    def predict(self, x) -> Array:
        """Scores at x (log10 FLOPs)."""
        check_is_fitted(self, "fit_")
        return self.fit_.predict(_column(x))[0]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the points and the curve over compute."""
        check_is_fitted(self, "fit_")
        from scaling.plot import plot_law

        return plot_law(self, ax=ax)


class SigmoidLaw(_Law):
    """`y = L + (U - L) * sigmoid(k (x - m))` for proportions.

    Args:
        lower: L, usually chance; fitted within [0, 1] where None.
        ceiling: highest U.
        max_steepness: highest k, per decade.

    Example:
        >>> x = np.linspace(18, 22, 9)
        >>> y = 0.25 + 0.5 / (1 + np.exp(-2 * (x - 20)))
        >>> round(SigmoidLaw(lower=0.25).fit(x, y).parameters_["midpoint"], 3)
        20.0
    """

    def __init__(
        self, lower: float | None = None, ceiling: float = 1.0, max_steepness: float = MAX_STEEPNESS
    ) -> None:
        self.lower, self.ceiling, self.max_steepness = lower, ceiling, max_steepness

    def _shape(self, x: Array) -> Shape:
        return Sigmoid(self.max_steepness)

    def _box(self) -> Box:
        floor = (0.0, 1.0) if self.lower is None else (self.lower, self.lower)
        return Box.of(1, floor, (0.0, self.ceiling))


class GompertzLaw(SigmoidLaw):
    """`y = L + (U - L) * exp(-exp(-k (x - m)))`: the asymmetric alternative, with the same arguments."""

    def _shape(self, x: Array) -> Shape:
        return Gompertz(self.max_steepness)


class PowerLaw(_Law):
    """`y = E + A * 10^(-a (x - x0))` for bits and losses, E not negative; x0 is the mean of x.

    Args:
        broken: fit `E + A * (1 + 10^((x - b) / 0.3))^(-0.3 a)` instead, which is flat before an onset b.

    Example:
        >>> x = np.linspace(18, 22, 9)
        >>> y = 1.5 + 10 ** (-0.2 * (x - 20))
        >>> {k: round(v, 3) for k, v in PowerLaw().fit(x, y).parameters_.items()}
        {'exponent': 0.2, 'asymptote': 1.5, 'amplitude': 1.0}
    """

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def _shape(self, x: Array) -> Shape:
        return BrokenPower() if self.broken else Power(centre=float(np.mean(x)))

    def _box(self) -> Box:
        return Box.of(1, (0.0, np.inf), (-np.inf, np.inf))


class ConstantLaw(RegressorMixin, BaseEstimator):
    """`y = c`: the null that every other law has to beat.

    Example:
        >>> ConstantLaw().fit([18, 19, 20], [0.2, 0.3, 0.4]).parameters_["level"].round(3)
        np.float64(0.3)
    """

    def fit(self, x, y, sample_weight=None):
        """Fit the weighted mean; see `SigmoidLaw.fit`."""
        x, y = _column(x), _column(y, "y")
        if len(x) != len(y) or not len(y):
            raise StagewiseError(f"ConstantLaw: got {len(x)} x and {len(y)} y; valid is 1 or more of both")
        w = _weights(sample_weight, y)
        self.parameters_ = {"level": np.average(y, weights=w)}
        self.sse_ = float((w * (y - self.parameters_["level"]) ** 2).sum())
        self.x_, self.y_ = x, y
        self.n_features_in_ = 1
        return self

    def predict(self, x) -> Array:
        """The level, once per x."""
        check_is_fitted(self, "parameters_")
        return np.full(len(_column(x)), float(self.parameters_["level"]))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the points and the level over compute."""
        check_is_fitted(self, "parameters_")
        from scaling.plot import plot_law

        return plot_law(self, ax=ax)


class SizeDataLaw(RegressorMixin, BaseEstimator):
    """`y = E + A N^-a + B D^-b` for losses, over columns (log10 N, log10 D).

    Example:
        >>> n, d = np.meshgrid([7.0, 8.0, 9.0], [9.0, 10.0, 11.0])
        >>> X = np.column_stack([n.ravel(), d.ravel()])
        >>> y = 1.7 + 400 * 10 ** (-0.34 * X[:, 0]) + 410 * 10 ** (-0.28 * X[:, 1])
        >>> round(SizeDataLaw().fit(X, y).parameters_["size_exponent"], 3)
        0.34
    """

    def fit(self, X, y, sample_weight=None):
        """Fit to losses y of models X = (log10 N, log10 D), [n, 2].

        Raises:
            StagewiseError: fewer than five points, or size and data cannot be told apart.
        """
        X, y = np.asarray(X, dtype=float), _column(y, "y")
        if X.ndim != 2 or X.shape[1] != 2 or len(X) != len(y) or len(y) < 5:
            raise StagewiseError(
                f"SizeDataLaw: got X {X.shape}, y {y.shape}; valid is [n, 2] and [n], n >= 5"
            )
        w = _weights(sample_weight, y)
        fit = fit_size_data(X[:, 0], X[:, 1], y[None], w[None])
        self.fit_, self.sse_ = fit, float(fit.sse[0])
        names = ("asymptote", "size_amplitude", "data_amplitude")
        self.parameters_ = dict(zip(names, fit.linear[0].tolist(), strict=True)) | {
            "size_exponent": float(fit.exponents[0, 0]),
            "data_exponent": float(fit.exponents[0, 1]),
        }
        self.n_features_in_ = 2
        return self

    def predict(self, X) -> Array:
        """Losses of models X = (log10 N, log10 D)."""
        check_is_fitted(self, "fit_")
        X = np.asarray(X, dtype=float)
        return self.fit_.predict(X[:, 0], X[:, 1])[0]
