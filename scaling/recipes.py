"""Runs of different recipes at one compute, in units that can be compared, and the pairs that may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import pandas as pd

from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.metrics import metric_info
from scaling.scores import ScoreTable
from scaling.series import Key, with_runs
from scaling.tasks import TaskInfo, task_info

Scale = float | tuple[float, float]
HELD = 0.5  # share of the scores of a recipe's best-scored checkpoint that another needs to stand for it
_NAMED = ("family", "variant", "model")  # what can tell recipes of one source apart


@dataclass(frozen=True)
class RecipeTable:
    """One run per recipe at about one compute, its scores in comparable units, higher is better.

    Attributes:
        frame: one row per recipe, its label as index: source, family, variant, model, seed (NA where
            several were averaged), repeats, flops, params, tokens.
        keys: what was scored, in order. scores: [recipes, keys], NaN where absent.
    """

    frame: pd.DataFrame
    keys: tuple[Key, ...]
    scores: Array

    def column(self, key: Key) -> Array:
        """The scores of one key, [recipes]."""
        return self.scores[:, self._at([key])[0]]

    def score(self, weights: Mapping[Key, float]) -> pd.Series:
        """Weighted mean over the keys by recipe; a recipe that lacks one of them is NaN.

        Raises:
            UsageError: an unknown key, a negative weight, or weights that sum to zero.
        """
        if not weights:
            raise UsageError("weights: got none; give a weight for at least one (task, metric, shots)")
        value = np.array(list(weights.values()), dtype=float)
        if not (np.isfinite(value).all() and (value >= 0).all() and value.sum() > 0):
            raise UsageError(f"weights: got {value.tolist()}, valid are numbers >= 0 with a positive sum")
        part = self.scores[:, self._at(list(weights))]
        return pd.Series(part @ (value / value.sum()), index=self.frame.index, name="score")

    def mean(self, keys: Sequence[Key]) -> pd.Series:
        """Plain mean over the keys by recipe; a recipe that lacks one of them is NaN."""
        return self.score(dict.fromkeys(keys, 1.0))

    def of(self, recipes: pd.Index) -> RecipeTable:
        """The rows of these recipes, in this order."""
        at = self.frame.index.get_indexer(recipes)
        if (at < 0).any():
            raise UsageError(f"recipes: {recipes[at < 0][0]!r} is not in the table; it has {len(self)}")
        return RecipeTable(self.frame.iloc[at], self.keys, self.scores[at])

    def to_frame(self) -> pd.DataFrame:
        """The recipes with one more column per key."""
        return self.frame.assign(**{str(key): self.scores[:, i] for i, key in enumerate(self.keys)})

    def _at(self, keys: Sequence[Key]) -> list[int]:
        place = {key: i for i, key in enumerate(self.keys)}
        for key in keys:
            if Key(*key) not in place:
                raise UsageError(
                    f"{Key(*key)}: no recipe has it at this compute; there are {len(self.keys)} others"
                )
        return [place[Key(*key)] for key in keys]

    def __len__(self) -> int:
        return len(self.frame)

    def _repr_html_(self) -> str:
        return f"<p>{len(self)} recipes, {len(self.keys)} keys</p>" + self.to_frame().to_html()


def comparable(score: Array, metric: str, chance: float | None) -> Array:
    """Scores in units that are alike across tasks, higher is better.

    Proportions: (score - chance) / (1 - chance), 0 for a guesser and 1 for the perfect; chance is 0
    where unknown. Bits and losses: -ln(score), so that a difference is a relative one; NaN at 0.
    The direction is the metric's own. Metrics of family `other` are NaN.

    Example:
        >>> comparable(np.array([0.25, 1.0]), "acc", 0.25).tolist()
        [0.0, 1.0]
    """
    info, score = metric_info(metric), np.asarray(score, dtype=float)
    if info.family == "proportion":
        floor = chance or 0.0
        value = (score - floor) / (1.0 - floor)
        return -value if info.higher_is_better is False else value
    if not info.fitted:
        return np.full(score.shape, np.nan)
    value = np.log(np.where(score > 0, score, np.nan))
    return value if info.higher_is_better else -value


def recipes_of(
    table: ScoreTable,
    flops: Scale,
    *,
    reach: float = 2.0,
    by: Sequence[str] = ("family", "variant"),
    points: Literal["final", "all"] = "final",
    facts: Callable[[str], TaskInfo] = task_info,
) -> RecipeTable:
    """One run of every recipe at about one compute.

    A recipe is what its source and the columns `by` say. Its run is the one nearest to `flops` in log
    compute and no further than a factor `reach`; for an interval, the one with most compute inside.
    A checkpoint with less than half the scores of the recipe's best-scored one is passed over. Rows of a
    recipe at equal compute, size and data are repeats (seeds): their scores are averaged.

    Args:
        table: the scores. flops: training FLOPs, or (low, high).
        reach: a factor of at least 1. by: some of family, variant, model.
        points: `final`: only last checkpoints stand for a run; `all`: an earlier one may.
        facts: where chance comes from.

    Raises:
        UsageError: a value outside its range.
        StagewiseError: no recipe has a run there.

    Example:
        >>> recipes_of(table, 1e20).score({Key("piqa", "acc", 0): 1.0})     # doctest: +SKIP
    """
    low, high, aim = _bounds(flops, reach)
    unknown = [name for name in by if name not in _NAMED]
    if unknown or not by:
        raise UsageError(f"by: got {tuple(by)}, valid are some of {', '.join(_NAMED)}")
    if points not in ("final", "all"):
        raise UsageError(f"points: got {points!r}, valid are 'final' and 'all'")
    frame = with_runs(table.frame)
    fitted = {name: metric_info(name).fitted for name in frame["metric"].unique()}
    use = frame["metric"].map(fitted).astype(bool) & (frame["flops"] > 0)
    frame = frame[use & frame["final"]] if points == "final" else frame[use]
    frame = frame[frame["flops"].between(low, high)]
    if frame.empty:
        kind = "final checkpoint" if points == "final" else "checkpoint"
        raise StagewiseError(
            f"no {kind} with known compute between {low:.3g} and {high:.3g} FLOPs; choose another scale, "
            "a larger reach, or points='all'"
        )
    label = frame["source"]
    for name in by:
        label = label.str.cat(frame[name].fillna(""), sep=" / ")
    frame = frame.assign(recipe=label.str.replace(r"( / )+$", "", regex=True).astype(object))
    point = ["recipe", "flops", "params", "tokens"]
    held = frame.groupby(point, dropna=False)["task"].transform("size")
    # Some sources score most tasks at few checkpoints: one with hardly any scores does not stand for a run.
    best = held.groupby(frame["recipe"]).transform("max")
    runs = frame[held >= HELD * best].drop_duplicates([*point, "run"])
    distance = -runs["flops"] if aim is None else (np.log(runs["flops"]) - np.log(aim)).abs().round(9)
    order = ["recipe", "distance", "flops", "model", "variant", "seed"]
    ranked = runs.assign(distance=distance).sort_values(order, kind="stable", na_position="first")
    chosen = ranked.drop_duplicates("recipe").set_index("recipe")
    kept = np.ones(len(frame), dtype=bool)
    for name in ("flops", "params", "tokens"):
        wanted = chosen[name].reindex(frame["recipe"]).to_numpy(dtype=float)
        kept &= np.isclose(frame[name].to_numpy(dtype=float), wanted, rtol=1e-9, atol=0.0, equal_nan=True)
    frame = frame[kept]
    chosen = chosen.assign(repeats=frame.groupby("recipe")["run"].nunique().reindex(chosen.index))
    chosen["seed"] = chosen["seed"].where(chosen["repeats"] == 1)
    columns = ["source", "family", "variant", "model", "seed", "repeats", "flops", "params", "tokens"]
    return _scored(frame, chosen[columns], facts)


def _bounds(flops: Scale, reach: float) -> tuple[float, float, float | None]:
    """Lowest and highest compute that may stand, and the one to come near to (None for an interval)."""
    if isinstance(flops, (tuple, list)):
        if len(flops) != 2 or not 0 < flops[0] <= flops[1] < np.inf:
            raise UsageError(f"flops: got {flops}, valid is (low, high) with 0 < low <= high")
        return float(flops[0]), float(flops[1]), None
    if not 0 < flops < np.inf:
        raise UsageError(f"flops: got {flops}, valid is a positive number of FLOPs or (low, high)")
    if not 1 <= reach < np.inf:
        raise UsageError(f"reach: got {reach}, valid is a factor of at least 1")
    slack = reach * (1 + 1e-9)
    return flops / slack, flops * slack, float(flops)


def _scored(frame: pd.DataFrame, recipes: pd.DataFrame, facts: Callable[[str], TaskInfo]) -> RecipeTable:
    """Scores of the chosen runs, averaged over repeats, [recipes, keys]."""
    groups = ["task", "metric", "shots"]
    frame = frame.assign(shots=frame["shots"].fillna(-1).astype(int))
    mean = frame.groupby([*groups, "recipe"], observed=True)["score"].mean().unstack("recipe")
    keys, rows = [], []
    for (task, metric, shots), values in zip(mean.index, mean.to_numpy(dtype=float), strict=True):
        key = Key.of(task, metric, None if shots < 0 else shots)
        keys.append(key)
        rows.append(comparable(values, key.metric, facts(key.task).chance))
    at = mean.columns.get_indexer(recipes.index)
    return RecipeTable(recipes, tuple(keys), np.array(rows).T[at])


@dataclass(frozen=True)
class Pairs:
    """Pairs of recipes that differ in nothing but the recipe, as far as is known.

    Attributes:
        recipes: labels of the recipes that both sides have. index: positions in it, [pairs, 2].
        refused: the other pairs: first, second, reason (the first that held), factor (how far apart).
    """

    recipes: pd.Index
    index: np.ndarray
    refused: pd.DataFrame

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_recipes(self) -> int:
        """How many recipes occur in a pair."""
        return len(np.unique(self.index))

    def reasons(self) -> dict[str, int]:
        """How many pairs were refused for which reason."""
        return cast("dict[str, int]", self.refused["reason"].value_counts().to_dict())

    def to_frame(self) -> pd.DataFrame:
        """One row per pair: first, second."""
        return pd.DataFrame(self.recipes.to_numpy()[self.index], columns=["first", "second"])

    def _repr_html_(self) -> str:
        return f"<p>{len(self)} pairs, {len(self.refused)} refused</p>" + self.to_frame().to_html()


def like_pairs(
    small: RecipeTable, target: RecipeTable, *, like: float = 1.5, match: float | None = 2.0
) -> Pairs:
    """Which recipes may be compared: at like compute, with like hyper-parameters, on both sides.

    Refused, in this order: a recipe whose target run has no more compute than its small run; two labels of
    one and the same model; compute that differs by more than a factor `like`; parameters, then tokens, that
    differ by more than a factor `match`, or that are known of one recipe alone.

    Args:
        small, target: tables of the same sources at two scales.
        like: factor of at least 1. match: factor of at least 1; None does not ask for size and data.

    Example:
        >>> like_pairs(recipes_of(table, 1e19), recipes_of(table, 1e21)).reasons()     # doctest: +SKIP
    """
    for name, value in (("like", like), ("match", match)):
        if value is not None and not 1 <= value < np.inf:
            raise UsageError(f"{name}: got {value}, valid is a factor of at least 1")
    recipes = small.frame.index[small.frame.index.isin(target.frame.index)]
    sides = {"small": small.of(recipes).frame, "target": target.of(recipes).frame}
    first, second = np.triu_indices(len(recipes), 1)
    reason = np.full(len(first), "", dtype=object)
    factor = np.full(len(first), np.nan)

    def refuse(mask: np.ndarray, why: str, apart: Array | None = None) -> None:
        mask = mask & (reason == "")
        reason[mask] = why
        if apart is not None:
            factor[mask] = apart[mask]

    growth = (sides["target"]["flops"] / sides["small"]["flops"]).to_numpy(dtype=float)
    least = np.minimum(growth[first], growth[second])
    refuse(least <= 1 + 1e-9, "the target run has no more compute than the small run", least)
    for frame in sides.values():
        model = frame["model"].to_numpy(dtype=object)
        refuse(model[first] == model[second], "two labels of one model")
    asked = [("flops", "compute", like)]
    if match is not None:
        asked += [("params", "params", match), ("tokens", "tokens", match)]
    for column, word, most in asked:
        for side, frame in sides.items():
            value = np.log(frame[column].to_numpy(dtype=float))
            known = np.isfinite(value)
            apart = np.exp(np.abs(value[first] - value[second]))
            both = known[first] & known[second]
            refuse(both & (apart > most * (1 + 1e-9)), f"unlike {word} on the {side} side", apart)
            refuse(known[first] != known[second], f"{word} of one unknown on the {side} side")
    kept = reason == ""
    labels = recipes.to_numpy(dtype=object)
    every = pd.DataFrame(
        {"first": labels[first], "second": labels[second], "reason": reason, "factor": factor}
    )
    return Pairs(recipes, np.column_stack([first[kept], second[kept]]), every[~kept].reset_index(drop=True))


def pair_differences(table: RecipeTable, pairs: Pairs) -> Array:
    """Score of the first minus score of the second recipe of each pair, [pairs, keys]."""
    scores = table.of(pairs.recipes).scores
    return scores[pairs.index[:, 0]] - scores[pairs.index[:, 1]]
