"""One ability behind many tasks: a factor model over scores with gaps."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pandas as pd
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array

Model = Literal["factor", "pca"]


class LatentAbility(TransformerMixin, BaseEstimator):
    """Factors behind a matrix of scores: `z = mu + W f + e`, f ~ N(0, I), e ~ N(0, Psi).

    z are scores standardised per task over the models that have them. Psi is diagonal (`factor`) or a
    multiple of the identity (`pca`, probabilistic PCA). Missing scores: EM. The E-step gives each
    model's expected scores and their conditional covariance given the tasks it has; the M-step takes
    the leading eigenvectors of the covariance that follows. scikit-learn's PCA and FactorAnalysis take
    no gaps; without gaps the answer is theirs. No random number enters.

    Args:
        n_factors: number of factors.
        model: `factor` weighs tasks by how much noise of their own they have, `pca` all alike.
        noise_floor: least share of a task's variance that is its own, so that no single task becomes the
            factor. Near copies of one task still weigh more than one task should.
        tol: EM ends when no entry of the mean and the covariance moves further than this (unit variance).
        max_iter: most EM rounds; a ConvergenceWarning says that they did not suffice.

    Attributes (after `fit`):
        mean_, scale_: of each task, [tasks].
        components_: W transposed, or the unit axes where the model is `pca`, [factors, tasks].
        noise_variance_: diagonal of Psi, [tasks].
        explained_variance_ratio_: share of the variance of standardised tasks, [factors].
        loadings_: frame of W by task name.
        n_iter_: EM rounds.

    Source:
        Tipping and Bishop 1999 (probabilistic PCA); Ruan, Maddison and Hashimoto 2024 (arXiv:2405.10938)
        for capabilities behind benchmarks.

    Example:
        >>> ability = LatentAbility().fit(score_matrix(table).values)        # doctest: +SKIP
        >>> ability.explained_variance_ratio_                                # doctest: +SKIP
    """

    def __init__(
        self,
        n_factors: int = 1,
        model: Model = "factor",
        *,
        noise_floor: float = 0.05,
        tol: float = 1e-4,
        max_iter: int = 500,
    ) -> None:
        self.n_factors, self.model = n_factors, model
        self.noise_floor, self.tol, self.max_iter = noise_floor, tol, max_iter

    def fit(self, X, y=None):
        """Fit to scores X in comparable units, larger is better, [models, tasks], NaN where missing.

        Raises:
            StagewiseError: a task with fewer than two different scores, an infinite score, a model
                without any, or too few models or tasks. UsageError: a setting out of range.
        """
        self._check_settings()
        values, names = _matrix(X)
        known = np.isfinite(values)
        self._check(values, known, names)
        self.n_features_in_, self.feature_names_ = values.shape[1], names
        self.mean_ = np.nanmean(values, axis=0)
        self.scale_ = np.nanstd(values, axis=0)
        z = np.where(known, (values - self.mean_) / self.scale_, 0.0)
        # The matrices are small: threads would only wait for each other.
        with threadpool_limits(1):
            self._iterate(z, known)
        return self

    def _iterate(self, z: Array, known: np.ndarray) -> None:
        """EM from independent tasks."""
        shift = np.zeros(z.shape[1])
        self.noise_variance_ = np.ones(z.shape[1])
        self._maximise(z.T @ z / len(z))
        for done in range(1, self.max_iter + 1):
            self.n_iter_ = done
            before = self._covariance()
            filled, spread = self._expected(z, known, shift)
            centre = filled.mean(axis=0)
            around = filled - centre
            self._maximise((around.T @ around + spread) / len(z))
            moved = max(np.abs(self._covariance() - before).max(), np.abs(centre - shift).max())
            shift = centre
            if moved <= self.tol:
                break
        else:
            warnings.warn(
                f"LatentAbility: moved by {moved:.2g} in round {self.n_iter_}, tol is {self.tol:g}; "
                "raise max_iter, or leave out tasks with few models",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.mean_ = self.mean_ + shift * self.scale_

    def transform(self, X) -> Array:
        """Factor scores of each model from the tasks it has, [models, factors]; NaN where it has none.

        `factor`: the posterior mean, which draws a model with few tasks towards the average. `pca`: the
        least-squares projection, NaN where there are fewer tasks than factors.
        """
        return self.posterior(X)[0]

    def standard_error(self, X) -> Array:
        """Standard error of `transform`, [models, factors]: the posterior standard deviation."""
        return np.sqrt(np.diagonal(self.posterior(X)[1], axis1=1, axis2=2))

    def inverse_transform(self, scores) -> Array:
        """The scores expected at an ability, for every task in the units of `fit`, [models, tasks]."""
        check_is_fitted(self, "components_")
        return self.mean_ + (np.asarray(scores, dtype=float) @ self.components_) * self.scale_

    @property
    def loadings_(self) -> pd.DataFrame:
        """Loadings of standardised tasks on each factor, and `own`: the share of variance not shared."""
        check_is_fitted(self, "components_")
        columns = [f"factor{i + 1}" for i in range(len(self.components_))]
        frame = pd.DataFrame(self._w.T, index=self.feature_names_, columns=columns)
        frame["own"] = self.noise_variance_ / (self.noise_variance_ + (self._w**2).sum(axis=0))
        return frame

    def _check_settings(self) -> None:
        if self.model not in ("factor", "pca"):
            raise UsageError(f"model: got {self.model!r}, valid are factor and pca")
        if not isinstance(self.n_factors, int | np.integer) or self.n_factors < 1:
            raise UsageError(f"n_factors: got {self.n_factors!r}, valid is a whole number from 1")
        if not 0.0 <= self.noise_floor < 1.0:
            raise UsageError(f"noise_floor: got {self.noise_floor!r}, valid is 0 or more, below 1")
        if self.max_iter < 1 or not self.tol > 0:
            raise UsageError(f"max_iter, tol: got {self.max_iter}, {self.tol}; valid are above 0")

    def _check(self, values: Array, known: np.ndarray, names: list[str]) -> None:
        n, p = values.shape
        if p <= self.n_factors or n < 3:
            raise StagewiseError(
                f"LatentAbility: got {n} models by {p} tasks for {self.n_factors} factor(s); valid is 3 or "
                "more models and more tasks than factors"
            )
        if (infinite := np.isinf(values).any(axis=0)).any():
            raise StagewiseError(f"LatentAbility: an infinite score of task {names[int(infinite.argmax())]}")
        if not known.any(axis=1).all():
            raise StagewiseError(f"LatentAbility: model {int((~known.any(axis=1)).argmax())} has no score")
        for j in range(p):
            if not np.ptp(values[known[:, j], j]) > 0 if known[:, j].any() else True:
                raise StagewiseError(
                    f"LatentAbility: task {names[j]} has fewer than two different scores; leave it out"
                )

    def _covariance(self) -> Array:
        return self._w.T @ self._w + np.diag(self.noise_variance_)

    def _maximise(self, covariance: Array) -> None:
        """The best W for a covariance of standardised tasks at the present Psi, then Psi for that W."""
        p, k = len(covariance), self.n_factors
        if self.model == "pca":
            value, axes = eigh(covariance, subset_by_index=[p - k, p - 1])
            rest = (np.trace(covariance) - value.sum()) / (p - k)
            noise = np.full(p, max(rest, self.noise_floor))
            w = axes * np.sqrt(np.maximum(value - noise[0], 0.0))
            ratio = value / np.trace(covariance)
        else:
            root = np.sqrt(self.noise_variance_)
            value, axes = eigh(covariance / np.outer(root, root), subset_by_index=[p - k, p - 1])
            w = root[:, None] * axes * np.sqrt(np.maximum(value - 1.0, 0.0))
            shared = (w**2).sum(axis=1)
            noise = np.maximum(np.diag(covariance) - shared, self.noise_floor)
            ratio = (w**2).sum(axis=0) / (shared.sum() + noise.sum())
        # Largest first; more is better.
        sign = np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
        self._w = (w * sign).T[::-1]
        self.components_ = self._w if self.model == "factor" else (axes * sign).T[::-1]
        self.noise_variance_, self.explained_variance_ratio_ = noise, ratio[::-1]

    def _conditional(self, z: Array, known: np.ndarray) -> tuple[Array, Array]:
        """Posterior mean [models, factors] and covariance [models, factors, factors] of the factors."""
        w, psi = self._w, self.noise_variance_
        precision = np.einsum("np,kp,lp->nkl", known / psi, w, w, optimize=True) + np.eye(len(w))
        covariance = np.linalg.inv(precision)
        pull = np.where(known, z, 0.0) / psi @ w.T
        return np.einsum("nkl,nl->nk", covariance, pull), covariance

    def _expected(self, z: Array, known: np.ndarray, shift: Array) -> tuple[Array, Array]:
        """Scores with the missing ones at their expectation, and the sum of conditional covariances."""
        mean, covariance = self._conditional(z - shift, known)
        filled = np.where(known, z, shift + mean @ self._w)
        gaps = (~known).astype(float)
        part = np.einsum("np,kp->nkp", gaps, self._w)
        spread = np.einsum("nkp,nkl,nlq->pq", part, covariance, part, optimize=True)
        return filled, spread + np.diag(gaps.sum(axis=0) * self.noise_variance_)

    def posterior(self, X) -> tuple[Array, Array]:
        """Factor scores [models, factors] and their covariance [models, factors, factors]."""
        check_is_fitted(self, "components_")
        values, _ = _matrix(X)
        if values.shape[1] != self.n_features_in_:
            raise StagewiseError(
                f"LatentAbility: got {values.shape[1]} tasks, was fitted to {self.n_features_in_}"
            )
        known = np.isfinite(values)
        z = np.where(known, (values - self.mean_) / self.scale_, 0.0)
        if self.model == "factor":
            mean, covariance = self._conditional(z, known)
        else:
            axes = self.components_
            inner = np.einsum("np,kp,lp->nkl", known.astype(float), axes, axes, optimize=True)
            solvable = known.sum(axis=1) >= len(axes)
            covariance = np.full_like(inner, np.nan)
            covariance[solvable] = np.linalg.pinv(inner[solvable], hermitian=True)
            mean = np.einsum("nkl,nl->nk", covariance, z @ axes.T)
            covariance = covariance * self.noise_variance_[0]
        measured = np.any(known, axis=1)[:, None]
        return np.where(measured, mean, np.nan), np.where(measured[:, None], covariance, np.nan)


def _matrix(X) -> tuple[Array, list[str]]:
    """Values and column names of a frame or array."""
    values = np.ascontiguousarray(X, dtype=float)  # one order of summation for frames and arrays
    if values.ndim != 2:
        raise StagewiseError(f"LatentAbility: got shape {values.shape}, valid is [models, tasks]")
    names = X.columns if isinstance(X, pd.DataFrame) else (f"task{j}" for j in range(values.shape[1]))
    return values, list(map(str, names))
