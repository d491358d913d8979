"""Which capability falls behind, since when, by how much, and what changed near it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evalsuite.answers import Answers
from evalsuite.capabilities import Capability, Source, capabilities
from evalsuite.evaluations import Evaluations
from evalsuite.expectation import Band, expected
from evalsuite.sequential import FEWEST, FIRST, fall_evidence
from scaling.errors import UsageError
from scaling.laws import Array
from scaling.series import Key

RATE = 0.05
MARGIN = 2.0  # on the e-value of an alarm: the bound is exact for one law and normal noise alone
CAUSES = ("phase", "rate", "spike")  # kinds of events that may be behind a fall
_HIGHEST = 1e300
_COLUMNS = (
    "capability", "suite", "now", "expected", "low", "high", "trend", "evidence", "alarm", "since", "size",
    "near", "scale", "status",
)  # fmt: skip
_HISTORY = ("capability", "suite", "step", "score", "expected", "low", "high", "evidence", "tested")
SCALES = {"bits": "ln(8 / bpb)", "proportions": "(s - c) / (1 - c)", "mixed": "both"}


@dataclass(frozen=True)
class Alarm:
    """A capability that falls behind.

    Attributes:
        capability, suite: whose.
        since: step of the last independent evaluation that was as expected: it fell after that.
        noticed: step of the evaluation that raised the alarm.
        size: how far below its expectation from before `since` it was then, on the scale of the headline.
        evidence: the e-value then.
        near: what changed in the run around `since`, in words.
        kind: `bits`, `proportions` or `mixed`: what the size is of.
    """

    capability: str
    suite: str
    since: int
    noticed: int
    size: float
    evidence: float
    near: tuple[str, ...]
    kind: str = "mixed"

    @property
    def lost(self) -> str:
        """The size in words."""
        if self.kind == "bits":
            return f"{np.expm1(self.size):.1%} more bits per byte than expected"
        if self.kind == "proportions":
            return f"{100 * self.size:.1f} points (of what is above chance) below what was expected"
        return f"{self.size:.3g} below what was expected"

    def __str__(self) -> str:
        near = f"; near it: {'; '.join(self.near)}" if self.near else "; nothing known changed near it"
        return (
            f"{self.capability} ({self.suite}) falls behind since step {self.since:,}, noticed at step "
            f"{self.noticed:,}: {self.lost}{near}"
        )


@dataclass(frozen=True)
class Watched:
    """What is known of every capability of a run.

    Attributes:
        alarms: in order of the step at which they were noticed.
        history: one row per capability and evaluation: capability, suite, step, score (higher is better, on
            the scale of the headline), expected, low, high (by what stood before it; NaN where that is too
            little), evidence (e-value), tested (whether it shares no snapshot with others that were).
        threshold: e-value of an alarm: twice the capabilities watched over the rate.
        rate: of false alarms a run.
    """

    alarms: tuple[Alarm, ...]
    history: pd.DataFrame
    threshold: float
    rate: float
    _table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """One row per capability.

        Columns: capability, suite, now, expected, low, high, trend (per doubling of compute), evidence
        (highest e-value so far, to be compared with `threshold`), alarm, since, size, near (text), scale (of
        the score), status: `learning until step N` while no alarm is possible, `as expected`, or `behind`;
        with a forecast also forecast, forecast_low and forecast_high.
        """
        return self._table.copy()

    def _repr_html_(self) -> str:
        return self._table.to_html(index=False)


def watch(
    evaluations: Evaluations, *, rate: float = RATE, forecast: Mapping[str, Band] | None = None
) -> Watched:
    """Look for capabilities that fall behind their own past.

    See `watch_capabilities` for the test, and `evalsuite.capabilities.capabilities` for the series.

    Args:
        evaluations: of a run. The same ones give the same answer.
        rate: chance of any false alarm in a run, over all capabilities and all looks.
        forecast: by capability, as `evalsuite.expectation.from_forecasts` makes it; shown, not tested.

    Raises:
        UsageError: a rate that is none. StagewiseError: results that cannot be read.

    Example:
        >>> for alarm in watch(Evaluations.open("runs/a")).alarms: print(alarm)         # doctest: +SKIP
    """
    frame = evaluations.series()
    series = capabilities(frame, source_of(evaluations))
    planned = {
        (suite["name"], name)
        for suite in evaluations.plan.get("suites", ())
        for name in _named(suite["tasks"])
    }
    count = len(planned | {(one.suite, one.name) for one in series})
    return watch_capabilities(series, evaluations.events, rate=rate, forecast=forecast, count=count)


def watch_capabilities(
    series: Sequence[Capability], events: pd.DataFrame | None = None, *, rate: float = RATE,
    forecast: Mapping[str, Band] | None = None, count: int | None = None,
) -> Watched:  # fmt: skip
    """As `watch`, from series.

    The evaluations that share no snapshot are tested one after the other by `fall_evidence`. A capability
    falls behind when its e-value reaches `MARGIN count / rate`: by Ville's inequality and Bonferroni's the
    chance of any false alarm in a run is at most `rate / MARGIN`, however many evaluations are looked at,
    where the assumptions of `fall_evidence` hold; the margin is for where they nearly do. An alarm stays.
    From then on the expectation is the one from before the fall.

    Args:
        series: of all capabilities. events: step, kind, text, as `Evaluations.events`.
        rate: of false alarms. count: capabilities that are, or are going to be, watched; `len(series)`.
        forecast: by name of a capability, a function from compute to value, low, high on the scale of the
            series; shown beside the run's own expectation, and no part of the test.

    Raises:
        UsageError: a rate that is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise UsageError(f"rate: got {rate!r}, valid is a share of runs between 0 and 1, such as {RATE}")
    threshold = MARGIN * max(count or 0, len(series), 1) / rate
    rows, histories, alarms = [], [], []
    for one, tested in zip(series, _tested(series), strict=True):
        row, history, alarm = _watched(one, *tested, threshold, events)
        if forecast is not None:
            made = forecast.get(one.name)
            value = (np.full(1, np.nan),) * 3 if made is None else made(one.compute[-1:])
            names = ("forecast", "forecast_low", "forecast_high")
            row |= {name: float(part[0]) for name, part in zip(names, value, strict=True)}
        rows.append(row)
        histories.append(history)
        alarms += [alarm] if alarm else []
    columns = [*_COLUMNS, *(["forecast", "forecast_low", "forecast_high"] if forecast is not None else [])]
    table = pd.DataFrame(rows, columns=columns).astype({"since": "Int64"})
    history = pd.concat(histories, ignore_index=True) if histories else pd.DataFrame(columns=list(_HISTORY))
    ordered = tuple(sorted(alarms, key=lambda one: (one.noticed, one.suite, one.capability)))
    return Watched(ordered, history, threshold, rate, table)


def _tested(series: Sequence[Capability]) -> list[tuple[Array, Array]]:
    """ln(e-value) and place of the change at the independent evaluations of each; alike ones go together."""
    groups: dict[bytes, list[int]] = {}
    for i, one in enumerate(series):
        place = np.stack([one.compute[one.chosen], one.variance[one.chosen]])
        groups.setdefault(place.tobytes(), []).append(i)
    found: dict[int, tuple[Array, Array]] = {}
    for members in groups.values():
        at = series[members[0]].chosen
        y, floor = (
            np.stack([getattr(series[i], name)[series[i].chosen] for i in members])
            for name in ("level", "floor")
        )
        first = series[members[0]]
        evidence = fall_evidence(np.log(first.compute[at]), y, variance=first.variance[at], floor=floor)
        found |= dict(zip(members, zip(evidence.log_e, evidence.since, strict=True), strict=True))
    return [found[i] for i in range(len(series))]


def _watched(
    one: Capability, log_e: Array, since: Array, threshold: float, events: pd.DataFrame | None
) -> tuple[dict[str, Any], pd.DataFrame, Alarm | None]:
    at = one.chosen
    x = np.log(one.compute)
    hits = np.flatnonzero(log_e >= np.log(threshold))
    n = len(one.step)
    # An evaluation is compared with those tested that share no snapshot with it.
    before = np.searchsorted(at, np.arange(n), side="left")
    before = np.where(one.alone, before, np.maximum(before - 1, 0))
    broken = None
    if len(hits):
        broken = int(since[hits[0]])
        before = np.where(np.arange(n) >= at[broken], np.minimum(before, broken), before)
    band = expected(x[at], one.level[at], x, before, variance=one.variance[at], at_variance=one.variance)
    evidence = np.exp(np.minimum(log_e, np.log(_HIGHEST)))
    spread = evidence[np.maximum(np.searchsorted(at, np.arange(n), side="right") - 1, 0)]
    history = pd.DataFrame(
        {
            "capability": one.name, "suite": one.suite, "step": one.step, "score": one.level,
            "expected": band.value, "low": band.low, "high": band.high, "evidence": spread,
            "tested": one.alone,
        }
    )  # fmt: skip
    alarm = None
    if broken is not None:
        noticed = int(at[hits[0]])
        alarm = Alarm(
            one.name, one.suite, int(one.step[at[broken - 1]]), int(one.step[noticed]),
            float(band.value[noticed] - one.level[noticed]), float(evidence[hits[0]]),
            _near(events, one.step[at], broken), one.kind,
        )  # fmt: skip
    row = {
        "capability": one.name, "suite": one.suite, "now": one.level[-1], "expected": band.value[-1],
        "low": band.low[-1], "high": band.high[-1], "trend": band.trend[-1], "evidence": evidence.max(),
        "alarm": alarm is not None, "since": alarm.since if alarm else pd.NA,
        "size": alarm.size if alarm else np.nan, "near": "; ".join(alarm.near) if alarm else "",
        "scale": SCALES[one.kind], "status": _status(one, alarm),
    }  # fmt: skip
    return row, history, alarm


def _status(one: Capability, alarm: Alarm | None) -> str:
    if alarm:
        return "behind"
    at = one.chosen
    needed = FIRST + FEWEST
    if len(at) >= needed:
        return "as expected"
    if len(at) < 2:
        return f"learning: {len(at)} of {needed} independent evaluations"
    gap = float(np.median(np.diff(one.step[at])))
    return f"learning until step {int(one.step[at[-1]] + gap * (needed - len(at)))}"


def _near(events: pd.DataFrame | None, steps: NDArray[np.int64], broken: int) -> tuple[str, ...]:
    """What changed between the evaluation before the last good one and the first bad one."""
    if events is None or not len(events):
        return ()
    low, high = steps[max(broken - 2, 0)], steps[broken]
    found = events[events["kind"].isin(CAUSES) & (events["step"] > low) & (events["step"] <= high)]
    return tuple(f"step {row.step}: {row.text}" for row in found.itertuples())


def _named(tasks: Iterable[Mapping[str, Any]]) -> set[str]:
    """Capabilities of a planned suite, as `capabilities` names them."""
    return {str(one.get("capability") or f"cluster {one.get('cluster')}") for one in tasks}


def source_of(evaluations: Evaluations) -> Source:
    """Reads the answers of an evaluation on a task, from its items where it has them."""
    there = {(one.step, one.suite): one for one in evaluations.all}

    def source(step: int, suite: str, key: Key) -> Answers | None:
        results = there[step, suite].results
        for done in results.manifest.tasks:
            if done.key != key:
                continue
            if done.file is not None:
                return Answers.of(results.likelihoods(done), key.metric)
            for row in done.rows:
                if row.metric == key.metric:
                    return Answers.of_score(key.metric, row.score, row.n_items or 0, done.chance)
        return None

    return source
