"""Is effective compute a better axis than FLOPs, and how many factors do the scores hold?

Axis: a task is predicted for families that its curve has not seen, over log10 FLOPs and over effective
compute. The axis is made without the task's suite and without those families, whose runs are then placed
on it by their other scores: knowing a model by other benchmarks is what the axis is for, and no help to
whoever has only a budget. Factors: cells are hidden by (run, suite), and filled in from the rest.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from scaling.effective import effective_compute
from scaling.estimators import SigmoidLaw
from scaling.latent import LatentAbility
from scaling.metrics import metric_info
from scaling.score_matrix import RUN, SCALES, ScoreMatrix, from_comparable, score_matrix, suite_of
from scaling.scores import ScoreTable
from scaling.tasks import task_info
from tests.study.real import missing, scores

# What of each source is one set of comparable runs: (columns, values) to keep, and what names a run. A
# variant is a file of the same models in two of them, and a recipe in the others.
SOURCES = {
    "obsscaling": ({"variant": ("obs_base", "obs_emergent", "obs_lbv2")}, ("model",)),
    "sloth": ({"variant": ("sloth_v2",)}, ("model",)),
    "openlm_scaling": ({}, RUN),
    "pythia": ({"family": ("pythia-v1-deduped", "opt", "bloom")}, RUN),
}
MOST_FOLDS, HIDDEN, RESAMPLES = 10, 5, 2000
FEWEST_RUNS = 12  # with known compute and a place on the axis, that a curve is fitted to
FEWEST_FAMILIES = 6  # that are worth resampling


def run(seed: int = 0) -> pd.DataFrame:
    """One row per source: errors over both axes in points, and their difference with its interval."""
    return pd.concat([axis(name, seed)[0] for name in SOURCES] + [factors(seed)], ignore_index=True)


def table_of(name: str) -> ScoreTable | None:
    """The rows of a source that the study uses."""
    table = scores(name)
    if table is None:
        return None
    keep, _ = SOURCES[name]
    mask = pd.Series(True, index=table.frame.index)
    for column, values in keep.items():
        mask &= table.frame[column].isin(values).fillna(False)
    if "family" in keep:
        mask &= table.frame["variant"].isna()
    return table.where(mask, "not in this study")


def axis(name: str, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary of one source, and the errors of each task and family behind it."""
    table = table_of(name)
    if table is None:
        return pd.DataFrame([missing(name)]), pd.DataFrame()
    by = SOURCES[name][1]
    matrix = score_matrix(table, by=by, points="final", scale="plain")
    found = [
        errors
        for suite in dict.fromkeys(suite_of(key.task) for key in matrix.keys)
        for errors in _suite_errors(table, matrix, suite, by)
    ]
    errors = pd.concat(found, ignore_index=True)
    row = {"part": "axis", "source": name, **_summary(errors, np.random.default_rng(seed))}
    return pd.DataFrame([row]), errors


def _suite_errors(table: ScoreTable, matrix: ScoreMatrix, suite: str, by: tuple[str, ...]):
    """Absolute errors, in points, of the tasks of one suite, per task and held-out family."""
    keys = [
        (j, key)
        for j, key in enumerate(matrix.keys)
        if suite_of(key.task) == suite and metric_info(key.metric).family == "proportion"
    ]
    if not keys or len({suite_of(key.task) for key in matrix.keys}) < 4:
        return
    runs = matrix.runs.copy()
    flops = runs["log10_flops"].to_numpy()
    # Runs of unknown compute help to make the axis but are not judged.
    family = runs["family"].to_numpy(dtype=object).astype(str)
    judged = np.unique(family[np.isfinite(flops)])
    folds = GroupKFold(min(MOST_FOLDS, len(judged))).split(family, groups=family)
    excluded = [key.task for _, key in keys]
    places, predictions = [], []
    for train, _ in folds:
        seen = set(family[train])
        part = table.where(table.frame["family"].isin(seen), "held out")
        made = effective_compute(part, exclude=excluded, by=by, points="final")
        placed = runs[list(by)].merge(made.measure(table), on=list(by), how="left")
        places.append(placed["effective_log10_flops"].to_numpy())
        predictions.append(np.isin(np.arange(len(family)), train))
    for j, key in keys:
        y = matrix.values.iloc[:, j].to_numpy()
        chance = task_info(key.task).chance
        cells = []
        for place, train in zip(places, predictions, strict=True):
            usable = np.isfinite(y) & np.isfinite(flops) & np.isfinite(place)
            fit, test = usable & train, usable & ~train
            if fit.sum() < FEWEST_RUNS or not test.any():
                continue
            predicted = {
                "flops": SigmoidLaw(lower=chance).fit(flops[fit], y[fit]).predict(flops[test]),
                "effective": SigmoidLaw(lower=chance).fit(place[fit], y[fit]).predict(place[test]),
                "constant": np.full(test.sum(), y[fit].mean()),
            }
            cells.append(
                pd.DataFrame({k: 100 * np.abs(v - y[test]) for k, v in predicted.items()}).assign(
                    suite=suite, key=str(key), family=family[test]
                )
            )
        if cells:
            by_family = pd.concat(cells).groupby(["suite", "key", "family"], as_index=False)
            yield by_family.mean().merge(by_family.size())


def _draws(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)


def _summary(errors: pd.DataFrame, rng: np.random.Generator) -> dict:
    """Mean errors, each suite counting alike, and the difference, with a bootstrap of suites and families."""
    by_task = errors.groupby("key")[["flops", "effective", "constant"]].mean()
    suites, suite = np.unique(errors["suite"], return_inverse=True)
    families, family = np.unique(errors["family"], return_inverse=True)
    alike = 1.0 / np.bincount(suite)[suite]
    weights = alike * _draws(len(suites), rng)[:, suite]
    if len(families) >= FEWEST_FAMILIES:
        weights = weights * _draws(len(families), rng)[:, family]
    difference = (errors["effective"] - errors["flops"]).to_numpy()
    total = weights.sum(axis=1)
    low, high = np.quantile((weights @ difference)[total > 0] / total[total > 0], [0.025, 0.975])
    by_suite = errors.groupby("suite")[["flops", "effective"]].mean()
    return {
        "tasks": len(by_task), "suites": len(suites), "families": len(families),
        "resampled": "suites and families" if len(families) >= FEWEST_FAMILIES else "suites",
        **{f"error_{k}": float(np.average(errors[k], weights=alike)) for k in by_task.columns},
        "median_flops": float(errors["flops"].median()),
        "median_effective": float(errors["effective"].median()),
        "difference": float(np.average(difference, weights=alike)), "low": float(low), "high": float(high),
        "better_tasks": float((by_task["effective"] < by_task["flops"]).mean()),
        "better_suites": float((by_suite["effective"] < by_suite["flops"]).mean()),
    }  # fmt: skip


def factors(seed: int = 0) -> pd.DataFrame:
    """Per source, scale, model and number of factors: explained variance and error on hidden cells."""
    rows = []
    for name in SOURCES:
        table = table_of(name)
        if table is None:
            continue  # `axis` has said so
        plain = score_matrix(table, by=SOURCES[name][1], points="final", scale="plain")
        for scale in SCALES:
            matrix = score_matrix(table, by=SOURCES[name][1], points="final", scale=scale)
            for model in ("factor", "pca"):
                for count in (1, 2, 3) if scale == "logit" else (1,):
                    ratio = LatentAbility(count, model, tol=1e-3, max_iter=1000).fit(matrix.values)
                    error = _hidden(matrix, plain, count, model, np.random.default_rng(seed))
                    rows.append(
                        {
                            "part": "factors", "source": name, "scale": scale, "model": model,
                            "n_factors": count,
                            "explained": float(ratio.explained_variance_ratio_.sum()),
                            "hidden_error": float(pd.DataFrame(error).mean().mean()),
                            "hidden_median": float(np.nanmedian(error)),
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def _hidden(matrix: ScoreMatrix, plain: ScoreMatrix, count: int, model, rng: np.random.Generator):
    """Absolute errors in points of proportions hidden by (run, suite), [runs, tasks]."""
    values, truth = matrix.values.to_numpy(), plain.values[matrix.values.columns].to_numpy()
    suites = np.unique([suite_of(key.task) for key in matrix.keys], return_inverse=True)[1]
    fold = rng.integers(0, HIDDEN, (len(values), suites.max() + 1))[:, suites]
    error = np.full(values.shape, np.nan)
    for f in range(HIDDEN):
        shown = np.where(fold == f, np.nan, values)
        rows = np.isfinite(shown).sum(axis=1) > count
        columns = np.flatnonzero(np.nanstd(shown[rows], axis=0) > 1e-9)
        shown = shown[rows][:, columns]
        fit = LatentAbility(count, model, tol=1e-3, max_iter=1000).fit(shown)
        expected = fit.inverse_transform(fit.transform(shown))
        for j, column in enumerate(columns):
            metric = metric_info(matrix.keys[column].metric)
            if metric.family == "proportion":
                guess = from_comparable(expected[:, j], metric, matrix.scale)
                miss = 100 * np.abs(guess - truth[rows, column])
                error[rows, column] = np.where(fold[rows, column] == f, miss, error[rows, column])
    return error
