"""Leaving families out. Oracle: families of a made-up world whose part in each class was put in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evalsuite.candidates import candidates_of
from evalsuite.record import stability_line
from evalsuite.select import Selection, select
from evalsuite.settings import Settings
from evalsuite.stability import Stability, leave_families_out
from scaling.classes import Classification, classify
from scaling.scores import ScoreTable
from scaling.series import Key
from scaling.stage import Stage

STAGE = Stage(1e19, 1e21)
# task -> which sizes of which family were scored on it. `carried` and `found` stand on family a, `own` on b.
TASKS = {
    "one": {"a": 12, "b": 12}, "two": {"a": 12, "b": 12},
    "carried": {"a": 12, "b": 1},  # two runs are no curve
    "found": {"a": 12, "b": 3},  # up to 10^18.7, where the task is not understood yet
    "own": {"b": 12},
}  # fmt: skip
MIDDLE = {"found": 21.0}


def world(families: tuple[str, ...] = ("a", "b"), tasks: dict = TASKS) -> ScoreTable:
    """Two runs of each of 12 sizes over 1e18..1e22 in every family, all on one curve per task."""
    rng = np.random.default_rng(0)
    rows = []
    for task, scored in tasks.items():
        for family in families:
            for i, x in enumerate(np.linspace(18, 22, 12)[: scored.get(family, 0)].repeat(2)):
                truth = 0.25 + 0.6 / (1 + np.exp(-3.0 * (x - MIDDLE.get(task, 20.0))))
                rows.append(
                    {"source": "made", "model": f"{family}{i // 2}", "family": family, "seed": i % 2,
                     "flops": 10.0**x, "task": task, "metric": "acc", "shots": 0, "n_items": 1000,
                     "score": truth + rng.normal(0, 0.004)}
                )  # fmt: skip
    # A family without compute carries no curve and is never left out.
    rows.append({**rows[0], "model": "closed", "family": "closed", "flops": np.nan, "score": 0.5})
    return ScoreTable.from_frame(pd.DataFrame(rows))


def built(table: ScoreTable) -> tuple[ScoreTable, Classification, Selection]:
    whole = classify(table, stage=STAGE, replicates=24)
    return table, whole, select(candidates_of(table, whole, STAGE), whole.curves, Settings())


def stability(table: ScoreTable) -> Stability:
    return leave_families_out(*built(table), STAGE, Settings())


@pytest.fixture(scope="module")
def whole() -> tuple[ScoreTable, Classification, Selection]:
    return built(world())


@pytest.fixture(scope="module")
def found(whole) -> Stability:
    return leave_families_out(*whole, STAGE, Settings())


def test_classes_change_where_a_family_carried_them(found: Stability) -> None:
    """By hand: of five tasks, two stand on a and one on b."""
    rows = found.families.set_index("family")
    assert list(rows.index) == ["a", "b"] and (rows["note"] == "").all()
    assert rows["changed"].to_dict() == {"a": 2 / 5, "b": 1 / 5}
    assert rows["runs"].to_dict() == {"a": 12, "b": 12}
    assert rows["tasks"].to_dict() == {"a": 4, "b": 5}
    assert rows["left"].to_dict() == {"a": "carried, found", "b": "own"}
    assert (rows["joined"] == "").all()
    assert found.mean == pytest.approx(0.3) and found.worst == ("a", 0.4)
    assert found.unstable == pytest.approx(3 / 5) and found.measured == 2


def test_each_task_tells_without_how_many_families_it_changes(found: Stability) -> None:
    """By hand: what both families show keeps its class without either."""
    shares = {"carried": 0.5, "found": 0.5, "own": 0.5, "one": 0.0, "two": 0.0}
    assert found.tasks == {Key(task, "acc", 0): share for task, share in shares.items()}


def test_workers_change_nothing(whole, found: Stability) -> None:
    """Oracle: the same in this process."""
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    again = leave_families_out(*whole, STAGE, Settings(), jobs=2, progress=progress)
    pd.testing.assert_frame_equal(again.families, found.families)
    assert again.tasks == found.tasks and seen == [(1, 2), (2, 2)]


def test_one_family_cannot_be_left_out() -> None:
    found = stability(world(("a",)))
    assert found.measured == 0 and found.families.empty and found.tasks == {}
    line = stability_line(found)
    assert line.families == 0 and line.changed is None and line.note == "fewer than two families"


def test_a_family_without_which_nothing_is_left_is_noted() -> None:
    """Planted: nobody else was scored on the tasks of b."""
    found = stability(world(tasks={"one": {"a": 12}, "two": {"a": 12}, "own": {"b": 12}}))
    rows = found.families.set_index("family")
    assert (rows["note"] == "no other family was scored on its tasks").all()
    assert found.measured == 0 and np.isnan(rows["changed"]).all()
    assert stability_line(found).note == "2 families could not be left out"


def test_the_line_says_the_same(found: Stability) -> None:
    line = stability_line(found)
    assert (line.families, line.changed, line.worst, line.worst_changed) == (2, 0.3, "a", 0.4)
    assert (line.unstable, line.places, line.note) == (0.6, 1.5, "")
