"""Batches spread over the ranks of a distributed run, and their sums back on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evalsuite.packing import Batch
from scaling.errors import StagewiseError


@dataclass(frozen=True)
class Ranks:
    """One of `size` processes that score together.

    Batches are the same whatever the number of processes, and every request is in one batch, so that the sums
    are of one number and zeros: the result has the same bits as that of a lone process.

    Attributes:
        rank, size: of this process. device: of the tensors that are summed. group: of torch.distributed.

    Example:
        >>> Ranks().size
        1
    """

    rank: int = 0
    size: int = 1
    device: torch.device | str = "cpu"
    group: Any = None

    @classmethod
    def here(cls, device: torch.device, group: Any = None) -> Ranks:
        """Those of torch.distributed, where it runs; else this process alone."""
        distributed = torch.distributed
        if not distributed.is_available() or not distributed.is_initialized():
            return cls()
        on_gpu = "nccl" in str(distributed.get_backend(group))
        return cls(
            distributed.get_rank(group), distributed.get_world_size(group), device if on_gpu else "cpu", group
        )

    def share(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, bool]]:
        """This rank's batches, each with whether it counts.

        All ranks get equally many: sharded weights are gathered in every forward pass, and a rank that stays
        away from one would leave the others waiting.
        """
        for start in range(0, len(batches), self.size):
            mine = start + self.rank
            yield batches[min(mine, len(batches) - 1)], mine < len(batches)

    def most(self, value: int) -> int:
        """The largest of the ranks' values, on every rank."""
        if self.size == 1:
            return value
        found = torch.tensor([value], device=self.device)
        torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX, group=self.group)
        return int(found.item())

    def wait(self) -> None:
        """Until every rank is here."""
        self.sum(np.zeros(1))

    def agree(self, error: Exception | None) -> None:
        """Fail on every rank where one of them failed, so that none waits for it.

        Args:
            error: what this rank met; None for nothing.

        Raises:
            Exception: that error; on the other ranks a StagewiseError.
        """
        if not self.most(int(error is not None)):
            return
        why: list[Any] = [None] * self.size  # only the first rank writes and speaks: it has to know
        mine = None if error is None else f"{type(error).__name__}: {error}"
        if self.size > 1:
            torch.distributed.all_gather_object(why, mine, group=self.group)
        if error is not None:
            raise error
        raise StagewiseError(next(f"rank {i}: {one}" for i, one in enumerate(why) if one is not None))

    def told(self, decide: Callable[[], bool]) -> bool:
        """What the first rank decides, on every rank."""
        return bool(self.first(np.array([float(self.rank == 0 and decide())]))[0])

    def first(self, values: np.ndarray) -> np.ndarray:
        """What the first rank holds, on every rank."""
        return self.sum(values if self.rank == 0 else np.zeros_like(values))

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Sum over the ranks, on every rank."""
        if self.size == 1:
            return values
        total = torch.from_numpy(values).to(self.device)
        torch.distributed.all_reduce(total, group=self.group)
        return total.cpu().numpy()
