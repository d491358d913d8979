"""Work spread over processes gives the bits of a lone one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evalsuite.packing import pack
from evalsuite.ranks import Ranks
from tests.evalsuite.modules import questions

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
import numpy as np
import torch
from torch import distributed
from evalsuite.scorer import Scorer
from tests.evalsuite.modules import Breaks, Bytes, Masked, questions

many, few = questions(1, items=20, shared=12), questions(2, items=1, answers=2)
broken = questions(1, items=20)

def numbers(model, budget=200):
    scorer = Scorer(model, Bytes(), budget=budget)
    ticks = []
    found = {}
    for name, asked in (("many", many), ("few", few)):
        ll, greedy = scorer.loglikelihoods(asked, progress=lambda *tick: ticks.append(tick))
        found[name] = [one.hex() for one in ll], greedy.tolist()
    assert all(done <= whole for done, whole in ticks), ticks
    return found | {"mode": str(scorer.parity.mode)}

found = {"alone": numbers(Masked())}
found["broken"] = [str(one) for one in Scorer(Breaks(), Bytes(), budget=200).loglikelihoods(broken)[0]]
if len(sys.argv) > 1:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    found["spread"] = numbers(Masked())
    spread = Scorer(Breaks(), Bytes(), budget=200)
    found["broken_spread"] = [str(one) for one in spread.loglikelihoods(broken)[0]]
    found["replicas"] = numbers(torch.nn.parallel.DistributedDataParallel(Masked()))
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
    if rank == 1:  # a group of its own: nothing is summed with the others
        from evalsuite.ranks import Ranks
        assert Ranks.here(torch.device("cpu"), group).size == 1
    with open(f"{sys.argv[1]}/{rank}.json", "w") as handle:
        json.dump(found, handle)
    distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> list[dict]:
    """What each of two processes found, alone and together."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*command, str(folder / "program.py"), str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
        # One thread: torchrun sets that as well, and a sum over other numbers of threads has other bits.
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


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
