"""Work spread over processes gives the bits of a lone one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, nn

from evalsuite.packing import pack
from evalsuite.ranks import Ranks
from evalsuite.scorer import Scorer
from tests.evalsuite.modules import Breaks, Bytes, Masked, questions
from tests.train.runs import ranks

MANY, FEW = questions(1, items=20, shared=12), questions(2, items=1, answers=2)
BROKEN = questions(1, items=20)


def numbers(model: nn.Module, budget: int = 200) -> dict[str, Any]:
    scorer = Scorer(model, Bytes(), budget=budget)
    ticks: list[tuple[int, int]] = []
    found: dict[str, Any] = {}
    for name, asked in (("many", MANY), ("few", FEW)):
        ll, greedy = scorer.loglikelihoods(asked, progress=lambda *tick: ticks.append(tick))
        found[name] = [one.hex() for one in ll], greedy.tolist()
    assert all(done <= whole for done, whole in ticks), ticks
    return found | {"mode": str(scorer.parity.mode)}


def broken() -> list[str]:
    return [str(one) for one in Scorer(Breaks(), Bytes(), budget=200).loglikelihoods(BROKEN)[0]]


def job(pipe: Any) -> dict[str, Any]:
    """What a process finds alone, and with the others."""
    found: dict[str, Any] = {"alone": numbers(Masked()), "broken": broken()}
    distributed.init_process_group("gloo")
    found["spread"], found["broken_spread"] = numbers(Masked()), broken()
    found["replicas"] = numbers(nn.parallel.DistributedDataParallel(Masked()))
    found["sharded"] = "no fully_shard"
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        pass
    else:
        mesh, model = init_device_mesh("cpu", (distributed.get_world_size(),)), Masked()
        for part in (*model.mix, *model.out):
            fully_shard(part, mesh=mesh)
        fully_shard(model, mesh=mesh)
        found["sharded"] = numbers(model)
    group = distributed.new_group([1])
    if distributed.get_rank() == 1:  # a group of its own: nothing is summed with the others
        assert Ranks.here(torch.device("cpu"), group).size == 1
    distributed.barrier()  # the first process holds the store that the others still ask
    distributed.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def told() -> list[dict]:
    """What each of two processes found, alone and together."""
    ends = ranks(2, job)
    assert [(one.code, one.error) for one in ends] == [(0, "")] * 2
    return [one.value for one in ends]


def test_two_processes_give_the_bits_of_one(told):
    """Oracle: the same scorer in the same process before the others are there; one batch and many."""
    for found in told:
        assert found["spread"] == found["alone"]
        assert found["spread"] == told[0]["spread"]


def test_replicas_and_shards_give_the_bits_of_one(told):
    for found in told:
        assert found["replicas"] == found["alone"]
        if isinstance(found["sharded"], str):
            pytest.skip(found["sharded"])
        assert found["sharded"] == found["alone"]


def test_what_is_not_a_number_is_so_on_every_rank(told):
    for found in told:
        assert "nan" in found["broken"]
        assert found["broken_spread"] == found["broken"]


def test_a_lone_process():
    here = Ranks.here(torch.device("cpu"))
    assert here == Ranks() and (here.rank, here.size) == (0, 1)
    values = np.array([1.0, np.nan])
    assert here.sum(values) is values


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_batch_counts_once_and_all_ranks_get_equally_many(size):
    batches = pack(questions(1), budget=150).batches
    assert len(batches) > 3
    for some in (batches, batches[:2], batches[:1], ()):
        shares = [list(Ranks(rank, size).share(some)) for rank in range(size)]
        assert len({len(share) for share in shares}) == 1
        counted = [batch for share in shares for batch, counts in share if counts]
        assert sorted(map(id, counted)) == sorted(map(id, some))
