"""Which scores are of tasks that can be run here."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from evalsuite.measures import METRICS
from evalsuite.registry import Registry
from evalsuite.tasks import Task
from scaling.errors import StagewiseError
from scaling.scores import ScoreTable


def runnable(table: ScoreTable, registry: Registry) -> tuple[ScoreTable, dict[str, int]]:
    """The scores that `evalsuite run` could measure again with the tasks at hand.

    Those of a task in the registry, by a metric that the likelihoods of its answers give, with as many solved
    examples as it can be asked with.

    Args:
        table: the scores. registry: the tasks at hand.

    Returns:
        Their rows, the others counted in `omissions`, and how many items each task has.

    Raises:
        StagewiseError: there are none; or broken items.

    Example:
        >>> runnable(table, Registry.open(["benchmarks"]))[1]["piqa"]         # doctest: +SKIP
        500
    """
    frame = table.frame
    known = set(registry.names())
    tasks = {name: registry.task(name) for name in frame["task"].unique() if name in known}
    shown = frame[["task", "metric", "shots"]].drop_duplicates()
    kept = {
        (one.task, one.metric, _shots(one.shots))
        for one in shown.itertuples()
        if one.metric in METRICS and _asked(tasks, str(one.task), _shots(one.shots))
    }
    if not kept:
        raise StagewiseError(
            f"--runnable: no score is of a task at hand ({len(known)} tasks) in a metric and number of shots "
            "it can be run with; add the folder of the benchmarks (--items DIR, or evalsuite tasks --add DIR)"
        )
    keys = zip(frame["task"], frame["metric"], map(_shots, frame["shots"]), strict=True)
    mask = pd.Series([key in kept for key in keys], index=frame.index)
    rows = table.where(mask, "not a task, metric and shots that can be run here (--runnable)")
    return rows, {name: len(task.items) for name, task in tasks.items()}


def _shots(value) -> int | None:
    return None if str(value) == "<NA>" else int(value)


def _asked(tasks: Mapping[str, Task], name: str, shots: int | None) -> bool:
    return name in tasks and not tasks[name].unsafe and (shots is None or shots in tasks[name].shots)
