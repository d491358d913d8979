"""Decision accuracy: do small runs order recipes as large runs do, task by task and for a suite?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from scaling.agreement import (
    PAIRS_NEEDED,
    DecisionAccuracy,
    decision_accuracy,
    intervals,
    rank_agreement,
    share_alike,
)
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.recipes import Pairs, RecipeTable, Scale, like_pairs, recipes_of
from scaling.scores import Omission, ScoreTable
from scaling.series import Key
from scaling.tasks import TaskInfo, benchmark_of, task_info

__all__ = ["DecisionAccuracy", "Decisions", "decide", "decision_accuracy", "share_alike", "task_means"]

DRAWS = 100  # random suites that a suite is set against
COVER = 0.9  # a task counts in a mean where at least this share of the paired recipes was scored on it


@dataclass(frozen=True)
class Decisions:
    """How well small runs decide between recipes.

    Attributes:
        rows: see `to_frame`. suite: the figures of the suite; None where none was asked about.
        small, target: the runs. pairs: which were compared, and which were refused.
        omissions: what was left out.
    """

    rows: pd.DataFrame
    suite: DecisionAccuracy | None
    small: RecipeTable = field(repr=False)
    target: RecipeTable = field(repr=False)
    pairs: Pairs = field(repr=False)
    omissions: tuple[Omission, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row per (task, metric, shots), then the suite, all tasks averaged, and random tasks.

        `itself` is the share ordered as the same task orders the large runs, `rest` as the mean of the tasks
        of other benchmarks does; `_low` and `_high` bound their 95% intervals (for random tasks: where 95%
        of the draws lie). `pairs`, `ties`, `recipes`, `kendall` and `pearson` belong to `rest`.
        """
        return self.rows.copy()

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {why}" for why, count in self.pairs.reasons().items())
        text = f"{len(self.pairs)} pairs of {self.pairs.n_recipes} recipes, {len(self.pairs.refused)} refused"
        text += f" ({refused})" if refused else ""
        if len(self.pairs) < PAIRS_NEEDED:
            text += f"; no claim: {len(self.pairs)} pairs, {PAIRS_NEEDED} needed"
        return text

    def plot(self, ax=None):
        """Shares and intervals, a row per task; see `scaling.plot`."""
        from scaling.plot import plot_decisions

        return plot_decisions(self, ax=ax)

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>" + self.rows.to_html(index=False)


def task_means(
    table: RecipeTable, *, metrics: Collection[str], recipes: np.ndarray | None = None
) -> tuple[list[str], Array]:
    """One score per task and recipe: the mean over its keys of some metrics.

    Args:
        table: the runs. metrics: which count.
        recipes: positions of those that must be scored: a key that fewer than 90% of them have is left out.

    Returns:
        The tasks, and their scores, [recipes, tasks]; NaN where a recipe lacks a key of the task.
    """
    known = ~np.isnan(table.scores if recipes is None else table.scores[recipes])
    cover = known.mean(axis=0) if len(known) else np.zeros(len(table.keys))
    places: dict[str, list[int]] = {}
    for i, key in enumerate(table.keys):
        if key.metric in metrics and cover[i] >= COVER:
            places.setdefault(key.task, []).append(i)
    means = [table.scores[:, at].mean(axis=1) for at in places.values()]
    return list(places), np.array(means).reshape(len(places), len(table)).T


def decide(
    table: ScoreTable,
    *,
    small: Scale,
    target: Scale,
    suite: Mapping[Key, float] | None = None,
    target_tasks: Collection[str] | None = None,
    metric_target: str | None = None,
    like: float = 1.5,
    match: float | None = 2.0,
    reach: float = 2.0,
    by: Sequence[str] = ("family", "variant"),
    points: Literal["final", "all"] = "final",
    ties: float | tuple[float, float] = 0.0,
    resamples: int = 1000,
    seed: int = 0,
    facts: Callable[[str], TaskInfo] = task_info,
) -> Decisions:
    """Decision accuracy of every task of the small side, and of a suite.

    Each (task, metric, shots) at the small scale is set against the same task at the target scale, and
    against the mean of the tasks of all other benchmarks there. A suite's weighted score is set against the
    mean of the tasks of no benchmark of the suite, so that no part is compared with its whole; and beside it
    stand all tasks averaged, and equally many random tasks (each draw against the tasks of benchmarks it
    does not hold). Where the target is not given, all tasks averaged hold the target's tasks too, which
    favours them; the column `note` says so.

    Args:
        table: the scores. small, target: FLOPs or (low, high), see `recipes_of`.
        suite: weight of each key. target_tasks: the tasks that decide; all of other benchmarks if None.
        metric_target: the metric of the target side; None takes the metric of the small side.
        like, match: see `like_pairs`. reach, by, points, facts: see `recipes_of`.
        ties, resamples, seed: see `decision_accuracy`.

    Raises:
        UsageError: the target holds a task of the suite (or a split or part of its benchmark), a key or task
            that is not there, a value outside its range.
        StagewiseError: no runs at a scale, or no task left for the target.

    Example:
        >>> decide(table, small=1e19, target=1e22, metric_target="acc").to_frame()     # doctest: +SKIP
    """
    runs = [
        recipes_of(table, scale, reach=reach, by=by, points=points, facts=facts) for scale in (small, target)
    ]
    pairs = like_pairs(*runs, like=like, match=match)
    if target_tasks is not None:
        have = {key.task for key in runs[1].keys}
        if lost := sorted(set(target_tasks) - have):
            raise UsageError(f"target_tasks: {lost[0]!r} is not scored at the target; {len(have)} tasks are")
    ask = _Question(
        runs[0].of(pairs.recipes), runs[1].of(pairs.recipes), pairs, target_tasks, metric_target, ties,
        resamples, seed,
    )  # fmt: skip
    rows, whole, omissions = [ask.by_task()], None, []
    if suite is not None:
        whole, more = ask.by_suite({Key(*key): weight for key, weight in suite.items()})
        rows.append(more)
    frame = pd.concat(rows, ignore_index=True)
    counts = ["shots", "itself_pairs", "pairs", "ties", "recipes"]
    frame[counts] = frame[counts].astype("Int64")
    frame["claim"] = (frame["pairs"] >= PAIRS_NEEDED).astype(bool)
    for why, lost in pairs.reasons().items():
        omissions.append(Omission(f"pair refused: {why}", "decisions", lost))
    return Decisions(frame, whole, runs[0], runs[1], pairs, tuple(omissions))


@dataclass(frozen=True)
class _Question:
    """The runs of the common recipes on both sides, and how they are to be compared."""

    small: RecipeTable
    target: RecipeTable
    pairs: Pairs
    tasks: Collection[str] | None
    metric: str | None
    ties: float | tuple[float, float]
    resamples: int
    seed: int

    @property
    def used(self) -> np.ndarray:
        """Recipes that occur in a pair; all where none does, so that tasks can still be named."""
        return np.unique(self.pairs.index) if len(self.pairs) else np.arange(len(self.pairs.recipes))

    def differences(self, scores: Array) -> Array:
        return scores[self.pairs.index[:, 0]] - scores[self.pairs.index[:, 1]]

    def targets(self, metrics: Collection[str]) -> tuple[list[str], Array]:
        """Tasks that may decide and their scores at the target, [recipes, tasks]."""
        wanted = metrics if self.metric is None else (self.metric,)
        tasks, scores = task_means(self.target, metrics=wanted, recipes=self.used)
        kept = [i for i, task in enumerate(tasks) if self.tasks is None or task in self.tasks]
        return [tasks[i] for i in kept], scores[:, kept]

    def outside(self, tasks: Sequence[str], scores: Array, benchmarks: Collection[str]) -> Array:
        """Mean over the tasks of no such benchmark, [recipes]; NaN where there is none."""
        kept = np.array([benchmark_of(task) not in benchmarks for task in tasks], dtype=bool)
        return scores[:, kept].mean(axis=1) if kept.any() else np.full(len(scores), np.nan)

    def by_task(self) -> pd.DataFrame:
        shape = (len(self.small), len(self.small.keys))
        itself, rest = np.full(shape, np.nan), np.full(shape, np.nan)
        by_metric = {key.metric: self.targets((key.metric,)) for key in self.small.keys}
        for i, key in enumerate(self.small.keys):
            metric = self.metric or key.metric
            same = [
                j for j, one in enumerate(self.target.keys) if (one.task, one.metric) == (key.task, metric)
            ]
            # The same number of shots where the target has it, else the mean over what it has.
            same = [j for j in same if self.target.keys[j].shots == key.shots] or same
            if same:
                itself[:, i] = self.target.scores[:, same].mean(axis=1)
            rest[:, i] = self.outside(*by_metric[key.metric], {benchmark_of(key.task)})
        found: dict[str, object] = {
            "kind": "task",
            "task": [key.task for key in self.small.keys],
            "metric": [key.metric for key in self.small.keys],
            "shots": [key.shots for key in self.small.keys],
        }
        pair = self.ties if isinstance(self.ties, tuple) else (self.ties, self.ties)
        small = self.differences(self.small.scores)
        for name, scores in (("itself", itself), ("rest", rest)):
            large = self.differences(scores)
            found[name], found[f"{name}_low"], found[f"{name}_high"] = intervals(
                small, large, self.pairs.index, ties=pair, resamples=self.resamples, seed=self.seed
            )
            known = ~np.isnan(small + large)
            found["itself_pairs" if name == "itself" else "pairs"] = known.sum(axis=0)
        tied = (np.abs(small) <= pair[0]) | (np.abs(large) <= pair[1])
        found["ties"] = (known & tied).sum(axis=0)
        agreement, counts = [], []
        for i in range(shape[1]):
            used = np.unique(self.pairs.index[known[:, i]])
            agreement.append(rank_agreement(self.small.scores[used, i], rest[used, i]))
            counts.append(len(used))
        found["recipes"] = counts
        found["kendall"], found["pearson"] = np.array(agreement).reshape(-1, 2).T
        return pd.DataFrame(found).assign(note="")

    def by_suite(self, suite: Mapping[Key, float]) -> tuple[DecisionAccuracy, pd.DataFrame]:
        labels = self.pairs.recipes
        score = self.small.score(suite)  # says which key is unknown
        held = {benchmark_of(key.task) for key in suite}
        metrics = {key.metric for key in suite}
        if self.tasks is not None and (both := [one for one in self.tasks if benchmark_of(one) in held]):
            raise UsageError(
                f"target_tasks: {both[0]!r} is of a benchmark of the suite ({', '.join(sorted(held))}); "
                "a target must share none"
            )
        tasks, scores = self.targets(metrics)
        if not any(benchmark_of(task) not in held for task in tasks):
            raise StagewiseError(
                f"no task of another benchmark is scored at the target in {self.metric or sorted(metrics)}; "
                "give a smaller suite or another metric_target"
            )
        options = {"pairs": self.pairs, "ties": self.ties, "resamples": self.resamples, "seed": self.seed}
        goal = pd.Series(self.outside(tasks, scores, held), index=labels)
        whole = decision_accuracy(score, goal, **options)
        known, small = task_means(self.small, metrics=metrics, recipes=self.used)
        note = "holds the target's tasks"
        if self.tasks is not None:
            apart = {benchmark_of(task) for task in tasks}
            kept = [i for i, task in enumerate(known) if benchmark_of(task) not in apart]
            known, small, note = [known[i] for i in kept], small[:, kept], ""
        every = decision_accuracy(pd.Series(self.outside(known, small, ()), index=labels), goal, **options)
        rows = [_row("suite", whole), _row("all", every) | {"note": note}]
        count = min(len({key.task for key in suite}), len(known))
        return whole, pd.DataFrame([*rows, self._random(known, small, tasks, scores, count)])

    def _random(self, known: list[str], small: Array, tasks: list[str], scores: Array, count: int) -> dict:
        """Mean share of random suites of `count` tasks."""
        rng = np.random.default_rng(self.seed)
        chosen, goals = [], []
        for _ in range(DRAWS):
            drawn = rng.permutation(len(known))[:count]
            chosen.append(small[:, drawn].mean(axis=1) if count else np.full(len(small), np.nan))
            goals.append(self.outside(tasks, scores, {benchmark_of(known[i]) for i in drawn}))
        pair = self.ties if isinstance(self.ties, tuple) else (self.ties, self.ties)
        dx, dy = self.differences(np.array(chosen).T), self.differences(np.array(goals).T)
        share = share_alike(dx, dy, ties=pair)
        share = share[~np.isnan(share)]
        low, high = np.quantile(share, [0.025, 0.975]) if len(share) else (np.nan, np.nan)
        pairs = int((~np.isnan(dx + dy)).any(axis=1).sum())
        row = {"kind": "random", "rest": share.mean() if len(share) else np.nan}
        row |= {"rest_low": low, "rest_high": high, "pairs": pairs, "recipes": self.pairs.n_recipes}
        return row | {"note": f"{len(share)} draws of {count} task(s)"}


def _row(kind: str, one: DecisionAccuracy) -> dict:
    return {
        "kind": kind, "rest": one.share, "rest_low": one.low, "rest_high": one.high, "pairs": one.pairs,
        "ties": one.ties, "recipes": one.recipes, "kendall": one.kendall, "pearson": one.pearson, "note": "",
    }  # fmt: skip
