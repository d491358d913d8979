"""safetensors files: held against the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from evalsuite.weights_file import DTYPES, WeightsFile, laid_out, write_weights
from scaling.errors import StagewiseError, UsageError


def tensors() -> dict[str, Tensor]:
    """One of each dtype, odd in size, of any shape."""
    made = torch.Generator().manual_seed(0)
    found = {
        f"of.{code}": torch.randint(0, 2, (3, 5), generator=made).to(dtype) for code, dtype in DTYPES.items()
    }
    return found | {
        "empty": torch.zeros(0, 4), "scalar": torch.tensor(3.5), "flag": torch.tensor([True]),
        "turned": torch.arange(6.0).reshape(2, 3).T, "nan": torch.tensor([float("nan"), -0.0]),
    }  # fmt: skip


def kinds(told: dict[str, Tensor]):
    return {name: (tuple(one.shape), one.dtype) for name, one in told.items()}


def written(path: Path, told: dict[str, Tensor]) -> Path:
    write_weights(path, kinds(told), (told[name] for name in laid_out(kinds(told))))
    return path


def same(one: Tensor, other: Tensor) -> bool:
    one, other = one.contiguous(), other.contiguous()
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.equal(
        one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
    )


def test_the_library_reads_it(tmp_path):
    told = tensors()
    found = load_file(written(tmp_path / "x.safetensors", told))
    assert found.keys() == told.keys()
    assert all(same(found[name], told[name]) for name in told)
    starts = WeightsFile.open(tmp_path / "x.safetensors").starts  # aligned, for those who map the file
    assert all(starts[name] % one.element_size() == 0 for name, one in told.items())


def test_it_reads_what_the_library_wrote(tmp_path):
    told = {name: one.contiguous() for name, one in tensors().items()}
    save_file(told, tmp_path / "x.safetensors", {"a": "b"})
    found = WeightsFile.open(tmp_path / "x.safetensors")
    assert dict(found.kinds) == kinds(told)
    assert all(same(found.rows(name), told[name]) for name in told)


def test_rows(tmp_path):
    told = tensors()
    found = WeightsFile.open(written(tmp_path / "x", told))
    for name in ("of.BF16", "of.I64", "of.BOOL", "turned"):
        for start in range(4):
            for stop in range(start, 4):
                assert same(found.rows(name, start, stop), told[name][start:stop])


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    told = tensors()
    one = written(tmp_path / "a", told).read_bytes()
    assert written(tmp_path / "b", dict(reversed(told.items()))).read_bytes() == one


def test_a_dtype_that_the_format_does_not_have(tmp_path):
    told = {"x": torch.zeros(2, dtype=torch.complex128)}
    with pytest.raises(UsageError, match=r"x is torch.complex128"):
        written(tmp_path / "a", told)


def header(text: bytes, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + body


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
BROKEN = {
    "empty": b"", "short": b"\1\0", "long": (1 << 62).to_bytes(8, "little") + b"{}", "no JSON": header(b"{x"),
    "list": header(b"[]"), "deep": header(b"[" * 10**5),
    "cut": header(json.dumps({"a": ONE}).encode(), b"123"),
    "dtype": header(json.dumps({"a": {**ONE, "dtype": "F31"}}).encode(), b"1234"),
    "size": header(json.dumps({"a": {**ONE, "shape": [2]}}).encode(), b"1234"),
    "before": header(json.dumps({"a": {**ONE, "data_offsets": [-4, 0]}}).encode(), b"1234"),
    "no shape": header(b'{"a": {"dtype": "F32"}}'), "not text": header(b"\xff\xff"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken(tmp_path, case):
    (tmp_path / "x").write_bytes(BROKEN[case])
    with pytest.raises(StagewiseError, match="x: cannot be read"):
        WeightsFile.open(tmp_path / "x")


def test_what_breaks_later(tmp_path):
    """Cut off after it was opened: an error, not a dead process."""
    path = written(tmp_path / "x", {"a": torch.zeros(1000)})
    found = WeightsFile.open(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StagewiseError, match=r"x: cannot be read .a: 1 bytes are missing"):
        found.rows("a")
    path.unlink()
    with pytest.raises(StagewiseError, match="cannot be read"):
        found.rows("a")
    with pytest.raises(StagewiseError, match="cannot be read"):
        WeightsFile.open(path)
