"""Snapshots on disk and in memory: whole or not there, found again, and their mean to the bit."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from evalsuite.averaging import Averaging
from evalsuite.durable import MANIFEST, write_folder
from evalsuite.mean import weights_of
from evalsuite.place import Place
from evalsuite.snapshots import WEIGHTS, Snapshots
from evalsuite.swap import named_tensors, swapped
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.test_durable import cut, flip, killed
from tests.evalsuite.test_swap import Model, bits, state

PLACES = [Place(step, tokens=100.0 * step, seconds=0.1 * step, lr=1 / 3) for step in (3, 7, 8, 12)]


def silent(text: str) -> None:
    pytest.fail(text)


def moved(model: nn.Module, seed: int) -> nn.Module:
    """The model after a step."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in named_tensors(model).values():
            if one.dtype.is_floating_point and 0 not in one.stride():
                one.add_(torch.randn(one.shape, generator=made).to(one.dtype))
            elif not one.dtype.is_floating_point:
                one.add_(seed)
    return model


def filled(snapshots: Snapshots, model: nn.Module, places: list[Place] = PLACES) -> list[dict[str, Tensor]]:
    """Snapshots taken, and copies of what was taken; the oracle."""
    copies = []
    for place in places:
        moved(model, place.step)
        snapshots.take(model, place)
        copies.append({name: one.clone() for name, one in named_tensors(model).items()})
    return copies


@pytest.fixture(params=["disk", "memory"])
def where(request, tmp_path) -> Path | None:
    return tmp_path / "deep/snapshots" if request.param == "disk" else None


def folder_of(tmp_path: Path, step: int) -> Path:
    return tmp_path / f"step-{step:09d}"


# --- both kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "linear", "ema"])
def test_the_mean(where, kind):
    """Oracle: numpy in float64 over copies; whole numbers are the newest."""
    model = Model()
    snapshots = Snapshots.open(where, silent)
    copies = filled(snapshots, model)
    weights = weights_of(Averaging(weights=kind), 3)
    found = snapshots.mean((3, 8, 12), weights, model)
    members = [copies[0], copies[2], copies[3]]
    assert list(found) == list(named_tensors(model))
    for name, one in found.items():
        if not one.dtype.is_floating_point:
            assert torch.equal(one, copies[3][name])
            continue
        exact = sum(w * m[name].double().numpy() for w, m in zip(weights, members, strict=True))
        if one.dtype == torch.bfloat16:
            np.testing.assert_allclose(one.double().numpy(), exact, rtol=2**-8)
        else:
            np.testing.assert_array_equal(one.numpy(), np.asarray(exact, dtype=np.float32))


def test_disk_and_memory_agree_to_the_bit(tmp_path):
    told = []
    for where in (tmp_path, None):
        model = Model()
        snapshots = Snapshots.open(where, silent)
        filled(snapshots, model)
        found = snapshots.mean((3, 7, 8, 12), weights_of(Averaging(), 4), model)
        told.append({name: bits(one) for name, one in found.items()})
    assert told[0] == told[1]


def test_what_was_taken_stays_as_it_was(where):
    """Training goes on after a snapshot."""
    model = Model()
    snapshots = Snapshots.open(where, silent)
    copies = filled(snapshots, model)
    moved(model, 99)
    for place, copy in zip(PLACES, copies, strict=True):
        found = snapshots.mean((place.step,), (1.0,), model)
        assert {name: bits(one) for name, one in found.items()} == {n: bits(one) for n, one in copy.items()}


def test_taking_leaves_everything_as_it_is(where):
    model = Model()
    model(torch.arange(7)).sum().backward()
    before, chance = state(model), (bits(torch.get_rng_state()), random.getstate())
    snapshots = Snapshots.open(where, silent)
    snapshots.take(model, Place(1))
    with swapped(model, snapshots.mean((1,), (1.0,), model)):
        pass
    assert state(model) == before and model.training
    assert (bits(torch.get_rng_state()), random.getstate()) == chance


def test_places(where):
    snapshots = Snapshots.open(where, silent)
    assert snapshots.places == ()
    filled(snapshots, Model(), [PLACES[2], PLACES[0], PLACES[3], PLACES[1]])
    assert snapshots.places == tuple(PLACES)


def test_rewind_and_keep(where):
    model = Model()
    snapshots = Snapshots.open(where, silent)
    snapshots.keep([])
    snapshots.rewind(5)  # before there is any
    filled(snapshots, model)
    snapshots.rewind(8)
    assert [one.step for one in snapshots.places] == [3, 7, 8]
    snapshots.keep([3, 8, 1000])
    assert [one.step for one in snapshots.places] == [3, 8]
    if where:
        assert sorted(os.listdir(where)) == ["step-000000003", "step-000000008"]
        assert Snapshots.open(where, silent).places == snapshots.places
    with pytest.raises(UsageError, match=r"steps \[7\].*steps of 3, 8"):
        snapshots.mean((7,), (1.0,), model)
    snapshots.keep([])
    assert snapshots.places == ()


@pytest.mark.parametrize(("steps", "weights"), [((), ()), ((3,), ()), ((3, 7), (1.0,)), ((4,), (1.0,))])
def test_a_mean_of_what_is_not_there(where, steps, weights):
    snapshots = Snapshots.open(where, silent)
    filled(snapshots, Model())
    with pytest.raises(UsageError, match="valid are steps of 3, 7, 8, 12"):
        snapshots.mean(steps, weights, Model())


def test_one_of_the_same_step_is_replaced(where):
    """As a rerun does, and so that one of another run does not survive."""
    model = Model()
    snapshots = Snapshots.open(where, silent)
    filled(snapshots, model)
    moved(model, 1)
    snapshots.take(model, Place(8, lr=0.5))
    assert snapshots.places[2] == Place(8, lr=0.5) and len(snapshots.places) == 4
    found = snapshots.mean((8,), (1.0,), model)
    assert {n: bits(one) for n, one in found.items()} == {
        n: bits(one) for n, one in named_tensors(model).items()
    }


def test_another_model_is_refused(where):
    snapshots = Snapshots.open(where, silent)
    filled(snapshots, Model())
    other = Model()
    other.low = nn.Parameter(torch.zeros(4).bfloat16())
    with pytest.raises(StagewiseError, match=r"step.*8.*low is \[3\] bfloat16, the model has \[4\] bfloat16"):
        snapshots.mean((8,), (1.0,), other)
    assert len(snapshots.places) == 4


def test_names_without_wrappers(where):
    """Taken with a wrapper, averaged into the bare model."""
    model = Model()
    snapshots = Snapshots.open(where, silent)
    snapshots.take(torch.compile(model, backend="eager"), Place(1))
    with swapped(model, snapshots.mean((1,), (1.0,), torch.compile(model, backend="eager"))):
        pass


# --- on disk ------------------------------------------------------------------------------------------


def test_the_file_is_one_that_others_read(tmp_path):
    """Oracle: the library."""
    model = Model()
    copies = filled(Snapshots.open(tmp_path, silent), model)
    found = load_file(folder_of(tmp_path, 12) / WEIGHTS)
    assert {n: bits(one) for n, one in found.items()} == {n: bits(one) for n, one in copies[-1].items()}


def test_a_rerun_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        filled(Snapshots.open(tmp_path / name, silent), Model())
    for place in PLACES:
        for file in (WEIGHTS, MANIFEST):
            one, other = (folder_of(tmp_path / name, place.step) / file for name in ("a", "b"))
            assert one.read_bytes() == other.read_bytes()


def test_found_again(tmp_path):
    model = Model()
    copies = filled(Snapshots.open(tmp_path, silent), model)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "step-7").mkdir()  # a name that no snapshot has
    again = Snapshots.open(str(tmp_path), silent)
    assert again.places == tuple(PLACES)
    found = again.mean((7,), (1.0,), Model())
    assert {n: bits(one) for n, one in found.items()} == {n: bits(one) for n, one in copies[1].items()}
    again.keep([])
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "step-7"]


def foreign(folder: Path) -> None:
    shutil.rmtree(folder)
    write_folder(folder, {"a": lambda path: path.write_bytes(b"")}, {"kind": "checkpoint", "step": 8})


def no_place(folder: Path) -> None:
    shutil.rmtree(folder)
    write_folder(
        folder, {"a": lambda path: path.write_bytes(b"")}, {"kind": "snapshot", "place": {"step": -1}}
    )


def renamed(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("step-000000003"), folder)


BREAK: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: cut(f / WEIGHTS), "truncated"),
    "flipped": (lambda f: flip(f / WEIGHTS, 4001), "its bytes changed"),
    "missing file": (lambda f: (f / WEIGHTS).unlink(), "missing"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "manifest.json: missing"),
    "other manifest": (lambda f: flip(f / MANIFEST, 100), "broken"),
    "checkpoint": (foreign, "not of a snapshot"),
    "no place": (no_place, "not of a snapshot"),
    "other name": (renamed, "is of step 3"),
    "empty": (lambda f: (shutil.rmtree(f), f.mkdir()), "manifest.json: missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAK)
def test_what_is_broken_is_left_out_loudly(tmp_path, case):
    change, why = BREAK[case]
    model = Model()
    filled(Snapshots.open(tmp_path, silent), model)
    change(folder_of(tmp_path, 8))
    said: list[str] = []
    snapshots = Snapshots.open(tmp_path, said.append)
    assert [one.step for one in snapshots.places] == [3, 7, 12]
    assert len(said) == 1 and said[0].startswith("SNAPSHOT NOT USED: ")
    assert why in said[0] and "step-000000008" in said[0]
    snapshots.take(model, Place(8))  # what is broken can be written again
    assert [one.step for one in Snapshots.open(tmp_path, silent).places] == [3, 7, 8, 12]
    change(folder_of(tmp_path, 8))
    Snapshots.open(tmp_path, said.append).keep([3, 8])
    assert os.listdir(tmp_path) == ["step-000000003"]


@pytest.mark.parametrize("case", ["cut", "missing file", "no manifest", "empty", "gone"])
def test_what_breaks_meanwhile(tmp_path, case):
    """The mean fails, and the next one goes without it."""
    model, said = Model(), []
    snapshots = Snapshots.open(tmp_path, said.append)
    filled(snapshots, model)
    (shutil.rmtree if case == "gone" else BREAK[case][0])(folder_of(tmp_path, 8))
    with pytest.raises(StagewiseError, match=r"1 of 3 snapshots broke: .*step-000000008"):
        snapshots.mean((3, 8, 12), (0.2, 0.3, 0.5), model)
    assert [one.step for one in snapshots.places] == [3, 7, 12]
    assert len(said) == 1 and said[0].startswith("SNAPSHOT NOT USED: ")
    snapshots.mean((3, 12), (0.5, 0.5), model)


def test_what_breaks_while_it_is_read(tmp_path):
    model = Model()
    snapshots = Snapshots.open(tmp_path, silent)
    filled(snapshots, model)
    mean = snapshots.mean((3, 8), (0.5, 0.5), model)
    (folder_of(tmp_path, 8) / WEIGHTS).write_bytes(b"")
    before = state(model)
    with pytest.raises(StagewiseError, match="cannot be read"), swapped(model, mean):
        pytest.fail("the body ran")
    assert state(model) == before


def test_a_full_disk(tmp_path):
    model = Model()
    snapshots = Snapshots.open(tmp_path, silent)
    copies = filled(snapshots, model)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        for place in (Place(13), Place(8)):
            with pytest.raises(StagewiseError, match=r"could not be written: .*bytes are free.*are needed"):
                snapshots.take(model, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.step for one in snapshots.places] == [3, 7, 12]
    assert [one.step for one in Snapshots.open(tmp_path, silent).places] == [3, 7, 8, 12]
    found = snapshots.mean((12,), (1.0,), model)
    assert {n: bits(one) for n, one in found.items()} == {n: bits(one) for n, one in copies[-1].items()}
    snapshots.take(model, Place(13))
    assert [one.step for one in snapshots.places] == [3, 7, 12, 13]


def test_old_ones_that_cannot_be_deleted(tmp_path, monkeypatch):
    snapshots = Snapshots.open(tmp_path, silent)
    filled(snapshots, Model())

    def rename(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StagewiseError, match=r"old snapshots could not be deleted: .*Read-only"):
        snapshots.keep([12])
    assert snapshots.places == tuple(PLACES)  # as they are on the disk


KILLED = """
import shutil
import torch
from evalsuite.place import Place
from evalsuite.snapshots import Snapshots
def model(value):
    one = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(one.weight, value)
    return one
def prepare(n, late):
    spare = folder.with_name("spare")
    if not spare.exists():
        for step in (1, 2, 3):
            Snapshots.open(spare, print).take(model(step), Place(step))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(spare, folder)
def act(n):
    here = Snapshots.open(folder, print)
    here.take(model(5), Place(3))
    here.keep([2, 3])
def look(n, late):
    said = []
    here = Snapshots.open(folder, said.append)
    values = {p.step: here.mean((p.step,), (1.0,), model(0))["weight"].unique().tolist() for p in here.places}
    here.keep([2, 3])
    return [said, values, sorted(one.name for one in folder.iterdir())]
"""


def test_killed_at_every_call_that_changes_the_disk(tmp_path):
    """Each snapshot is one that was written, or is not there; what is left over does no harm."""
    told = killed(tmp_path / "s", KILLED)
    seen = set()
    for code, (said, values, left) in told:
        assert said == []
        seen.add(tuple(values))
        # While the third is replaced it may be without its name; `keep` does not give that back.
        assert left == ["step-000000002", *(["step-000000003"] if "3" in values else [])]
        for step, value in values.items():
            assert value in ([5.0], [3.0]) if step == "3" else value == [float(step)]
        if code == 0:
            assert values == {"2": [2.0], "3": [5.0]}
    assert seen == {("1", "2", "3"), ("1", "2"), ("2", "3")}
    assert len(told) > 40


# --- memory -------------------------------------------------------------------------------------------


def test_the_mean_takes_little_memory(tmp_path):
    """Read a few rows at a time: beside the tensor itself, a few megabytes. Oracle: the process's peak."""
    model = nn.Linear(2048, 4096, bias=False)  # 32 MiB
    snapshots = Snapshots.open(tmp_path, silent)
    for step in (1, 2, 3, 4):
        snapshots.take(model, Place(step))
    found = snapshots.mean((1, 2, 3, 4), (0.25,) * 4, model)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    told = found["weight"]
    assert peak() - before < 4 * told.numel() + 32_000_000
    assert torch.equal(told, model.weight)


def peak() -> int:
    """The most memory that this process has held since it was last cleared, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0


def test_large_tensors_are_read_in_parts(tmp_path, monkeypatch):
    """Oracle: the same in one part."""
    model = nn.Linear(7, 11)
    snapshots = Snapshots.open(tmp_path, silent)
    for step in (1, 2):
        snapshots.take(moved(model, step), Place(step))
    found = snapshots.mean((1, 2), (0.5, 0.5), model)
    whole = {name: bits(one) for name, one in found.items()}
    for block in (1, 28, 29, 100):
        monkeypatch.setattr("evalsuite.snapshots._BLOCK", block)
        assert {name: bits(one) for name, one in found.items()} == whole
