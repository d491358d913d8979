"""The processes that train together, and where each of them computes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evalsuite.loading import device_of
from scaling.errors import StagewiseError, UsageError

Parallel = Literal["ddp", "fsdp"]

_GROUPS: list[Any] = []  # of this process, past ones included


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank, size: of this process. device: where it computes.
        patient: ranks that wait for long work of the first, on the CPU: those of the device would give up.

    Example:
        >>> World().size, World().rows(4)
        (1, slice(0, 4, None))
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    patient: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This rank's share of the rows of a batch: contiguous, and even but for one.

        Raises:
            UsageError: fewer rows than ranks.
        """
        if count < self.size:
            raise UsageError(
                f"batch.rows is {count}, and there are {self.size} ranks; give each a row at least"
            )
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, on every rank, in float64."""
        total = values.detach().double()
        if self.size > 1:
            total = total.clone()
            torch.distributed.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def told(self, value: Any = None) -> Any:
        """What the first rank holds, on every rank; plain data (numbers, text, lists)."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        torch.distributed.broadcast_object_list(box, src=0, group=self.patient)
        return box[0]

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """The first rank does the body (where it is given true); the others wait, and fail where it did.

        Example:
            >>> with World().first_alone() as mine:
            ...     if mine:
            ...         pass
        """
        problem: str | None = None
        try:
            yield self.first
        except BaseException as error:  # the others would wait for ever
            problem = f"{type(error).__name__}: {error}"
            raise
        finally:
            told = self.told(problem)
        if told is not None:
            raise StagewiseError(f"rank 0: {told}")

    def spread(self, model: nn.Module, parallel: Parallel, blocks: list[nn.Module]) -> nn.Module:
        """The model as all ranks train it: copies that share gradients, or shards.

        Args:
            model: the same on all ranks. parallel: ddp or fsdp.
            blocks: the parts that are sharded each by itself.

        Returns:
            What to call; the model itself in one process.
        """
        if self.size == 1:
            return model
        if parallel == "fsdp":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh(self.device.type, (self.size,))
            for block in blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def quiet(model: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """While rows are accumulated, gradients stay on their rank until the last of them."""
    if hasattr(model, "set_requires_gradient_sync"):  # sharded
        model.set_requires_gradient_sync(last)  # pyright: ignore[reportCallIssue]
        return nullcontext()
    no_sync = getattr(model, "no_sync", None)
    return nullcontext() if last or no_sync is None else no_sync()


@contextmanager
def world(device: str = "auto", threads: int | None = None) -> Iterator[World]:
    """The processes that torchrun started, or this one alone.

    Args:
        device: cpu, cuda, cuda:N, or auto. threads: of a CPU, for each process; as torch has it, if absent.

    Raises:
        UsageError: a device that is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    place = device_of(None if device == "auto" else device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if size == 1:
        yield World(rank, size, place)
        return
    gpu = place.type == "cuda"
    torch.distributed.init_process_group("nccl" if gpu else "gloo", device_id=place if gpu else None)
    patient = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=1))
    # What trained (DDP's reducer) may outlive the group and be the last to hold it: its end would then wait
    # for a thread that waits for the interpreter. So the interpreter holds it to its own end.
    _GROUPS.extend((torch.distributed.group.WORLD, patient))
    try:
        yield World(rank, size, place, patient)
    finally:
        torch.distributed.destroy_process_group()
