"""A model as the scorer drives it: any module from token ids to logits."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from evalsuite.packing import Batch
from scaling.errors import StagewiseError, UsageError

_HEADS = ("lm_head", "head", "output", "embed_out", "unembed")
_LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len", "block_size", "context_length")
_CHUNK = (2**19, 2**26)  # logits computed at once: what stays in the cache of a processor core; on a GPU


@dataclass(frozen=True)
class Mode:
    """What a model can be trusted with, from fast to plain.

    Attributes:
        packed: it takes a tree mask and positions, so that the answers of an item share a row.
        cached: it continues from a cache of keys and values, so that a common beginning is read once.
        head: where its head is applied: at all places; at the scored ones; or at these in `chunks` that fit
            the processor's cache, which a model that changes logits after its head does not allow.
    """

    packed: bool = False
    cached: bool = False
    head: Literal["all", "scored", "chunks"] = "all"

    def __str__(self) -> str:
        on = [name for name in ("packed", "cached") if getattr(self, name)]
        return " + ".join([*on, f"head {self.head}"] if self.head != "all" else on) or "plain"


class Scored(NamedTuple):
    """Of each scored token of a batch: its log-probability, float64, and whether it is the likeliest, [k]."""

    logprob: np.ndarray
    best: np.ndarray


@dataclass
class Engine:
    """Drives one model.

    The model is called as those of `transformers` are: `model(input_ids, attention_mask=, position_ids=,
    past_key_values=, use_cache=)`; a model whose `forward` does not name one of them goes without. The mask
    is additive, [b, 1, t, prefix + t]. It returns logits [b, t, v], alone, as `.logits`, or first of a tuple.

    Attributes:
        model: the module. autocast: a type to run it in (its weights stay as they are).
        inner: the module below wrappers. head: the module from hidden states to logits, where one is found.
        max_length: tokens it can read; None where it does not say.
    """

    model: nn.Module
    autocast: torch.dtype | None = None
    inner: nn.Module = field(init=False, repr=False)
    head: nn.Module | None = field(init=False, repr=False)
    _entry: nn.Module = field(init=False, repr=False)
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise UsageError(f"model: got {type(self.model).__name__}, valid is a torch.nn.Module")
        self.inner, self._entry = _unwrapped(self.model)
        self.head = _head(self.inner)
        self._names = frozenset(inspect.signature(self.inner.forward).parameters)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((p.device for p in self.inner.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        first = next((p.dtype for p in self.inner.parameters() if p.is_floating_point()), torch.float32)
        return self.autocast or first

    @property
    def max_length(self) -> int | None:
        """Tokens it can read, by its configuration; None where that does not say."""
        config = getattr(self.inner, "config", None)
        for part in (getattr(config, "text_config", None), config, self.inner):
            for name in _LENGTHS:
                value = part.get(name) if isinstance(part, dict) else getattr(part, name, None)
                if isinstance(value, int) and value > 0:
                    return value
        return None

    @property
    def vocabulary(self) -> int | None:
        """Ids it has an embedding for; None where no embedding is found."""
        found = [m.num_embeddings for m in self.inner.modules() if isinstance(m, nn.Embedding)]
        # Positions may be embedded too, and be more than there are ids.
        width = getattr(self.head, "out_features", None)
        return width if width in found else max(found, default=None)

    @property
    def modes(self) -> list[Mode]:
        """What its signature allows, the fastest first; a check has to say what is true."""
        packs = {"attention_mask", "position_ids"} <= self._names
        caches = packs and {"past_key_values", "use_cache"} <= self._names
        heads = ("chunks", "scored", "all") if self.head is not None else ("all",)
        kinds = [(True, True)] * caches + [(True, False)] * packs + [(False, False)]
        return [Mode(packed, cached, head) for packed, cached in kinds for head in heads]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, no gradients; afterwards every module and random state is as before."""
        training = [module for module in self.model.modules() if module.training]
        device = self.device
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            devices = [device] if device.type == "cuda" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(device.type, dtype=self.autocast))
            chance = random.getstate(), np.random.get_state()
            try:
                self.model.eval()
                yield
            finally:
                random.setstate(chance[0])
                np.random.set_state(chance[1])
                for module in training:
                    module.training = True

    def begin(self, prefix: np.ndarray) -> Any:
        """Keys and values of what every row begins with; None for nothing."""
        if not len(prefix):
            return None
        ids = torch.from_numpy(prefix)[None].to(self.device)
        return self._call(ids, use_cache=True).past_key_values

    def run(self, batch: Batch, mode: Mode, past: Any = None, prefix: int = 0) -> Scored:
        """Log-probabilities of the scored tokens of a batch, after a cached beginning of `prefix` tokens."""
        device = self.device
        tokens = torch.from_numpy(batch.tokens).to(device)
        places = torch.from_numpy(batch.places).to(device)
        extra: dict[str, Any] = {}
        if mode.packed and (batch.branched or past is not None):
            extra["attention_mask"] = _mask(torch.from_numpy(batch.end).to(device), prefix, self.dtype)
            extra["position_ids"] = torch.from_numpy(batch.depth).to(device)
        if past is not None:
            # A cache grows in place while the model reads: every batch continues from a copy.
            extra["past_key_values"] = _repeated(past, len(tokens))
        if "use_cache" in self._names:
            extra["use_cache"] = past is not None
        if mode.head == "all" or self.head is None:
            return _scored(batch, [_logits(self._call(tokens, **extra)).flatten(0, 1)[places]])
        hidden: list[Tensor] = []
        given: list[Tensor] = []

        def before_head(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            kept = args[0].flatten(0, 1)[places]
            hidden.append(kept)
            return (kept[None] if mode.head == "scored" else kept[None, :1], *args[1:])

        def after_head(_: nn.Module, args: Any, out: Tensor) -> None:
            given.append(out)

        handles = [
            self.head.register_forward_pre_hook(before_head),
            self.head.register_forward_hook(after_head),
        ]
        try:
            logits = _logits(self._call(tokens, **extra))
        finally:
            for handle in handles:
                handle.remove()
        if mode.head == "scored":
            return _scored(batch, [logits[0]])
        # Of a broken model another error tells, by its item.
        one, other = logits.float(), given[0].float()
        if one.shape != other.shape or not torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True):
            raise StagewiseError("model: changes logits after its head")
        size = max(1, _CHUNK[device.type == "cuda"] // logits.shape[-1])
        return _scored(batch, map(self.head, hidden[0].split(size)))

    @property
    def weights(self) -> tuple:
        """Changes when a weight does: where the weights are, and how often each was written to."""
        kept = [getattr(p, "_local_tensor", p) for p in self.inner.parameters()]
        return tuple((p.data_ptr(), p._version) for p in kept)

    def _call(self, tokens: Tensor, **extra: Any) -> Any:
        try:
            return self._entry(tokens, **extra)
        except (StagewiseError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a foreign model raises
            told = (str(error).strip().splitlines() or [""])[0]
            raise StagewiseError(
                f"model: given ids {list(tokens.shape)} it raised {type(error).__name__}: {told:.200}; "
                "does it read so many tokens (max_length), and has it so many ids?"
            ) from error


def _unwrapped(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The model itself, and what to call: under no_grad a replica needs no wrapper, sharded weights do."""
    inner = entry = model
    while True:
        if isinstance(inner, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = entry = inner.module
        elif isinstance(below := getattr(inner, "_orig_mod", None), nn.Module):
            # Compiled for the shapes of training; ours would only make it compile again.
            inner = entry = below
        elif isinstance(below := getattr(inner, "_fsdp_wrapped_module", None), nn.Module):
            inner = below
        else:
            return inner, entry


def _head(model: nn.Module) -> nn.Module | None:
    """The module that turns hidden states into logits."""
    if hasattr(model, "get_output_embeddings"):
        found = model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
        return found if isinstance(found, nn.Module) else None
    found = [getattr(model, name, None) for name in _HEADS]
    return next((one for one in found if isinstance(one, nn.Module)), None)


def _logits(out: Any) -> Tensor:
    """The logits in what a model returned, [b, t, v]."""
    found = getattr(out, "logits", None)
    if found is None:
        found = out[0] if isinstance(out, tuple | list) and out else out
    if not isinstance(found, Tensor) or found.dim() != 3:
        got = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise StagewiseError(
            f"model: returned {got}; valid are logits [batch, tokens, vocabulary], alone, as .logits, or "
            "first of a tuple"
        )
    return found


def _scored(batch: Batch, chunks: Iterable[Tensor]) -> Scored:
    """From logits at the places of a batch, in chunks [c, v] in order; half precision is widened."""
    logprob, best = [], []
    start = 0
    for logits in chunks:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        stop = start + len(logits)
        here = slice(*np.searchsorted(batch.pick, (start, stop)))
        if (largest := int(batch.target[here].max(initial=0))) >= logits.shape[-1]:
            raise StagewiseError(
                f"model: gives logits for ids 0 to {logits.shape[-1] - 1}, the tokenizer gives {largest}; "
                "use the tokenizer that the model was trained with"
            )
        pick = torch.from_numpy(batch.pick[here] - start).to(logits.device)
        target = torch.from_numpy(batch.target[here]).to(logits.device)
        chosen = logits[pick, target]
        top = logits.amax(dim=-1)
        hit = chosen == top[pick]
        if len(ties := hit.nonzero()[:, 0]):  # of equal logits the first is the likeliest, as argmax has it
            hit[ties] = logits[pick[ties]].argmax(dim=-1) == target[ties]
        rest = (logits - top[:, None]).exp_().sum(dim=-1).double().log()
        logprob.append(((chosen - top[pick]).double() - rest[pick]).cpu())
        best.append(hit.cpu())
        start = stop
    return Scored(torch.cat(logprob).numpy(), torch.cat(best).numpy())


def _mask(end: Tensor, prefix: int, dtype: torch.dtype) -> Tensor:
    """0 where a token sees another, the least number where not, [b, 1, t, prefix + t]."""
    b, t = end.shape
    place = torch.arange(t, device=end.device)
    seen = (place[None, None, :] <= place[None, :, None]) & (place[None, :, None] < end[:, None, :])
    mask = torch.zeros(b, 1, t, prefix + t, device=end.device, dtype=dtype)
    mask[:, 0, :, prefix:].masked_fill_(~seen, torch.finfo(dtype).min)
    return mask


def _repeated(past: Any, count: int) -> Any:
    """A copy of a cache of one row, for `count` rows."""
    if hasattr(past, "batch_repeat_interleave"):
        past = copy.deepcopy(past)
        past.batch_repeat_interleave(count)
        return past
    return tree_map_only(Tensor, lambda one: one.expand(count, *one.shape[1:]), past)
