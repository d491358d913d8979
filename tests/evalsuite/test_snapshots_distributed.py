"""Snapshots of a model that several ranks train, as copies (DDP) and as shards (FSDP2)."""

from __future__ import annotations

import os
import resource
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from evalsuite.averaging import Averaging
from evalsuite.durable import Broken
from evalsuite.mean import Lazy, weights_of
from evalsuite.place import Place
from evalsuite.snapshots import WEIGHTS, Snapshots
from evalsuite.swap import named_tensors, swapped, together
from scaling.errors import StagewiseError
from tests.train.runs import End, ranks
from train.distributed import world

KINDS = ("ddp", "fsdp")
STEPS, TAKEN = 8, (2, 4, 6)
WEIGHTS_OF = weights_of(Averaging(weights="linear"), 3)
Told = dict[str, Any]


class Net(nn.Module):
    """Sizes that two ranks cannot share evenly, down to a single row; a tie; a norm with buffers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Embedding(7, 6)
            self.inner = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 1), nn.Linear(1, 6, bias=False))
            self.wide = nn.Linear(6, 4, bias=False)
            self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embed.weight
        self.drop = nn.Dropout(0.2)
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("scale", torch.ones(3), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = self.inner(x) + x
        return self.head(self.drop(x)) + self.wide(x).sum() * self.scale.sum()


def spread(kind: str) -> nn.Module:
    """The model as this process trains it."""
    model = Net()
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import Shard

        mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
        for part in model.inner:
            fully_shard(part, mesh=mesh)
        fully_shard(model.wide, mesh=mesh, shard_placement_fn=lambda _: Shard(1))
        fully_shard(model, mesh=mesh)
    return model


def whole(model: nn.Module) -> dict[str, bytes]:
    """Every bit of the parameters and buffers, gathered by torch itself."""
    found = {}
    for name, one in (*model.named_parameters(), *model.named_buffers()):
        full = one.full_tensor() if hasattr(one, "full_tensor") else one
        found[name.removeprefix("module.")] = bits(full)
    return found


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def ids(rank: int, step: int) -> Tensor:
    return torch.randint(0, 7, (12,), generator=torch.Generator().manual_seed(10 * step + rank))


def trained(model: nn.Module, rank: int, snapshots: Snapshots | None) -> tuple[list[str], list[list[float]]]:
    """Losses of a short run, and what the mean said where there are snapshots."""
    torch.manual_seed(rank)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses, said = [], []
    for step in range(1, STEPS + 1):
        loss = model(ids(rank, step)).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()).hex())
        if snapshots is None:
            continue
        with torch.no_grad():  # of its own weights first: the root of shards stays gathered
            model.eval()(torch.arange(7))
        model.train()
        if step in TAKEN:
            snapshots.take(model, Place(step))
        if step > TAKEN[0]:
            steps = [one.step for one in snapshots.places]
            values = snapshots.mean(steps, weights_of(Averaging(weights="linear"), len(steps)), model)
            with swapped(model, values), torch.no_grad():
                said.append(model.eval()(torch.arange(7)).flatten().tolist())
            model.train()
    return losses, said


def job(pipe: Any, kind: str, folder: Path, where: Path | None) -> Told:
    """One rank, or a lone process: the run without snapshots, and the run with."""
    with world("cpu") as here:
        plain, model = spread(kind), spread(kind)
        losses, _ = trained(plain, here.rank, None)
        snapshots = Snapshots.open(where, lambda text: None)
        found: Told = {"losses": losses, "plain": whole(plain)}
        found["with"], found["said"] = trained(model, here.rank, snapshots)
        found["weights"] = whole(model)
        # The mean that is put in place, gathered by torch.
        with swapped(model, snapshots.mean(TAKEN, WEIGHTS_OF, model)):
            found["mean"] = whole(model)
        if where is not None:
            again = Snapshots.open(where, lambda text: None)
            with swapped(plain, again.mean(TAKEN, WEIGHTS_OF, plain)):
                found["again"] = whole(plain)
            if (folder / "other").is_dir():  # what another number of ranks wrote
                other = Snapshots.open(folder / "other", lambda text: None)
                with swapped(model, other.mean(TAKEN, WEIGHTS_OF, model)):
                    found["other"] = whole(model)
        return found | {"back": whole(model)}


def well(ends: list[End]) -> list[Told]:
    assert [(one.code, one.error, one.complaints) for one in ends] == [(0, "", ())] * len(ends)
    return [one.value for one in ends]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, Told]:
    """A lone process."""
    folder = tmp_path_factory.mktemp("alone")
    with torch.random.fork_rng():
        return folder, job(None, "plain", folder, folder / "snapshots")


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def two(kind, alone, tmp_path_factory) -> tuple[Path, list[Told]]:
    """Two ranks, snapshots on disk."""
    folder = tmp_path_factory.mktemp(kind)
    (folder / "other").symlink_to(alone[0] / "snapshots")
    return folder, well(ranks(2, job, kind, folder, folder / "snapshots"))


def test_training_does_not_notice(two):
    """Oracle: training without snapshots. A sharded model must not go on from the mean that it gathered."""
    for told in two[1]:
        assert told["with"] == told["losses"]
        assert told["weights"] == told["plain"] == told["back"]


def test_all_ranks_have_the_same_mean(two):
    one, other = two[1]
    assert one["mean"] == other["mean"] == one["again"] == other["again"]
    assert one["said"] == other["said"] and len(one["said"]) == STEPS - TAKEN[0]
    assert one["mean"] != one["weights"]


def test_one_process_reads_what_two_wrote(two):
    """Oracle: the model that one process puts the mean into."""
    folder, told = two
    model = Net()
    snapshots = Snapshots.open(folder / "snapshots", pytest.fail)
    assert [one.step for one in snapshots.places] == list(TAKEN)
    with swapped(model, snapshots.mean(TAKEN, WEIGHTS_OF, model)):
        assert whole(model) == told[0]["mean"]


def test_two_read_what_one_wrote(two, alone):
    for told in two[1]:
        assert told["other"] == alone[1]["mean"]


def test_the_folders_of_one_and_of_two_hold_the_same(two, alone):
    """Names, order and shapes; the values differ as the runs do."""
    from evalsuite.weights_file import WeightsFile

    one, other = (
        WeightsFile.open(folder / f"snapshots/step-000000004/{WEIGHTS}") for folder in (two[0], alone[0])
    )
    assert one.kinds == other.kinds and one.starts == other.starts and "embed.weight" in one.kinds


def test_memory_gives_the_same(kind, two, tmp_path):
    for told, disk in zip(well(ranks(2, job, kind, tmp_path, None)), two[1], strict=True):
        assert told["with"] == told["losses"] and told["weights"] == told["plain"] == told["back"]
        assert told["mean"] == disk["mean"] and told["said"] == disk["said"]


# --- failures -----------------------------------------------------------------------------------------


def broken(folder: Path, **_: Any) -> None:
    if folder.name == "step-000000002":
        raise Broken(f"{folder}: cannot be read")


def failing(pipe: Any, kind: str, folder: Path) -> list[str]:
    with world("cpu") as here:
        return failures(kind, folder, here.rank)


def failures(kind: str, folder: Path, rank: int) -> list[str]:
    """What each failure says on this rank, and whether the run can go on; it must not hang."""
    model = spread(kind)
    lines: list[str] = []
    snapshots = Snapshots.open(folder, lines.append)
    told = []

    def tried(do: Any) -> None:
        try:
            do()
            told.append("")
        except StagewiseError as error:
            told.append(str(error))

    def put(values: Any) -> None:
        with swapped(model, values):
            told.append("the body ran")

    for step in (1, 2, 3):
        snapshots.take(model, Place(step))
    before = whole(model)
    # 1: the disk of the rank that writes is full.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    tried(lambda: snapshots.take(model, Place(4)))
    tried(lambda: snapshots.take(model, Place(3)))
    if rank == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told.append(str([one.step for one in snapshots.places]))
    # 2: a value cannot be had on one rank.
    own = {name: one.clone() for name, one in named_tensors(model).items()}

    def compute(name: str) -> Tensor:
        if rank == 1 and name == "count":
            raise StagewiseError("not on this rank")
        return own[name] + 1

    tried(lambda: put(Lazy({n: (tuple(v.shape), v.dtype) for n, v in own.items()}, compute)))
    # 3: other names on one rank.
    tried(lambda: put(own if rank == 1 else {}))
    told.append(str(whole(model) == before))
    # 4: a snapshot breaks, and one rank sees it.
    with patch("evalsuite.snapshots.verify", broken) if rank == 1 else nullcontext():
        tried(lambda: snapshots.mean((1, 2), (0.5, 0.5), model))
    told.append(str([one.step for one in snapshots.places]))
    # 5: no folder can be made.
    if rank == 0:
        (folder / "file").touch()
    torch.distributed.barrier()
    tried(lambda: Snapshots.open(folder / "file", lines.append).take(model, Place(1)))
    tried(lambda: Snapshots.open(folder / "file/below", lines.append).take(model, Place(1)))
    # And on it goes.
    snapshots.take(model, Place(5))
    snapshots.keep([5])
    told.append(str([one.step for one in snapshots.places]))
    with swapped(model, snapshots.mean((5,), (1.0,), model)):
        told.append(str(whole(model) == before))

    def alone_on(which: int) -> None:
        with together():
            if rank == which:
                raise StagewiseError("alone")

    for which in (0, 1):
        tried(lambda which=which: alone_on(which))
    return [*told, str(len(lines))]


def test_failures_are_of_all_ranks(kind, tmp_path):
    first, second = well(ranks(2, failing, kind, tmp_path / "s"))
    full = ["could not be written: OSError: [Errno 27]", "could not be written: OSError: [Errno 27]"]
    for told, mine, theirs in (
        (first, "", "rank 1: StagewiseError: "),
        (second, "rank 0: StagewiseError: ", ""),
    ):
        assert len(told) == 15
        for i in (0, 1):
            assert full[i] in told[i] and told[i].startswith(mine)
        assert told[2] == "[1, 2]"
        assert told[3] == f"{theirs}not on this rank"
        assert "values: " in told[4] and "is missing" in told[4] and told[4].startswith(mine)
        assert told[5] == "True"
        assert "1 of 2 snapshots broke" in told[6] and "step-000000002" in told[6]
        assert told[7] == "[1]"
        assert told[8] and told[8].startswith(mine) and told[9] and told[9].startswith(mine)
        assert told[10:12] == ["[5]", "True"]
        assert told[12] == f"{mine}alone"
        assert told[13] == f"{theirs}alone"
        assert told[14] == "1"  # line about the snapshot that broke
    assert sorted(os.listdir(tmp_path / "s")) == ["file", "step-000000005"]
