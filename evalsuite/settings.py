"""What a suite is built by: named stages, thresholds, and exceptions, each with a reason."""

from __future__ import annotations

import os
from importlib.resources import as_file, files
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from evalsuite.documents import read_document
from scaling.errors import UsageError
from scaling.stage import Stage

PACKAGED = ("ladder",)  # settings that come with the package, by what the command calls them
_ADVICE = "mend the settings file; the README says what it may hold"
MAX_NOTE = 1000  # characters: a warning, no report
Shots = Annotated[int, Field(ge=0)] | None


def _one_line(text: str) -> str:
    """Text without line breaks or blanks at its ends, so that it stays one line of a suite."""
    return " ".join(text.split())


def _short(text: str) -> str:
    """Text as it can stand at the head of a file."""
    line = _one_line(text)
    if not 0 < len(line) <= MAX_NOTE:
        raise ValueError(f"valid is 1 to {MAX_NOTE} characters, and this has {len(line)}")
    return line


Words = Annotated[str, AfterValidator(_one_line), Field(min_length=1)]


class Entry(BaseModel):
    """Anything read from a file: unknown fields and wrong types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Bounds(Entry):
    """The compute interval of a stage, in FLOPs."""

    low: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    high: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} and high {self.high:g}: valid is low < high, in FLOPs")
        return self


class Override(Entry):
    """An exception to what the evidence says.

    Attributes:
        task, metric, shots: which (task, metric, shots); `shots` may be left out where only one is known.
        action: `keep` it whatever its class, `drop` it, or put it into the `cluster` of `like`.
        like: with `cluster`: the task whose cluster it joins.
        reason: why; printed in the suite and the audit.
    """

    task: str
    metric: str
    shots: Shots = None
    action: Literal["keep", "drop", "cluster"]
    like: str | None = None
    reason: Words

    @model_validator(mode="after")
    def _complete(self) -> Override:
        if (self.action == "cluster") != (self.like is not None):
            raise ValueError(
                "like: the task whose cluster this one joins goes with action: cluster, and only there"
            )
        return self


class Settings(Entry):
    """How a suite is built; the defaults are those of `evalsuite build` without `--settings`.

    Attributes:
        threshold: decision probability that makes a task informative, in (0.5, 1).
        coverage: share of the stage, in log compute, on which it must be.
        horizon: decades beyond the measured compute that count as credibly forecast.
        level: false discovery rate of the trend test.
        points: which checkpoints make a curve, see `scaling.series.series_of`.
        clusters: how many clusters; where absent, the most stable number.
        min_cluster: tasks a cluster must have for one of them to be held out.
        stages: named stages, beside or instead of the packaged ones.
        overrides: exceptions, each with a reason.
        note: what readers of a suite built with these settings must know; stands at the head of its file.
    """

    threshold: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    coverage: Annotated[float, Field(gt=0, le=1)] = 0.5
    horizon: Annotated[float, Field(ge=0, le=3)] = 1.0
    level: Annotated[float, Field(gt=0, lt=1)] = 0.05
    points: Literal["auto", "final", "all"] = "auto"
    clusters: Annotated[int, Field(ge=1)] | None = None
    min_cluster: Annotated[int, Field(ge=2)] = 2
    stages: dict[str, Bounds] = Field(default_factory=dict)
    overrides: tuple[Override, ...] = Field(default=(), strict=False)
    note: Annotated[str, AfterValidator(_short)] | None = None

    @model_validator(mode="after")
    def _once(self) -> Settings:
        named = [(item.task, item.metric, item.shots, item.action == "cluster") for item in self.overrides]
        twice = sorted({str(name[:3]) for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"overrides: {', '.join(twice)} named twice; valid is one line each")
        return self

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Settings:
        """Read a settings file.

        Raises:
            StagewiseError: one message with every problem by line and field.

        Example:
            >>> Settings.read("settings.yaml").threshold      # doctest: +SKIP
            0.8
        """
        return read_document(path, cls, "settings file", _ADVICE)


def packaged_stages() -> dict[str, Bounds]:
    """The named stages that come with the package (`evalsuite/suites/stages.yaml`)."""
    return _packaged("stages").stages


def find_settings(text: str | os.PathLike[str]) -> Settings:
    """Settings by name, or from a file.

    Args:
        text: as given to `--settings`: `ladder` for those of the scores that come with the package
            (`evalsuite/suites/ladder.yaml`; `./ladder` is a file of that name), else a path.

    Raises:
        StagewiseError: see `Settings.read`.

    Example:
        >>> sorted(find_settings("ladder").stages)
        ['early', 'late', 'mid']
    """
    return _packaged(str(text)) if str(text) in PACKAGED else Settings.read(text)


def _packaged(name: str) -> Settings:
    with as_file(files("evalsuite.suites") / f"{name}.yaml") as path:
        return Settings.read(path)


def find_stage(text: str, settings: Settings | None = None) -> tuple[str | None, Stage]:
    """A stage by name, or by its bounds `LO..HI`.

    Args:
        text: as given to `--stage`.
        settings: where names of one's own come from; they win over the packaged ones.

    Returns:
        The name (None where bounds were given) and the interval.

    Raises:
        UsageError: no such name, or bounds that are none.

    Example:
        >>> find_stage("1e19..1e21")
        (None, Stage(low=1e+19, high=1e+21))
    """
    if ".." in text:
        return None, Stage.parse(text)
    known = packaged_stages() | (settings.stages if settings else {})
    if text not in known:
        names = ", ".join(f"{name} ({bounds.low:g}..{bounds.high:g})" for name, bounds in known.items())
        raise UsageError(
            f"stage {text!r}: no such name; valid is LO..HI in FLOPs, as 1e19..1e21, or one of {names}"
        )
    return text, Stage(known[text].low, known[text].high)
