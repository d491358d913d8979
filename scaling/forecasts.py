"""What will a larger run score? A forecast per task, with the methods behind it and their record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from scaling.blend import Blend, blend
from scaling.errors import StagewiseError, UsageError
from scaling.laws import Array
from scaling.panel import Panel, panels_of
from scaling.parallel import parallel_map
from scaling.scores import Omission, ScoreTable
from scaling.series import Key
from scaling.tasks import TaskInfo, task_info
from scaling.text_bytes import in_text_bytes

Axis = Literal["flops", "bytes"]
PIECE = 64  # tasks in one unit of parallel work
LARGEST = 3  # runs whose tokens per parameter a target gets where none are given


@dataclass(frozen=True)
class Forecast:
    """One task at one or several targets.

    Attributes:
        key: task, metric, shots.
        flops: of the targets, [m]; of 6 N (bytes of text) where `axis` is "bytes".
        value: forecast scores, [m]. low, high: interval of a new run's score, [m]; NaN: not identified.
        level: of the interval. axis: what compute is counted in.
        methods: one row per method: weight, past_rmse (in back-tests at smaller scale), value at the first
            target.
        bridge: what stands between compute and score in the chain; "" where there is no chain.
        exponent: g of effective compute C (D/N)^g that the laws are in.
        blend: all that it was made from, and this task's place in it.
    """

    key: Key
    flops: Array
    value: Array
    low: Array
    high: Array
    level: float
    axis: Axis
    methods: pd.DataFrame
    bridge: str
    exponent: float
    blend: Blend = field(repr=False)
    place: int = field(repr=False)

    @property
    def panel(self) -> Panel:
        """The points it rests on, of this task alone."""
        return self.blend.panel.tasks(self.place)

    @property
    def beyond(self) -> Array:
        """How many times the largest compute at hand the targets are, [m]."""
        return self.flops / 10.0 ** self.blend.panel.x.max()

    def to_frame(self) -> pd.DataFrame:
        """One row per target: task, metric, shots, flops, beyond, value, low, high, status, n_runs."""
        known = np.isfinite(self.low)
        return pd.DataFrame(
            {
                **{name: [v] * len(self.flops) for name, v in self.key._asdict().items()},
                "flops": self.flops, "beyond": self.beyond, "value": self.value, "low": self.low,
                "high": self.high, "status": np.where(known, "identified", "not identified"),
                "n_runs": len(np.unique(self.blend.panel.run)), "n_clusters": self.blend.panel.clusters[0],
                "bridge": self.bridge,
            }
        )  # fmt: skip

    def plot(self, ax=None):
        """Points, the forecast with its interval, and what each method says; see `scaling.plot`."""
        from scaling.plot import plot_forecast

        return plot_forecast(self, ax=ax)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False) + self.methods.to_html(index=False)


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of many tasks, in order of key, and what was left out."""

    forecasts: tuple[Forecast, ...]
    omissions: tuple[Omission, ...]

    def __len__(self) -> int:
        return len(self.forecasts)

    def __iter__(self) -> Iterator[Forecast]:
        return iter(self.forecasts)

    def to_frame(self) -> pd.DataFrame:
        """One row per task and target."""
        frame = pd.concat([one.to_frame() for one in self.forecasts], ignore_index=True)
        frame["shots"] = frame["shots"].astype("Int64")
        return frame

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def forecast(
    table: ScoreTable,
    task: str,
    target_flops: float | Sequence[float],
    *,
    metric: str | None = None,
    shots: int | None = None,
    tokens_per_param: float | None = None,
    axis: Axis = "flops",
    bytes_per_token: float | None = None,
    level: float = 0.95,
    facts: Callable[[str], TaskInfo] = task_info,
) -> Forecast:
    """Forecast one task at larger compute.

    For proportions: a bounded sigmoid, a Gompertz curve from at most chance (a power law in -log of the
    chance-corrected score), a power law in -log accuracy, the chain compute -> bits per byte (or a loss
    on text) -> score with its first link in compute and, where both vary, in size and data apart, and
    the last value carried forward. For bits and losses: a power law, the law in size and data, the last
    value. The forecast is their mean, weighted by back-tests at smaller scale: see `scaling.blend.blend`
    for weights and interval.

    Args:
        table: the scores; all checkpoints of runs with known compute are used.
        task: its name. metric, shots: where it has several.
        target_flops: training FLOPs, one or several.
        tokens_per_param: of the target; that of the largest runs where absent.
        axis: "bytes" counts training data in bytes of text (see `in_text_bytes`), for tables that mix
            tokenizers; `bytes_per_token` of the target's tokenizer is then required.
        level: of the interval.
        facts: where chance and ceiling come from.

    Raises:
        UsageError: a target that is no positive number, an axis or level that is none, an unknown task.
        StagewiseError: too few scores with compute to forecast from.

    Example:
        >>> forecast(table, "piqa", 1e23, metric="acc_norm").to_frame()     # doctest: +SKIP
    """
    if task not in set(table.frame["task"]):
        names = sorted(table.frame["task"].unique())
        raise UsageError(f"task {task!r}: no scores; valid are {', '.join(names[:20])}")
    question = _Question.of(target_flops, tokens_per_param, axis, bytes_per_token, level)
    # The other tasks stay: they have a say in the weights, and the surprise of a chain may be among them.
    panels, _, _ = question.panels(table, facts)
    there = [
        (piece, i) for piece in pieces_of(panels) for i, key in enumerate(piece.keys) if key.task == task
    ]
    hits = [
        (piece, i)
        for piece, i in there
        if metric in (None, piece.keys[i].metric) and shots in (None, piece.keys[i].shots)
    ]
    if len(hits) != 1:
        keys = ", ".join(sorted(str(piece.keys[i]) for piece, i in hits or there))
        raise UsageError(f"task {task!r}: give metric and shots; there are {keys or 'none with a law'}")
    piece, place = hits[0]
    return question.answers(question.made(piece, only=place))[0]


def forecast_all(
    table: ScoreTable,
    target_flops: float | Sequence[float],
    *,
    tokens_per_param: float | None = None,
    axis: Axis = "flops",
    bytes_per_token: float | None = None,
    level: float = 0.95,
    jobs: int | None = None,
    facts: Callable[[str], TaskInfo] = task_info,
    progress: Callable[[int, int], None] | None = None,
) -> Forecasts:
    """Forecast every (task, metric, shots) of a table that has a law; arguments as for `forecast`.

    Args:
        jobs: workers, see `scaling.parallel.parallel_map`. progress: called with (pieces done, pieces).
    """
    question = _Question.of(target_flops, tokens_per_param, axis, bytes_per_token, level)
    panels, table, omissions = question.panels(table, facts)
    done = parallel_map(question.made, pieces_of(panels), jobs=jobs, progress=progress)
    found = [one for made in done for one in question.answers(made)]
    ordered = sorted(found, key=lambda one: (one.key.task, one.key.metric, one.key.shots or 0))
    return Forecasts(tuple(ordered), (*table.omissions, *omissions))


def pieces_of(panels: Sequence[Panel]) -> Iterator[Panel]:
    """Panels cut for parallel work.

    The cut depends on the tasks alone, never on the workers: tasks of a piece share what they learn about
    the methods, so the figures would otherwise change with the machine.
    """
    for panel in panels:
        count = -(-len(panel.keys) // PIECE)
        for index in np.array_split(np.arange(len(panel.keys)), count):
            yield panel.tasks(index)


@dataclass(frozen=True)
class _Question:
    """The targets of a forecast, checked: on the axis that was asked for, log10(D/N) where given."""

    targets: Array
    ratio: float | None
    axis: Axis
    level: float

    @classmethod
    def of(cls, target_flops, tokens_per_param, axis: Axis, bytes_per_token, level: float) -> _Question:
        try:
            targets = np.atleast_1d(np.asarray(target_flops, dtype=float))
        except (TypeError, ValueError):
            targets = np.array([np.nan])
        if targets.ndim != 1 or not (np.isfinite(targets) & (targets > 0)).all() or not len(targets):
            raise UsageError(f"target_flops: got {target_flops}, valid are positive numbers of FLOPs")
        if not 0 < level < 1:
            raise UsageError(f"level: got {level}, valid is between 0 and 1")
        if tokens_per_param is not None and not 0 < tokens_per_param < np.inf:
            raise UsageError(f"tokens_per_param: got {tokens_per_param}, valid is a positive number")
        if axis not in ("flops", "bytes"):
            raise UsageError(f"axis: got {axis!r}, valid are 'flops' and 'bytes'")
        if axis == "bytes" and (bytes_per_token is None or not 0 < bytes_per_token < np.inf):
            raise UsageError(
                f"bytes_per_token: got {bytes_per_token}, valid is that of the target's tokenizer, as 4.2"
            )
        unit = bytes_per_token if axis == "bytes" else 1.0
        ratio = None if tokens_per_param is None else float(np.log10(tokens_per_param * unit))
        return cls(targets * unit, ratio, axis, level)

    def panels(self, table: ScoreTable, facts) -> tuple[list[Panel], ScoreTable, list[Omission]]:
        """The points, the table on the axis that was asked for, and what was left out of the points."""
        if self.axis == "bytes":
            table = in_text_bytes(table)
        panels, omissions = panels_of(table, facts=facts)
        if not panels:
            reasons = "; ".join(f"{one.count} row(s): {one.what}" for one in omissions[:6])
            raise StagewiseError(f"nothing to forecast from: {reasons or 'the table is empty'}")
        return panels, table, omissions

    def made(self, panel: Panel, *, only: int | None = None) -> Blend:
        ratio = self.ratio
        if ratio is None:
            last = panel.final if panel.final.any() else np.ones_like(panel.final)
            largest = np.argsort(panel.x[last], kind="stable")[-LARGEST:]
            ratio = float(np.median(panel.ratio[last][largest]))
        ratios = np.full(len(self.targets), ratio)
        return blend(panel, np.log10(self.targets), ratios, level=self.level, only=only)

    def answers(self, made: Blend) -> list[Forecast]:
        """One forecast per task."""
        return [
            Forecast(
                key, self.targets, made.value[i], made.low[i], made.high[i], self.level, self.axis,
                pd.DataFrame(
                    {
                        "method": made.methods, "weight": made.weights[i], "past_rmse": made.past[i],
                        "value": made.members[i, :, 0],
                    }
                ),
                made.panel.bridge[i], made.exponent, made, i,
            )
            for i, key in enumerate(made.panel.keys)
        ]  # fmt: skip
