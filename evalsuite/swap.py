"""Other values in a model for a while, and its own back, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from evalsuite.mean import Kind, Lazy
from scaling.errors import StagewiseError, UsageError

# What wrappers call the module that they wrap. The first occurs in models too, so it counts at the top alone.
_WRAPPED = ("module", "_orig_mod", "_checkpoint_wrapped_module")


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a model, also those that are not saved; what is tied is named once.

    Of a distributed tensor it is the part that this rank holds. Names are those of the bare model, whatever
    wraps it (DDP, torch.compile). The tensors share memory with the model's.

    Raises:
        UsageError: tensors without values (meta), or of a kind that cannot be averaged.

    Example:
        >>> list(named_tensors(torch.nn.Linear(2, 1)))
        ['weight', 'bias']
    """
    return {name: local(tensor) for name, tensor in whole_tensors(model).items()}


def whole_tensors(model: nn.Module) -> dict[str, Tensor]:
    """As `named_tensors`, with distributed tensors as such."""
    reshard(model)
    bare = _bare(model)
    found: dict[str, Tensor] = {}
    seen = set()
    for tensors in (bare.named_parameters(), bare.named_buffers()):
        for path, tensor in tensors:
            name = ".".join(part for part in path.split(".") if part not in _WRAPPED[1:])
            _check(name, tensor)
            mine = local(tensor)
            same = (mine.data_ptr(), mine.shape, mine.stride(), mine.dtype) if mine.numel() else id(tensor)
            if same not in seen:
                seen.add(same)
                found[name] = tensor
    return found


@contextmanager
def swapped(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put values in place of the model's own for the body, then its own back, bit for bit, whatever happens.

    In place and between optimiser steps: gradients, optimiser and random numbers are not touched. The
    model's own wait in CPU memory. All ranks have to enter; where one cannot, none does the body.

    Args:
        model: as it is trained. values: for each name of `named_tensors` a tensor of its shape and dtype.

    Raises:
        StagewiseError: names, shapes or dtypes that differ (all are checked before anything is touched), or
            a value that cannot be had on some rank.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> with swapped(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}):
        ...     model(torch.ones(2)).item()
        2.0
    """
    kept: list[tuple[Tensor, Tensor]] = []
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    try:
        with together():
            own = named_tensors(model)
            check_kinds({name: (tuple(one.shape), one.dtype) for name, one in own.items()}, values, "values")
            with torch.no_grad():
                for name, tensor in own.items():
                    value = values[name]
                    kept.append((tensor, tensor.detach().to("cpu", copy=True)))
                    _put(tensor, value)
        yield
    finally:
        # After a forward pass the root of a sharded model stays gathered: training would go on from that.
        reshard(model)
        with torch.no_grad():
            for tensor, value in kept:
                _put(tensor, value)
        for module, had in buffers:  # where the body put another tensor in place of one
            module._buffers.update(had)


def check_kinds(wanted: Mapping[str, Kind], values: Mapping[str, Tensor], what: str) -> None:
    """Compare names, shapes and dtypes.

    Raises:
        StagewiseError: the first that differ, and how many do.
    """
    if isinstance(values, Lazy):
        given = values.kinds
    else:
        given = {name: (tuple(one.shape), one.dtype) for name, one in values.items()}
    off = [name for name in {**wanted, **given} if wanted.get(name) != given.get(name)]
    if off:
        raise StagewiseError(
            f"{what}: {off[0]} is {_told(given.get(off[0]))}, the model has {_told(wanted.get(off[0]))} "
            f"({len(off)} of {len(wanted)} tensors differ); they are of another model"
        )


def reshard(model: nn.Module) -> None:
    """Let go of gathered weights of a model that is sharded by `fully_shard`."""
    for module in model.modules():
        if hasattr(module, "set_reshard_after_forward"):
            module.reshard()  # pyright: ignore[reportCallIssue]


def local(tensor: Tensor) -> Tensor:
    """A tensor without its gradient, or the part of a distributed one that this rank holds."""
    part: Any = tensor.detach()
    return part.to_local() if hasattr(part, "to_local") else part


@contextmanager
def together() -> Iterator[None]:
    """All ranks do the body; where one fails, all do.

    Example:
        >>> with together():
        ...     pass
    """
    problem: str | None = None
    try:
        yield
    except BaseException as error:  # the others would wait for ever
        problem = f"{type(error).__name__}: {error}"
        raise
    finally:
        told = everyone(problem)
    for rank, one in enumerate(told):
        if one is not None:
            raise StagewiseError(f"rank {rank}: {one}")


def everyone(value: Any) -> list[Any]:
    """What each rank says, on every rank; plain data."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    told: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(told, value)
    return told


def _bare(model: nn.Module) -> nn.Module:
    """The model within its wrappers."""
    while True:
        inside = dict(model.named_children())
        own = any(True for _ in (*model.parameters(recurse=False), *model.buffers(recurse=False)))
        if own or len(inside) != 1 or (name := next(iter(inside))) not in _WRAPPED:
            return model
        model = inside[name]


def _check(name: str, tensor: Tensor) -> None:
    """Refuse what cannot be copied as plain numbers."""
    problem = ""
    if tensor.is_meta:
        problem = "is on the meta device and has no values"
    elif hasattr(tensor, "ds_id"):
        problem = "is sharded by DeepSpeed; valid are DDP and fully_shard"
    elif "_fsdp_wrapped_module" in name:
        problem = "is sharded by FullyShardedDataParallel; valid are DDP and fully_shard"
    elif tensor.layout != torch.strided or tensor.is_quantized:
        problem = f"is {tensor.layout} {tensor.dtype}, which has no mean"
    elif not hasattr(tensor, "to_local") and type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
        problem = f"is a {type(tensor).__name__}; valid is a plain tensor or a DTensor"
    if problem:
        raise UsageError(f"{name} {problem}; average a model of plain tensors, or evaluate without a mean")


def _put(tensor: Tensor, value: Tensor) -> None:
    """Copy in place; along a dimension without stride all places are one."""
    for d, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:
            tensor, value = tensor.narrow(d, 0, 1), value.narrow(d, 0, 1)
    tensor.copy_(value)


def _told(kind: Kind | None) -> str:
    return "missing" if kind is None else f"{list(kind[0])} {str(kind[1]).removeprefix('torch.')}"
