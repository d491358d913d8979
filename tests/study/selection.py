"""A suite at a fifth of the full cost: does it order unseen models on unseen benchmarks as all tasks do?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from evalsuite.cost import cost_of
from evalsuite.economy import OLMES
from evalsuite.objective import Objective, from_curves
from evalsuite.quality import assess
from evalsuite.thinning import Offer
from scaling.curves import Curve, fit_curves
from scaling.metrics import known_metrics, metric_info
from scaling.scores import ScoreTable
from scaling.tasks import task_info
from tests.study.real import missing, scores

SOURCES = ("obsscaling", "openlm_scaling", "olmo_ladder", "pythia", "sloth")
SHARE = 0.2
SPLITS = 20


def run() -> pd.DataFrame:
    """One row per source, whether items may be asked in part, and way to choose.

    Suites are chosen on four fifths of the models (families where there are six or more) and judged on the
    last fifth, on those of them above the median compute, against a third of the benchmarks that no choice
    could see; 20 such splits of the benchmarks. `random_high` is the mean over splits of the 95th
    percentile of 100 equally costly random suites; `random_mean_high` the 95th percentile of what random
    choosing reaches as a mean over the splits.
    """
    rows = []
    for name in SOURCES:
        table = scores(name)
        if table is None:
            rows.append(pd.DataFrame([missing(name)]))
            continue
        for whole in (True, False):
            objective, offer = problem(table, whole)
            found = assess(
                objective, offer, SHARE, standard=OLMES, beyond=float(np.median(objective.x)), splits=SPLITS
            )
            part = found.to_frame().assign(
                source=name, items="whole tasks" if whole else "in part", groups=found.groups,
                benchmarks=len(set(objective.benchmarks)),
            )  # fmt: skip
            suite = part["choice"] == "suite"
            part.loc[suite, "against_all"] = found.difference[0]
            part.loc[suite, ["against_low", "against_high"]] = found.difference[1:]
            part.loc[suite, "above_random"] = found.above
            part.loc[suite, "random_high"] = float(part.loc[part["choice"] == "random", "high"].iloc[0])
            part.loc[suite, "random_mean_high"] = found.random_means[1]
            rows.append(part)
    frame = pd.concat(rows, ignore_index=True)
    first = ["source", "items", "benchmarks", "groups", "choice"]
    return frame[[*first, *(name for name in frame if name not in first)]]


def problem(table: ScoreTable, whole: bool) -> tuple[Objective, Offer]:
    """Objective and costs of all tasks of a table, one accuracy per task."""
    curves = list(_one_each(table))
    costs = [cost_of(one.key, task_info(one.key.task), _items(one)) for one in curves]
    offer = Offer(
        np.array([cost.items for cost in costs], dtype=float),
        np.array([cost.per_item for cost in costs]),
        np.zeros(len(costs), dtype=bool),
        whole,
    )
    return from_curves(curves), offer


def _one_each(table: ScoreTable) -> Iterator[Curve]:
    """Of every task the proportion scored at most finished runs, in order of the facts table."""
    family = {name: metric_info(name).family for name in table.frame["metric"].unique()}
    # Interventions and second evaluations repeat a run; they are no models of their own.
    plain = table.where(
        (table.frame["metric"].map(family) == "proportion")
        & ((table.frame["source"] != "pythia") | table.frame["variant"].isna()),
        "not in this study",
    )
    curves = fit_curves(plain, points="final", replicates=0)
    usual = 0.6 * np.median([len(one.series.x) for one in curves])
    order = known_metrics()
    best: dict[str, tuple[tuple, Curve]] = {}
    for one in curves:
        if len(one.series.x) >= usual:
            rank = (-len(one.series.x), order.index(one.key.metric), one.key.shots or 0)
            if one.key.task not in best or rank < best[one.key.task][0]:
                best[one.key.task] = rank, one
    yield from (best[task][1] for task in sorted(best))


def _items(curve: Curve) -> int | None:
    items = curve.series.n_items[np.isfinite(curve.series.n_items)]
    return round(float(np.median(items))) if len(items) else None
