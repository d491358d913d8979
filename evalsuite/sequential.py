"""Does a series fall behind its own past? Evidence that may be looked at after every point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, polygamma

from scaling.laws import Array

FIRST = 5  # points before the first fall that can be seen
PAST = 24  # points before a fall that say what was to be expected
REACH = 8  # points within which a fall must be noticed
FEWEST = 2  # points of a fall before it counts: one bad evaluation raises no alarm
EXPONENTS = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0)  # of the laws that growth may follow
STEP, SLOPE = 4.0, 2.0  # sizes of falls, at once and by the point, in units of the noise
CORRELATION = 0.2  # of the noise of neighbouring points
_TINY = 1e-12


@dataclass(frozen=True)
class Null:
    """What is no fall.

    Attributes:
        staying: after the change nothing need be learned: what stays as it is has not fallen. Otherwise
            growth has to go on by its law.
        bends: how far growth may depart from its law: amplitudes of an integrated Brownian motion in
            ln(compute), in units of the noise.
        weight: share of the bet against it.
    """

    staying: bool
    bends: tuple[float, ...]
    weight: float


# A loss is a fall whatever the law of growth is; a stop is told from saturation only where growth is far
# above the noise, so that little is bet on it.
NULLS = (Null(True, (0.0,), 0.85), Null(False, (3.0,), 0.15))


@dataclass(frozen=True)
class Evidence:
    """Evidence of a fall after each point of b series.

    Attributes:
        log_e: ln of the e-value, [b, n]; minus infinity while none is possible.
        since: position of the first point of the fall with most evidence, [b, n]; -1 while there is none.
    """

    log_e: Array
    since: NDArray[np.int64]


def fall_evidence(
    x: Array,
    y: Array,
    *,
    variance: Array | None = None,
    floor: ArrayLike = 0.0,
    nulls: Sequence[Null] = NULLS,
) -> Evidence:
    """E-values against "this series does not fall", for every point and all places of a change before it.

    For a change before point c, the points up to c - 1 (the last `PAST`) and those since are compared under
    two models with normal noise of unknown size s:

        null:  y = b0 + b1 h_a(x) + departures + s e,   h_a(x) = (1 - exp(-a x)) / a,   x = ln(compute)
        fall:  the same, lower by s d (from c on), or lower by s d more with every point since c

    with d > 0 half-normal of scale g. Both have the same b0, b1 and s, under their right Haar prior, which
    leaves the ratio of the two likelihoods free of their values: with residuals after the null, f the shape
    of the fall, R = |y|^2, C = |f|^2, q = <y, f>, v = g^2 / (1 + g^2 C) and k degrees of freedom,

        e = (2 E - 1) (1 + g^2 C)^(-1/2),   E = (1 - v q^2 / R)^(-k/2),   where q > 0, else 0,

    just below the exact ratio, whose expectation is 1 under the null at any time (a test martingale). Under
    the null "staying" h_a stops at c - 1: any later growth only lowers e. Exponents and departures are
    weighted by their likelihood: before c where the null is "staying", up to now otherwise. The e-value of a
    point is the sum over the changes in its reach, the two nulls and the two kinds of fall, with weights that
    sum to 1 over all changes there can be. By Ville's inequality it ever reaches 1 / r with a chance of at
    most r.

    Assumed: growth near one of the laws (with departures as smooth as said); noise about normal, of known
    relative variance, correlated by `CORRELATION` between neighbours. The mean over exponents makes the bound
    an approximation, as other noise does: `python -m tests.study false-alarms` counts. Noise with a
    correlation of 0.6 breaks it: it drifts, which looks like falling.

    Args:
        x: ln(compute), ascending, [n]. y: series, [n] or [b, n].
        variance: of the noise of each point, against the usual, [n].
        floor: standard deviation below which the noise is not believed, one, [n] or [b, n].
        nulls: what is no fall; their weights sum to 1.

    Source:
        Shin, Ramdas and Rinaldo 2023, New Engl. J. Stat. Data Sci. (e-detectors); Ramdas, Grünwald, Vovk and
        Shafer 2023, Stat. Sci. 38:576; Pérez-Ortiz et al. 2024, Ann. Stat. 52:1410 (invariance, t-test);
        Wahba 1978, J. R. Statist. Soc. B 40:364 (departures).

    Example:
        >>> x, y = np.log(np.arange(1.0, 13.0)), np.r_[0.1, 0.2, 0.28, 0.31, 0.36, 0.4, 0.43, 0.44, [0.2] * 4]
        >>> found = fall_evidence(x, y)
        >>> bool(found.log_e[0, -1] > np.log(100)), int(found.since[0, -1])
        (True, 8)
    """
    x, y = np.asarray(x, dtype=float), np.atleast_2d(np.asarray(y, dtype=float))
    count, n = y.shape
    log_e = np.full((count, n), -np.inf)
    since = np.full((count, n), -1, dtype=np.int64)
    starts = np.arange(FIRST, n - FEWEST + 1)
    if not len(starts):
        return Evidence(log_e, since)
    spans = _Spans.of(x, y, starts, variance, np.broadcast_to(floor, (count, n)))
    each = logsumexp([_against(spans, null) + np.log(null.weight) for null in nulls], axis=0)
    each += _prior(len(starts))[:, None]
    most = np.full((count, n), -np.inf)
    for k in range(FEWEST - 1, REACH):  # the change is k points ago
        rows = np.flatnonzero(starts + k < n)
        points = starts[rows] + k
        value = each[:, rows, k]
        log_e[:, points] = np.logaddexp(log_e[:, points], value)
        since[:, points] = np.where(value > most[:, points], starts[rows], since[:, points])
        most[:, points] = np.maximum(value, most[:, points])
    return Evidence(log_e, since)


def law(z: Array, exponent: float) -> Array:
    """Growth h_a of z = ln(compute) at exponent a; z itself at 0."""
    return z if exponent == 0.0 else -np.expm1(-exponent * z) / exponent


def spline(a: Array, b: Array) -> Array:
    """Covariance of an integrated Brownian motion at a and b, both from 0."""
    near = np.minimum(a, b)
    return near * near * (np.maximum(a, b) / 2.0 - near / 6.0)


def covariance(z: Array, variance: Array, there: NDArray[np.bool_], bend: float) -> Array:
    """Of the points of each span around their law, in units of the noise, [t, m, m]; 1 apart from `there`."""
    place = np.arange(z.shape[1])
    both = (there[:, :, None] & there[:, None]) | np.eye(len(place), dtype=bool)
    noise = np.sqrt(variance)
    found = noise[:, :, None] * noise[:, None] * CORRELATION ** np.abs(place[:, None] - place)
    if bend:
        found = found + bend**2 * spline(z[:, :, None], z[:, None])
    return np.where(both, found, 0.0)


@dataclass(frozen=True)
class _Spans:
    """Points around each of t changes: `PAST` before it, `REACH` since, [t, m].

    Attributes:
        there: which exist. z: ln(compute) from the first. y: above the last before the change, [b, t, m].
        variance: of the noise. shapes: the two kinds of fall, [2, t, m]. floor: of the noise, from the last
            point before the change on, [b, t, 1 + reach]. df: degrees of freedom, [t, 1 + reach].
    """

    there: NDArray[np.bool_]
    z: Array
    y: Array
    variance: Array
    shapes: Array
    floor: Array
    df: Array

    @classmethod
    def of(
        cls, x: Array, y: Array, starts: NDArray[np.int64], variance: Array | None, floor: Array
    ) -> _Spans:
        n = len(x)
        place = starts[:, None] - PAST + np.arange(PAST + REACH)
        there = (place >= 0) & (place < n)
        index = np.clip(place, 0, n - 1)
        z = np.where(there, x[index] - x[np.maximum(starts - PAST, 0)][:, None], 0.0)
        last = y[:, starts - 1][:, :, None]
        since = there & (np.arange(PAST + REACH) >= PAST)
        by_point = (z - z[:, PAST - 1, None]) / (z[:, PAST] - z[:, PAST - 1])[:, None]
        tiny = np.sqrt(_TINY) * (1.0 + np.abs(last))
        weight = np.ones(n) if variance is None else np.asarray(variance, dtype=float)
        return cls(
            there, z, np.where(there, y[:, index] - last, 0.0), np.where(there, weight[index], 1.0),
            -np.stack([since.astype(float), np.where(since, by_point, 0.0)]),
            np.maximum(floor[:, index], tiny)[:, :, PAST - 1 :],
            np.maximum(np.cumsum(there, axis=1) - 2.0, 1.0)[:, PAST - 1 :],
        )  # fmt: skip


def _against(spans: _Spans, null: Null) -> Array:
    """ln e against one null, for each series, change and point since, [b, t, reach]."""
    z = np.minimum(spans.z, spans.z[:, PAST - 1, None]) if null.staying else spans.z
    laws = np.stack([law(z, a) for a in EXPONENTS], axis=2) * spans.there[:, :, None]
    df = spans.df[:, :, None]
    fits, found = [], []
    for bend in null.bends:
        lower = np.linalg.cholesky(covariance(z, spans.variance, spans.there, bend))
        columns = [spans.there[:, :, None].astype(float), np.moveaxis(spans.shapes, 0, 2), laws]
        columns.append(np.moveaxis(spans.y, 0, 2))
        white = np.asarray(np.linalg.solve(lower, np.concatenate(columns, axis=2)), dtype=float)
        one, shapes, h = white[:, :, :1], white[:, :, 1:3], white[:, :, 3 : 3 + len(EXPONENTS)]
        y = np.moveaxis(white[:, :, 3 + len(EXPONENTS) :], 2, 0)[..., None]  # [b, t, m, 1]
        ones = _running(one, one)
        one_h = _running(one, h)
        hh = np.maximum(_running(h, h) - one_h**2 / ones, _TINY)
        y_one = _running(y, one)
        y_h = _running(y, h) - y_one * one_h / ones
        left = np.maximum(_running(y, y) - y_one**2 / ones - y_h**2 / hh, 0.0)
        least = df * spans.floor[..., None] ** 2
        logdet = 2.0 * np.log(np.diagonal(lower, axis1=1, axis2=2)).cumsum(axis=1)[:, PAST - 1 :, None]
        fit = -0.5 * logdet - 0.5 * np.log(ones) - df / 2.0 * np.log(np.maximum(left, least))
        fits.append(fit[:, :, :1] if null.staying else fit[:, :, 1:])
        parts = []
        for shape, size in ((shapes[:, :, :1], STEP), (shapes[:, :, 1:], SLOPE)):
            one_f = _running(one, shape)
            f_h = _running(shape, h) - one_f * one_h / ones
            ff = np.maximum(_running(shape, shape) - one_f**2 / ones - f_h**2 / hh, 0.0)
            q = _running(y, shape) - y_one * one_f / ones - y_h * f_h / hh
            now = (q[:, :, 1:], ff[:, 1:], left[:, :, 1:], df[:, 1:], least[:, :, 1:])
            parts.append(_ratio(*now, size) - np.log(2.0))
        found.append(logsumexp(parts, axis=0))
    share = np.concatenate(fits, axis=-1)
    share -= logsumexp(share, axis=-1, keepdims=True)
    return logsumexp(np.concatenate(found, axis=-1) + share, axis=-1)


def _running(a: Array, b: Array) -> Array:
    """Sums of a b over the points up to the last before the change, and on, [..., t, 1 + reach, j]."""
    past = np.einsum("...mj,...mj->...j", *np.broadcast_arrays(a[..., :PAST, :], b[..., :PAST, :]))
    since = a[..., PAST:, :] * b[..., PAST:, :]
    return np.concatenate([past[..., None, :], since], axis=-2).cumsum(axis=-2)


def _ratio(q: Array, ff: Array, left: Array, df: Array, least: Array, size: float) -> Array:
    """ln of the likelihood ratio of a fall of half-normal size; see `fall_evidence`."""
    spread = 1.0 + size**2 * ff
    v = size**2 / spread
    gone = v * q**2
    rest = np.maximum(left - gone, least)
    once = df / 2.0 * np.log1p(gone / rest)  # ln E
    two = once + np.log(2.0 - np.exp(-once))
    return np.where(q > 0.0, two, -np.inf) - 0.5 * np.log(spread)


def _prior(count: int) -> Array:
    """ln of the weights of the places of a change, (k + 10)^-2, whose sum over all there can be is 1."""
    return -2.0 * np.log(np.arange(count) + 10.0) - np.log(polygamma(1, 10))
