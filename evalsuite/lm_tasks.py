"""Tasks of lm-eval by name, scored by our scorer through lm-eval's own `evaluate`."""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import lm_eval
import numpy as np
import pandas as pd
import torch
from lm_eval.api.task import Task as HarnessTask
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager
from lm_eval.tasks.manager import TaskDict

from evalsuite.lm import ScorerLM
from evalsuite.lm_scores import HarnessScores, likelihoods_of, rows_of
from evalsuite.tasks import LM_EVAL
from scaling.errors import StagewiseError, UsageError

_EXECUTES = "HF_ALLOW_CODE_EVAL"


@dataclass(frozen=True)
class HarnessTasks:
    """The tasks that lm-eval knows, each loaded once.

    Its own tasks are looked through (seconds) only when a name is in none of the folders.

    Args:
        folders: of YAML tasks, as `--include_path`. Their `!function` entries are run: give your own only.

    Example:
        >>> HarnessTasks().score("lm_eval:piqa", ScorerLM(scorer)).rows       # doctest: +SKIP
    """

    folders: tuple[str | os.PathLike[str], ...] = ()
    _loaded: dict[str, tuple[TaskDict, _Chance]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for folder in self.folders:
            if not Path(folder).is_dir():
                raise UsageError(f"{folder}: no such folder; give one that holds YAML tasks of lm-eval")

    @cached_property
    def _own(self) -> TaskManager:
        return TaskManager(include_path=list(map(str, self.folders)), include_defaults=False)

    @cached_property
    def _all(self) -> TaskManager:
        return TaskManager(include_path=list(map(str, self.folders)))

    def load(self, name: str, *, generates: bool = False) -> TaskDict:
        """A task, group or tag with its data.

        What a configuration says of itself is looked at before lm-eval builds the task, which may run code.

        Args:
            name: with or without `lm_eval:`. generates: whether the model can write text.

        Raises:
            UsageError: a name that lm-eval does not know.
            StagewiseError: a task marked unsafe, one that needs a model which writes text, or data that
                cannot be loaded.
        """
        name = name.removeprefix(LM_EVAL)
        manager = self._own if name in self._own.task_index else self._all
        # A path would be taken for a task too: a suite's file could name one, and its functions would run.
        if name not in manager.task_index:
            near = difflib.get_close_matches(name, manager.all_tasks, 3)
            raise UsageError(
                f"task {LM_EVAL}{name}: lm-eval has no task of that name"
                + (f"; near it are {', '.join(near)}" if near else "")
                + "; `lm_eval ls tasks` lists all, --include DIR adds a folder of YAML tasks"
            )
        for leaf, config in _leaves(name, manager.task_index):
            unset = None if "class" in config else "generate_until"
            _refuse(leaf, config.get("unsafe_code"), config.get("output_type", unset), generates)
        if name not in self._loaded:
            with _as_lm_eval_runs(None):
                try:
                    self._loaded[name] = manager.load([name]), _Chance.now()
                except Exception as error:  # foreign code, and whatever its data come through
                    raise StagewiseError(
                        f"task {LM_EVAL}{name}: lm-eval cannot load it ({_told(error)}); if its data are not "
                        "on this machine, load them once with network access and keep the cache (HF_HOME), "
                        "or write a YAML task over local files and give its folder with --include-path"
                    ) from error
        for leaf, task in self._loaded[name][0]["tasks"].items():
            _refuse(leaf, getattr(task, "UNSAFE_CODE", False), task.OUTPUT_TYPE, generates)
        return self._loaded[name][0]

    def score(
        self, name: str, lm: ScorerLM, *, shots: int | None = None, limit: int | None = None
    ) -> HarnessScores:
        """Score a task, or all of a group.

        Under `torchrun` every rank calls this and gets the same.

        Args:
            name: with or without `lm_eval:`. lm: the model.
            shots: solved examples; as the task has it where absent. limit: ask only so many items, the first.

        Raises:
            UsageError: an unknown name, or shots that the task does not allow.
            StagewiseError: see `load`; or what stopped lm-eval.
        """
        name = name.removeprefix(LM_EVAL)
        loaded = self.load(name, generates=lm.generates)
        tasks, harness = loaded["tasks"], cast(Any, lm_eval)
        try:
            with _as_lm_eval_runs(self._loaded[name][1]), _shots(tasks, shots):
                found = harness.evaluate(lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=0)
                rows = [row for of in found["results"] for row in rows_of(of, found, tasks.get(of))]
                likelihoods = {
                    of: made
                    for of, task in tasks.items()
                    if (made := likelihoods_of(of, task, found["samples"][of], lm)) is not None
                }
        except StagewiseError:
            raise
        except Exception as error:
            raise StagewiseError(
                f"task {LM_EVAL}{name}: lm-eval stopped ({_told(error)}); try it with the lm_eval command, "
                "and leave it out of the suite if that stops too"
            ) from error
        columns = ["task", "metric", "shots", "score", "stderr", "n_items"]
        frame = pd.DataFrame(rows, columns=pd.Index(columns)).astype({"shots": "Int64", "n_items": "Int64"})
        return HarnessScores(frame, likelihoods)


def _leaves(name: str, index: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and configuration of each task below a name, functions not resolved."""
    entry = index[name]
    config = entry.cfg or {}
    if entry.kind.name == "TAG":
        for member in sorted(entry.tags):
            yield from _leaves(member, index)
    elif entry.kind.name == "GROUP":
        yield from _members(config.get("task"), index)
    else:
        yield name, config


def _members(members: Any, index: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for member in [members] if isinstance(members, str) else members or ():
        given = {"task": member} if isinstance(member, str) else dict(member)
        name = given.get("group", given.get("task"))
        if isinstance(name, str) and name in index:
            for leaf, config in _leaves(name, index):
                # What is unsafe by itself stays so in whatever group.
                unsafe = config.get("unsafe_code") or given.get("unsafe_code")
                yield leaf, {**config, **given, "unsafe_code": unsafe}
        elif "group" in given:
            yield from _members(given.get("task"), index)
        else:
            yield str(name), given


def _refuse(name: str, unsafe: Any, output: str | None, generates: bool) -> None:
    why = ""
    if unsafe:
        why = "it is marked unsafe_code: its score comes from running what the model wrote"
    elif output == "generate_until" and not generates:
        why = "the model has to write text, which takes a model and a tokenizer of transformers"
    if why:
        raise StagewiseError(
            f"task {LM_EVAL}{name}: not scored: {why}; score its right answers by bits per byte instead "
            "(a task folder with free answers)"
        )


class _Chance(NamedTuple):
    """The states of the generators that tasks draw from."""

    python: Any
    numpy: Any
    torch: Any

    @classmethod
    def now(cls) -> _Chance:
        return cls(random.getstate(), np.random.get_state(), torch.random.get_rng_state())

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.random.set_rng_state(self.torch)


@contextmanager
def _as_lm_eval_runs(start: _Chance | None) -> Iterator[None]:
    """The seeds of lm-eval's command, or where it stood, so that tasks that shuffle do so alike, on every
    rank and at every checkpoint; no leave to run code. Afterwards all is as before."""
    before, allowed = _Chance.now(), os.environ.pop(_EXECUTES, None)
    try:
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        torch.default_generator.manual_seed(DEFAULT_OTHER_SEED)
        if start:
            start.restore()
        yield
    finally:
        before.restore()
        if allowed is not None:
            os.environ[_EXECUTES] = allowed


@contextmanager
def _shots(tasks: Mapping[str, HarnessTask], shots: int | None) -> Iterator[None]:
    """Tasks with a number of solved examples, drawn with lm-eval's seed."""
    before = {name: task.get_config("num_fewshot") for name, task in tasks.items()}
    fixed = [name for name, own in before.items() if own == 0 and shots]
    if fixed:
        raise UsageError(
            f"task {LM_EVAL}{fixed[0]}: {shots} examples asked for, its configuration fixes 0; ask for 0"
        )
    try:
        for name, task in tasks.items():
            task.set_config("num_fewshot", (before[name] or 0) if shots is None else shots)
            task.set_fewshot_seed(DEFAULT_OTHER_SEED)
        yield
    finally:
        for name, task in tasks.items():
            task.set_config("num_fewshot", before[name])


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]:.200}"
