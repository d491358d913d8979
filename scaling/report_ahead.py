"""Forecasts and back-tests as the commands print them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
import typer

from scaling.backtests import OURS, Backtest
from scaling.console import flops, note, print_omissions, print_table
from scaling.forecasts import LARGEST, Forecasts
from scaling.trend import MIN_CLUSTERS

LAST = "last value"
PLAIN = (LAST, "method: level")  # which say that nothing more will be learned
UNITS = {"proportion": "points", "bits": "bits", "loss": "nats"}


def forecast_rows(found: Forecasts, settings: Mapping[str, Any]) -> pd.DataFrame:
    """One row per task and target; `target` is the compute that was asked for, in FLOPs."""
    frame = found.to_frame()
    at = frame.columns.get_loc("flops")
    frame.insert(at, "target", np.tile(np.asarray(settings["targets"], dtype=float), len(found)))  # pyright: ignore
    return frame


def forecasts_json(found: Forecasts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings`, `forecasts` (each with its `targets` and `methods`), `omissions`.

    A method's `values` are at the targets, in their order. Where an interval is not identified its ends are
    null. `flops` is the place on the axis: 6 N (bytes of text) where that counts bytes.
    """
    rows = []
    for one in found:
        made, place = one.blend, one.place
        told = np.isfinite(one.low)
        rows.append(
            {
                **one.key._asdict(),
                "bridge": one.bridge,
                "exponent": one.exponent,
                "n_runs": len(np.unique(made.panel.run)),
                "n_clusters": made.panel.clusters[0],
                "largest_flops": 10.0 ** made.panel.x.max(),
                "targets": [
                    {
                        "target": settings["targets"][i], "flops": one.flops[i], "beyond": one.beyond[i],
                        "per_param": 10.0 ** made.ratio[i], "value": one.value[i], "low": one.low[i],
                        "high": one.high[i], "status": "identified" if told[i] else "not identified",
                    }
                    for i in range(len(one.flops))
                ],
                "methods": [
                    {
                        "method": name, "weight": made.weights[place, i], "past_rmse": made.past[place, i],
                        "values": made.members[place, i].tolist(),
                    }
                    for i, name in enumerate(made.methods)
                ],
            }
        )  # fmt: skip
    return {
        "settings": dict(settings), "forecasts": rows, "omissions": [asdict(one) for one in found.omissions],
    }  # fmt: skip


def print_forecasts(found: Forecasts, settings: Mapping[str, Any]) -> None:
    """Settings and one row per task and target, by metric and task."""
    ratio = settings["tokens_per_param"]
    data = f"as the {LARGEST} largest runs" if ratio is None else f"{ratio:g}"
    axis = ""
    if settings["axis"] == "bytes":
        axis = f"; data counted in bytes of text, {settings['bytes_per_token']:g} bytes per token"
    targets = ", ".join(flops(value) for value in settings["targets"])
    typer.echo(f"target {targets} FLOPs, tokens per parameter {data}{axis}; interval of a new run's score")
    rows = []
    for one in sorted(found, key=lambda one: (one.key.metric, one.key.task, one.key.shots or 0)):
        for i, target in enumerate(settings["targets"]):
            told = math.isfinite(one.low[i])
            between = f"{one.low[i]:.4g}..{one.high[i]:.4g}" if told else "not identified"
            rows.append(
                (
                    one.key.task, one.key.metric, "" if one.key.shots is None else str(one.key.shots),
                    flops(target), f"{one.value[i]:.4g}", between, f"{one.beyond[i]:.3g}x", _leading(one),
                )
            )  # fmt: skip
    columns = (
        "task",
        "metric",
        "shots",
        "target",
        "value",
        f"{settings['level']:.0%}",
        "beyond",
        "mostly by",
    )
    print_table(columns, rows, right=("shots", "target", "value", "beyond"))
    note(
        "beyond: times the largest compute in the data (coverage of the intervals was checked up to 10x); "
        "mostly by: the method of most weight, --json has all"
    )
    print_omissions(found.omissions)


def _leading(one) -> str:
    best = one.methods.loc[one.methods["weight"].idxmax()]
    return f"{best['method']} {best['weight']:.0%}"


def backtest_rows(found: Backtest) -> pd.DataFrame:
    """All rows, with NA where the number of shots is not known."""
    shots = found.rows["shots"].astype("Int64")
    return found.rows.assign(shots=shots.where(shots >= 0))


def verdicts(found: Backtest, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether the forecast beats the last value carried forward, one dict per metric family.

    `verdict` is `beats`, `loses`, `no difference shown` (the interval of the gain holds 0), or `not
    identified` (fewer tasks than an interval needs). `better` names methods that beat the forecast itself.
    """
    out = []
    for family, part in summary.groupby("family", sort=True):
        rows = part.set_index("method")
        mine, last = (cast("pd.Series[float]", rows.loc[name]) for name in (OURS, LAST))
        of_family = found.rows[found.rows["family"] == family]
        tasks = len(of_family.drop_duplicates(["task"]))
        low, high = float(last["gain_low"]), float(last["gain_high"])
        told = tasks >= MIN_CLUSTERS
        if not told:
            verdict = "not identified"
        else:
            verdict = "beats" if low > 0 else "loses" if high < 0 else "no difference shown"
        better = [str(name) for name in rows.index[rows["gain_high"] < 0]] if told else []
        one = {
            "family": family, "verdict": verdict, "unit": UNITS.get(str(family), ""),
            "forecast_error": float(mine["mean"]), "last_value_error": float(last["mean"]),
            "gain": float(last["gain"]), "gain_low": low if told else math.nan,
            "gain_high": high if told else math.nan, "tasks": tasks,
            "runs": int(of_family[["group", "run"]].drop_duplicates().shape[0]), "better": better,
        }  # fmt: skip
        out.append({**one, "text": _sentence(one)})
    return out


def _sentence(one: Mapping[str, Any]) -> str:
    errors = (
        f"mean error {one['forecast_error']:.3g} against {one['last_value_error']:.3g} {one['unit']}".rstrip()
    )
    between = f"gain {one['gain']:.3g} [{one['gain_low']:.3g}, {one['gain_high']:.3g}]"
    over = f"over {one['tasks']} task(s) and {one['runs']} run(s)"
    text = {
        "beats": f"the forecast beats the last value carried forward: {errors}, {between}, {over}",
        "loses": f"the last value carried forward beats the forecast: {errors}, {between}, {over}",
        "no difference shown": "the forecast is not shown to beat the last value carried forward: "
        f"{errors}, {between} holds 0, {over}",
        "not identified": "whether the forecast beats the last value carried forward is not identified: "
        f"{errors}, {over}, and an interval needs {MIN_CLUSTERS} tasks",
    }[one["verdict"]]
    more = f"; better than the forecast: {', '.join(one['better'])}" if one["better"] else ""
    return f"{one['family']}: {text}{more}"


def backtest_json(found: Backtest, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings`, `cut` in words, `verdicts`, `summary`, `tasks` (mean error of each method), `omissions`."""
    summary = found.summary(seed=settings["seed"])
    tasks = found.by_task()
    tasks["shots"] = tasks["shots"].astype("Int64").where(tasks["shots"] >= 0)
    return {
        "settings": dict(settings),
        "cut": found.cut,
        "verdicts": verdicts(found, summary),
        "summary": summary.to_dict("records"),
        "tasks": tasks.to_dict("records"),
        "omissions": [asdict(one) for one in found.omissions],
    }


def print_backtest(found: Backtest, settings: Mapping[str, Any], *, per_task: bool = False) -> None:
    """The cut, the verdicts, and one row per metric family and method; errors in points where they can be."""
    summary = found.summary(seed=settings["seed"])
    typer.echo(f"{found.cut}; interval level {settings['level']:g}, seed {settings['seed']}")
    for one in verdicts(found, summary):
        typer.echo(one["text"])
    columns = (
        "family", "method", "mean", "median", "largest", "relative", "gain", "95%", "targets", "failed",
        "identified", "covered",
    )  # fmt: skip
    enough = {one["family"]: one["tasks"] >= MIN_CLUSTERS for one in verdicts(found, summary)}
    rows = []
    for one in summary.to_dict("records"):
        ours = one["method"] == OURS
        between = "" if ours or not one["targets"] else "not identified"
        if not ours and one["targets"] and enough[one["family"]]:
            between = f"{one['gain_low']:.3g}..{one['gain_high']:.3g}"
        rows.append(
            (
                one["family"], one["method"], _figure(one["mean"]), _figure(one["median"]),
                _figure(one["largest"]), _share(one["relative"]), _figure(one.get("gain")), between,
                f"{one['targets']:,}", str(one["failed"]), _share(one.get("identified")),
                _share(one.get("covered")),
            )
        )  # fmt: skip
    right = ("mean", "median", "largest", "relative", "gain", "targets", "failed", "identified", "covered")
    print_table(columns, rows, right=right)
    if per_task:
        typer.echo("")
        _print_tasks(found)
    note(
        "absolute errors, in points where the metric is a proportion; relative: to the observed score; gain: "
        "how much less the forecast errs, "
        "its interval from resampling tasks, not runs; covered: share of identified intervals that hold"
    )
    print_omissions(found.omissions)


def _print_tasks(found: Backtest) -> None:
    table = found.by_task()
    methods = [name for name in table.columns if name not in ("task", "metric", "shots")]
    table = table.sort_values(["metric", "task", "shots"], kind="stable")
    rows = [
        (
            one["task"], one["metric"], "" if one["shots"] < 0 else str(one["shots"]),
            *(_figure(one[name]) for name in methods),
        )
        for one in table.to_dict("records")
    ]  # fmt: skip
    print_table(("task", "metric", "shots", *methods), rows, right=("shots", *methods))
    unbeaten = table[~(table[[name for name in methods if name not in PLAIN]].min(axis=1) < table[LAST])]
    names = ", ".join(f"{one['task']} ({one['metric']})" for one in unbeaten.to_dict("records"))
    typer.echo(f"tasks where no method beats the last value carried forward: {names or 'none'}")


def _figure(value: Any) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _share(value: Any) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.0%}"
