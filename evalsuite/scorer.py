"""Exact log-likelihoods of answers, fast enough for the training loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evalsuite.encoding import Encoder
from evalsuite.engine import Engine, Mode, Scored
from evalsuite.likelihoods import Likelihoods
from evalsuite.packing import Batch, Plan, pack
from evalsuite.parity import Parity, Shown, check
from evalsuite.precision import fast_half
from evalsuite.ranks import Ranks
from evalsuite.requests import Requests, TaskRequests
from evalsuite.tasks import Task
from scaling.errors import StagewiseError, UsageError

_BUDGET = {"cpu": 1024, "cuda": 65536}
_FALLBACK_LENGTH = 2048  # lm-eval's, for a model that does not say how much it can read
_JOINED = 1024  # tokens of a row of several items, where there is no cache for what they share


@dataclass
class Scorer:
    """Scores tasks on a model.

    Every item becomes one row `[context][choice 1][choice 2]...` under a tree mask, what all items begin
    with is read once, and the head works at the scored places alone. What a model does not support is found
    out by a check against the plain way before anything is scored (`evalsuite.parity`). Log-probabilities
    are summed in float64.

    Args:
        model: a torch module from token ids to logits; see `evalsuite.engine.Engine`.
        tokenizer: of `transformers` or `tokenizers`, an object with `encode`, or an `Encoder`.
        max_length: tokens the model can read; by its configuration where absent.
        budget: tokens of a batch, padding included; by the device where absent. On a GPU that runs out of
            memory a batch is halved until it fits.
        autocast: a type to compute in, such as torch.bfloat16; as the weights are where absent.
        modes: ways to run the model that may be tried; all where absent, `[Mode()]` for the plain one.
        ranks: how the work is spread; over the ranks of torch.distributed where that runs.

    Example:
        >>> scorer = Scorer(model, tokenizer)                             # doctest: +SKIP
        >>> asked = scorer.prepare(task)        # once                    # doctest: +SKIP
        >>> scorer.score(asked)                 # for every checkpoint    # doctest: +SKIP
    """

    model: nn.Module
    tokenizer: Any
    max_length: int | None = None
    budget: int | None = None
    autocast: torch.dtype | None = None
    modes: list[Mode] | None = None
    ranks: Ranks | None = None
    engine: Engine = field(init=False, repr=False)
    encoder: Encoder = field(init=False, repr=False)
    parity: Parity | None = field(init=False, default=None, repr=False)
    _asked: dict[tuple[str, str, int | None, bool], TaskRequests] = field(
        init=False, default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        self.engine = Engine(self.model, self.autocast)
        if self.autocast is not None and not fast_half(self.engine.device, self.autocast):
            where = self.engine.device.type
            told = f"autocast to {self.autocast}: has no fast path on this {where}; float32 is faster"
            warnings.warn(told, RuntimeWarning, stacklevel=3)
        self.encoder = self.tokenizer if isinstance(self.tokenizer, Encoder) else Encoder(self.tokenizer)
        if self.max_length is None:
            self.max_length = self.engine.max_length or _FALLBACK_LENGTH
        if self.budget is None:
            self.budget = _BUDGET.get(self.engine.device.type, 4096)
        if self.max_length < 1 or self.budget < 1:
            raise UsageError(
                f"max_length and budget: got {self.max_length} and {self.budget}, valid is 1 or more"
            )
        self.ranks = self.ranks or Ranks.here(self.engine.device)

    def prepare(self, task: Task, shots: int | None = None, *, gold_only: bool = False) -> TaskRequests:
        """Tokenise a task once; the result serves every checkpoint of models with this tokenizer.

        Args:
            task: with the items to ask. shots: solved examples; None for what the task has.
            gold_only: score the right answers alone: all that bits per byte needs.

        Raises:
            StagewiseError: see `TaskRequests.build`; or a token that the model has no embedding for.
        """
        assert self.max_length is not None
        key = (task.name, task.digest, shots, gold_only)
        if key not in self._asked:
            asked = TaskRequests.build(task, shots, self.encoder, self.max_length, gold_only=gold_only)
            owner = asked.requests.owner
            self.admit(asked.requests, lambda i: f"task {task.name}, item {task.items[owner[i]].id!r}")
            self._asked[key] = asked
        return self._asked[key]

    def admit(self, requests: Requests, name: Callable[[int], str]) -> None:
        """Refuse ids that the model has no embedding for, before they are looked up.

        Args:
            requests: what will be asked. name: what to call the request at a place.

        Raises:
            StagewiseError: the first request that holds one.
        """
        known = self.engine.vocabulary
        if known is None or requests.largest_token < known:
            return
        largest = [max(a.max(), b.max()) for a, b in zip(requests.inputs, requests.targets, strict=True)]
        i = next(i for i, token in enumerate(largest) if token >= known)
        raise StagewiseError(
            f"{name(i)}: the tokenizer gives the id {largest[i]}, the model has embeddings for 0 to "
            f"{known - 1} only; use the tokenizer that the model was trained with"
        )

    def check(self, asked: Sequence[TaskRequests]) -> None:
        """Try the fast ways on the hardest requests of several tasks at once, before they are scored.

        Without this the first task is checked, and every later one that asks for more than was shown.

        Args:
            asked: of `prepare`; nothing is done for none.
        """
        if any(len(one.requests) for one in asked):
            with self.engine.evaluating():
                self._verify(Requests.joined([one.requests for one in asked]))

    def score(
        self, asked: TaskRequests | Task, *, progress: Callable[[int, int], None] | None = None
    ) -> Likelihoods:
        """Log-likelihood of every answer of a task.

        Args:
            asked: of `prepare`, or a task. progress: called with tokens done and tokens in all.

        Returns:
            The likelihoods, the same on every rank.

        Raises:
            StagewiseError: logits that are not finite, naming the item.
        """
        asked = self.prepare(asked) if isinstance(asked, Task) else asked
        ll, greedy = self.loglikelihoods(asked.requests, progress=progress)
        blank, owner = asked.blank, asked.requests.owner
        if not np.isfinite(ll).all():
            item = str(blank.ids[owner[np.flatnonzero(~np.isfinite(ll))[0]]])
            raise not_finite(f"task {blank.task}, item {item!r}", ll[~np.isfinite(ll)][0])
        full, best = blank.ll.copy(), blank.greedy.copy()
        full[owner, asked.column], best[owner, asked.column] = ll, greedy
        return replace(blank, ll=full, greedy=best)

    def loglikelihoods(
        self, requests: Requests, *, progress: Callable[[int, int], None] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Log-likelihood of each request, and whether greedy decoding gives its tokens, [r] each.

        Args:
            requests: what is asked. progress: called with tokens done and tokens in all.
        """
        assert self.ranks is not None and self.max_length is not None
        if not len(requests):
            return np.zeros(0), np.zeros(0, dtype=bool)
        if requests.longest > self.max_length:
            raise StagewiseError(
                f"requests: the longest has {requests.longest:,} tokens, valid is up to {self.max_length:,} "
                "for this model; prepare them with its own scorer"
            )
        with self.engine.evaluating():
            mode = self._verify(requests)
            plan = self._plan(requests, mode)
            ll, missed = np.zeros(len(requests)), np.zeros(len(requests))
            problem: Exception | None = None
            try:
                done = len(plan.prefix)
                past = self.engine.begin(plan.prefix)
                for batch, counts in self.ranks.share(plan.batches):
                    part = self._run(batch, mode, past, len(plan.prefix))
                    if counts:
                        np.add.at(ll, batch.request, part.logprob)
                        np.add.at(missed, batch.request, ~part.best)
                    done += batch.size
                    if progress:
                        progress(min(done * self.ranks.size, plan.read), plan.read)
            except Exception as error:  # the other ranks would wait for this one's sums
                problem = error
            self.ranks.agree(problem)
        ll, missed = self.ranks.sum(ll), self.ranks.sum(missed)
        return ll, missed == 0

    def _verify(self, requests: Requests) -> Mode:
        """The fastest mode that has been checked for such requests."""
        modes = self.modes if self.modes is not None else self.engine.modes
        if (before := self.parity) is not None:
            plan = self._plan(requests, before.mode)
            if before.shown.covers(Shown.of(plan, requests.longest, self.engine.weights)):
                return before.mode
            modes = modes[modes.index(before.mode) :] if before.mode in modes else []
        assert self.ranks is not None
        problem: Exception | None = None
        try:
            found = check(self.engine, requests, self._plan, self._flat, modes=modes)
        except Exception as error:  # such as no memory: the other ranks would wait
            problem = error
        self.ranks.agree(problem)
        if before is not None:
            found = replace(
                found, refused=before.refused | found.refused, shown=before.shown.also(found.shown)
            )
        # Rounding may differ between machines; all ranks have to read the same batches.
        known = [*self.engine.modes, Mode()]
        agreed = known[self.ranks.most(known.index(found.mode))]
        self.parity = found if agreed == found.mode else replace(found, mode=agreed)
        return agreed

    def _plan(self, requests: Requests, mode: Mode) -> Plan:
        vocabulary = 1 if mode.head == "chunks" else self.engine.vocabulary or 1
        key = (mode.packed, mode.cached, self.budget, vocabulary)
        if key not in requests.plans:
            assert self.budget is not None
            requests.plans[key] = pack(
                requests, budget=self.budget, vocabulary=vocabulary, branching=mode.packed,
                cached=mode.cached, row_tokens=0 if mode.cached else _JOINED,
            )  # fmt: skip
        return requests.plans[key]

    def _flat(self, plan: Plan, mode: Mode) -> np.ndarray:
        """Log-probability of each scored token of a plan, in the order of its batches."""
        past = self.engine.begin(plan.prefix)
        return np.concatenate([self._run(one, mode, past, len(plan.prefix)).logprob for one in plan.batches])

    def _run(self, batch: Batch, mode: Mode, past: Any, prefix: int) -> Scored:
        try:
            return self.engine.run(batch, mode, past, prefix)
        except torch.OutOfMemoryError:
            if len(batch.tokens) == 1:
                raise
            torch.cuda.empty_cache()
            if self.ranks == Ranks() and self.budget is not None:
                self.budget = max(self.budget // 2, 1)  # for the tasks to come
        halves = [self._run(half, mode, past, prefix) for half in batch.halves()]
        return Scored(*(np.concatenate(part) for part in zip(*halves, strict=True)))


def not_finite(name: str, value: float) -> StagewiseError:
    """The error of a model that gives no number; `name` says what was asked."""
    return StagewiseError(
        f"{name}: got a log-likelihood of {value}, valid is a finite number; the model's weights or "
        "activations are broken (NaN or infinite logits)"
    )
