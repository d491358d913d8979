"""A ladder trained and evaluated, run by run; every finished run is kept as it comes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed

from data.prepared import Prepared
from evalsuite.registry import Registry
from scaling.errors import UsageError
from scaling.files import replacing
from train.config import DataConfig, DeviceConfig, EvalConfig, ModelSection, RunConfig, ValidationConfig
from train.ladder.cells import Cell
from train.ladder.plan import Plan
from train.ladder.presets import Ladder
from train.ladder.questions import Questions, choose
from train.ladder.table import scores_of
from train.ladder.text import sources, text
from train.ladder.version import commit, computed_by
from train.lock import locked
from train.record import settle
from train.studies.runs import finished

TOKENS, TASKS, RUNS, SCORES = "tokens", "tasks", "runs", "scores"

Progress = Callable[[int, int, str], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """A folder in which a ladder is run.

    It holds tokens/, tasks/ (the items asked), runs/ (those at work) and scores/, where each finished run has
    its table and what it cost.

    Attributes:
        folder: the place. ladder: that is run. prepared: its text. questions: its items.

    Example:
        >>> Place.open(Path("ladder"), preset("smoke"), None, ()).cells[0].name          # doctest: +SKIP
    """

    folder: Path
    ladder: Ladder
    prepared: Prepared
    questions: Questions
    device: DeviceConfig

    @classmethod
    def open(
        cls, folder: Path, ladder: Ladder, corpus: str | os.PathLike[str] | None,
        tasks: Sequence[str | os.PathLike[str]], device: DeviceConfig | None = None,
        progress: Progress | None = None,
    ) -> Place:  # fmt: skip
        """Make text and items, or find them: what a place holds already is taken as it is.

        Args:
            folder: the place. ladder: to run in it. corpus: see `sources`. tasks: folders of items, besides
                the skills that the project generates. device: what to run on. progress: told of the work.

        Raises:
            StagewiseError: a place of another ladder, of a corpus or tasks of other names. DataError: see
                `sources`. UsageError: tasks that are not there.
        """
        registry, listed = Registry.open(tasks), sources(corpus, ladder.most)  # what is wrong leaves no trace
        folder.mkdir(parents=True, exist_ok=True)
        told = {
            "preset": ladder.name, "vocabulary": ladder.vocabulary, "context": ladder.context,
            "most": ladder.most, "checkpoints": ladder.checkpoints, "raw": ladder.raw,
            "stderr": ladder.stderr, "tasks": sorted(registry.names()),
            "corpus": None if corpus is None else Path(corpus).name,
        }  # fmt: skip
        settle(folder, "ladder", told)
        prepared = text(folder / TOKENS, listed, ladder.vocabulary, registry, progress)
        questions = choose(
            registry, ladder.tasks, prepared.tokenizer, ladder.context, ladder.stderr, folder / TASKS
        )
        return cls(folder, ladder, prepared, questions, device or DeviceConfig(device="cpu", threads=1))

    @property
    def domains(self) -> tuple[str, ...]:
        """Of the text that is trained on."""
        return tuple(sorted(self.prepared.tokens("train")))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The runs, in the order they are trained."""
        return self.ladder.cells(self.domains)

    def cell(self, name: str) -> Cell:
        """A run by name.

        Raises:
            UsageError: none of that name.
        """
        for one in self.cells:
            if one.name == name:
                return one
        raise UsageError(
            f"run {name!r}: not of this ladder; its runs are {', '.join(c.name for c in self.cells)}"
        )

    def done(self, cell: Cell) -> bool:
        """Whether a run has ended and its scores are kept."""
        return (self.folder / SCORES / f"{cell.name}.json").is_file()

    def config(self, cell: Cell) -> RunConfig:
        """The settings of a run."""
        base = RunConfig(
            steps=1, data=DataConfig(folder=str(self.prepared.folder), sources=()),
            model=ModelSection(context=self.ladder.context), device=self.device,
            validation=ValidationConfig(tokens=8192),
            eval=EvalConfig(folders=(str(self.questions.folder),)),
        )  # fmt: skip
        asked = [one.task for one in self.questions.tasks]
        return cell.config(base, self.domains, self.ladder.checkpoints, self.ladder.raw, asked)

    def plan(self) -> Plan:
        """What is left to do, and what it costs."""
        return Plan.of(self)

    def climb(self, jobs: int = 1, progress: Progress | None = None, say: Say = lambda _: None) -> None:
        """Train and evaluate all runs that are not done.

        Args:
            jobs: runs at a time, one process each. progress: of the runs. say: told what is done.

        Raises:
            StagewiseError: a run that was stopped, or failed; the same call goes on from there.
        """
        left = [one for one in self.cells if not self.done(one)]
        with locked(self.folder):
            count, start = len(self.cells) - len(left), time.monotonic()
            made = (
                (self.run(one) for one in left)
                if jobs == 1
                else Parallel(n_jobs=jobs, return_as="generator_unordered")(
                    delayed(self.run)(one) for one in left
                )
            )
            for line in made:
                count += 1
                say(f"{count} of {len(self.cells)}, {(time.monotonic() - start) / 60:.0f} minutes: {line}")
                if progress is not None:
                    progress(count, len(self.cells), "runs")

    def run(self, cell: Cell, home: Path | None = None) -> str:
        """Train and evaluate one run, keep its scores, and delete the rest; what to say of it.

        Args:
            cell: the run. home: folder in place of runs/ and scores/ of this place.
        """
        top = home or self.folder
        folder, start, code = top / RUNS / cell.name, time.perf_counter(), commit()
        config = self.config(cell)
        outcome = finished(folder, config)
        table, told = scores_of(folder, cell, config)
        told |= {"wall": time.perf_counter() - start, "commit": code, "versions": computed_by()}
        (top / SCORES).mkdir(parents=True, exist_ok=True)
        table.write(top / SCORES / f"{cell.name}.parquet")
        with replacing(top / SCORES / f"{cell.name}.json") as part:  # last: with it the run is done
            part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder)
        return f"{cell.name}: {outcome.step:,} steps, {len(table):,} scores"
