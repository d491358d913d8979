"""Suites of benchmarks: what to run at which stage of a training run, on what evidence, and the run itself.

A suite is a reviewable YAML file that this package builds from the classes and clusters that :mod:`scaling`
found in real scores; a scorer runs it on any torch module, and a hook runs it along a training run. The
package is made to be imported into other people's trainers: importing it loads neither torch nor lm_eval, and
it never imports the ``train`` and ``data`` packages of this project, whose names a trainer's own folder may
hold too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalsuite.averaging import Averaging
    from evalsuite.encoding import Encoder
    from evalsuite.evaluations import Evaluations
    from evalsuite.hook import EvalHook
    from evalsuite.items import Item
    from evalsuite.likelihoods import Likelihoods
    from evalsuite.registry import Registry
    from evalsuite.results import Results
    from evalsuite.scorer import Scorer
    from evalsuite.settings import Settings
    from evalsuite.suite import Suite
    from evalsuite.task_list import TaskList
    from evalsuite.tasks import Task, TaskFolder

__all__ = [
    "Averaging",
    "Encoder",
    "EvalHook",
    "Evaluations",
    "Item",
    "Likelihoods",
    "Registry",
    "Results",
    "Scorer",
    "Settings",
    "Suite",
    "Task",
    "TaskFolder",
    "TaskList",
]

_HOME = {
    "Averaging": "averaging",
    "Encoder": "encoding",
    "EvalHook": "hook",
    "Evaluations": "evaluations",
    "Item": "items",
    "Likelihoods": "likelihoods",
    "Registry": "registry",
    "Results": "results",
    "Scorer": "scorer",
    "Settings": "settings",
    "Suite": "suite",
    "Task": "tasks",
    "TaskFolder": "tasks",
    "TaskList": "task_list",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, when it is asked for."""
    if name in _HOME:
        return getattr(import_module(f"evalsuite.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
