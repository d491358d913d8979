"""Tasks to watch without a suite file: by name, grouped by capability."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evalsuite.registry import Registry
from scaling.errors import UsageError


@dataclass(frozen=True)
class Listed:
    """One task of a list.

    Attributes:
        task, metric, shots: what is scored. cluster: what it is grouped under. weight: of it in the list.
        items: how many to ask; None for all.
    """

    task: str
    metric: str
    shots: int | None
    cluster: str
    weight: float
    items: int | None = None


@dataclass(frozen=True)
class TaskList:
    """What to watch where no suite has been built: tasks of equal weight.

    Attributes:
        name: what to call it. tasks: of it. low, high: the compute it is meant for, in FLOPs; any, if absent.

    Example:
        >>> [one.cluster for one in TaskList.of(["skill_copy", "skill_add*"], Registry()).tasks]
        ['symbolic', 'arithmetic']
    """

    name: str
    tasks: tuple[Listed, ...]
    low: float = 0.0
    high: float = float("inf")

    @classmethod
    def of(
        cls,
        patterns: Iterable[str],
        registry: Registry,
        *,
        name: str = "tasks",
        metric: str = "bpb",
        items: int | None = None,
    ) -> TaskList:
        """The tasks that fit patterns of the shell.

        Args:
            patterns: such as `skill_*`. registry: where they are found.
            metric: by which they are watched. items: of each at most.

        Raises:
            UsageError: a pattern that fits none.
        """
        names = list(dict.fromkeys(one for each in patterns for one in registry.matching(each)))
        if not names:
            raise UsageError("tasks: none named; give patterns such as 'skill_*'")
        listed = []
        for one in names:
            task = registry.task(one)
            count = None if items is None else min(items, len(task.items))
            cluster = task.info.capability or one
            listed.append(Listed(one, metric, None, cluster, 1 / len(names), count))
        return cls(name, tuple(listed))
