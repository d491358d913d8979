"""The suite of a stage: a file people review, that a build writes and nobody edits."""

from __future__ import annotations

import hashlib
import os
from textwrap import wrap
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from evalsuite.documents import Items, Line, dump, parse, read_text
from evalsuite.evidence import Count, Digest, Evidence, Share, Six, Text, to_six
from evalsuite.findings import BudgetLine, DecisionLine, QualityLine, StabilityLine
from evalsuite.settings import Bounds, Entry, Override, Shots, Words
from scaling.files import replacing
from scaling.series import Key

_ADVICE = "restore the file, or build it again with the command in its first lines"
_MARK = "# content sha256:"


class RunnerUp(Entry):
    """The next best way to score the same task, and how informative that is over the stage."""

    metric: Text
    shots: Shots
    dp: Share | None


class Named(Entry):
    """What says which scores an entry speaks of."""

    task: Text
    metric: Text
    shots: Shots

    @property
    def key(self) -> Key:
        return Key(self.task, self.metric, self.shots)


class Task(Named):
    """A task the suite scores: what to ask, how to score it, how much it weighs, and why it is here.

    Attributes:
        items: to ask. of: how many the benchmark has, where that is more.
        cost: tokens that one model reads for them. basis: what that is known from.
        item_ids: which items, where per-item results chose them.
    """

    cluster: Count
    weight: Annotated[float, Field(gt=0, le=1), AfterValidator(to_six)]
    items: Count | None
    of: Count | None = None
    cost: Count | None = None
    basis: Literal["measured", "facts", "assumed"] | None = None
    item_ids: tuple[str, ...] | None = Field(default=None, strict=False)
    reason: Words
    evidence: Evidence
    runner_up: RunnerUp | None


class HeldOut(Named):
    """A task kept aside, so that a suite can be checked by what it was not chosen to show."""

    cluster: Count
    items: Count | None
    reason: Words
    evidence: Evidence
    runner_up: RunnerUp | None


class Dropped(Named):
    """A task with no place in the suite, by its best candidate; the audit lists all of them."""

    reason: Words
    evidence: Evidence | None


class StageRange(Bounds):
    """The stage, in FLOPs; `name` where it has one."""

    name: Text | None = None

    def __str__(self) -> str:
        bounds = f"{self.low:g}..{self.high:g}"
        return f"{self.name} ({bounds})" if self.name else bounds


class Cluster(Entry):
    """A cluster of tasks that rank models of like compute alike; all of one answer format."""

    cluster: Count
    format: Text
    weight: Six


class ScoreDigest(Entry):
    """Which scores: rows, models, and SHA-256 over the canonical rows."""

    source: Text
    rows: Count
    models: Count
    digest: Digest


class Provenance(Entry):
    """All that a suite follows from.

    Attributes:
        scores: all of them together (`source: all`). sources: each of them.
        settings: of the build, in order of name; `note` among them where there is one.
        overrides: exceptions that were applied.
        versions: of what computed it; no part of `--check`, since they follow from the installation.
    """

    scores: ScoreDigest
    sources: tuple[ScoreDigest, ...] = Field(strict=False, min_length=1)
    settings: dict[str, bool | int | Six | str | None]
    overrides: tuple[Override, ...] = Field(strict=False)
    versions: dict[str, str]


class Suite(Entry):
    """The suite of a stage, as its file holds it.

    Attributes:
        format: version of the file format.
        stage: the compute interval. early_by: FLOPs by which a window must be open to count as early.
        criterion: how the number of clusters was chosen.
        budget: what it costs. quality: how choosing like this holds up on models and benchmarks not seen.
        decisions: how often small recipes are ordered as large ones. stability: without each family.
            Each None where it was not asked for.
        clusters, tasks, held_out, dropped: in order of cluster and name.
        provenance: all that it follows from.
    """

    format: Literal[1]
    stage: StageRange
    early_by: Six
    criterion: Words
    budget: BudgetLine | None = None
    quality: QualityLine | None = None
    decisions: DecisionLine | None = None
    stability: StabilityLine | None = None
    clusters: tuple[Cluster, ...] = Field(strict=False, min_length=1)
    tasks: tuple[Task, ...] = Field(strict=False, min_length=1)
    held_out: tuple[HeldOut, ...] = Field(strict=False)
    dropped: tuple[Dropped, ...] = Field(strict=False)
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        names = [item.task for item in (*self.tasks, *self.held_out, *self.dropped)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"tasks, held_out, dropped: {', '.join(twice)} named twice; valid is one place per task"
            )
        known = {cluster.cluster for cluster in self.clusters}
        lost = sorted({item.cluster for item in (*self.tasks, *self.held_out)} - known)
        if lost:
            raise ValueError(f"cluster {lost[0]}: not among clusters; valid are {sorted(known)}")
        empty = sorted(known - {task.cluster for task in self.tasks})
        if empty:
            raise ValueError(f"clusters: {empty[0]} holds no task that is scored; valid is at least one each")
        total = sum(task.weight for task in self.tasks)
        if abs(total - 1.0) > 1e-3:
            raise ValueError(f"tasks: the weights sum to {total:.6g}; valid is 1")
        return self

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Suite:
        """Read a suite file.

        Raises:
            StagewiseError: one message with every problem: file, line, field, got, valid, what to do.

        Example:
            >>> Suite.read("suites/mid.yaml").tasks[0].task      # doctest: +SKIP
            'arc_easy'
        """
        return cls.parse(read_text(path, "suite"), str(path))

    @classmethod
    def parse(cls, text: str, name: str = "suite") -> Suite:
        """A suite from the text of its file; `name` stands for the file in messages."""
        return parse(text, cls, name, "suite", _ADVICE)

    @property
    def digest(self) -> str:
        """SHA-256 of the file's content below its header: equal for equal suites."""
        return hashlib.sha256(self.body().encode()).hexdigest()

    def body(self) -> str:
        """The file's content without its header comment: the same suite, the same text."""
        data = _plain(self)
        for part in (*data["tasks"], *data["held_out"]):
            part["evidence"] = _line(part["evidence"])
            part["runner_up"] = part["runner_up"] and _line(part["runner_up"])
        data["dropped"] = [_line(part) for part in data["dropped"]]
        for part in data["tasks"]:
            for name in ("of", "cost", "basis", "item_ids"):
                if part[name] is None:
                    del part[name]
            if "item_ids" in part:
                part["item_ids"] = Items(part["item_ids"])
        for name in ("budget", "quality", "decisions", "stability"):
            if data[name] is None:
                del data[name]
            else:
                data[name] = _line(data[name]) if name != "quality" else _listed(data[name])
        stage = data["stage"]
        named = {"name": stage["name"]} if stage["name"] else {}
        data["stage"] = Line({**named, "low": stage["low"], "high": stage["high"]})
        data["clusters"] = [Line(part) for part in data["clusters"]]
        provenance = data["provenance"]
        provenance["scores"] = Line(provenance["scores"])
        provenance["sources"] = [Line(part) for part in provenance["sources"]]
        provenance["overrides"] = [Line(part) for part in provenance["overrides"]]
        return dump(data)

    @property
    def note(self) -> str | None:
        """What its readers must know, from the settings it was built with."""
        return " ".join(str(self.provenance.settings.get("note") or "").split()) or None

    def text(self, command: str) -> str:
        """The whole file; `command` is what regenerates it (without `-o`: the file may be moved)."""
        body = self.body()
        lines = [*wrap(self.note, 108, break_long_words=False), ""] if self.note else []
        lines += [
            "Follows from scores; `--check` finds edits. Change the scores, or a settings file that gives",
            "reasons (--settings), and run this with `-o` and the name of this file:",
            f"  {' '.join(command.split())}",
        ]
        header = "".join(f"# {line}".rstrip() + "\n" for line in lines)
        return f"{header}{_MARK}{self.digest}\n{body}"

    def write(self, path: str | os.PathLike[str], command: str) -> None:
        """Write the file, whole or not at all."""
        with replacing(path) as part:
            part.write_text(self.text(command), encoding="utf-8", newline="\n")

    def to_frame(self):
        """One row per task of the suite, held-out ones included."""
        import pandas as pd

        rows = []
        for role, items in (("scored", self.tasks), ("held out", self.held_out)):
            for item in items:
                row = item.model_dump(by_alias=True, exclude={"evidence", "runner_up"})
                rows.append({"role": role, **row, **item.evidence.model_dump(by_alias=True, exclude={"p"})})
        frame = pd.DataFrame(rows)
        frame["shots"] = frame["shots"].astype("Int64")
        return frame

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def split(text: str) -> tuple[str, str]:
    """Header comment and body of a suite file's text."""
    lines = text.splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:count]), "".join(lines[count:])


def edited(text: str) -> str | None:
    """Why the text of a suite file is not as `build` wrote it, in words; None when it is."""
    header, body = split(text)
    marks = [line for line in header.splitlines() if line.startswith(_MARK)]
    if not marks:
        return "has no content line: not written by `evalsuite build`, or edited since"
    if marks[-1].removeprefix(_MARK).strip() != hashlib.sha256(body.encode()).hexdigest():
        return "edited since `evalsuite build` wrote it: it no longer fits its content line"
    return None


def _plain(entry: Entry) -> dict[str, Any]:
    """The fields as plain data, tuples as lists."""

    def listed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: listed(item) for name, item in value.items()}
        return [listed(item) for item in value] if isinstance(value, tuple | list) else value

    return listed(entry.model_dump(by_alias=True, mode="python"))


def _listed(data: dict[str, Any]) -> dict[str, Any]:
    """One line for each way to choose, the rest as it is."""
    gap = data["against_all"]
    listed = {"choices": [Line(part) for part in data["choices"]], "against_all": gap and Items(gap)}
    return data | listed


def _line(data: dict[str, Any]) -> Line:
    return Line({name: _line(value) if isinstance(value, dict) else value for name, value in data.items()})
