"""The scorer as a model of lm-eval, for its `evaluate`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evalsuite.requests import Requests
from evalsuite.scorer import Scorer, not_finite
from scaling.errors import StagewiseError

Pair = tuple[str, str]


@dataclass(frozen=True)
class Encoded:
    """How an answer was put to the model: its tokens, and whether context was cut off at the left."""

    tokens: int
    truncated: bool


class ScorerLM(LM):
    """A model for `lm_eval.evaluate(lm=ScorerLM(scorer), task_dict=...)`.

    The requests of a document share a packed row and those of a task the beginning they have in common (the
    solved examples), as in `Scorer`; answers are those of lm-eval's HFLM. Token ids are kept by what was
    asked, so that a later checkpoint in the same model is not tokenised again.

    Under `torchrun` the scorer spreads the work over the ranks, not lm-eval: to lm-eval there is one process
    (`world_size` 1), every rank asks everything, and `evaluate` returns the same result on each. Packing then
    sees all documents, ranks of a sharded model stay in step, and nothing has to be gathered. Every rank must
    load the same tasks; generation is done by each rank for itself.

    Args:
        scorer: with model and tokenizer.
        progress: called with tokens done and tokens in all, for each task.

    Example:
        >>> lm = ScorerLM(Scorer(model, tokenizer))                             # doctest: +SKIP
        >>> lm_eval.evaluate(lm=lm, task_dict=TaskManager().load(["piqa"]))     # doctest: +SKIP
    """

    def __init__(self, scorer: Scorer, *, progress: Callable[[int, int], None] | None = None) -> None:
        super().__init__()
        self.scorer = scorer
        self.tokenizer = scorer.encoder.tokenizer
        self._progress = progress
        self._device = scorer.engine.device
        self._built: dict[bytes, Requests] = {}
        self._encoded: dict[Pair, Encoded] = {}
        self._generator: Any = None

    @property
    def max_length(self) -> int:
        """Tokens the model can read."""
        assert self.scorer.max_length is not None
        return self.scorer.max_length

    @property
    def generates(self) -> bool:
        """Whether it can write text: a model and a tokenizer of `transformers` can."""
        from transformers import PreTrainedModel, PreTrainedTokenizerBase

        model = self.scorer.engine.inner
        writes = isinstance(model, PreTrainedModel) and model.can_generate()
        return writes and isinstance(self.tokenizer, PreTrainedTokenizerBase)

    def encoded(self, pair: Pair) -> Encoded:
        """How a (context, continuation) that was asked for was put to the model."""
        return self._encoded[pair]

    def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation in nats, and whether greedy decoding gives it.

        Raises:
            StagewiseError: a continuation of no tokens or more than the model can read, an id it has no
                embedding for, or a result that is not finite, naming task and document.
        """
        found: list[tuple[float, bool]] = [(np.nan, False)] * len(requests)
        for of_task in _by(requests, lambda one: one.task_name):
            of_task = [i for part in _by(requests, _document, of_task) for i in part]
            pairs = [cast(Pair, tuple(requests[i].args[:2])) for i in of_task]
            asked = self._requests(pairs, [requests[i] for i in of_task])
            ll, greedy = self.scorer.loglikelihoods(asked, progress=self._progress)
            for j, i in enumerate(of_task):
                if not np.isfinite(ll[j]):
                    raise not_finite(_name(requests[i]), ll[j])
                found[i] = (float(ll[j]), bool(greedy[j]))
                # Saved task by task: a run that is killed begins again where it was.
                self.cache_hook.add_partial("loglikelihood", pairs[j], found[i])
        return found

    def loglikelihood_rolling(self, requests: list[Instance], **_: Any) -> list[float]:
        """Log-likelihood of each whole text in nats, in windows as long as the model can read."""
        encoder = self.scorer.encoder
        assert encoder.prefix_token is not None
        inputs, targets, owner = [], [], []
        for i, ids in enumerate(encoder.texts([one.args[0] for one in requests])):
            windows = get_rolling_token_windows(ids.tolist(), encoder.prefix_token, self.max_length, 1)
            for before, scored in map(make_disjoint_window, windows):
                inputs.append(np.array([*before, *scored], dtype=np.int32)[-(self.max_length + 1) :][:-1])
                targets.append(np.array(scored, dtype=np.int32))
                owner.append(i)
        total = np.zeros(len(requests))
        if inputs:
            # Windows of one text share no beginning, so each is a row of its own.
            n = len(inputs)
            asked = Requests(inputs, targets, np.arange(n), np.zeros(n, dtype=bool), self.max_length)
            self.scorer.admit(asked, lambda i: _name(requests[owner[i]]))
            ll, _greedy = self.scorer.loglikelihoods(asked, progress=self._progress)
            np.add.at(total, owner, ll)
        for one, value in zip(requests, total, strict=True):
            if not np.isfinite(value):
                raise not_finite(_name(one), value)
            self.cache_hook.add_partial("loglikelihood_rolling", (one.args[0],), float(value))
        return total.tolist()

    def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
        """Text that the model writes, by lm-eval's own HFLM.

        Raises:
            StagewiseError: a model or tokenizer that is not of `transformers`.
        """
        if not self.generates:
            what = f"{type(self.scorer.engine.inner).__name__} with {type(self.tokenizer).__name__}"
            raise StagewiseError(
                f"{_name(requests[0])}: wants the model to write text, which {what} cannot; give a model and "
                "tokenizer of transformers, or score the answers by bits per byte (a task folder with free "
                "answers)"
            )
        with self.scorer.engine.evaluating():
            if self._generator is None:
                from lm_eval.models.huggingface import HFLM

                encoder = self.scorer.encoder
                self._generator = cast(Any, HFLM)(
                    pretrained=self.scorer.engine.inner,
                    tokenizer=self.tokenizer, max_length=self.max_length, add_bos_token=encoder.add_bos,
                    prefix_token_id=encoder.prefix_token,
                )  # fmt: skip
            self._generator.set_cache_hook(self.cache_hook)
            return self._generator.generate_until(requests)

    def _requests(self, pairs: list[Pair], instances: Sequence[Instance]) -> Requests:
        """The requests of a task whose documents stand together; built once."""
        key = hashlib.sha256(repr(([_document(one) for one in instances], pairs)).encode()).digest()
        if key not in self._built:
            document = [_document(one) for one in instances]
            new = [i == 0 or document[i] != document[i - 1] for i in range(len(document))]
            names = [_name(one) for one in instances]
            asked = Requests.build(pairs, self.scorer.encoder, self.max_length, np.cumsum(new) - 1, names)
            self.scorer.admit(asked, lambda i: names[i])
            self._built[key] = asked
            for pair, scored, cut in zip(pairs, asked.targets, asked.truncated, strict=True):
                self._encoded[pair] = Encoded(len(scored), bool(cut))
        return self._built[key]


def _by(
    requests: Sequence[Instance], key: Callable[[Instance], Any], of: Sequence[int] | None = None
) -> list[list[int]]:
    """Places of requests that have a key in common, in the order in which the keys first occur."""
    groups: dict[Any, list[int]] = {}
    for i in range(len(requests)) if of is None else of:
        groups.setdefault(key(requests[i]), []).append(i)
    return list(groups.values())


def _document(one: Instance) -> Any:
    """What the requests of one row have in common: the document, else the context."""
    return one.args[0] if one.doc_id is None else one.doc_id


def _name(one: Instance) -> str:
    """What to call a request in a message."""
    return f"task {one.task_name or '(unnamed)'}, document {'?' if one.doc_id is None else one.doc_id}"
