"""Scores of single items: what each question of a benchmark gave at each checkpoint."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.metrics import metric_info
from scaling.scores import ScoreTable
from scaling.series import RUN

_SHOWN = 6  # names printed of a long list


@dataclass(frozen=True)
class ItemScores:
    """One number per checkpoint and item of one benchmark.

    Build one with `read` or `from_frame`; the constructor itself checks nothing.

    Attributes:
        task: the benchmark. metric: how each item was scored.
        model, step: of each checkpoint, [c]; models are named as in the score table. flops: its compute, [c].
        scores: [c, items].
        ids: name (str) or index (int) of each item, [items].
        higher_is_better: the direction of the metric.

    Example:
        >>> items = ItemScores.from_frame(pd.DataFrame({
        ...     "model": "m", "step": [1, 1, 2, 2], "flops": [1e18, 1e18, 2e18, 2e18],
        ...     "item": ["a", "b"] * 2, "score": [3.0, 2.0, 2.5, 1.0]}), task="quiz", metric="gold_ce_loss")
        >>> items.mean().tolist()
        [2.5, 1.75]
    """

    task: str
    metric: str
    model: np.ndarray
    step: NDArray[np.int64]
    flops: Array
    scores: np.ndarray = field(repr=False)
    ids: np.ndarray = field(repr=False)
    higher_is_better: bool

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        runs: ScoreTable,
        *,
        task: str | None = None,
        metric: str = "gold_ce_loss",
        array: str = "loss",
        higher_is_better: bool | None = None,
    ) -> ItemScores:
        """Read an npz file of item scores; training compute comes from a score table of the same runs.

        The file holds the arrays `model` [c], `step` [c], the scores [c, items] and, if items have
        names, `item` [items]. Pickled content is refused. A model of the file is the one of `runs` with
        that name, else the only one whose name ends in it after a separator. Of several runs
        of a model (variants, seeds) the file belongs to those that hold all its steps.

        Args:
            path: the file. runs: scores of the runs, with step and flops.
            task: the benchmark; by default what follows `_items_` in the file's name, else its stem.
            metric: how the items were scored. array: name of the array of scores.
            higher_is_better: the direction, where the metric is not a known one.

        Raises:
            StagewiseError: with every defect found.

        Example:
            >>> ItemScores.read("gemstones_items_piqa.npz", table)       # doctest: +SKIP
        """
        path = Path(path)
        arrays = _arrays(path, array)
        model, step, scores = (arrays[name] for name in ("model", "step", array))
        problems = _shape_problems(model, step, scores, arrays.get("item"), array)
        if problems:
            raise _refusal(path, problems)
        model, flops, problems = _compute(model, step, runs)
        if scores.dtype != np.float64:  # half precision is for disks: its sums overflow and round
            scores = scores.astype(np.float32)
        ids = arrays["item"] if "item" in arrays else np.arange(scores.shape[1])
        made = cls(
            task or path.stem.rpartition("_items_")[2], metric, model, step.astype(np.int64), flops, scores,
            ids, _up(metric, higher_is_better),
        )  # fmt: skip
        return _checked(made, path, problems)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, task: str, metric: str, higher_is_better: bool | None = None
    ) -> ItemScores:
        """From a long frame with the columns model, step, flops, item, score: one row per number.

        Raises:
            StagewiseError: a missing column, a pair of checkpoint and item that occurs twice or not at
                all, a checkpoint with two computes, a number that is not finite.
        """
        where = f"item scores of {task}"
        needed = ["model", "step", "flops", "item", "score"]
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            names = ", ".join(needed)
            raise StagewiseError(f"{where}: missing column(s) {', '.join(missing)}; needed are {names}")
        words = [n for n in ("step", "flops", "score") if not pd.api.types.is_numeric_dtype(frame[n])]
        if frame.empty or words or frame[["model", "step", "item"]].isna().any(axis=None):
            what = f"{', '.join(words)} not numeric" if words else "no rows, or NA in model, step or item"
            raise StagewiseError(f"{where}: {what}; valid is a number with all three in each row")
        twice = int(frame.duplicated(["model", "step", "item"]).sum())
        if twice:
            raise _refusal(where, [f"{twice} number(s) for a checkpoint and item that has one already"])
        problems = []
        if (frame.groupby(["model", "step"])["flops"].nunique(dropna=False) > 1).any():
            problems.append("a checkpoint with more than one value of flops")
        wide = frame.pivot(index=["model", "step"], columns="item", values="score")
        flops = frame.groupby(["model", "step"])["flops"].first().reindex(wide.index)
        holes = int(wide.size - len(frame))
        if holes:
            problems.append(f"{holes} checkpoint and item pair(s) without a number")
        model, step = (wide.index.get_level_values(name).to_numpy() for name in ("model", "step"))
        made = cls(
            task, metric, model.astype(str), step.astype(np.int64), flops.to_numpy(dtype=float),
            wide.to_numpy(dtype=float), wide.columns.to_numpy(), _up(metric, higher_is_better),
        )  # fmt: skip
        return _checked(made, where, problems)

    @property
    def x(self) -> Array:
        """log10 FLOPs of each checkpoint, [c]."""
        return np.log10(self.flops)

    @property
    def sign(self) -> float:
        """+1 where higher is better, -1 where lower is."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def n_items(self) -> int:
        return self.scores.shape[1]

    def where(self, mask: np.ndarray) -> ItemScores:
        """The checkpoints for which `mask` [c] is true."""
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != self.step.shape:
            raise UsageError(
                f"where: got an array of {mask.dtype}, {list(mask.shape)}; valid is bool, [{len(self.step)}]"
            )
        if not mask.any():
            raise StagewiseError(f"item scores of {self.task}: no checkpoint left; choose at least one")
        kept = {name: getattr(self, name)[mask] for name in ("model", "step", "flops", "scores")}
        return replace(self, **kept)

    def mean(self, index: np.ndarray | None = None) -> Array:
        """Mean over items (those at `index`, or all) at each checkpoint, [c]."""
        chosen = self.scores if index is None else self.scores[:, index]
        return chosen.mean(axis=1, dtype=float)

    def to_frame(self) -> pd.DataFrame:
        """One row per checkpoint: mean over items, and the spread between them."""
        return pd.DataFrame(
            {
                "task": self.task, "metric": self.metric, "model": self.model, "step": self.step,
                "flops": self.flops, "mean": self.mean(), "sd": self.scores.std(axis=1, dtype=float),
                "n_items": self.n_items,
            }
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>" + self.to_frame().head(10).to_html(index=False)

    def __str__(self) -> str:
        models = f"{len(self.step):,} checkpoints of {len(np.unique(self.model))} models"
        return f"{self.task} ({self.metric}): {self.n_items:,} items at {models}"


def _up(metric: str, given: bool | None) -> bool:
    known = metric_info(metric).higher_is_better if given is None else given
    if known is None:
        raise UsageError(f"metric {metric!r}: unknown direction; give higher_is_better=True or False")
    return known


def _few(names) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refusal(where: object, problems: list[str]) -> StagewiseError:
    lines = [f"{where}: {len(problems)} defect(s)", *(f"  {problem}" for problem in problems)]
    return StagewiseError("\n".join([*lines, "correct the input, then read it again"]))


def _arrays(path: Path, array: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise StagewiseError(f"{path}: no such file; give an npz file of item scores")
    needed = ("model", "step", array)
    try:
        with open(path, "rb") as handle:
            loaded = np.load(handle, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise StagewiseError(f"{path}: a single array; give an npz file with {', '.join(needed)}")
            missing = [name for name in needed if name not in loaded.files]
            if missing:
                raise StagewiseError(
                    f"{path}: missing array(s) {', '.join(missing)}; it has {_few(loaded.files) or 'none'}; "
                    f"needed are {', '.join(needed)}"
                )
            return {name: loaded[name] for name in (*needed, "item") if name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # numpy's own advice is to unpickle; what cannot be read without is refused.
        why = "" if "pickle" in str(error) else f": {error}"
        raise StagewiseError(
            f"{path}: not a readable npz file of plain arrays{why}; give one with {', '.join(needed)}"
        ) from error


def _shape_problems(model, step, scores, item, array: str) -> list[str]:
    problems = []
    if model.dtype.kind != "U" or model.ndim != 1:
        problems.append(f"model: {model.dtype}, {list(model.shape)}; valid is one string per checkpoint")
    if step.dtype.kind not in "iu" or step.shape != model.shape:
        problems.append(f"step: {step.dtype}, {list(step.shape)}; valid is one integer per model entry")
    if scores.dtype.kind not in "fiub" or scores.ndim != 2 or scores.shape[:1] != model.shape:
        problems.append(
            f"{array}: {scores.dtype}, {list(scores.shape)}; valid is numbers, [checkpoints, items], "
            f"with {len(model) if model.ndim else 0} checkpoints"
        )
    elif 0 in scores.shape:
        problems.append(f"{array}: {list(scores.shape)} is empty; valid is a checkpoint and an item at least")
    if item is not None and (item.dtype.kind not in "Uiu" or item.shape != scores.shape[1:]):
        problems.append(f"item: {item.dtype}, {list(item.shape)}; valid is one name or number per item")
    return problems


def _compute(model: np.ndarray, step: np.ndarray, runs: ScoreTable) -> tuple[np.ndarray, Array, list[str]]:
    """Name in the score table and training FLOPs of each checkpoint, and what stood in the way."""
    frame = runs.frame[runs.frame["step"].notna() & (runs.frame["flops"] > 0)]
    known = [str(name) for name in frame["model"].unique()]
    full, flops, problems, taken = model.astype(object), np.full(len(step), np.nan), [], {}
    for name in np.unique(model).tolist():
        # Only whole words: "28x4" is not the end of "1028x4".
        matches = [k for k in known if k == name] or [
            k for k in known if name and k.endswith(name) and not k[-len(name) - 1].isalnum()
        ]
        if len(matches) != 1:
            found = f"{len(matches)} models ({_few(matches)})" if matches else f"none of {_few(known)}"
            problems.append(f"model {name!r}: names {found}; valid is one model of the score table")
            continue
        if matches[0] in taken:
            problems.append(f"model {name!r}: names {matches[0]}, as {taken[matches[0]]!r} does already")
        taken[matches[0]] = name
        rows = np.flatnonzero(model == name)
        full[rows] = matches[0]
        part = frame[frame["model"] == matches[0]].drop_duplicates([*RUN, "step"])
        columns = [
            run.set_index("step")["flops"].reindex(step[rows]).to_numpy(dtype=float)
            for _, run in part.groupby(list(RUN), dropna=False)
        ]
        whole = [column for column in columns if np.isfinite(column).all()]
        if not whole:
            best = min(columns, key=lambda column: np.isnan(column).sum())
            lost = _few(step[rows][np.isnan(best)])
            problems.append(f"model {name!r}: no run of {matches[0]} has step(s) {lost}")
        elif any(not np.allclose(column, whole[0], rtol=1e-6) for column in whole):
            problems.append(f"model {name!r}: runs of {matches[0]} have these steps at unlike compute")
        else:
            flops[rows] = whole[0]
    return full.astype(str), flops, problems


def _checked(items: ItemScores, where: object, problems: list[str]) -> ItemScores:
    """The scores, when nothing is wrong with them; else one error that lists it all."""
    bad = np.argwhere(~np.isfinite(items.scores))
    if len(bad):
        c, i = bad[0]
        problems.append(
            f"{len(bad)} score(s) that are not finite, first: model {items.model[c]}, step {items.step[c]}, "
            f"item {items.ids[i]}: {items.scores[c, i]}"
        )
    twice = pd.DataFrame({"model": items.model, "step": items.step})
    twice = twice[twice.duplicated()]
    if len(twice):
        names = _few(f"{row.model} step {row.step}" for row in twice.itertuples())
        problems.append(f"duplicate checkpoint(s): {names}")
    if len(pd.unique(items.ids)) < len(items.ids):
        problems.append("items with the same name")
    if not problems and not (np.isfinite(items.flops) & (items.flops > 0)).all():
        problems.append("flops that are not positive and finite")
    if problems:
        raise _refusal(where, problems)
    return items
