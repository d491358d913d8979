"""Is a fast way to run a model the same as the plain one? Asked of the model itself, before it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from evalsuite.engine import Engine, Mode
from evalsuite.packing import Batch, Plan, pack
from evalsuite.requests import Requests
from scaling.errors import StagewiseError

_ITEMS = 4
_TOKENS = 8192  # of the sample, each request read alone
# Largest difference of one log-probability that rounding explains, per nat of its size, by type.
_ROUNDING = {torch.float64: 1e-11, torch.float32: 2e-5, torch.float16: 0.02, torch.bfloat16: 0.1}
_NOISE = 8.0  # times what another batch size alone changes


@dataclass(frozen=True)
class Parity:
    """Which mode a model can be trusted with, and why not a faster one.

    Attributes:
        mode: the fastest that agrees.
        refused: why each faster one does not, by mode.
        difference: largest difference of a log-probability from the plain one, in nats.
        tolerance: what rounding explains, in nats, for a log-probability near zero.
        longest: tokens of the longest request it was shown with. weights: of the model then.
        branched, prefixed: whether some answers shared a row, and whether a common beginning was cached.
    """

    mode: Mode
    refused: dict[Mode, str] = field(repr=False)
    difference: float
    tolerance: float
    longest: int
    branched: bool = False
    prefixed: bool = False
    weights: tuple = field(default=(), repr=False)

    def covers(self, plan: Plan, longest: int, weights: tuple) -> bool:
        """Whether what was shown holds: the same weights, no longer request, no new way to share rows.

        A model at the start of training may hide what it does with a mask: residual branches that start at
        zero let no token see another.
        """
        branched = any(batch.branched for batch in plan.batches)
        return (
            weights == self.weights
            and longest <= self.longest
            and (self.branched or not branched)
            and (self.prefixed or not len(plan.prefix))
        )

    @property
    def words(self) -> str:
        """The verdict as one line."""
        line = f"{self.mode}: within {self.difference:.1e} nats of the plain run of the same requests"
        if not self.refused:
            return line
        why = "; ".join(f"{mode}: {reason}" for mode, reason in self.refused.items())
        return f"{line} (refused: {why})"


def check(
    engine: Engine,
    requests: Requests,
    lay: Callable[[Requests, Mode], Plan],
    logprobs: Callable[[Plan, Mode], np.ndarray],
    *,
    modes: list[Mode] | None = None,
) -> Parity:
    """Try every mode on a sample of the requests, the fastest first.

    The sample holds the longest item, the one with most answers, and a few between. Two things are asked of a
    mode. Agreement: every log-probability within rounding of the plain run, in which each request is a row of
    its own without mask. Independence: with the tokens of all other answers changed, the log-probabilities of
    one answer stay as they are; that is exact whatever type the model computes in.

    Args:
        engine: the model. requests: what will be asked.
        lay: lays out requests for a mode, as they will be.
        logprobs: runs a plan in a mode and returns the log-probability of each scored token of its batches.
        modes: to try, in that order; all that the model's signature allows where absent.

    Returns:
        The verdict; the plain mode where nothing else agrees.

    Raises:
        StagewiseError: a model whose answer to one request depends on others, or on padding behind it.
    """
    sample = _sample(requests)
    reference = _per_request(sample, pack(sample, budget=1, branching=False), Mode(), logprobs)
    again = _per_request(sample, lay(sample, Mode()), Mode(), logprobs)
    rounding = _ROUNDING.get(engine.dtype, 0.1)
    if engine.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
        rounding = max(rounding, 2e-3)  # TensorFloat-32
    # A model may be broken on some item; that is told when it is scored, and says nothing of a mode.
    sound = np.isfinite(reference) & np.isfinite(again)
    scale = np.where(sound, 1 + np.abs(reference), 1.0)
    noise = float(np.max(np.abs(again - reference) / scale, initial=0.0, where=sound))
    if noise > _NOISE * rounding:
        raise StagewiseError(
            f"model: a log-probability changes by {noise:.2g} nats (of 1 + its size) when its request stands in "
            "a batch with others and padding behind it; valid is a causal model whose rows do not see each "
            "other. To score it a request at a time: Scorer(..., budget=1, modes=[Mode()])"
        )
    allowed = max(rounding, _NOISE * noise)
    refused: dict[Mode, str] = {}
    longest = requests.longest
    for mode in modes if modes is not None else engine.modes:
        try:
            plan = lay(sample, mode)
            found = _per_request(sample, plan, mode, logprobs)
            leak = _leak(plan, mode, logprobs) if mode.packed else 0.0
        except Exception as error:  # whatever a foreign model raises when called in a way it does not know
            told = (str(error).strip().splitlines() or [""])[0]
            named = "" if isinstance(error, StagewiseError) else f"{type(error).__name__}: "
            refused[mode] = f"{named}{told:.160}"
            continue
        same = np.isfinite(found) == np.isfinite(reference)
        with np.errstate(invalid="ignore"):
            gap = np.where(same, np.where(sound, np.abs(found - reference), 0.0), np.inf)
        if not np.all(gap <= allowed * scale):
            refused[mode] = f"a log-probability differs by {gap.max():.2g} nats"
        elif not leak <= min(rounding, 1e-6) * float(scale.max()):
            refused[mode] = f"an answer changes by {leak:.2g} nats when another one does"
        else:
            branched = any(batch.branched for batch in plan.batches)
            prefixed = len(plan.prefix) > 0
            return Parity(
                mode, refused, float(gap.max()), allowed, longest, branched, prefixed, engine.weights
            )
    worst = float(np.max(np.abs(again - reference), initial=0.0, where=sound))
    return Parity(Mode(), refused, worst, allowed, longest, weights=engine.weights)


def _sample(requests: Requests) -> Requests:
    """A few items, whole, in at most so many tokens unless one item alone has more."""
    lengths = np.array([len(ids) for ids in requests.inputs])
    owners, first, count = np.unique(requests.owner, return_index=True, return_counts=True)
    longest = np.maximum.reduceat(lengths, first)
    ranked = np.argsort(-longest, kind="stable")
    spread = ranked[np.linspace(0, len(ranked) - 1, min(_ITEMS, len(ranked))).astype(int)]
    chosen: list[int] = []
    total = 0
    for i in dict.fromkeys([int(spread[0]), int(np.argmax(count)), *map(int, spread[1:])]):
        size = int(lengths[first[i] : first[i] + count[i]].sum())
        if not chosen or total + size <= _TOKENS:
            chosen.append(i)
            total += size
    keep = np.flatnonzero(np.isin(requests.owner, owners[chosen]))
    return replace(
        requests, inputs=[requests.inputs[i] for i in keep], targets=[requests.targets[i] for i in keep],
        owner=requests.owner[keep], truncated=requests.truncated[keep], plans={},
    )  # fmt: skip


def _per_request(
    sample: Requests, plan: Plan, mode: Mode, logprobs: Callable[[Plan, Mode], np.ndarray]
) -> np.ndarray:
    """Log-probabilities in the order of the requests and their tokens."""
    request = np.concatenate([batch.request for batch in plan.batches])
    # Tokens of one request stand together and in order; sorting by request must leave them so.
    return logprobs(plan, mode)[np.argsort(request, kind="stable")]


def _leak(plan: Plan, mode: Mode, logprobs: Callable[[Plan, Mode], np.ndarray]) -> float:
    """How far the answers at the end of each row move when what they must not see is changed."""
    changed, kept = [], []
    for batch in plan.batches:
        tokens = batch.tokens.copy()
        row = batch.places[batch.pick] // batch.tokens.shape[1]
        last = np.zeros(len(tokens), dtype=np.int64)
        place = batch.places[batch.pick] % batch.tokens.shape[1]
        np.maximum.at(last, row, place)
        for i, leaf in enumerate(last):
            seen = (np.arange(tokens.shape[1]) <= leaf) & (leaf < batch.end[i])
            # Ids that this model has, and others than those they replace.
            tokens[i, ~seen] = np.where(tokens[i, ~seen] == tokens[i, leaf], tokens[i, 0], tokens[i, leaf])
        changed.append(replace(batch, tokens=tokens))
        kept.append(_on_the_way(batch, row, place, last))
    before, after = logprobs(plan, mode), logprobs(replace(plan, batches=tuple(changed)), mode)
    same = np.concatenate(kept)
    sound = np.isfinite(before[same]) & np.isfinite(after[same])
    return float(np.max(np.abs(after[same] - before[same]), initial=0.0, where=sound))


def _on_the_way(batch: Batch, row: np.ndarray, place: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Scored tokens whose place the last one of their row sees."""
    return (place <= last[row]) & (last[row] < batch.end[row, place])
