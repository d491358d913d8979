"""At which compute does a benchmark tell a better language model from a worse one?

Scores of many models become curves over training compute, curves and noise become windows, and windows
say for which stage of a training run a task is informative::

    import scaling

    table = scaling.read_scores("results/")
    classes = scaling.classify(table, stage="1e19..1e21")
    classes.plot().figure.savefig("windows.png")

The names below are loaded when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.classes import Classification, TaskClass, classify
    from scaling.cluster import Clusters, cluster_tasks
    from scaling.curves import Curve, CurveSet, fit_curves
    from scaling.errors import BadScores, StagewiseError, UnknownFormat, UsageError
    from scaling.estimators import ConstantLaw, GompertzLaw, PowerLaw, SigmoidLaw, SizeDataLaw
    from scaling.metrics import MetricInfo, metric_info
    from scaling.models import ModelInfo, model_info
    from scaling.plot import plot_clusters, plot_curve, plot_law, plot_windows
    from scaling.readers import read_scores
    from scaling.scores import Omission, ScoreTable
    from scaling.series import Key
    from scaling.sources import fetch, list_sources
    from scaling.stage import Stage
    from scaling.tasks import TaskInfo, task_info

# Name -> the module it lives in.
_HOME = {
    "BadScores": "errors",
    "Classification": "classes",
    "Clusters": "cluster",
    "ConstantLaw": "estimators",
    "Curve": "curves",
    "CurveSet": "curves",
    "GompertzLaw": "estimators",
    "Key": "series",
    "MetricInfo": "metrics",
    "ModelInfo": "models",
    "Omission": "scores",
    "PowerLaw": "estimators",
    "ScoreTable": "scores",
    "SigmoidLaw": "estimators",
    "SizeDataLaw": "estimators",
    "Stage": "stage",
    "StagewiseError": "errors",
    "TaskClass": "classes",
    "TaskInfo": "tasks",
    "UnknownFormat": "errors",
    "UsageError": "errors",
    "classify": "classes",
    "cluster_tasks": "cluster",
    "fetch": "sources",
    "fit_curves": "curves",
    "list_sources": "sources",
    "metric_info": "metrics",
    "model_info": "models",
    "plot_clusters": "plot",
    "plot_curve": "plot",
    "plot_law": "plot",
    "plot_windows": "plot",
    "read_scores": "readers",
    "task_info": "tasks",
}

__all__ = [
    "BadScores",
    "Classification",
    "Clusters",
    "ConstantLaw",
    "Curve",
    "CurveSet",
    "GompertzLaw",
    "Key",
    "MetricInfo",
    "ModelInfo",
    "Omission",
    "PowerLaw",
    "ScoreTable",
    "SigmoidLaw",
    "SizeDataLaw",
    "Stage",
    "StagewiseError",
    "TaskClass",
    "TaskInfo",
    "UnknownFormat",
    "UsageError",
    "classify",
    "cluster_tasks",
    "fetch",
    "fit_curves",
    "list_sources",
    "metric_info",
    "model_info",
    "plot_clusters",
    "plot_curve",
    "plot_law",
    "plot_windows",
    "read_scores",
    "task_info",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
