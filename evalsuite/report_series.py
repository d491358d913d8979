"""The series of a score table as the report shows them: a row of its table, and a curve on its page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from evalsuite.cost import Cost, cost_of
from evalsuite.figures import amount, flops, number
from evalsuite.report_charts import polyline
from evalsuite.suite import Suite
from scaling.classes import Classification
from scaling.curves import Curve
from scaling.evidence import CLASSES, TaskClass
from scaling.report import probability
from scaling.scores import ScoreTable
from scaling.series import Key, with_runs

SPARK_WIDTH, SPARK_HEIGHT = 84, 24
GRID = 41  # places at which a curve and its band are drawn
_SPARKS = 14  # dots of a sparkline
_NUMBERS = 90_000  # scores on the page: more are thinned, all curves alike
_FEWEST, _MOST = 40, 400  # dots of one curve
_SIZES = 6  # colours for sizes of models
_SHAPES = 5  # shapes for families; more families are not told apart


def series_rows(found: Classification, suite: Suite | None) -> list[dict[str, Any]]:
    """One row per (task, metric, shots), in order of key: what the table shows and sorts by.

    Args:
        found: the classes and their curves. suite: whose weights and reasons stand beside them.
    """
    places = _places(suite)
    curves = {curve.key: curve for curve in found.curves}
    return [_row(one, curves[one.key], places) for one in found.tasks]


def _row(one: TaskClass, curve: Curve, places: Mapping[Key, tuple[str, float | None, str]]) -> dict[str, Any]:
    info, items = curve.series.info, curve.series.n_items
    known = items[np.isfinite(items)]
    cost = cost_of(one.key, info, round(float(np.median(known))) if len(known) else None)
    role, weight, reason = places.get(one.key, ("", None, ""))
    seen = one.closes <= 10.0 ** curve.span[1]
    return {
        "task": one.task, "metric": one.metric, "shots": one.shots, "family": curve.series.metric.family,
        "capability": info.capability or "unknown", "class": one.klass,
        "p": [_plain(probability(one, name)) for name in CLASSES],
        "opens": _plain(one.opens), "opens_told": _opens(one), "opens_between": _between(one, "opens"),
        "closes": _plain(one.closes) if seen else None, "closes_told": _closes(one, seen),
        "closes_between": _between(one, "closes") if seen else "",
        "snr": _plain(one.snr), "cost": cost.tokens, "role": role, "weight": weight, "reason": reason,
        "spark": spark(curve), "figures": _figures(one, curve, cost), "evidence": one.evidence,
    }  # fmt: skip


def _places(suite: Suite | None) -> dict[Key, tuple[str, float | None, str]]:
    """What became of each (task, metric, shots): role, weight, reason."""
    if suite is None:
        return {}
    told: dict[Key, tuple[str, float | None, str]] = {}
    told |= {one.key: ("out", None, one.reason) for one in suite.dropped}
    told |= {one.key: ("held out", None, one.reason) for one in suite.held_out}
    told |= {one.key: ("scored", one.weight, one.reason) for one in suite.tasks}
    return told


def _opens(one: TaskClass) -> str:
    if math.isnan(one.opens):
        return "no window"
    sign = "≤ " if one.opens_before_data else "≈ " if one.extrapolated else ""
    return f"{sign}{short_flops(one.opens)}"


def _closes(one: TaskClass, seen: bool) -> str:
    if math.isnan(one.opens):
        return "–"
    return short_flops(one.closes) if seen else "not seen"


def _between(one: TaskClass, name: str) -> str:
    low, high = getattr(one, f"{name}_low"), getattr(one, f"{name}_high")
    if not math.isfinite(low) or high < low * 1.05:
        return ""
    return f"{short_flops(low)} to {short_flops(high) if math.isfinite(high) else 'none'}"


def short_flops(value: float) -> str:
    """FLOPs in two digits.

    Example:
        >>> short_flops(7.25e19)
        '7.2e19'
    """
    return flops(float(f"{value:.2g}"))


def _figures(one: TaskClass, curve: Curve, cost: Cost) -> list[tuple[str, str]]:
    """Name and value of what stands beside a curve."""
    bound = "at most " if one.noise_is_upper_bound else ""
    told = [
        ("gain per doubling", number(one.gain_per_doubling, sign=True)),
        ("noise of one score", f"{bound}{number(one.noise)} ({one.noise_kind})"),
        ("signal to noise", "–" if math.isnan(one.snr) else f"{one.snr:.1f}"),
        ("clears chance", short_flops(one.clears_chance) if math.isfinite(one.clears_chance) else "–"),
        ("law", f"{one.law}, {'finished runs' if one.points == 'final' else 'all checkpoints'}"),
        ("scores", f"{one.n_points:,} of {one.n_runs:,} runs"),
        ("cost", f"{amount(cost.tokens)} tokens ({cost.items:,} items, {cost.basis})"),
    ]
    if one.direction == "inverse":
        told.insert(0, ("direction", "worse with compute"))
    return told


def spark(curve: Curve) -> tuple[str, str]:
    """A curve as small as a word: paths of its line, and of some scores around it (as dots of no length).

    Scores improve upwards, whatever the metric.
    """
    low, high = curve.span
    x = np.linspace(low, high, 13)
    line, y = curve.values(x)[0], curve.series.y
    some = _evenly(len(y), _SPARKS)
    bottom, top = min(line.min(), y[some].min()), max(line.max(), y[some].max())
    pad, reach = 2.0, max(top - bottom, 1e-9)

    def place(at: np.ndarray, value: np.ndarray) -> np.ndarray:
        across = pad + (SPARK_WIDTH - 2 * pad) * (at - low) / max(high - low, 1e-9)
        share = (value - bottom) / reach if curve.series.sign > 0 else (top - value) / reach
        return np.column_stack([across, SPARK_HEIGHT - pad - (SPARK_HEIGHT - 2 * pad) * share])

    dots = "".join(f"M{a:.0f} {b:.0f}h0" for a, b in place(curve.series.x[some], y[some]))
    return polyline(place(x, line).tolist()), dots


# --- curves ---------------------------------------------------------------------------------------------


def curve_data(found: Classification, table: ScoreTable) -> dict[str, Any]:
    """What the page draws curves from, as plain data: rounded, and thinned where there is too much of it.

    Args:
        found: the classes. table: that they were computed from.

    Returns:
        `runs`: name, size and family of each run; `sizes`, `families`: what these numbers mean; `sets`: the
        places and runs of scores, which many curves share; `curves`: one per row of `series_rows`.
    """
    runs, names = _runs(table)
    most = int(np.clip(_NUMBERS // max(len(found.tasks), 1), _FEWEST, _MOST))
    horizon = found.settings.horizon
    curves = {curve.key: curve for curve in found.curves}
    sets: dict[bytes, int] = {}
    places, drawn = [], []
    for one in found.tasks:
        curve = curves[one.key]
        series = curve.series
        some = _evenly(len(series.x), most)
        mark = series.x[some].tobytes() + series.run[some].tobytes()
        if mark not in sets:
            sets[mark] = len(places)
            final = "".join("01"[int(end)] for end in series.final[some])
            places.append(
                {"x": series.x[some].round(3).tolist(), "run": series.run[some].tolist(), "final": final}
            )
        low, high = curve.span
        x = np.linspace(low, high + horizon, GRID)
        bottom, top = curve.interval(10**x)
        info, share = series.info, series.metric.family == "proportion"
        line = curve.values(x)[0]
        digits = _digits_of(float(np.ptp(np.concatenate([line, series.y]))))
        drawn.append(
            {
                "set": sets[mark], "y": _rounded(series.y[some], digits), "of": len(series.x),
                "from": round(low, 3), "to": round(high + horizon, 3), "seen": round(high, 3),
                "line": _rounded(line, digits), "share": share, "up": series.sign > 0,
                "low": _rounded(bottom, digits) if curve.identified else None,
                "high": _rounded(top, digits) if curve.identified else None,
                "unit": series.metric.unit,
                "refs": [
                    [name, value]
                    for name, value in (("chance", info.chance), ("majority class", info.majority_rate))
                    if share and value is not None
                ],
                "opens": _log(one.opens), "closes": _log(one.closes), "clears": _log(one.clears_chance),
                "before": one.opens_before_data,
            }
        )  # fmt: skip
    return {"runs": runs, **names, "sets": places, "curves": drawn}


def _runs(table: ScoreTable) -> tuple[list[Any], dict[str, list[str]]]:
    """Each run's name, colour (of its size) and shape (of its family); and what these mean."""
    frame = with_runs(table.frame[["source", "model", "variant", "seed", "step", "family", "params"]])
    first = frame.groupby("run", sort=True).first()
    params = frame.groupby("run", sort=True)["params"].median().to_numpy(dtype=float)
    sizes, bins = _bins(params)
    families = sorted(first["family"].astype(str).unique())
    shapes = families if 1 < len(families) <= _SHAPES else []
    seeds = ["" if seed != seed else f", seed {seed:g}" for seed in first["seed"].astype(float)]
    told = [
        [f"{model}{seed}", int(size), shapes.index(family) if shapes else 0]
        for model, seed, family, size in zip(first["model"], seeds, first["family"], bins, strict=True)
    ]
    return told, {"sizes": sizes, "families": shapes}


def _bins(params: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Sizes of models in few groups: a name for each, and the group of each model (-1: unknown)."""
    known = np.unique(params[np.isfinite(params)])
    groups = np.full(len(params), -1)
    if not len(known):
        return [], groups
    if len(known) <= _SIZES:
        edges = known
    else:
        edges = 10 ** np.linspace(math.log10(known[0]), math.log10(known[-1]), _SIZES + 1)[:-1]
    each = np.searchsorted(edges * (1 - 1e-9), known, side="right") - 1
    names = []
    for number_, group in enumerate(np.unique(each)):
        members = known[each == group]
        groups[np.isin(params, members)] = number_
        low, high = amount(members[0]), amount(members[-1])
        names.append(low if low == high else f"{low}–{high}")
    return names, groups


def _evenly(count: int, most: int) -> np.ndarray:
    """Positions of at most so many of `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _digits_of(reach: float) -> int:
    """Digits behind the point that tell 2,000 heights of a picture apart."""
    return int(np.clip(math.ceil(-math.log10(max(reach, 1e-12) / 2000)), 0, 12))


def _rounded(values: np.ndarray, digits: int) -> list[float | None]:
    return [round(value, digits) if math.isfinite(value) else None for value in values.tolist()]


def _log(value: float) -> float | None:
    return round(math.log10(value), 3) if math.isfinite(value) and value > 0 else None


def _plain(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
