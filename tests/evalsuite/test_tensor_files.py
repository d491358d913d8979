"""Headers of safetensors files; the oracle is what the library itself writes and refuses."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evalsuite.durable import write_folder
from evalsuite.tensor_files import TensorFiles, checkpoints_in, read_header
from scaling.errors import StagewiseError, UsageError


def write(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def one(dtype: str = "F32", shape: tuple[int, ...] = (2,), offsets: tuple[int, int] = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_header_is_what_the_library_wrote(tmp_path: Path):
    tensors = {
        "a": torch.ones(3, 2), "b": torch.tensor(2.0, dtype=torch.bfloat16), "c": torch.zeros(0, 4),
        "d": torch.tensor([True]), "e": torch.arange(3),
    }  # fmt: skip
    save_file(tensors, path := tmp_path / "a.safetensors", {"format": "pt", "x": "ü"})
    found, metadata = read_header(path)
    assert metadata == {"format": "pt", "x": "ü"}
    raw = path.read_bytes()
    with safe_open(path, "pt") as handle:
        assert {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()} == {
            name: stored.shape for name, stored in found.items()
        }
    for name, stored in found.items():
        wanted = tensors[name].contiguous().flatten().view(torch.uint8).numpy().tobytes()
        assert raw[stored.start : stored.start + stored.size] == wanted


BROKEN = {
    "empty": (b"", "is no safetensors file"),
    "short": (b"abc", "is no safetensors file"),
    "a pickle": (b"\x80\x02}q\x00." * 9, "is no safetensors file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_of_another_kind(tmp_path: Path, name: str):
    data, said = BROKEN[name]
    (path := tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(StagewiseError, match=said):
        read_header(path)


HEADERS = {
    "no JSON": (b"{abcdefg", b"", "is no safetensors file"),
    "a list": ([1], b"", "is no safetensors file"),
    "a tensor without a shape": (
        {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
        b"x" * 8,
        "KeyError: 'shape'",
    ),
    "deep": (b"[" * 20_000, b"", "is no safetensors file"),
    "truncated": ({"a": one()}, b"x" * 7, "truncated: [0-9]+ bytes, by its header [0-9]+"),
    "longer": ({"a": one()}, b"x" * 9, "longer than its header says"),
    "a hole": ({"a": one(), "b": one(offsets=(12, 20))}, b"x" * 20, "b: bytes 12 to 20, .* 8 to 16"),
    "an overlap": ({"a": one(), "b": one(offsets=(4, 12))}, b"x" * 12, "b: bytes 4 to 12"),
    "a wrong size": ({"a": one(shape=(3,))}, b"x" * 8, "a: bytes 0 to 8, .* 0 to 12"),
    "a negative shape": ({"a": one(shape=(-1, -2))}, b"x" * 8, "a: bytes 0 to 8"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_broken_files_are_refused_as_the_library_does(tmp_path: Path, name: str):
    header, data, said = HEADERS[name]
    path = write(tmp_path / "a.safetensors", header, data)
    with pytest.raises(StagewiseError, match=said):
        read_header(path)
    with pytest.raises(SafetensorError):
        safe_open(path, "pt")


def test_a_header_cut_off_and_one_too_large(tmp_path: Path):
    with pytest.raises(StagewiseError, match=r"truncated: its header has 900 bytes, the file 10 in all"):
        read_header(write(tmp_path / "a.safetensors", b"{}", length=900))
    with pytest.raises(StagewiseError, match="is no safetensors file"):
        read_header(write(tmp_path / "b.safetensors", b"{}", length=1 << 40))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "C64", "F99"])
def test_a_dtype_without_a_mean(tmp_path: Path, dtype: str):
    path = write(tmp_path / "a.safetensors", {"a": one(dtype)}, b"x" * 8)
    with pytest.raises(StagewiseError, match=f"a: dtype {dtype} cannot be averaged; valid are F64, .* BF16"):
        read_header(path)


def save(folder: Path, name: str, **tensors: torch.Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name)
    return folder


def test_what_a_folder_means(tmp_path: Path):
    save(tmp_path / "hf", "model.safetensors", a=torch.ones(1))
    save(tmp_path / "hf", "other.safetensors", b=torch.ones(1))
    assert list(TensorFiles.open(tmp_path / "hf").tensors) == ["a"]
    save(tmp_path / "single", "weights.safetensors", c=torch.ones(1))
    assert list(TensorFiles.open(tmp_path / "single").tensors) == ["c"]
    with pytest.raises(UsageError, match=r"holds no model.safetensors .* no safetensors file; name"):
        (tmp_path / "empty").mkdir()
        TensorFiles.open(tmp_path / "empty")
    save(tmp_path / "single", "more.safetensors", d=torch.ones(1))
    with pytest.raises(UsageError, match="but 2 safetensors files"):
        TensorFiles.open(tmp_path / "single")
    with pytest.raises(UsageError, match=r"nowhere: no such file"):
        TensorFiles.open(tmp_path / "nowhere")


def test_several_files_and_their_index(tmp_path: Path):
    save(tmp_path, "m-1.safetensors", b=torch.ones(1), z=torch.ones(2))
    save(tmp_path, "m-2.safetensors", a=torch.ones(3))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"b": "m-1.safetensors", "a": "m-2.safetensors"}}))
    found = TensorFiles.open(tmp_path)
    assert list(found.tensors) == ["a", "b"]
    assert [path.name for path in found.files] == ["m-2.safetensors", "m-1.safetensors"]


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"weight_map": {"a": "../m.safetensors"}}', "names the file '../m.safetensors'; valid are"),
        ('{"weight_map": {"a": "m.safetensors"}}', "says that m.safetensors holds a, which it does not"),
        ('{"weight_map": {"a": "n.safetensors"}}', "n.safetensors: no such file"),
        ('{"weight_map": {"a": 3}}', "cannot be read"),
        ('{"weight_map": 3}', "cannot be read"),
        ("{}", "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_a_broken_index(tmp_path: Path, text: str, said: str):
    save(tmp_path, "m.safetensors", b=torch.ones(1))
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(StagewiseError, match=said):
        TensorFiles.open(tmp_path)


def test_checkpoints_of_a_run(tmp_path: Path):
    for step in (20, 3, 100):
        write_folder(tmp_path / f"checkpoints/step-{step}", {}, {"kind": "checkpoint", "step": step})
    write_folder(tmp_path / "checkpoints/else", {}, {"kind": "export"})
    (tmp_path / "checkpoints/step-7").mkdir()
    for folder in (tmp_path, tmp_path / "checkpoints"):
        assert [path.name for path in checkpoints_in(folder)] == ["step-3", "step-20", "step-100"]
    assert checkpoints_in(tmp_path / "checkpoints/step-7") == []
