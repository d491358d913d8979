"""Programmes run on a model again and again: tasks are read and tokenised once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evalsuite.encoding import Encoder
from evalsuite.programme import Programme, settled
from evalsuite.registry import Registry
from evalsuite.results import Foreign, Identity, Results, Wanted
from evalsuite.run import GOLD, run
from evalsuite.scorer import Scorer
from evalsuite.tasks import LM_EVAL, Task
from scaling.errors import StagewiseError


@dataclass(frozen=True)
class _Kept(Registry):
    """A registry that reads every task once."""

    read: dict[str, Task] = field(default_factory=dict, compare=False)

    def task(self, name: str) -> Task:
        if name not in self.read:
            self.read[name] = super().task(name)
        return self.read[name]


@dataclass
class Evaluator:
    """Scores models of one tokenizer.

    Attributes:
        tokenizer: as for `Scorer`. registry: where tasks are found. max_length, autocast, budget: as for
            `Scorer`. gold_only: score right answers alone, for tasks watched by bits.
    """

    tokenizer: Any
    registry: Registry
    max_length: int | None = None
    autocast: torch.dtype | None = None
    budget: int | None = None
    gold_only: bool = False
    _scorer: Scorer | None = field(default=None, init=False, repr=False)
    _sizes: dict[tuple, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.registry = _Kept(self.registry.folders, self.registry.seed)
        self.tokenizer = self.tokenizer if isinstance(self.tokenizer, Encoder) else Encoder(self.tokenizer)

    def scorer(self, model: nn.Module) -> Scorer:
        """The scorer of a model; the same as long as it is the same model."""
        if self._scorer is None or self._scorer.model is not model:
            self._scorer = Scorer(
                model, self.tokenizer, max_length=self.max_length, budget=self.budget, autocast=self.autocast
            )
        return self._scorer

    def settled(self, found: Programme) -> Programme:
        """A programme that knows how many items its tasks have; a task that cannot be read stays as it is."""
        sizes = {}
        for part in found.parts:
            try:
                sizes[part.wanted.task] = len(self.registry.task(part.wanted.task).items)
            except StagewiseError:
                continue
        return settled(found, sizes)

    def tokens(self, found: Programme, model: nn.Module) -> int:
        """Tokens a model reads for all items of a programme; of tasks that cannot be asked, none."""
        return sum(self.prepare(one, model) for one in found.wanted())

    def prepared(self, one: Wanted) -> bool:
        """Whether a task is tokenised, or was found not to be askable."""
        return (one.key, one.items, one.item_ids) in self._sizes

    def prepare(self, one: Wanted, model: nn.Module) -> int:
        """Tokenise a task, once; the tokens a model reads for it, 0 where it cannot be asked."""
        key = (one.key, one.items, one.item_ids)
        if key not in self._sizes:
            self._sizes[key] = 0
            with suppress(StagewiseError):
                if not one.task.startswith(LM_EVAL):
                    task = self.registry.task(one.task).take(one.items, one.item_ids)
                    gold_only = self.gold_only and one.metric in GOLD
                    asked = self.scorer(model).prepare(task, one.shots, gold_only=gold_only)
                    self._sizes[key] = sum(map(len, asked.requests.inputs))
        return self._sizes[key]

    def probe(
        self, programmes: Sequence[Sequence[Wanted]], model: nn.Module, items: int
    ) -> tuple[float, float]:
        """Score a few items of the first task that can be asked, then four times as many.

        Returns:
            Seconds that an evaluation takes whatever it reads (the check of the fast ways above all), and
            seconds per token; 0, 0 where no task can be asked.
        """
        for one in (one for wanted in programmes for one in wanted if self.prepare(one, model)):
            task = self.registry.task(one.task)
            scorer, gold_only = self.scorer(model), self.gold_only and one.metric in GOLD
            few, more = (
                scorer.prepare(task.take(min(count, len(task.items))), one.shots, gold_only=gold_only)
                for count in (items, 4 * items)
            )
            seconds = []
            for call, what in ((scorer.check, [few, more]), (scorer.score, few), (scorer.score, more)):
                start = time.perf_counter()
                with suppress(Exception):  # told when it is scored in earnest; on all ranks alike
                    call(what)  # pyright: ignore[reportArgumentType]
                seconds.append(time.perf_counter() - start)
            checked, short, long = seconds
            read = [sum(map(len, asked.requests.inputs)) for asked in (few, more)]
            if read[1] == read[0]:
                return checked, long / read[1]
            each = max(long - short, 0.0) / (read[1] - read[0])
            return checked + max(short - each * read[0], 0.0), each
        return 0.0, 0.0

    def evaluate(
        self, found: Programme, wanted: Sequence[Wanted], model: nn.Module, folder: Path, identity: Identity
    ) -> tuple[Results, tuple[Mapping[str, str], ...]]:
        """Score a programme on a model, into a folder.

        A folder that holds results of another model, as a run leaves that was resumed on another machine, is
        replaced.

        Args:
            found: the programme. wanted: its tasks, thinned or not. model: in any mode.
            folder: of the results. identity: whose they are.

        Returns:
            The results, and the tasks that are missing, each with `task` and `why`.

        Raises:
            StagewiseError: nothing could be scored, or written.
        """
        scorer = self.scorer(model)
        assert scorer.ranks is not None
        whole = found.suite if list(wanted) == list(found.wanted()) else None

        def go() -> Results:
            return run(wanted, self.registry, scorer, folder, identity, suite=whole, gold_only=self.gold_only)

        try:
            results = go()
        except Foreign:
            scorer.ranks.wait()
            if scorer.ranks.rank == 0:
                shutil.rmtree(folder, ignore_errors=True)
            scorer.ranks.wait()
            results = go()
        lost = tuple({"task": one.task, "why": one.why} for one in results.manifest.missing)
        if not results.manifest.tasks:
            why = lost[0]["why"] if lost else "no task"
            raise StagewiseError(f"{found.name}: none of {len(lost)} tasks could be scored; the first: {why}")
        return results, lost
