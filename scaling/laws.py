"""The shapes of score-versus-compute curves: their mathematics, and nothing else.

Every law here is *separable*: for a fixed nonlinear parameter vector theta it is linear in the rest,

    y = c0 + c1 * phi(x; theta),

so a fit searches theta alone and solves for the two linear coefficients in closed form (Golub and
Pereyra 1973, variable projection). `x` is log10 of training FLOPs throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_STEEPNESS = 12.0  # per decade: 10% to 90% of a sigmoid within 0.37 decades
MIN_STEEPNESS = 0.2  # flatter than this is a straight line over any range of compute seen so far
REACH = 4.0  # decades beyond the data that a midpoint or an onset may lie


def _logistic(z: Array) -> Array:
    """1 / (1 + e^-z) by numpy's vectorised exp, several times the speed of scipy's expit."""
    return 1.0 / (1.0 + np.exp(np.minimum(-z, 700.0)))


class Shape(Protocol):
    """The nonlinear part of a law.

    Attributes:
        name: of the law.
        parameters: names of the nonlinear parameters, then of the two linear ones.
        ends: whether the linear pair is stated as the two end values (c0, c0 + c1) rather than
            as offset and factor (c0, c1); bounds then hold for the ends.
    """

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> tuple[str, ...]: ...

    @property
    def ends(self) -> bool: ...

    def grid(self, x: Array) -> list[Array]:
        """Starting values covering the parameter space for data at `x`, as segments [g_i, t].

        The optimum inside one segment is near its best grid point, so a search refines the best
        points of the best few segments.
        """
        ...

    def phi(self, theta: Array, x: Array) -> Array:
        """phi, shape [r, n], for theta [r, t] and x [n]."""
        ...

    def slopes(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """phi [r, n] and its derivatives by theta [r, t, n]."""
        ...

    def bounds(self, x: Array) -> tuple[Array, Array]:
        """Lowest and highest theta, each [t], for data at `x`."""
        ...

    def natural(self, theta: Array) -> Array:
        """theta in the units of `parameters`."""
        ...


@dataclass(frozen=True)
class Sigmoid:
    """`y = L + (U - L) * sigmoid(k (x - m))`, the law of proportions.

    theta = (m, ln k): midpoint in log10 FLOPs, and steepness per decade, held in
    [MIN_STEEPNESS, MAX_STEEPNESS]: beyond the upper end the data cannot tell a cliff from a steeper one.
    """

    max_steepness: float = MAX_STEEPNESS
    name: str = "sigmoid"
    parameters: tuple[str, ...] = ("midpoint", "steepness", "lower", "upper")
    ends: bool = True

    def bounds(self, x: Array) -> tuple[Array, Array]:
        steep = np.log([MIN_STEEPNESS, self.max_steepness])
        return np.array([x.min() - REACH, steep[0]]), np.array([x.max() + REACH, steep[1]])

    def grid(self, x: Array) -> list[Array]:
        low, high = x.min(), x.max()
        segments = []
        for k in np.geomspace(MIN_STEEPNESS, self.max_steepness, 14):
            # Five widths outside the data a sigmoid has become an exponential: no new shapes beyond.
            pad = min(5.0 / k, REACH)
            count = max(6, int(np.ceil((high - low + 2 * pad) * k / 0.7)))
            m = np.linspace(low - pad, high + pad, count)
            segments.append(np.column_stack([m, np.full(count, np.log(k))]))
        return segments

    def phi(self, theta: Array, x: Array) -> Array:
        return _logistic(np.exp(theta[:, 1:2]) * (x - theta[:, 0:1]))

    def slopes(self, theta: Array, x: Array) -> tuple[Array, Array]:
        k = np.exp(theta[:, 1:2])
        z = k * (x - theta[:, 0:1])
        s = _logistic(z)
        ds = s * (1.0 - s)
        return s, np.stack([-k * ds, z * ds], axis=1)

    def natural(self, theta: Array) -> Array:
        return np.column_stack([theta[:, 0], np.exp(theta[:, 1])])


@dataclass(frozen=True)
class Gompertz(Sigmoid):
    """`y = L + (U - L) * exp(-exp(-k (x - m)))`: leaves the floor abruptly, reaches the top slowly.

    A power law in -log of the chance-corrected score, hence the alternative for proportions whose rise
    is not symmetric. Parameters as for `Sigmoid`; the curve at m is 1/e of the way up.
    """

    name: str = "gompertz"

    def phi(self, theta: Array, x: Array) -> Array:
        return np.exp(-np.exp(np.minimum(-np.exp(theta[:, 1:2]) * (x - theta[:, 0:1]), 50.0)))

    def slopes(self, theta: Array, x: Array) -> tuple[Array, Array]:
        k = np.exp(theta[:, 1:2])
        z = k * (x - theta[:, 0:1])
        inner = np.exp(np.minimum(-z, 50.0))
        phi = np.exp(-inner)
        ds = phi * inner
        return phi, np.stack([-k * ds, z * ds], axis=1)


@dataclass(frozen=True)
class Power:
    """`y = E + A * 10^(-a (x - x0))`, the law of bits and losses; x0 fixed at the data's centre.

    theta = (ln a).
    """

    centre: float = 0.0
    name: str = "power"
    parameters: tuple[str, ...] = ("exponent", "asymptote", "amplitude")
    ends: bool = False

    def bounds(self, x: Array) -> tuple[Array, Array]:
        return np.log([0.005]), np.log([3.0])

    def grid(self, x: Array) -> list[Array]:
        low, high = self.bounds(x)
        return [np.linspace(low[0], high[0], 48)[:, None]]

    def phi(self, theta: Array, x: Array) -> Array:
        return np.exp(-np.log(10.0) * np.exp(theta[:, 0:1]) * (x - self.centre))

    def slopes(self, theta: Array, x: Array) -> tuple[Array, Array]:
        exponent = -np.log(10.0) * np.exp(theta[:, 0:1]) * (x - self.centre)
        phi = np.exp(exponent)
        return phi, (exponent * phi)[:, None, :]

    def natural(self, theta: Array) -> Array:
        return np.exp(theta)


@dataclass(frozen=True)
class BrokenPower:
    """`y = E + A * (1 + 10^((x - b) / d))^(-a d)`: flat before an onset b, a power law of exponent a after.

    One break with a fixed sharpness d (decades), after Caballero et al. 2023. theta = (b, ln a).
    """

    sharpness: float = 0.3
    name: str = "broken power"
    parameters: tuple[str, ...] = ("onset", "exponent", "asymptote", "amplitude")
    ends: bool = False

    def bounds(self, x: Array) -> tuple[Array, Array]:
        # An onset outside the data is a plain power law or a constant, which have laws of their own.
        return np.array([x.min(), np.log(0.005)]), np.array([x.max(), np.log(3.0)])

    def grid(self, x: Array) -> list[Array]:
        low, high = self.bounds(x)
        onsets = np.linspace(low[0], high[0], max(8, int(6 * (high[0] - low[0]))))
        return [
            np.column_stack([onsets, np.full(len(onsets), log_a)])
            for log_a in np.linspace(low[1], high[1], 16)
        ]

    def _soft(self, theta: Array, x: Array) -> tuple[Array, Array, Array]:
        u = np.log(10.0) * (x - theta[:, 0:1]) / self.sharpness
        a = np.exp(theta[:, 1:2])
        soft = self.sharpness * np.logaddexp(0.0, u)
        return a, soft, _logistic(u)

    def phi(self, theta: Array, x: Array) -> Array:
        a, soft, _ = self._soft(theta, x)
        return np.exp(-a * soft)

    def slopes(self, theta: Array, x: Array) -> tuple[Array, Array]:
        a, soft, gate = self._soft(theta, x)
        phi = np.exp(-a * soft)
        return phi, np.stack([phi * a * np.log(10.0) * gate, -a * soft * phi], axis=1)

    def natural(self, theta: Array) -> Array:
        return np.column_stack([theta[:, 0], np.exp(theta[:, 1])])
