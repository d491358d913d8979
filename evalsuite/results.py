"""A folder of results: score rows, per-item likelihoods, and a manifest that says what they are of."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pandas as pd
from pydantic import Field, ValidationError

from evalsuite.evidence import Count, Digest, Text
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import summarise
from evalsuite.settings import Entry
from evalsuite.suite import Named
from scaling.errors import StagewiseError
from scaling.files import replacing, synced
from scaling.scores import ScoreTable

_LONG = 150  # characters of a task's name in a file's
MANIFEST, SCORES, ITEMS = "manifest.json", "scores.parquet", "items"
CONVENTION = (
    "ll: natural log of p(answer | context), summed over tokens; the blank before an answer belongs to it. "
    "bpb: -log2 p(right answer) / UTF-8 bytes of the answer without one leading space, mean over items; "
    "bpb_bytes: summed bits over summed bytes. acc, acc_norm (characters), acc_bytes, brier: as lm-eval."
)


class Foreign(StagewiseError):
    """A folder holds results of something else."""


class Identity(Entry):
    """Whose scores they are: the columns of a score table that a model's files do not tell."""

    model: Text
    family: str | None = None
    source: Text = "stagewise"
    step: int | None = Field(default=None, ge=0)
    params: float | None = None
    tokens: float | None = None
    flops: float | None = None
    seed: int | None = None
    variant: str | None = None


class ModelRef(Entry):
    """The model that was run: digests of its weights and its tokenizer, and what it computed in."""

    digest: Digest
    tokenizer: Digest
    dtype: str
    max_length: Count


class SuiteRef(Entry):
    """The suite that was run; its digest is of the content below the header of its file."""

    stage: str
    digest: Digest
    tasks: int


class Wanted(Named):
    """A task to score: by which metric a suite wants it, how many of its items or which, and in what role."""

    items: Count | None = None
    item_ids: tuple[str, ...] | None = Field(default=None, strict=False)
    role: Literal["scored", "held out", "asked"] = "asked"


class Row(Entry):
    """One figure that lm-eval computed."""

    metric: Text
    score: float
    stderr: float | None
    n_items: int | None


class Done(Wanted):
    """A task that was scored.

    Attributes:
        digest: of the items asked and their prompt. file: of the likelihoods, within the folder; None where
            there are none. rows: figures of lm-eval, for its tasks.
        examples: solved ones before each item. answered: items. truncated: of them with context cut off at
            the left. chance: of a guesser.
        surface: accuracy of the best guess by the surface of the choices on these items. beaten: whether the
            model's accuracy is above that by two standard errors. baselines: what its publisher states.
        mode: how the model was run. seconds: of scoring.
    """

    digest: Digest
    file: Text | None
    rows: tuple[Row, ...] = Field(default=(), strict=False)
    examples: int = Field(ge=0)
    answered: Count
    truncated: int
    chance: float
    surface: float | None = None
    beaten: bool | None = None
    baselines: dict[str, float] = Field(default_factory=dict)
    mode: str
    seconds: float


class Missing(Wanted):
    """A task that could not be scored, and why."""

    why: Text


class Manifest(Entry):
    """What a folder of results holds.

    Attributes:
        suite: that was run; None where tasks were named. model, identity: whose results.
        settings: whatever else the numbers depend on. convention: of bytes and metrics.
        tasks, missing: in the order they were asked for.
    """

    format: Literal[1] = 1
    suite: SuiteRef | None
    model: ModelRef
    identity: Identity
    settings: dict[str, bool | int | str | None]
    convention: str = CONVENTION
    versions: dict[str, str]
    tasks: tuple[Done, ...] = Field(default=(), strict=False)
    missing: tuple[Missing, ...] = Field(default=(), strict=False)

    @property
    def head(self) -> dict:
        """What has to be the same for results to stand in one folder."""
        return self.model_dump(include={"format", "suite", "model", "identity", "settings", "convention"})


@dataclass(frozen=True)
class Results:
    """Results in a folder.

    Attributes:
        folder: where they are. manifest: what they are of.
        writes: whether this process writes the files; the others of a distributed run only keep track.

    Example:
        >>> Results.open("results").table().frame            # doctest: +SKIP
    """

    folder: Path
    manifest: Manifest
    _read: dict[str, Likelihoods] = field(default_factory=dict, repr=False, compare=False)
    writes: bool = field(default=True, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Results:
        """Open a folder that `evalsuite run` wrote.

        Raises:
            StagewiseError: no such folder, or one without (or with a broken) manifest.
        """
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise StagewiseError(f"{folder}: holds no {MANIFEST}; give a folder that `evalsuite run` wrote")
        try:
            return cls(Path(folder), Manifest.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise StagewiseError(
                f"{path}: {place}: {first['msg']}; run the suite again into another folder"
            ) from error

    @classmethod
    def begin(cls, folder: str | os.PathLike[str], manifest: Manifest) -> Results:
        """Take up a folder where it was left, or make it.

        Raises:
            StagewiseError: it holds results of something else.
        """
        path = Path(folder)
        if not (path / MANIFEST).is_file():
            # What a killed run or a file manager hides there is nobody's result.
            if path.is_dir() and any(not one.name.startswith(".") for one in path.iterdir()):
                raise Foreign(f"{path}: holds other files; give an empty or a new folder")
            return cls(path, manifest)
        there = cls.open(path)
        if not there.manifest.tasks:
            return cls(path, manifest)
        if differ := [name for name, value in manifest.head.items() if there.manifest.head[name] != value]:
            name = differ[0]
            was, now = there.manifest.head[name], manifest.head[name]
            if isinstance(was, dict) and isinstance(now, dict):
                key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
                name, was, now = f"{name}.{key}", was.get(key), now.get(key)
            raise Foreign(
                f"{path}: holds results of something else: {name} was {_brief(was)}, is {_brief(now)}; "
                "give another folder, or delete this one"
            )
        return cls(path, manifest.model_copy(update={"tasks": there.manifest.tasks}))

    def start(self) -> Results:
        """Write the manifest first of all, so that a run killed at any time is taken up again."""
        return self._with()

    def add(self, done: Done, likelihoods: Likelihoods | None, *, name: bool = True) -> Results:
        """Write the likelihoods of a task, then the manifest that names them.

        Args:
            name: write the manifest now; else the next one that is written names them.
        """
        if likelihoods is not None and done.file is not None:
            if self.writes:
                # A resumed run looks whether they are whole; `end` waits for the disk, for all at once.
                with replacing(self.folder / done.file, sync=False) as part:
                    likelihoods.to_frame().to_parquet(part, index=False, compression="zstd")
            self._read[done.file] = likelihoods
        # A table holds a task once at each number of examples, by whatever metric it was asked for.
        where = (done.task, done.examples)
        kept = tuple(one for one in self.manifest.tasks if (one.task, one.examples) != where)
        return self._with(name, tasks=(*kept, done))

    def end(self, wanted: tuple[Wanted, ...], missing: tuple[Missing, ...]) -> Results:
        """Write the manifest in the order asked, and the score rows."""
        order = {one.key: i for i, one in enumerate(wanted)}
        lost = {one.key for one in missing}  # an older result is of other items
        kept = [one for one in self.manifest.tasks if one.key not in lost]
        tasks = sorted(kept, key=lambda one: order.get(one.key, len(order)))
        if self.writes:
            for one in tasks:
                if one.file is not None and (self.folder / one.file).is_file():
                    synced(self.folder / one.file)
        ended = self._with(tasks=tuple(tasks), missing=missing)
        if not self.writes:
            return ended
        if tasks:
            ended.table().write(self.folder / SCORES)
        else:
            (self.folder / SCORES).unlink(missing_ok=True)
        return ended

    def holds(self, done: Done) -> bool:
        """Whether the likelihoods of a task are still there, and whole."""
        try:
            return done.file is None or self.likelihoods(done).n_items == done.answered
        except StagewiseError:
            return False

    def likelihoods(self, done: Done) -> Likelihoods:
        """Those of one task.

        Raises:
            StagewiseError: there are none, the file is gone, or it is not what was written.
        """
        if done.file is None:
            raise StagewiseError(f"task {done.task}: has figures of lm-eval alone, not its items")
        if done.file not in self._read:
            path = self.folder / done.file
            try:
                frame = pd.read_parquet(path)
            except (OSError, ValueError) as error:  # pyarrow's errors are both of these
                raise StagewiseError(
                    f"{path}: cannot be read ({str(error)[:120]}); run the suite again into another folder"
                ) from error
            self._read[done.file] = Likelihoods.from_frame(frame, done.task, done.examples)
        return self._read[done.file]

    def all(self) -> dict:
        """The likelihoods of every task, by (task, metric, shots) as they were asked for."""
        return {done.key: self.likelihoods(done) for done in self.manifest.tasks if done.file is not None}

    def table(self) -> ScoreTable:
        """A score table of every metric of every task."""
        rows = [row for done in self.manifest.tasks for row in self._rows(done)]
        frame = pd.DataFrame(rows).astype({"shots": "Int64"})
        identity = self.manifest.identity.model_dump()
        identity["family"] = identity["family"] or identity["model"]
        return ScoreTable.from_frame(frame.assign(**identity), where=str(self.folder))

    def scores(self, done: Done) -> pd.DataFrame:
        """One row per metric of a task: task, metric, shots, score, stderr, n_items."""
        return pd.DataFrame(self._rows(done)).astype({"shots": "Int64"})

    def _rows(self, done: Done) -> list[dict]:
        """`scores` as records."""
        if done.rows:
            of = {"task": done.task, "shots": done.examples}
            return [of | row.model_dump() for row in done.rows]
        return summarise(self.likelihoods(done)).records()

    def to_frame(self) -> pd.DataFrame:
        """The rows of the score table."""
        return self.table().frame

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)

    def _with(self, write: bool = True, **changes) -> Results:
        made = replace(self, manifest=self.manifest.model_copy(update=changes))
        if not (self.writes and write):
            return made
        with replacing(self.folder / MANIFEST) as part:
            text = json.dumps(made.manifest.model_dump(mode="json"), ensure_ascii=False, indent=1)
            part.write_text(text + "\n", encoding="utf-8")
        return made


def _brief(value: object) -> str:
    """A value of a manifest in a message."""
    if isinstance(value, dict):
        return str(value.get("stage", value))
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else "none" if value is None else repr(value)


def item_file(task: str, shots: int | None) -> str:
    """Where the likelihoods of a task stand within a folder of results.

    Example:
        >>> item_file("lm_eval:arc/easy", 5)
        'items/lm_eval%3Aarc%2Feasy@5.parquet'
    """
    name = quote(task, safe="")
    if len(name) > _LONG:  # file systems take 255 bytes
        name = f"{name[:_LONG]}-{hashlib.sha256(task.encode()).hexdigest()[:16]}"
    return f"{ITEMS}/{name}@{'' if shots is None else shots}.parquet"
