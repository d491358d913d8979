"""Checkpoints: bit for bit what was written, or not used; killed, cut, flipped, moved, pruned."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from evalsuite.durable import MANIFEST, Broken, verify
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.test_durable import ROOT, cut, flip, killed
from train.checkpoint import checkpoint_name, checkpoints, latest, prune, write_checkpoint


def tensors(seed: int) -> dict[str, dict[str, Tensor]]:
    chance = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, generator=chance)
    return {
        "model": {"weight": weight, "half": weight.bfloat16()},
        "optimizer": {"weight.exp_avg": weight * 2, "weight.step": torch.tensor(float(seed))},
        "rng": {"cpu": torch.randint(0, 256, (16,), dtype=torch.uint8, generator=chance)},
    }


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(folder, step, tensors(step), {"seed": step, "loss": 1 / 3})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether the names, types, shapes and bits are the same."""
    return list(sorted(one)) == list(sorted(other)) and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and raw(one[name]) == raw(other[name])
        for name in one
    )


def raw(tensor: Tensor) -> bytes:
    return (
        tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        if tensor.numel()
        else b""
    )


def silent(line: str) -> None:
    pytest.fail(f"said: {line}")


# --- what is written ----------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path):
    """Oracle: the tensors that went in."""
    state = {
        "step": 7,
        "loss": 0.1 + 0.2,
        "tiny": 5e-324,
        "big": 2**70,
        "text": "é\0\u2028",
        "list": [None, True],
    }
    given = write_checkpoint(tmp_path / "run", 7, tensors(7), state)
    found = latest(tmp_path / "run", silent)
    assert found == given and found is not None
    assert (found.step, found.path.name) == (7, "step-000000007")
    assert found.state == state
    assert sorted(found.names) == ["model", "optimizer", "rng"]
    for name, wanted in tensors(7).items():
        assert same(found.tensors(name), wanted)


KINDS = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8,
    torch.bool, torch.float8_e4m3fn,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_and_layout_comes_back(tmp_path, kind):
    """Oracle: the bits, also those of nan, of -0 and of what is no block of memory."""
    base = torch.tensor([[0.0, -0.0, 1.0], [float("nan"), 2.0, 3.0]])
    if not kind.is_floating_point:
        base = torch.tensor([[0, 1, 2], [3, 4, 5]])
    wanted = {
        "plain": base.to(kind).clone(),
        "scalar": base.to(kind)[1, 2].clone(),
        "transposed": base.to(kind).clone().t(),
        "strided": base.to(kind).clone()[:, ::2],
        "expanded": base.to(kind)[:1, :1].clone().expand(4, 5),
        "empty": torch.empty(0, 3, dtype=kind),
        "parameter": torch.nn.Parameter(base.to(kind).clone(), requires_grad=kind.is_floating_point),
    }
    found = write_checkpoint(tmp_path, 1, {"any": wanted}, {})
    assert same(found.tensors("any"), wanted)
    assert all(one.is_contiguous() and not one.requires_grad for one in found.tensors("any").values())


def test_nan_bits_survive(tmp_path):
    bits = torch.tensor([0x7FC00001, 0x7F800001, -1, -0x80000000], dtype=torch.int32)
    found = write_checkpoint(tmp_path, 1, {"any": {"x": bits.view(torch.float32)}}, {})
    assert found.tensors("any")["x"].view(torch.int32).tolist() == bits.tolist()


def test_the_file_says_what_it_is(tmp_path):
    write(tmp_path, 12)
    with safe_open(tmp_path / "step-000000012/model.safetensors", framework="pt") as handle:
        assert json.loads(handle.metadata()["stagewise"]) == {"format": 1, "step": 12}
    assert verify(tmp_path / "step-000000012").metadata == {"kind": "checkpoint", "step": 12}


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder, 5)
    one, two = (
        {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in (tmp_path / f / "step-000000005").iterdir()
        }
        for f in ("a", "b")
    )
    assert one == two and len(one) == 5


def shared(name: str) -> dict[str, Tensor]:
    weight = torch.arange(12.0).reshape(3, 4)
    return {
        "tied": {"embed": weight, "head": weight},
        "transposed": {"embed": weight, "head": weight.t()},
        "part": {"embed": weight, "head": weight[1:]},
        "last": {"embed": weight[:2], "head": weight[1:]},
    }[name]


@pytest.mark.parametrize("case", ["tied", "transposed", "part", "last"])
def test_tensors_that_are_one_in_memory_are_refused(tmp_path, case):
    with pytest.raises(UsageError, match=r"'model'.*('embed' and 'head'|'head' and 'embed') share memory"):
        write_checkpoint(tmp_path, 1, {"model": shared(case)}, {})
    assert not os.listdir(tmp_path)


def test_parts_of_one_memory_that_do_not_overlap_are_not(tmp_path):
    flat = torch.arange(12.0)
    wanted = {"one": flat[:6].view(2, 3), "two": flat[6:], "none": flat[6:6]}
    found = write_checkpoint(tmp_path, 1, {"model": wanted}, {})
    assert same(found.tensors("model"), wanted)
    # 24 bytes each, not the whole memory each.
    assert found.path.joinpath("model.safetensors").stat().st_size < 12 * 4 + 400


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": [0, float("nan")]}}, r"state\.a\.b\[1\]: got nan, valid is a finite number"),
        ({"a": float("inf")}, r"state\.a: got inf"),
        ({"a": {1: "x"}}, r"state\.a: key 1: valid is text"),
        ({"a": torch.ones(1)}, r"state\.a: got Tensor, valid is what JSON has"),
        ({"a": {1, 2}}, r"state\.a: got set"),
        ({"a": torch.float32}, r"state\.a: got dtype"),
    ],
)
def test_a_state_that_is_no_json_is_refused(tmp_path, value, message):
    with pytest.raises(UsageError, match=message):
        write_checkpoint(tmp_path, 1, tensors(1), value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": {"x": torch.ones(2, device="meta")}}, "'x': is on the meta device"),
        ({"model": {"x": torch.ones(2, 2).to_sparse()}}, "'x': got Tensor, valid is a dense"),
        ({"model": {"x": [1.0]}}, "'x': got list, valid is a dense"),
        ({"a/b": {}}, "'a/b': valid is the stem of a file name"),
        ({"": {}}, "'': valid is the stem"),
    ],
)
def test_tensors_that_are_none_are_refused(tmp_path, given, message):
    with pytest.raises(UsageError, match=message):
        write_checkpoint(tmp_path, 1, given, {})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("step", [-1, 1.0, True, "7"])
def test_a_step_is_a_whole_number(tmp_path, step):
    with pytest.raises(UsageError, match="valid is a whole number from 0"):
        write_checkpoint(tmp_path, step, {}, {})


def test_a_step_is_written_once(tmp_path):
    write(tmp_path, 3)
    with pytest.raises(StagewiseError, match="step-000000003: is there already, and whole"):
        write(tmp_path, 3)


def test_unknown_tensors(tmp_path):
    write(tmp_path, 3)
    with pytest.raises(UsageError, match=r"no tensors 'ema'; it has model, optimizer, rng"):
        checkpoints(tmp_path)[0].tensors("ema")


# --- what is found ------------------------------------------------------------------------------------

names = st.one_of(
    st.integers(0, 10**10).map(lambda n: f"step-{n:09d}"),
    st.integers(0, 10**5).map(lambda n: f"step-{n}"),
    st.from_regex(r"(step-)?[0-9]{8,10}(\.tmp|\.old\.tmp|~|\n)?", fullmatch=True),
    st.sampled_from(
        ["step-", "STEP-000000001", "step-00000000١", "xstep-000000001", "step--00000001", "log.jsonl"]
    ),
)


@settings(max_examples=60)
@given(found=st.dictionaries(names, st.sampled_from(["whole", "no manifest", "file"]), max_size=8))
def test_only_whole_names_with_a_manifest_are_found(found, tmp_path_factory):
    """Oracle: the rule, by hand. Nine digits or more, no zero in front of more than nine, nothing after."""
    folder = tmp_path_factory.mktemp("run")
    for name, kind in found.items():
        if kind == "file":
            (folder / name).touch()
        else:
            (folder / name).mkdir()
            (folder / name / ("model" if kind == "no manifest" else MANIFEST)).touch()
    wanted = []
    for name, kind in found.items():
        digits = name[5:]
        ascii_digits = digits != "" and all(c in "0123456789" for c in digits)
        right = len(digits) == 9 or (len(digits) > 9 and digits[0] != "0")
        if kind == "whole" and name[:5] == "step-" and ascii_digits and right:
            wanted.append(int(digits))
    assert [one.step for one in checkpoints(folder)] == sorted(wanted)
    assert all(one.path.name in found for one in checkpoints(folder))


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert checkpoints(tmp_path / "none") == () and latest(tmp_path / "none", silent) is None


FILES = ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", MANIFEST)
HARM = {"cut": cut, "flipped": lambda path: flip(path, 8 * (path.stat().st_size // 2)), "gone": Path.unlink}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", HARM)
def test_a_broken_one_is_told_and_the_next_older_is_used(tmp_path, file, harm):
    write(tmp_path, 10, 20, 30)
    HARM[harm](tmp_path / "step-000000030" / file)
    said: list[str] = []
    found = latest(tmp_path, said.append)
    assert found is not None and found.step == 20
    assert same(found.tensors("model"), tensors(20)["model"])
    if harm == "gone" and file == MANIFEST:
        assert said == []  # without a manifest it is no checkpoint
    else:
        (line,) = said
        assert f"step-000000030: {file}: " in line and "the next older, step-000000020, is tried" in line
    write(tmp_path, 30)  # the resumed run comes by again
    again = latest(tmp_path, silent)
    assert again is not None and again.step == 30 and same(again.tensors("model"), tensors(30)["model"])
    assert sorted(os.listdir(tmp_path)) == [checkpoint_name(step) for step in (10, 20, 30)]


def test_when_all_are_broken_all_are_told(tmp_path):
    write(tmp_path, 10, 20)
    for step in (10, 20):
        cut(tmp_path / checkpoint_name(step) / "state.json")
    said: list[str] = []
    assert latest(tmp_path, said.append) is None
    assert len(said) == 2 and "step-000000010, is tried" in said[0] and "there is no older one" in said[1]


def test_a_checkpoint_under_another_name_is_not_used(tmp_path):
    write(tmp_path, 10)
    shutil.copytree(tmp_path / "step-000000010", tmp_path / "step-000000020")
    said: list[str] = []
    found = latest(tmp_path, said.append)
    assert found is not None and found.step == 10
    assert "of checkpoint step 10, not of checkpoint step 20" in said[0]


def test_a_file_of_another_checkpoint_is_not_used(tmp_path):
    """Also where nobody asked for a check of all bytes."""
    write(tmp_path, 10, 20)
    shutil.copy(tmp_path / "step-000000010/rng.safetensors", tmp_path / "step-000000020/rng.safetensors")
    newest = checkpoints(tmp_path)[-1]
    with pytest.raises(Broken, match=r"rng\.safetensors: its bytes changed"):
        newest.verify()
    with pytest.raises(Broken, match=r"rng\.safetensors: says .*10.*, valid is .*20"):
        newest.tensors("rng")


def test_what_was_read_does_not_hang_on_the_file(tmp_path):
    write(tmp_path, 10)
    found = checkpoints(tmp_path)[0].tensors("model")
    path = tmp_path / "step-000000010/model.safetensors"
    with open(path, "r+b") as handle:
        handle.write(bytes(path.stat().st_size))
    assert same(found, tensors(10)["model"])


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_read(tmp_path):
    write(tmp_path, 10)
    mark = tmp_path / "executed"
    target = tmp_path / "step-000000010/model.safetensors"
    target.write_bytes(pickle.dumps({"weight": Malice(mark)}))
    with pytest.raises(Broken, match=r"model\.safetensors: cannot be read"):
        checkpoints(tmp_path)[0].tensors("model")
    assert not mark.exists()
    pickle.loads(target.read_bytes())  # the trap works
    assert mark.exists()


def test_a_state_that_is_broken_is_told(tmp_path):
    write(tmp_path, 10)
    cut(tmp_path / "step-000000010/state.json")
    cut(tmp_path / "step-000000010/state.json")
    with pytest.raises(Broken, match=r"state\.json: cannot be read"):
        _ = checkpoints(tmp_path)[0].state


# --- killed, and out of room --------------------------------------------------------------------------

COMMON = """
import shutil
import torch
from train.checkpoint import checkpoints, latest, prune, write_checkpoint
torch.set_num_threads(1)
def write(step, folder=folder):
    value = torch.full((64,), float(step))
    write_checkpoint(folder, step, {"model": {"w": value}, "optimizer": {"m": -value}}, {"step": step})
def value(one):
    w, m = one.tensors("model")["w"], one.tensors("optimizer")["m"]
    assert (w == w[0]).all() and (m == -w[0]).all() and one.state["step"] == w[0].item()
    return int(w[0])
made = folder.parent / "made"
for step in range(1, 4):
    write(step, made)
def fresh(*steps):
    shutil.rmtree(folder)
    for one in checkpoints(made):
        if one.step in steps:
            shutil.copytree(one.path, folder / one.path.name)
"""
WRITING = """
def prepare(n, late):
    fresh(1)
def act(n):
    write(2)
def look(n, late):
    said = []
    return [value(latest(folder, said.append)), [one.step for one in checkpoints(folder)], said]
"""


def test_a_kill_while_writing_leaves_the_old_or_the_new(tmp_path):
    """Nothing is even said: what a kill leaves is no checkpoint, not a broken one."""
    (tmp_path / "run").mkdir()
    seen = killed(tmp_path / "run", COMMON + WRITING)
    assert len(seen) >= 30
    assert {tuple(map(str, found)) for _, found in seen} == {("1", "[1]", "[]"), ("2", "[1, 2]", "[]")}


PRUNING = """
def prepare(n, late):
    fresh(1, 2, 3)
def act(n):
    prune(folder, 1)
def look(n, late):
    for one in checkpoints(folder):
        one.verify()
    found = [[one.step for one in checkpoints(folder)], value(latest(folder, print))]
    prune(folder, 1)
    return [*found, sorted(os.listdir(folder))]
"""


def test_a_kill_while_pruning_leaves_whole_ones(tmp_path):
    (tmp_path / "run").mkdir()
    seen = killed(tmp_path / "run", COMMON + PRUNING)
    kept = {tuple(steps) for _, (steps, _, _) in seen}
    assert kept == {(1, 2, 3), (2, 3), (3,)}
    assert all(newest == 3 for _, (_, newest, _) in seen)
    assert all(names == ["step-000000003"] for _, (_, _, names) in seen)


FULL = """
import resource, sys
from pathlib import Path
import torch
from train.checkpoint import checkpoints, latest, write_checkpoint
folder = Path(sys.argv[1])
def write(step, n):
    write_checkpoint(folder, step, {"model": {"w": torch.ones(n)}}, {"step": step})
write(1, 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write(2, 100_000)
except Exception as error:
    print(type(error).__name__, error)
print([one.step for one in checkpoints(folder)], latest(folder, print).state)
"""


def test_a_write_that_the_system_refuses_leaves_the_older_ones(tmp_path):
    """No file may grow beyond 50 kB: what safetensors meets is real, its error none of Python's."""
    run = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    error, rest = done.stdout.splitlines()
    assert error.startswith("StagewiseError ") and "step-000000002: could not be written" in error
    assert "File too large" in error and "bytes are free there" in error
    needed = int(error.split("bytes are free there, ")[1].split()[0].replace(",", ""))
    assert 400_000 < needed < 401_000
    assert rest == "[1] {'step': 1}"
    assert os.listdir(tmp_path) == ["step-000000001"]


# --- pruned -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Checkpoints to copy: that takes no flushing to the disk."""
    folder = tmp_path_factory.mktemp("made")
    for step in range(31):
        write_checkpoint(folder, step, {"model": {"w": torch.ones(1)}}, {})
    return folder


@settings(max_examples=60)
@given(
    found=st.dictionaries(st.integers(0, 30), st.sampled_from(["whole", "cut", "flipped"]), max_size=8),
    keep_last=st.integers(1, 4),
    keep_every=st.none() | st.integers(1, 10),
)
def test_what_pruning_keeps(found, keep_last, keep_every, made, tmp_path_factory):
    """Oracle: the rule for one checkpoint at a time."""
    folder = tmp_path_factory.mktemp("run")
    steps, harmed = set(found), {step: how for step, how in found.items() if how != "whole"}
    for step in steps:
        shutil.copytree(made / checkpoint_name(step), folder / checkpoint_name(step))
        if step in harmed:
            HARM[harmed[step]](folder / checkpoint_name(step) / "model.safetensors")
    (folder / "step-000000031.tmp").mkdir()
    (folder / "step-000000031.old.tmp").mkdir()
    (folder / "log.jsonl.tmp").touch()
    whole = [step for step in steps if step not in harmed]

    def stays(step: int) -> bool:
        newer = sum(other > step and harmed.get(other) != "cut" for other in steps)
        if newer < keep_last or not whole or step == max(whole):
            return True
        return bool(keep_every) and step % keep_every == 0

    gone = prune(folder, keep_last, keep_every)
    left = {one.step for one in checkpoints(folder)}
    assert left == {step for step in steps if stays(step)}
    assert gone == tuple(sorted(steps - left))
    assert {name for name in os.listdir(folder) if "tmp" in name} == {"log.jsonl.tmp"}
    newest = latest(folder, lambda _: None)
    assert (newest.step if newest else None) == max(whole, default=None)
    assert prune(folder, keep_last, keep_every) == ()


def test_the_newest_whole_one_is_never_pruned(tmp_path):
    write(tmp_path, 1, 2, 3, 4, 5)
    for step in (3, 4, 5):
        HARM["flipped"](tmp_path / checkpoint_name(step) / "model.safetensors")  # found by reading all of it
    assert prune(tmp_path, 2) == (1, 3)
    found = latest(tmp_path, lambda _: None)
    assert found is not None and found.step == 2


@pytest.mark.parametrize("counts", [(0, None), (-1, None), (1, 0), (2, -5)])
def test_counts_that_are_none(tmp_path, counts):
    write(tmp_path, 1)
    with pytest.raises(UsageError, match="valid are whole numbers from 1"):
        prune(tmp_path, *counts)
    assert len(checkpoints(tmp_path)) == 1


def test_a_checkpoint_of_a_later_version_is_not_pruned_as_if_it_were_known(tmp_path):
    """It does not count as one of the last, and it is told of when it is not used."""
    write(tmp_path, 1, 2, 3)
    path = tmp_path / "step-000000003" / MANIFEST
    body = json.loads(path.read_bytes()) | {"format": 2}
    body.pop("digest")
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**body, "digest": digest}))
    assert prune(tmp_path, 1) == (1,)
    said: list[str] = []
    found = latest(tmp_path, said.append)
    assert found is not None and found.step == 2 and "later version" in said[0]
