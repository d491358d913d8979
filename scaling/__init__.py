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
    from scaling.agreement import DecisionAccuracy, decision_accuracy
    from scaling.backtests import Backtest, backtest
    from scaling.classes import Classification, TaskClass, classify
    from scaling.cluster import Clusters, cluster_tasks
    from scaling.curves import Curve, CurveSet, fit_curves
    from scaling.decisions import Decisions, decide
    from scaling.effective import EffectiveCompute, effective_compute
    from scaling.errors import BadScores, StagewiseError, UnknownFormat, UsageError
    from scaling.estimators import ConstantLaw, GompertzLaw, PowerLaw, SigmoidLaw, SizeDataLaw
    from scaling.forecasts import Forecast, Forecasts, forecast, forecast_all
    from scaling.item_reports import ItemReport, item_report
    from scaling.item_subsets import ItemChoice, ItemsNeeded, choose_items, items_needed
    from scaling.item_windows import ItemHalves, ItemWindows, early_late
    from scaling.items import ItemScores
    from scaling.latent import LatentAbility
    from scaling.metrics import MetricInfo, metric_info
    from scaling.models import ModelInfo, model_info
    from scaling.parallel import parallel_map
    from scaling.plot import (
        plot_backtest,
        plot_clusters,
        plot_curve,
        plot_decisions,
        plot_forecast,
        plot_law,
        plot_windows,
    )
    from scaling.readers import read_scores
    from scaling.recipes import RecipeTable, like_pairs, recipes_of
    from scaling.scores import Omission, ScoreTable
    from scaling.series import Key
    from scaling.signal import Signal, recipe_signal
    from scaling.sources import fetch, list_sources
    from scaling.stage import Stage
    from scaling.tasks import TaskInfo, task_info
    from scaling.text_bytes import in_text_bytes

# Name -> the module it lives in.
_HOME = {
    "Backtest": "backtests",
    "BadScores": "errors",
    "Classification": "classes",
    "Clusters": "cluster",
    "ConstantLaw": "estimators",
    "Curve": "curves",
    "CurveSet": "curves",
    "DecisionAccuracy": "agreement",
    "Decisions": "decisions",
    "EffectiveCompute": "effective",
    "Forecast": "forecasts",
    "Forecasts": "forecasts",
    "GompertzLaw": "estimators",
    "ItemChoice": "item_subsets",
    "ItemHalves": "item_windows",
    "ItemReport": "item_reports",
    "ItemScores": "items",
    "ItemWindows": "item_windows",
    "ItemsNeeded": "item_subsets",
    "Key": "series",
    "LatentAbility": "latent",
    "MetricInfo": "metrics",
    "ModelInfo": "models",
    "Omission": "scores",
    "PowerLaw": "estimators",
    "RecipeTable": "recipes",
    "ScoreTable": "scores",
    "SigmoidLaw": "estimators",
    "Signal": "signal",
    "SizeDataLaw": "estimators",
    "Stage": "stage",
    "StagewiseError": "errors",
    "TaskClass": "classes",
    "TaskInfo": "tasks",
    "UnknownFormat": "errors",
    "UsageError": "errors",
    "backtest": "backtests",
    "choose_items": "item_subsets",
    "classify": "classes",
    "cluster_tasks": "cluster",
    "decide": "decisions",
    "decision_accuracy": "agreement",
    "early_late": "item_windows",
    "effective_compute": "effective",
    "fetch": "sources",
    "fit_curves": "curves",
    "forecast": "forecasts",
    "forecast_all": "forecasts",
    "in_text_bytes": "text_bytes",
    "item_report": "item_reports",
    "items_needed": "item_subsets",
    "like_pairs": "recipes",
    "list_sources": "sources",
    "metric_info": "metrics",
    "model_info": "models",
    "parallel_map": "parallel",
    "plot_backtest": "plot",
    "plot_clusters": "plot",
    "plot_curve": "plot",
    "plot_decisions": "plot",
    "plot_forecast": "plot",
    "plot_law": "plot",
    "plot_windows": "plot",
    "read_scores": "readers",
    "recipe_signal": "signal",
    "recipes_of": "recipes",
    "task_info": "tasks",
}

__all__ = [
    "Backtest",
    "BadScores",
    "Classification",
    "Clusters",
    "ConstantLaw",
    "Curve",
    "CurveSet",
    "DecisionAccuracy",
    "Decisions",
    "EffectiveCompute",
    "Forecast",
    "Forecasts",
    "GompertzLaw",
    "ItemChoice",
    "ItemHalves",
    "ItemReport",
    "ItemScores",
    "ItemWindows",
    "ItemsNeeded",
    "Key",
    "LatentAbility",
    "MetricInfo",
    "ModelInfo",
    "Omission",
    "PowerLaw",
    "RecipeTable",
    "ScoreTable",
    "SigmoidLaw",
    "Signal",
    "SizeDataLaw",
    "Stage",
    "StagewiseError",
    "TaskClass",
    "TaskInfo",
    "UnknownFormat",
    "UsageError",
    "backtest",
    "choose_items",
    "classify",
    "cluster_tasks",
    "decide",
    "decision_accuracy",
    "early_late",
    "effective_compute",
    "fetch",
    "fit_curves",
    "forecast",
    "forecast_all",
    "in_text_bytes",
    "item_report",
    "items_needed",
    "like_pairs",
    "list_sources",
    "metric_info",
    "model_info",
    "parallel_map",
    "plot_backtest",
    "plot_clusters",
    "plot_curve",
    "plot_decisions",
    "plot_forecast",
    "plot_law",
    "plot_windows",
    "read_scores",
    "recipe_signal",
    "recipes_of",
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
