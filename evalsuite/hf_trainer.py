"""The hook as a callback of the `Trainer` of transformers."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evalsuite.hook import EvalHook
from evalsuite.ranks import Ranks

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
_KEPT = 3  # checkpoints; a trainer keeps all by default, and their snapshots would fill the disk


class EvalCallback(TrainerCallback):
    """Calls an `EvalHook` after every optimiser step of a `Trainer`, whatever it accumulates gradients over.

    - Tokens: `tokens_per_step` times the step; without it what the trainer counts, which it does with
      `TrainingArguments(include_num_input_tokens_seen="all")`, padding included; else they are not known,
      and the hook then cannot choose between suites by compute.
    - Loss: the trainer's own mean since it last logged, handed on with the step after it: the callback never
      waits for the device.
    - Checkpoints: a resume may start from the newest few that are left in `output_dir`; from an older one it
      goes on too, and says which snapshots its first means lack.
    - Training that ends in an exception does not tell its callbacks: call `hook.close()` then.

    Args:
        hook: an `EvalHook`, for one call of `train`; or a function that makes one, called with the model when
            training begins.
        tokens_per_step: over all ranks: rows of a batch * accumulation * ranks * tokens of a row.

    Example:
        >>> hook = EvalHook("early.yaml", tokenizer, folder="runs/a/evals", every=500)   # doctest: +SKIP
        >>> Trainer(model, args, train_dataset=rows, callbacks=[EvalCallback(hook)]).train()  # doctest: +SKIP
    """

    def __init__(
        self, hook: EvalHook | Callable[[nn.Module], EvalHook], *, tokens_per_step: float | None = None
    ) -> None:
        self.hook = hook if isinstance(hook, EvalHook) else None
        self.tokens_per_step = tokens_per_step
        self._make = None if isinstance(hook, EvalHook) else hook
        self._lr: float | None = None
        self._loss: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._make is not None:
            self.hook = self._make(kwargs["model"])

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # When the step ends, the schedule has gone on to the rate of the next one.
        self._lr = float(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.hook is not None
        loss, self._loss = self._loss, None
        tokens = self._tokens(args, state)
        self.hook(state.global_step, kwargs["model"], tokens=tokens, lr=self._lr, loss=loss)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._loss = kwargs["logs"].get("loss", self._loss)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.hook is not None
        # Other ranks may see another disk, or the folder of a moment later.
        oldest = Ranks.here(args.device).first(np.array([_oldest(args.output_dir, state.global_step)]))
        self.hook.saved(state.global_step, int(oldest[0]))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.hook is not None
        self.hook.close()

    def _tokens(self, args: TrainingArguments, state: TrainerState) -> float | None:
        if self.tokens_per_step is not None:
            return state.global_step * self.tokens_per_step
        counted = args.include_num_input_tokens_seen not in ("no", False)
        return float(state.num_input_tokens_seen) if counted and state.num_input_tokens_seen else None


def _oldest(folder: str | None, step: int) -> int:
    """The step of the oldest checkpoint of a run that is at a step, of those that snapshots are kept for."""
    found = [step]
    with suppress(OSError):
        names = [one.name for one in Path(folder or ".").iterdir()]
        found += [int(match[1]) for match in map(_CHECKPOINT.fullmatch, names) if match]
    return sorted(set(found))[-_KEPT:][0]
