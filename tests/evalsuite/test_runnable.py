"""Scores of what can be run here: by task, metric and shots; and suites that ask no more than there is."""

from __future__ import annotations

import pandas as pd
import pytest

from evalsuite.build import build
from evalsuite.registry import Registry
from evalsuite.runnable import runnable
from evalsuite.tasks import TaskFolder
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable
from tests.evalsuite import world
from tests.evalsuite.scored import choice, free, task_folder

ROWS = [
    ("colours", "acc", 0, True),
    ("colours", "acc", None, True),
    ("colours", "bpb", 0, True),
    ("colours", "acc", 5, False),  # no solved examples at hand
    ("colours", "soft", 0, False),  # no likelihood of an answer gives it
    ("skill_copy", "acc", 4, True),
    ("skill_copy", "acc", 3, False),
    ("danger", "acc", 0, False),  # marked unsafe
    ("elsewhere", "acc", 0, False),
]


@pytest.fixture
def registry(tmp_path) -> Registry:
    about = [{"task": "danger", "unsafe": "it runs code"}]
    items = {"colours": [choice(i) for i in range(5)], "danger": [free(i) for i in range(3)]}
    return Registry((TaskFolder.open(task_folder(tmp_path / "t", items, about)),))


def table(rows) -> ScoreTable:
    frame = pd.DataFrame(rows, columns=["task", "metric", "shots", "kept"]).drop(columns="kept")
    return ScoreTable.from_frame(frame.assign(source="s", model="m", score=0.5, n_items=100))


def test_rows_by_task_metric_and_shots(registry):
    """Oracle: the last column of ROWS."""
    found, counts = runnable(table(ROWS), registry)
    left = {(one.task, one.metric, None if pd.isna(one.shots) else int(one.shots))
            for one in found.frame.itertuples()}  # fmt: skip
    assert left == {(task, metric, shots) for task, metric, shots, kept in ROWS if kept}
    assert counts == {"colours": 5, "skill_copy": 400, "danger": 3}
    assert sum(one.count for one in found.omissions) == sum(not kept for *_, kept in ROWS)


def test_nothing_that_can_be_run(registry):
    with pytest.raises(StagewiseError, match=r"no score is of a task at hand .*--items DIR"):
        runnable(table([row for row in ROWS if not row[3]]), registry)


def test_a_suite_asks_no_more_items_than_there_are():
    scores = world.table()
    plain = build(scores, "1e19..1e21").suite
    few = {task.task: 7 for task in (*plain.tasks, *plain.held_out)}
    found = build(scores, "1e19..1e21", at_hand=few).suite
    assert {task.items for task in (*found.tasks, *found.held_out)} == {7}
    assert [task.task for task in found.tasks] == [task.task for task in plain.tasks]
