"""Effective compute: one axis for families of different efficiency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.optimize import least_squares, lsq_linear
from scipy.stats import median_abs_deviation
from sklearn.preprocessing import SplineTransformer

from scaling.errors import StagewiseError, UsageError
from scaling.latent import LatentAbility, Model
from scaling.laws import Array
from scaling.score_matrix import RUN, Scale, ScoreMatrix, cells, run_rows, score_matrix
from scaling.scores import Omission, ScoreTable
from scaling.series import Points

RUNS_PER_PIECE, MOST_PIECES = 12, 2  # how much the map from ability to compute may bend
STEEPNESS = 1e-3  # least decades per basis function, so that a better run always has more


@dataclass(frozen=True)
class AbilityMap:
    """An increasing map from ability to log10 FLOPs of the reference family.

    Attributes:
        basis: of quadratic splines, fitted to the abilities; straight beyond them.
        coefficients: intercept of the reference, then one per increasing basis function, none negative.
        covariance: of the coefficients; one at its bound counts as known.
    """

    basis: SplineTransformer
    coefficients: Array
    covariance: Array = field(repr=False)

    def design(self, ability: Array) -> Array:
        """Ones, then the increasing basis functions (sums of all B-splines from one on), [n, 1 + b]."""
        columns = self.basis.transform(np.where(np.isfinite(ability), ability, 0.0)[:, None])
        rising = np.cumsum(columns[:, ::-1], axis=1)[:, ::-1][:, 1:]
        return np.hstack([np.ones((len(rising), 1)), rising])

    def predict(self, ability: Array) -> Array:
        """log10 FLOPs, [n]; NaN where the ability is."""
        return np.where(np.isfinite(ability), self.design(ability) @ self.coefficients, np.nan)

    def error(self, ability: Array, se: Array) -> Array:
        """Standard error of `predict`, from the ability's and the map's own."""
        step = 1e-3
        slope = (self.predict(ability + step) - self.predict(ability - step)) / (2 * step)
        design = self.design(ability)
        return np.sqrt((slope * se) ** 2 + np.einsum("nk,kl,nl->n", design, self.covariance, design))


@dataclass(frozen=True)
class EffectiveCompute:
    """The compute that the reference family would have needed for the ability of each run.

    Attributes:
        frame: one row per run: what names it, family, log10_flops (NaN where unknown), tasks (how many it
            was measured by), ability, ability_se, effective_log10_flops and se, its standard error (of the
            ability and of the map).
        reference: the family whose compute is the unit.
        map: from ability to log10 FLOPs of the reference.
        ability: the fitted factor model. matrix: what it was fitted to.
        min_tasks: fewest tasks that place a run.
        omissions: what was left out.
    """

    frame: pd.DataFrame
    reference: str
    map: AbilityMap = field(repr=False)
    ability: LatentAbility = field(repr=False)
    matrix: ScoreMatrix = field(repr=False)
    min_tasks: int
    omissions: tuple[Omission, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per run."""
        return self.frame

    def efficiency(self) -> pd.DataFrame:
        """Per family: runs of known compute, and `multiplier`, the median of effective over actual FLOPs."""
        known = self.frame.dropna(subset=["log10_flops", "effective_log10_flops"])
        gain = known["effective_log10_flops"] - known["log10_flops"]
        out = gain.groupby(known["family"]).agg(["size", "median"])
        out = out.set_axis(["runs", "multiplier"], axis=1)
        out["multiplier"] = 10.0 ** out["multiplier"]
        return out.sort_values("multiplier", ascending=False).reset_index()

    def measure(self, table: ScoreTable) -> pd.DataFrame:
        """Rows like those of `frame` for the runs of any table, by the tasks of this axis."""
        chosen, names, _ = run_rows(table.frame, tuple(self._run), self.matrix.points)
        values, _, runs = cells(chosen, names, self.matrix.scale)
        return self._placed(runs, values.reindex(columns=self.matrix.values.columns))

    def apply(self, table: ScoreTable) -> ScoreTable:
        """The table with effective FLOPs in `flops`, so that curves, classes and plots are over them.

        Rows whose run (or checkpoint) has no place on the axis are left out, and counted.
        """
        by = list(self.matrix.by)
        chosen, _, _ = run_rows(table.frame, tuple(self._run), self.matrix.points)
        axis = self.frame[[*by, "effective_log10_flops"]]
        place = chosen[by].merge(axis, on=by, how="left")["effective_log10_flops"].to_numpy()
        known = np.isfinite(place)
        rows = chosen[known].assign(flops=10.0 ** place[known])
        lost = len(table.frame) - len(rows)
        extra = [Omission("no effective compute", "effective compute", lost)] if lost else []
        if rows.empty:
            raise StagewiseError(
                "effective compute: no row of the table belongs to a run on this axis; apply it to the table "
                "it was made from, or make one from this table"
            )
        return ScoreTable.from_frame(rows, where="effective compute", omissions=[*table.omissions, *extra])

    def _repr_html_(self) -> str:
        head = f"<p>FLOPs that {self.reference} would have needed; {len(self.frame)} runs</p>"
        return head + self.frame.to_html(index=False) + self.efficiency().to_html(index=False)

    @property
    def _run(self) -> list[str]:
        return [name for name in self.matrix.by if name != "step"]

    def _placed(self, runs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
        return _placed(runs, values, self.ability, self.map, self.min_tasks)


def effective_compute(
    table: ScoreTable,
    reference: str | None = None,
    *,
    exclude: Iterable[str] = (),
    model: Model = "factor",
    points: Points = "auto",
    scale: Scale = "logit",
    by: tuple[str, ...] = RUN,
    min_runs: int = 8,
    min_tasks: int = 3,
) -> EffectiveCompute:
    """Put all runs on one axis: the FLOPs at which the reference family has their ability.

    Ability is what a factor model sees behind the scores (`LatentAbility`). Then, robustly (Huber),

        log10 FLOPs = a[family] + g(ability)

    over the families with two or more runs of different compute, g an increasing quadratic spline (straight
    where there are few runs: scores near chance move little per decade, so one slope does not hold), and

        effective log10 FLOPs = a[reference] + g(ability).

    A run whose compute nobody knows has a place too. A task is not a witness in its own case: to judge a
    task's curve over this axis, name it in `exclude`.

    Args:
        table: the scores.
        reference: family whose compute is the unit; where absent the one that says most about g (largest
            sum of squares of log10 FLOPs: many runs over a wide span).
        exclude: tasks that must not enter, with everything of their suite; see `score_matrix`.
        model: of the ability.
        points, scale, by, min_runs, min_tasks: see `score_matrix`.

    Raises:
        StagewiseError: too few scores; no family with runs of different compute; ability that does not
            rise with compute. UsageError: a reference that has no two runs of different compute.

    Source:
        Ruan, Maddison and Hashimoto 2024, Observational Scaling Laws (arXiv:2405.10938), section 3; Maia
        Polo et al. 2024, Sloth (arXiv:2412.06540): families share the shape and differ in efficiency.

    Example:
        >>> axis = effective_compute(table, exclude=["piqa"])                # doctest: +SKIP
        >>> fit_curves(axis.apply(table))["piqa", "acc", 0].plot()           # doctest: +SKIP
    """
    matrix = score_matrix(
        table, points=points, scale=scale, exclude=exclude, by=by, min_runs=min_runs, min_tasks=min_tasks
    )
    ability = LatentAbility(1, model).fit(matrix.values)
    level = ability.transform(matrix.values)[:, 0]
    runs = matrix.runs
    x = runs["log10_flops"].to_numpy(dtype=float)
    family = runs["family"].to_numpy(dtype=object).astype(str)
    known = np.isfinite(x) & np.isfinite(level)
    spread = pd.Series(x[known]).groupby(family[known]).agg(lambda v: ((v - v.mean()) ** 2).sum())
    spread = spread[spread > 1e-6]
    if spread.empty or int(known.sum()) < 4:
        raise StagewiseError(
            "effective compute: no family has two runs of different known compute, so nothing says how "
            "ability grows with it; give params and tokens or flops, or name families"
        )
    if reference is None:
        reference = str(spread.idxmax())
    if reference not in spread.index:
        raise UsageError(
            f"reference: got {reference!r}, valid are families with two or more runs of different compute: "
            f"{', '.join(map(str, spread.index[:12]))}"
        )
    use = known & np.isin(family, spread.index)
    others = np.array([name for name in spread.index if name != reference], dtype=object)
    mapped = _fit_map(level[use], x[use], (family[use, None] == others[None]).astype(float))
    frame = _placed(runs, matrix.values, ability, mapped, min_tasks)
    return EffectiveCompute(frame, reference, mapped, ability, matrix, min_tasks, matrix.omissions)


def _fit_map(ability: Array, x: Array, others: Array) -> AbilityMap:
    """Huber fit of log10 FLOPs over ability, with a shift for each family that is not the reference."""
    within = np.hstack([np.ones((len(x), 1)), others])
    rest = ability - within @ np.linalg.lstsq(within, ability, rcond=None)[0]
    slope = float(rest @ x / max(rest @ rest, 1e-12))
    if not slope > 0:
        raise StagewiseError(
            f"effective compute: ability does not rise with compute within families (slope {slope:.3g}); "
            "check the directions of the metrics, or give more runs per family"
        )
    pieces = int(np.clip(len(x) // RUNS_PER_PIECE, 1, MOST_PIECES))
    basis = SplineTransformer(
        n_knots=pieces + 1, degree=2 if pieces > 1 else 1, knots="quantile", extrapolation="linear"
    ).fit(ability[:, None])
    empty = AbilityMap(basis, np.zeros(0), np.zeros((0, 0)))
    bent = empty.design(ability)
    design = np.hstack([bent, others])
    low = np.full(design.shape[1], -np.inf)
    low[1 : bent.shape[1]] = STEEPNESS
    start = lsq_linear(design, x, (low, np.full(len(low), np.inf)))
    # The spread of what is left, were it normal; a fit that is exact keeps its least-squares answer.
    spread = max(float(median_abs_deviation(design @ start.x - x, scale="normal")), 1e-9)
    fit = least_squares(
        lambda value: design @ value - x,
        np.maximum(start.x, low + 1e-9),
        jac=lambda value: design,
        bounds=(low, np.inf),
        loss="huber",
        f_scale=1.345 * spread,
        x_scale="jac",
    )
    residual = design @ fit.x - x
    weight = np.minimum(1.0, 1.345 * spread / np.maximum(np.abs(residual), 1e-12))
    moving = fit.x > low + 1e-6
    left = max(len(x) - int(moving.sum()), 1)
    covariance = np.zeros((design.shape[1],) * 2)
    inner = np.linalg.pinv((design[:, moving].T * weight) @ design[:, moving], hermitian=True)
    covariance[np.ix_(moving, moving)] = inner * float(weight @ residual**2) / left
    b = bent.shape[1]
    return AbilityMap(basis, fit.x[:b], covariance[:b, :b])


def _placed(
    runs: pd.DataFrame, values: pd.DataFrame, ability: LatentAbility, mapped: AbilityMap, min_tasks: int
) -> pd.DataFrame:
    """Runs with their ability and effective compute."""
    frame = runs.copy()
    frame["tasks"] = values.notna().sum(axis=1).to_numpy()
    enough = frame["tasks"].to_numpy() >= min_tasks
    frame["ability"] = np.where(enough, ability.transform(values)[:, 0], np.nan)
    frame["ability_se"] = np.where(enough, ability.standard_error(values)[:, 0], np.nan)
    level, error = frame["ability"].to_numpy(), frame["ability_se"].to_numpy()
    frame["effective_log10_flops"] = mapped.predict(level)
    frame["se"] = mapped.error(level, error)
    return frame
