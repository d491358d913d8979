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

Lay = Callable[[Requests, Mode], Plan]
Run = Callable[[Plan, Mode], np.ndarray]

_ITEMS = 4
_TOKENS = 8192  # of the sample, each request read alone
# Largest difference of one log-probability that rounding explains, per nat of its size, by type.
_ROUNDING = {torch.float64: 1e-11, torch.float32: 2e-5, torch.float16: 0.02, torch.bfloat16: 0.1}
_TENSOR_FLOAT = 2e-3  # float32 products on a GPU that may round their factors
_NOISE = 8.0  # times what another batch size alone changes


@dataclass(frozen=True)
class Shown:
    """What a model was shown.

    Attributes:
        longest: tokens of the longest request. widest: places of the widest row.
        branched, prefixed: whether answers shared a row, and whether a common beginning was cached.
        weights: of the model then. One at the start of training may hide what it does with a mask: residual
            branches that start at zero let no token see another.
    """

    longest: int
    widest: int = 0
    branched: bool = False
    prefixed: bool = False
    weights: tuple = field(default=(), repr=False)

    @classmethod
    def of(cls, plan: Plan, longest: int, weights: tuple) -> Shown:
        """What a plan shows."""
        widest = max((batch.tokens.shape[1] for batch in plan.batches), default=0)
        branched = any(batch.branched for batch in plan.batches)
        return cls(longest, widest, branched, len(plan.prefix) > 0, weights)

    def covers(self, other: Shown) -> bool:
        """Whether the other has nothing new."""
        return (
            self.weights == other.weights and self.longest >= other.longest
            and self.widest >= other.widest and self.branched >= other.branched
            and self.prefixed >= other.prefixed
        )  # fmt: skip

    def also(self, other: Shown) -> Shown:
        """Both, where the weights are the same; else the other."""
        if self.weights != other.weights:
            return other
        return Shown(
            max(self.longest, other.longest), max(self.widest, other.widest), self.branched or other.branched,
            self.prefixed or other.prefixed, self.weights,
        )  # fmt: skip


@dataclass(frozen=True)
class Parity:
    """Which mode a model can be trusted with, and why not a faster one.

    Attributes:
        mode: the fastest that agrees. refused: why each faster one does not, by mode.
        difference: largest difference of a log-probability from the plain one, in nats.
        tolerance: what rounding explains, in nats, for a log-probability near zero.
        shown: what it is known from.
    """

    mode: Mode
    refused: dict[Mode, str] = field(repr=False)
    difference: float
    tolerance: float
    shown: Shown

    @property
    def words(self) -> str:
        """The verdict as one line."""
        line = f"{self.mode}: checked against the plain run, {self.difference:.1e} nats apart at most"
        if not self.refused:
            return line
        because: dict[str, list[str]] = {}
        for mode, reason in self.refused.items():
            because.setdefault(reason, []).append(str(mode))
        why = "; ".join(f"{', '.join(modes)}: {reason}" for reason, modes in because.items())
        return f"{line} (refused: {why})"


def check(
    engine: Engine, requests: Requests, lay: Lay, run: Run, *, modes: list[Mode] | None = None
) -> Parity:
    """Try every mode on a sample of the requests, the fastest first.

    The sample holds the longest item, the one with most answers, a few between, and the items of the widest
    row. Two things are asked of a mode. Agreement: every log-probability within rounding of the plain run, in
    which each request is a row of its own without mask. Independence: with the tokens of all other answers
    changed, the log-probabilities of one answer stay as they are; that is exact whatever type the model
    computes in.

    Args:
        engine: the model. requests: what will be asked.
        lay: lays out requests for a mode, as they will be.
        run: the log-probability of each scored token of the batches of a plan, in a mode.
        modes: to try, in that order; all that the model's signature allows where absent.

    Returns:
        The verdict; the plain mode where nothing else agrees.

    Raises:
        StagewiseError: a model whose answer to one request depends on others, or on padding behind it.
    """
    base = _sample(requests)
    sample = _Part.of(requests.take(base), run)
    rounding = _ROUNDING.get(engine.dtype, 0.1)
    if engine.device.type == "cuda" and engine.dtype == torch.float32 and not _exact_products():
        rounding = _TENSOR_FLOAT
    plain = lay(sample.requests, Mode())
    noise = float(np.max(sample.gap(plain, Mode(), run) / sample.scale, initial=0.0))
    # Some models compute parts in float32 whatever their weights are.
    if noise > _NOISE * max(rounding, _ROUNDING[torch.float32]):
        raise StagewiseError(
            f"model: a log-probability changes by {noise:.2g} nats (of 1 + its size) when its request stands "
            "in a batch with others and padding behind it; valid is a causal model whose rows do not see "
            "each other. To score it a request at a time: Scorer(..., budget=1, modes=[Mode()])"
        )
    allowed = max(rounding, _NOISE * noise)
    refused: dict[Mode, str] = {}
    parts = {base: sample}
    for mode in modes if modes is not None else engine.modes:
        worst, shown = 0.0, Shown(requests.longest, weights=engine.weights)
        try:
            chosen = [base]
            if mode.packed:
                chosen.append(_widest(requests, lay(requests, mode)))
            for index in dict.fromkeys(chosen):
                part = parts[index] = parts.get(index) or _Part.of(requests.take(index), run)
                plan = lay(part.requests, mode)
                gap = part.gap(plan, mode, run)
                leak = _leak(plan, mode, run) if mode.packed else 0.0
                if not np.all(gap <= allowed * part.scale):
                    refused[mode] = f"a log-probability differs by {gap.max():.2g} nats"
                elif not leak <= min(rounding, 1e-6) * float(part.scale.max()):
                    refused[mode] = f"an answer changes by {leak:.2g} nats when another one does"
                worst = max(worst, float(gap.max(initial=0.0)))
                shown = shown.also(Shown.of(plan, requests.longest, shown.weights))
        except Exception as error:  # whatever a foreign model raises when called in a way it does not know
            told = (str(error).strip().splitlines() or [""])[0]
            named = "" if isinstance(error, StagewiseError) else f"{type(error).__name__}: "
            refused[mode] = f"{named}{told:.160}"
        if mode not in refused:
            return Parity(mode, refused, worst, allowed, shown)
    return Parity(Mode(), refused, noise, allowed, Shown.of(plain, requests.longest, engine.weights))


@dataclass(frozen=True)
class _Part:
    """Some requests, and what the plain run says of them.

    Attributes:
        requests: the part. plain: log-probability of each of their tokens, in the order of the requests.
        scale: 1 + its size, by which rounding grows.
    """

    requests: Requests
    plain: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, requests: Requests, run: Run) -> _Part:
        plan = pack(requests, budget=1, branching=False)
        plain = run(plan, Mode())[_order(plan)]
        return cls(requests, plain, np.where(np.isfinite(plain), 1 + np.abs(plain), 1.0))

    def gap(self, plan: Plan, mode: Mode, run: Run) -> np.ndarray:
        """How far the log-probabilities in a mode are from the plain ones.

        A model may be broken on some item; that is told when it is scored, and says nothing of a mode that
        is broken on it too.
        """
        found = run(plan, mode)[_order(plan)]
        same = np.isfinite(found) == np.isfinite(self.plain)
        with np.errstate(invalid="ignore"):
            gap = np.where(np.isfinite(self.plain), np.abs(found - self.plain), 0.0)
        return np.where(same, gap, np.inf)


def _exact_products() -> bool:
    """Whether a GPU multiplies float32 as it is."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by the newer names of the same thing
        return False


def _order(plan: Plan) -> np.ndarray:
    """Scored tokens of the batches in the order of the requests; those of a request stand in order."""
    return np.argsort(np.concatenate([batch.request for batch in plan.batches]), kind="stable")


def _sample(requests: Requests) -> tuple[int, ...]:
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
    return tuple(np.flatnonzero(np.isin(requests.owner, owners[chosen])).tolist())


def _widest(requests: Requests, plan: Plan) -> tuple[int, ...]:
    """The requests of the widest row of a plan, with all others of their items."""
    batch = max(plan.batches, key=lambda one: one.tokens.shape[1])
    row = batch.places[batch.pick] // batch.tokens.shape[1]
    # The first row is the longest one of its batch.
    owners = requests.owner[np.unique(batch.request[row == 0])]
    return tuple(np.flatnonzero(np.isin(requests.owner, owners)).tolist())


def _leak(plan: Plan, mode: Mode, run: Run) -> float:
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
    before, after = run(plan, mode), run(replace(plan, batches=tuple(changed)), mode)
    same = np.concatenate(kept)
    sound = np.isfinite(before[same]) & np.isfinite(after[same])
    return float(np.max(np.abs(after[same] - before[same]), initial=0.0, where=sound))


def _on_the_way(batch: Batch, row: np.ndarray, place: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Scored tokens whose place the last one of their row sees."""
    return (place <= last[row]) & (last[row] < batch.end[row, place])
