"""A safetensors file, written tensor by tensor and read in parts, without mapping it into memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evalsuite.mean import Kind
from scaling.errors import StagewiseError, UsageError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_LARGEST = 100_000_000  # bytes of a header; the limit of the format


def laid_out(kinds: Mapping[str, Kind]) -> list[str]:
    """The order of tensors in a file: the widest numbers first, so that each is aligned, then by name."""
    return sorted(kinds, key=lambda name: (-kinds[name][1].itemsize, name))


def write_weights(path: Path, kinds: Mapping[str, Kind], tensors: Iterable[Tensor]) -> None:
    """Write a file.

    Args:
        path: of the file. kinds: shape and dtype of each tensor.
        tensors: in the order of `laid_out`; each is let go before the next is asked for.

    Raises:
        UsageError: a dtype that the format does not have. OSError: as on a full disk.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in laid_out(kinds):
        shape, dtype = kinds[name]
        if dtype not in _CODES:
            raise UsageError(f"{path}: {name} is {dtype}, which safetensors does not have")
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            out.write(_bytes(tensor.cpu().contiguous()))


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file.

    Attributes:
        path: of the file. kinds: shape and dtype of each. starts: where each begins, in bytes.

    Example:
        >>> WeightsFile.open("out.safetensors").rows("lm_head.weight", 0, 10).shape      # doctest: +SKIP
        torch.Size([10, 512])
    """

    path: Path
    kinds: Mapping[str, Kind]
    starts: Mapping[str, int]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> WeightsFile:
        """Read what a file holds.

        Raises:
            StagewiseError: no such file, or none that is whole.
        """
        path = Path(path)
        try:
            with open(path, "rb") as handle:
                length = int.from_bytes(handle.read(8), "little")
                size = os.fstat(handle.fileno()).st_size - 8 - length
                if length > _LARGEST or size < 0:
                    raise ValueError(f"a header of {length:,} bytes")
                header = json.loads(handle.read(length))
            header.pop("__metadata__", None)
            kinds, starts = {}, {}
            for name, one in header.items():
                shape, dtype = tuple(one["shape"]), DTYPES[one["dtype"]]
                start, end = one["data_offsets"]
                if not 0 <= start <= end <= size or end - start != prod(shape) * dtype.itemsize:
                    raise ValueError(f"{name}: bytes {start:,} to {end:,} of {size:,}")
                kinds[name], starts[name] = (shape, dtype), 8 + length + start
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StagewiseError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
        return cls(path, kinds, starts)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows `start` to `stop` of the first dimension of a tensor; all, if it has none.

        A copy: of a file mapped into memory, whoever cuts it off would kill the process.

        Raises:
            StagewiseError: the file is gone or cut off.
        """
        shape, dtype = self.kinds[name]
        if shape:
            stop = shape[0] if stop is None else stop
            shape = (max(0, stop - start), *shape[1:])
        out = torch.empty(shape, dtype=dtype)
        rest = _bytes(out)
        row = prod(shape[1:]) * dtype.itemsize
        try:
            with open(self.path, "rb", buffering=0) as handle:
                handle.seek(self.starts[name] + start * row)
                while rest:
                    if not (count := handle.readinto(rest)):
                        raise OSError(f"{name}: {len(rest):,} bytes are missing")
                    rest = rest[count:]
        except OSError as error:
            raise StagewiseError(f"{self.path}: cannot be read ({error})") from error
        return out


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    numbers: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)
