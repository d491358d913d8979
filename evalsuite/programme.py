"""What the hook runs: suites and lists of tasks in one form, each with the compute it is meant for."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.registry import Registry
from evalsuite.results import Wanted
from evalsuite.suite import Suite
from evalsuite.task_list import TaskList
from scaling.errors import StagewiseError, UsageError


@dataclass(frozen=True)
class Part:
    """One task of a programme: what is asked, and what it stands for.

    Attributes:
        wanted: what is asked. cluster: of the suite. weight: in it. capability: of the task, where known.
    """

    wanted: Wanted
    cluster: str
    weight: float
    capability: str


@dataclass(frozen=True)
class Programme:
    """A suite as the hook runs it.

    Attributes:
        name: in folders and trackers. low, high: FLOPs. parts: its tasks. suite: the file, where it is one.
    """

    name: str
    low: float
    high: float
    parts: tuple[Part, ...]
    suite: Suite | None = None

    def wanted(self, share: float = 1.0, least: int = 1) -> tuple[Wanted, ...]:
        """The tasks, with a share of their items: of a smaller share those of a larger one come first.

        Args:
            share: of the items. least: items of a task that are asked in any case.
        """
        return tuple(_thinned(part.wanted, share, least) for part in self.parts)

    def told(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "name": self.name, "low": self.low, "high": self.high if math.isfinite(self.high) else None,
            "tasks": [
                {
                    "task": one.wanted.task, "metric": one.wanted.metric, "shots": one.wanted.shots,
                    "cluster": one.cluster, "weight": one.weight, "capability": one.capability,
                }
                for one in self.parts
            ],
        }  # fmt: skip


def programmes(
    suites: Suite | TaskList | str | os.PathLike[str] | Sequence[Any], registry: Registry
) -> tuple[Programme, ...]:
    """Suites, files of suites, and lists of tasks, as programmes in the order of their stages.

    Raises:
        UsageError: none, two of one name, something else. StagewiseError: a broken file.
    """
    given = [suites] if isinstance(suites, Suite | TaskList | str | os.PathLike) else list(suites)
    found = [_programme(one, registry) for one in given]
    if not found:
        raise UsageError("suites: none given; give suite files, or a TaskList")
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"suites: two are named {twice[0]!r}; give each stage a name of its own")
    return tuple(sorted(found, key=lambda one: (one.low, one.high, one.name)))


def _programme(one: Any, registry: Registry) -> Programme:
    if isinstance(one, TaskList):
        parts = tuple(
            _part(
                registry,
                Wanted(task=t.task, metric=t.metric, shots=t.shots, items=t.items),
                t.cluster,
                t.weight,
            )
            for t in one.tasks
        )
        return Programme(one.name, one.low, one.high, parts)
    if isinstance(one, str | os.PathLike):
        path, one = Path(one), Suite.read(one)
        name = one.stage.name or path.stem
    elif isinstance(one, Suite):
        name = one.stage.name or f"{one.stage.low:g}-{one.stage.high:g}"
    else:
        raise UsageError(
            f"suites: got {type(one).__name__}, valid is a path of a suite file, a Suite, or a TaskList"
        )
    parts = tuple(
        _part(
            registry,
            Wanted(task=t.task, metric=t.metric, shots=t.shots, items=None if t.item_ids else t.items,
                   item_ids=t.item_ids, role="scored"),
            f"cluster {t.cluster}", t.weight,
        )
        for t in one.tasks
    )  # fmt: skip
    return Programme(name, one.stage.low, one.stage.high, parts, one)


def _part(registry: Registry, wanted: Wanted, cluster: str, weight: float) -> Part:
    try:
        capability = registry.task(wanted.task).info.capability or cluster
    except StagewiseError:  # told when it is to be scored; the others are run
        capability = cluster
    return Part(wanted, cluster, weight, capability)


def _thinned(wanted: Wanted, share: float, least: int) -> Wanted:
    if share >= 1:
        return wanted
    if wanted.item_ids is not None:
        count = min(len(wanted.item_ids), max(least, round(share * len(wanted.item_ids))))
        order = sorted(wanted.item_ids, key=lambda one: hashlib.sha256(one.encode()).digest())
        kept = set(order[:count])
        return wanted.model_copy(update={"item_ids": tuple(one for one in wanted.item_ids if one in kept)})
    if wanted.items is None:
        return wanted
    return wanted.model_copy(update={"items": min(wanted.items, max(least, round(share * wanted.items)))})


def settled(found: Programme, sizes: Mapping[str, int]) -> Programme:
    """A programme whose tasks say how many items they have, so that a share of them can be asked.

    Args:
        found: the programme. sizes: items by task.
    """

    def one(part: Part) -> Part:
        wanted, size = part.wanted, sizes.get(part.wanted.task)
        if size is None or wanted.item_ids is not None:
            return part
        return replace(part, wanted=wanted.model_copy(update={"items": min(wanted.items or size, size)}))

    return replace(found, parts=tuple(map(one, found.parts)))
