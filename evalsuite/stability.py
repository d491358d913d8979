"""Would the suite be another one without one of the families it was built from?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from evalsuite.candidates import candidates_of
from evalsuite.select import Selection, select
from evalsuite.settings import Settings
from scaling.classes import Classification, classify
from scaling.errors import StagewiseError
from scaling.parallel import parallel_map
from scaling.scores import ScoreTable
from scaling.series import Key, series_of
from scaling.stage import Stage


@dataclass(frozen=True)
class Stability:
    """Classes and places recomputed with each family left out.

    Attributes:
        families: one row per family left out: runs (with compute), tasks (whose scores it holds), changed
            (share of all classified tasks whose class changes), joined and left (tasks that enter the scored
            or held-out tasks, and that leave them), note (why a family could not be left out).
        tasks: for each classified key the share of families without which its class is another one.
    """

    families: pd.DataFrame
    tasks: dict[Key, float]

    @property
    def measured(self) -> int:
        """How many families could be left out."""
        return int((self.families["note"] == "").sum()) if len(self.families) else 0

    @property
    def mean(self) -> float:
        """Share of tasks whose class changes, mean over families."""
        return float(self._told["changed"].mean())

    @property
    def worst(self) -> tuple[str, float]:
        """The family whose absence changes most classes, and the share."""
        row = self._told.sort_values(["changed", "family"], ascending=[False, True]).iloc[0]
        return str(row["family"]), float(row["changed"])

    @property
    def unstable(self) -> float:
        """Share of tasks whose class changes without at least one family."""
        values = list(self.tasks.values())
        return sum(value > 0 for value in values) / len(values) if values else float("nan")

    @property
    def _told(self) -> pd.DataFrame:
        return self.families[self.families["note"] == ""]

    def to_frame(self) -> pd.DataFrame:
        """One row per family."""
        return self.families

    def _repr_html_(self) -> str:
        return self.families.to_html(index=False)


def leave_families_out(
    table: ScoreTable,
    whole: Classification,
    selection: Selection,
    stage: Stage,
    settings: Settings,
    *,
    held_out: bool = True,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Stability:
    """Classify and select again without each family in turn.

    Only the tasks that a family was scored on are fitted again (the others do not know it), with the same
    settings, seed and bootstrap draws, so that nothing but the family differs.

    Args:
        table: the scores. whole, selection: what they gave with all families; before any budget.
        stage, settings, held_out: as they were built with.
        jobs, progress: see `scaling.parallel.parallel_map`.

    Returns:
        The stability; with fewer than two families that carry compute there is nothing to leave out.

    Example:
        >>> leave_families_out(table, built.classification, selection, stage, settings)   # doctest: +SKIP
    """
    frame = table.frame
    with_compute = frame[frame["flops"] > 0]
    runs = with_compute.groupby("family")["model"].nunique()
    families = sorted(map(str, runs.index))
    columns = ["family", "runs", "tasks", "changed", "joined", "left", "note"]
    if len(families) < 2:
        return Stability(pd.DataFrame(columns=columns), {})
    work = partial(
        _without, table=table, whole=whole, selection=selection, stage=stage, settings=settings,
        held_out=held_out,
    )  # fmt: skip
    found = parallel_map(work, families, jobs=jobs, progress=progress)
    rows = [
        {"family": family, "runs": int(runs[family]), **row}
        for family, (row, _) in zip(families, found, strict=True)
    ]
    told = [changed for _, changed in found if changed is not None]
    share = {one.key: sum(one.key in keys for keys in told) / max(len(told), 1) for one in whole.tasks}
    return Stability(pd.DataFrame(rows, columns=columns), share)


def _without(
    family: str, *, table: ScoreTable, whole: Classification, selection: Selection, stage: Stage,
    settings: Settings, held_out: bool,
) -> tuple[dict, set[Key] | None]:  # fmt: skip
    frame = table.frame
    mine = frame["family"] == family
    names = ["task", "metric", "shots"]
    there = frame[mine & (frame["flops"] > 0)]
    touched = {Key.of(*key) for key in there[names].drop_duplicates().itertuples(index=False)}
    blank = {"tasks": len(touched), "changed": float("nan"), "joined": "", "left": "", "note": ""}
    every = frame[names].drop_duplicates()
    wanted = every[[Key.of(*key) in touched for key in every.itertuples(index=False)]]
    shown = pd.MultiIndex.from_frame(frame[names].astype("string").fillna("")).isin(
        pd.MultiIndex.from_frame(wanted.astype("string").fillna(""))
    )
    rest = table.where(~mine & pd.Series(shown, index=frame.index), f"without {family}")
    asked = whole.settings
    try:
        if not series_of(rest, points=asked.points)[0]:
            raise StagewiseError("no other family was scored on its tasks")
        again = classify(
            rest, early_by=asked.early_by, stage=None if asked.stage is None else Stage(*asked.stage),
            threshold=asked.threshold, horizon=asked.horizon, level=asked.level, points=asked.points,
            replicates=asked.replicates, seed=asked.seed,
        )  # fmt: skip
        merged = _merged(whole, again, touched)
        other = select(
            candidates_of(table, merged, stage), merged.curves, settings, held_out=held_out, seed=asked.seed
        )
    except StagewiseError as error:
        return {**blank, "note": str(error)}, None
    before = {one.key: one.klass for one in whole.tasks}
    after = {one.key: one.klass for one in merged.tasks}
    changed = {key for key in before if after.get(key) != before[key]}
    was, now = _places(selection), _places(other)
    return {
        **blank, "changed": len(changed) / len(before), "joined": ", ".join(sorted(now - was)),
        "left": ", ".join(sorted(was - now)),
    }, changed  # fmt: skip


def _merged(whole: Classification, again: Classification, touched: set[Key]) -> Classification:
    """The classes without a family: new ones where it was scored, the old ones elsewhere."""
    tasks = [one for one in whole.tasks if one.key not in touched] + list(again.tasks)
    curves = [one for one in whole.curves if one.key not in touched] + list(again.curves)
    tasks.sort(key=lambda one: _order(one.key))
    curves.sort(key=lambda one: _order(one.key))
    return replace(whole, tasks=tuple(tasks), curves=replace(whole.curves, curves=tuple(curves)))


def _places(selection: Selection) -> set[str]:
    return {one.key.task for one in selection.decisions if one.verdict != "dropped"}


def _order(key: Key) -> tuple:
    return key.task, key.metric, -1 if key.shots is None else key.shots
