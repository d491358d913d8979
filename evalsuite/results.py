"""A folder of results: score rows, per-item likelihoods, and a manifest that says what they are of."""

from __future__ import annotations

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
from scaling.files import replacing
from scaling.scores import ScoreTable

MANIFEST, SCORES, ITEMS = "manifest.json", "scores.parquet", "items"
CONVENTION = (
    "ll: natural log of p(answer | context), summed over tokens; the blank before an answer belongs to it. "
    "bpb: -log2 p(right answer) / UTF-8 bytes of the answer without one leading space, mean over items; "
    "bpb_bytes: summed bits over summed bytes. acc, acc_norm (characters), acc_bytes, brier: as lm-eval."
)


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
    held_out: bool


class Wanted(Named):
    """A task to score: by which metric a suite wants it, how many of its items or which, and in what role."""

    items: Count | None = None
    item_ids: tuple[str, ...] | None = Field(default=None, strict=False)
    role: Literal["scored", "held out", "asked"] = "asked"


class Done(Wanted):
    """A task that was scored.

    Attributes:
        digest: of the items asked and their prompt. file: of the likelihoods, within the folder.
        examples: solved ones before each item. answered: items. truncated: of them with context cut off at the left. chance: of a guesser.
        surface: accuracy of the best guess by the surface of the choices on these items. beaten: whether the
            model's accuracy is above that by two standard errors. baselines: what its publisher states.
        mode: how the model was run. seconds: of scoring.
    """

    digest: Digest
    file: Text
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

    Example:
        >>> Results.open("results").table().frame            # doctest: +SKIP
    """

    folder: Path
    manifest: Manifest
    _read: dict[str, Likelihoods] = field(default_factory=dict, repr=False, compare=False)

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
            if path.is_dir() and any(path.iterdir()):
                raise StagewiseError(f"{path}: holds other files; give an empty or a new folder")
            return cls(path, manifest)
        there = cls.open(path)
        if differ := [name for name, value in manifest.head.items() if there.manifest.head[name] != value]:
            name = differ[0]
            was, now = there.manifest.head[name], manifest.head[name]
            if isinstance(was, dict) and isinstance(now, dict):
                key = next(key for key in {**was, **now} if was.get(key) != now.get(key))
                name, was, now = f"{name}.{key}", was.get(key), now.get(key)
            raise StagewiseError(
                f"{path}: holds results of something else: {name} was {was!r}, is {now!r}; "
                "give another folder, or delete this one"
            )
        return cls(path, manifest.model_copy(update={"tasks": there.manifest.tasks}))

    def add(self, done: Done, likelihoods: Likelihoods) -> Results:
        """Write the likelihoods of a task, then the manifest that names them."""
        with replacing(self.folder / done.file) as part:
            likelihoods.to_frame().to_parquet(part, index=False, compression="zstd")
        kept = tuple(one for one in self.manifest.tasks if one.key != done.key)
        self._read[done.file] = likelihoods
        return self._with(tasks=(*kept, done))

    def end(self, wanted: tuple[Wanted, ...], missing: tuple[Missing, ...]) -> Results:
        """Write the manifest in the order asked, and the score rows."""
        order = {one.key: i for i, one in enumerate(wanted)}
        tasks = sorted(self.manifest.tasks, key=lambda one: order.get(one.key, len(order)))
        ended = self._with(tasks=tuple(tasks), missing=missing)
        if tasks:
            ended.table().write(self.folder / SCORES)
        return ended

    def likelihoods(self, done: Done) -> Likelihoods:
        """Those of one task.

        Raises:
            StagewiseError: the file is gone or is not what was written.
        """
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
        return {done.key: self.likelihoods(done) for done in self.manifest.tasks}

    def table(self) -> ScoreTable:
        """A score table of every metric of every task."""
        frames = [summarise(self.likelihoods(done)).to_frame() for done in self.manifest.tasks]
        frame = pd.concat(frames, ignore_index=True)
        identity = self.manifest.identity.model_dump()
        identity["family"] = identity["family"] or identity["model"]
        return ScoreTable.from_frame(frame.assign(**identity), where=str(self.folder))

    def to_frame(self) -> pd.DataFrame:
        """The rows of the score table."""
        return self.table().frame

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)

    def _with(self, **changes) -> Results:
        made = replace(self, manifest=self.manifest.model_copy(update=changes))
        with replacing(self.folder / MANIFEST) as part:
            text = json.dumps(made.manifest.model_dump(mode="json"), ensure_ascii=False, indent=1)
            part.write_text(text + "\n", encoding="utf-8")
        return made


def item_file(task: str, shots: int | None) -> str:
    """Where the likelihoods of a task stand within a folder of results.

    Example:
        >>> item_file("lm_eval:arc/easy", 5)
        'items/lm_eval%3Aarc%2Feasy@5.parquet'
    """
    return f"{ITEMS}/{quote(task, safe='')}@{'' if shots is None else shots}.parquet"
