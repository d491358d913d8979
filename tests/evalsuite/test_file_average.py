"""Means of model files; the oracle is torch, tensor by tensor, in float64."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evalsuite import mean_stream
from evalsuite.durable import write_folder
from evalsuite.file_average import average_files, shares_of
from evalsuite.tensor_files import TensorFiles
from scaling.errors import StagewiseError, UsageError

SHAPES = {"embed": (300, 64), "norm": (64,), "scale": (), "empty": (0, 4)}


def model(seed: int, dtype: torch.dtype = torch.float32, wide: int = 1) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    made = {
        name: torch.randn([*shape[:-1], *(wide * one for one in shape[-1:])], generator=random).to(dtype)
        for name, shape in SHAPES.items()
    }
    return made | {
        "half": torch.randn(7, generator=random).half(), "count": torch.tensor(seed),
        "mask": torch.tensor([seed % 2 == 0, True]),
    }  # fmt: skip


def files(folder: Path, n: int = 4, dtype: torch.dtype = torch.float32, wide: int = 1) -> list[Path]:
    paths = [folder / f"{i}.safetensors" for i in range(n)]
    for i, path in enumerate(paths):
        save_file(model(i, dtype, wide), path, {"format": "pt", "of": str(i)})
    return paths


def mean(models: list[dict[str, Tensor]], shares: tuple[float, ...]) -> dict[str, Tensor]:
    """What is to come out; float32 and wider alone, torch rounds float64 to smaller ones twice."""
    found = {}
    for name, last in models[-1].items():
        found[name] = last
        if last.dtype.is_floating_point:
            total = sum(one[name].double() * share for one, share in zip(models, shares, strict=True))
            found[name] = (total / sum(shares)).to(last.dtype)
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("weights, decay", [("uniform", 0.5), ("linear", 0.5), ("ema", 0.75)])
def test_mean_of_files(tmp_path: Path, weights, decay: float):
    paths = files(tmp_path)
    made = average_files(paths, tmp_path / "out.safetensors", weights=weights, decay=decay)
    shares = shares_of(4, weights, decay)
    same(load_file(made.path), mean([load_file(path) for path in paths], shares))
    assert made.copied == ("count", "mask") and made.tensors == 5
    assert made.parameters == 300 * 64 + 64 + 1 + 7
    assert made.size == made.path.stat().st_size
    frame = made.to_frame()
    assert list(frame["name"]) == [path.name for path in paths] and frame["weight"].sum() == pytest.approx(1)
    assert "safetensors" in made._repr_html_()


def test_layout_and_metadata(tmp_path: Path):
    paths = files(tmp_path, 2)
    made = average_files(paths, tmp_path / "out.safetensors")
    one, other = TensorFiles.open(paths[1]), TensorFiles.open(made.path)
    assert [(name, t.dtype, t.shape, t.size) for name, t in one.tensors.items()] == [
        (name, t.dtype, t.shape, t.size) for name, t in other.tensors.items()
    ]
    with safe_open(made.path, "pt") as handle:
        metadata = handle.metadata()
    assert metadata.pop("format") == "pt"  # that all share; `of` they do not
    assert json.loads(metadata.pop("stagewise")) == {
        "format": 1, "kind": "average", "weights": "uniform",
        "of": [{"name": f"{i}.safetensors", "step": None, "weight": 0.5} for i in range(2)],
    }  # fmt: skip
    assert not metadata


def test_the_same_call_writes_the_same_bytes(tmp_path: Path):
    paths = files(tmp_path, 3, torch.bfloat16)
    written = [
        average_files(paths, tmp_path / f"out{n}.safetensors", threads=n).path.read_bytes() for n in (1, 2, 3)
    ]
    assert written[0] == written[1] == written[2]


def sharded(folder: Path, tensors: dict[str, Tensor], parts: int) -> Path:
    folder.mkdir()
    names = list(tensors)
    place = {name: f"model-{i % parts}.safetensors" for i, name in enumerate(names)}
    for file in set(place.values()):
        save_file({name: tensors[name] for name in names if place[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    return folder


def test_other_layouts_go_by_name(tmp_path: Path):
    """One flat file, the same in another order, and two sharded ones: all as four of one layout."""
    models = [model(i, torch.bfloat16) for i in range(4)]
    alike = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for path, one in zip(alike, models, strict=True):
        save_file(one, path)
    raw, other = alike[1].read_bytes(), tmp_path / "other.safetensors"
    length = int.from_bytes(raw[:8], "little")
    header, data, moved, at = json.loads(raw[8 : 8 + length]), raw[8 + length :], {}, 0
    body = b""
    for name, told in reversed(header.items()):
        begin, end = told["data_offsets"]
        moved[name] = told | {"data_offsets": [at, at + end - begin]}
        at, body = at + end - begin, body + data[begin:end]
    text = json.dumps(moved).encode()
    other.write_bytes(len(text).to_bytes(8, "little") + text + body)
    mixed = [alike[0], other, sharded(tmp_path / "a", models[2], 2), sharded(tmp_path / "b", models[3], 3)]
    wanted = load_file(average_files(alike, tmp_path / "wanted.safetensors").path)
    found = average_files(mixed, tmp_path / "found.safetensors")
    same(load_file(found.path), wanted)
    assert found.copied == ("count", "mask")
    same(load_file(average_files(mixed[::-1][:2] + mixed[:2][::-1], tmp_path / "x.safetensors").path) | {
        name: wanted[name] for name in found.copied}, wanted)  # fmt: skip


def test_a_run_stands_for_its_last_four_checkpoints(tmp_path: Path):
    for step in range(10, 70, 10):
        write = {"model.safetensors": lambda path, step=step: save_file(model(step), path)}
        write_folder(tmp_path / f"run/checkpoints/step-{step}", write, {"kind": "checkpoint", "step": step})
    made = average_files([tmp_path / "run"], tmp_path / "out.safetensors")
    assert [one.step for one in made.members] == [30, 40, 50, 60]
    assert [one.name for one in made.members] == [f"step-{step}" for step in (30, 40, 50, 60)]
    same(load_file(made.path), mean([model(step) for step in (30, 40, 50, 60)], (1.0,) * 4))
    folders = [tmp_path / f"run/checkpoints/step-{step}" for step in (20, 10)]
    with pytest.raises(UsageError, match="step-20: stands before step-10; give the oldest first"):
        average_files(folders, tmp_path / "x.safetensors")


def test_models_that_differ(tmp_path: Path):
    first = files(tmp_path, 1)[0]
    tensors = load_file(first)
    tensors["norm"] = tensors["norm"].double()
    tensors["embed"] = tensors["embed"].T.contiguous()
    tensors["new"] = tensors.pop("scale")
    save_file(tensors, other := tmp_path / "other.safetensors")
    with pytest.raises(StagewiseError) as error:
        average_files([first, other], out := tmp_path / "out.safetensors")
    text = str(error.value)
    for said in (
        "other.safetensors has embed as F32 [64, 300], not F32 [300, 64]",
        "other.safetensors has also new", "has norm as F64 [64], not F32 [64]", "has no scale",
    ):  # fmt: skip
        assert said in text
    assert not out.exists()


def test_wrong_calls(tmp_path: Path):
    paths, out = files(tmp_path, 2), tmp_path / "out.safetensors"
    (tmp_path / "link.safetensors").symlink_to(paths[0])
    calls = [
        (([], out), {}, "needs two models or more, got none"),
        ((paths[:1], out), {}, "got .*0.safetensors; give several"),
        (([paths[0], tmp_path / "link.safetensors"], out), {}, "link.safetensors: is there twice"),
        ((paths, paths[1]), {"force": True}, "is one of the models"),
        ((paths, tmp_path / "link.safetensors"), {"force": True}, "is one of the models"),
        ((paths, tmp_path / "out.pt"), {}, "ends in .safetensors"),
        ((paths, out), {"weights": "best"}, "weights 'best': valid are uniform, linear, ema"),
        ((paths, out), {"weights": "ema", "decay": 0.0}, "decay 0.0: valid is above 0"),
        ((paths, out), {"weights": "ema", "decay": float("nan")}, "decay nan"),
        (([*paths, tmp_path / "no"], out), {}, "no: no such file"),
    ]
    for args, settings, said in calls:
        with pytest.raises(UsageError, match=said):
            average_files(*args, **settings)
    assert not out.exists()
    with pytest.raises(UsageError, match="leaves nothing of the oldest of 3"):
        shares_of(3, "ema", 1e-300)


def test_a_file_in_the_way(tmp_path: Path):
    paths, out = files(tmp_path, 2), tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(StagewiseError, match=r"is there already; .* \(--force\)"):
        average_files(paths, out)
    assert out.read_text() == "mine"
    assert average_files(paths, out, force=True).size == out.stat().st_size
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(StagewiseError, match="is a folder"):
        average_files(paths, tmp_path / "folder.safetensors", force=True)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, call: str):
    paths = files(tmp_path, 2)
    before = left(tmp_path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        patch.object(mean_stream.os, call, side_effect=full),
        pytest.raises(StagewiseError, match=r"out.safetensors: could not be written: No space left"),
    ):
        average_files(paths, tmp_path / "out.safetensors")
    assert left(tmp_path) == before


def test_a_limit_on_the_size_of_files(tmp_path: Path):
    """A real limit of the system, met in another process; the file that was there stands."""
    paths, out = files(tmp_path, 2, wide=10), tmp_path / "out.safetensors"
    out.write_text("mine")
    code = (
        "import resource, signal, sys; from evalsuite.file_average import average_files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "average_files(sys.argv[2:], sys.argv[1], force=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, out, *paths], capture_output=True, text=True, check=False
    )
    assert "could not be written: File too large" in ended.stderr
    assert left(tmp_path) == ["0.safetensors", "1.safetensors", "out.safetensors"]
    assert out.read_text() == "mine"


def test_a_file_that_is_cut_off_meanwhile(tmp_path: Path):
    paths = files(tmp_path, 3)
    before = left(tmp_path)
    read = os.preadv

    def cut(*args):
        os.truncate(paths[1], 2000)
        return read(*args)

    with (
        patch.object(mean_stream.os, "preadv", cut),
        pytest.raises(StagewiseError, match=r"1.safetensors: was cut off while it was read"),
    ):
        average_files(paths, tmp_path / "out.safetensors")
    assert left(tmp_path) == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_kill_leaves_no_file(tmp_path: Path, name: str):
    paths, out = files(tmp_path, 2), tmp_path / "out.safetensors"
    code = (
        "import os, sys, time; from evalsuite import mean_stream; from evalsuite.file_average import *\n"
        "write = os.pwrite\n"
        "def slow(*args):\n"
        "    print('writing', flush=True); time.sleep(0.2); return write(*args)\n"
        "mean_stream.os.pwrite = slow\n"
        "average_files(sys.argv[2:], sys.argv[1])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, out, *paths],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(getattr(signal, name))
    child.communicate()
    assert child.returncode != 0 and not out.exists()
    if name == "SIGINT":
        assert left(tmp_path) == ["0.safetensors", "1.safetensors"]


def test_progress_is_told_to_the_end(tmp_path: Path):
    told = []
    made = average_files(
        files(tmp_path, 2), tmp_path / "out.safetensors", progress=lambda *one: told.append(one)
    )
    assert told[-1] == (made.size, made.size)


def test_needs_no_torch(tmp_path: Path):
    paths = files(tmp_path, 2)
    code = (
        "import sys; from evalsuite.file_average import average_files\n"
        "average_files(sys.argv[2:], sys.argv[1]); assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "out.safetensors", *paths], check=True)


def test_little_memory_of_its_own(tmp_path: Path):
    """Anonymous memory grows by a few MB for two files of 40 MB each."""
    paths = files(tmp_path, 2, torch.bfloat16, wide=1000)
    code = (
        "import sys; from evalsuite.file_average import average_files\n"
        "def anonymous():\n"
        "    lines = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "    return int(lines['RssAnon'].split()[0]) >> 10\n"
        "before, most = anonymous(), []\n"
        "average_files(sys.argv[2:], sys.argv[1], progress=lambda *_: most.append(anonymous()), threads=2)\n"
        "print(max(most) - before)"
    )
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc to read the memory from")
    ended = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out.safetensors", *paths],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(ended.stdout) < 24
