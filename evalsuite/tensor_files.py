"""What stands where in safetensors files, without reading a tensor; which files an argument means."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.durable import MANIFEST, Broken, read_manifest
from scaling.errors import StagewiseError, UsageError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CHECKPOINTS = "checkpoints"
METADATA = "__metadata__"
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_PREFIX = 8  # bytes of the length of the header
_MOST_HEADER = 100_000_000  # bytes; safetensors itself refuses longer ones


@dataclass(frozen=True)
class Stored:
    """One tensor: dtype and shape as safetensors has them, and the bytes of a file where it stands."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


@dataclass(frozen=True)
class TensorFiles:
    """The tensors of one model, in one file or in several.

    Attributes:
        where: the file or folder. step: of a checkpoint of ours, None of others.
        tensors: by name, in the order of their bytes. metadata: texts of the header; of several files: those
            that are the same in all.

    Example:
        >>> TensorFiles.open("exported").tensors["model.norm.weight"].shape      # doctest: +SKIP
        (512,)
    """

    where: Path
    step: int | None
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold a tensor."""
        return tuple(dict.fromkeys(one.file for one in self.tensors.values()))

    @classmethod
    def open(cls, where: str | os.PathLike[str]) -> TensorFiles:
        """Read the headers of a file, or of the model in a folder.

        Of a folder: model.safetensors, or the files that model.safetensors.index.json names, or the only
        safetensors file.

        Raises:
            UsageError: no such file, or nothing in the folder. StagewiseError: a file is broken.
        """
        path = Path(where)
        step = _step(path)
        if path.is_dir() and not (path / WEIGHTS).is_file():
            if (path / INDEX).is_file():
                return cls(path, step, *_indexed(path))
            found = sorted(path.glob("*.safetensors"))
            if len(found) != 1:
                has = f"{len(found)} safetensors files" if found else "no safetensors file"
                raise UsageError(f"{path}: holds no {WEIGHTS} or {INDEX}, but {has}; name the file itself")
            return cls(path, step, *read_header(found[0]))
        return cls(path, step, *read_header(path / WEIGHTS if path.is_dir() else path))


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a run (RUN, or RUN/checkpoints), oldest first; none where it is no such folder."""
    place = folder / CHECKPOINTS if (folder / CHECKPOINTS).is_dir() else folder
    found = [(step, one) for one in place.iterdir() if (step := _step(one)) is not None]
    return [one for _, one in sorted(found)]


def read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of one file, in the order of their bytes, and its metadata.

    Raises:
        UsageError: no such file. StagewiseError: it is no safetensors file, or cut off.
    """
    try:
        with open(path, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            prefix = handle.read(_PREFIX)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == _PREFIX else -1
            if not 2 <= length <= _MOST_HEADER:
                raise StagewiseError(f"{path}: is no safetensors file (it does not begin with a header)")
            text = handle.read(length)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(f"{path}: no such file; give a safetensors file, or a folder with one") from error
    except OSError as error:
        raise StagewiseError(f"{path}: cannot be read ({error.strerror})") from error
    if len(text) < length:
        raise StagewiseError(f"{path}: truncated: its header has {length:,} bytes, the file {size:,} in all")
    try:
        header = json.loads(text)
        metadata = header.pop(METADATA, {})
        rows = [(*map(int, one["data_offsets"]), name, one) for name, one in header.items()]
        tensors, at = {}, 0
        for begin, end, name, one in sorted(rows, key=lambda row: row[:3]):
            tensors[name] = _stored(path, name, one, begin, end, at, _PREFIX + length)
            at = end
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StagewiseError(f"{path}: is no safetensors file ({type(error).__name__}: {error})") from error
    if size != (wanted := _PREFIX + length + at):
        what = "truncated" if size < wanted else "longer than its header says"
        raise StagewiseError(f"{path}: {what}: {size:,} bytes, by its header {wanted:,}; copy it again")
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def _stored(path: Path, name: str, told: Any, begin: int, end: int, at: int, data: int) -> Stored:
    dtype, shape = str(told["dtype"]), tuple(map(int, told["shape"]))
    if dtype not in ITEM_BYTES:
        raise StagewiseError(
            f"{path}: {name}: dtype {dtype} cannot be averaged; valid are {', '.join(ITEM_BYTES)}: convert "
            "the weights first, such as to BF16"
        )
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if begin != at or end - begin != size or min(shape, default=0) < 0:
        raise StagewiseError(
            f"{path}: {name}: bytes {begin:,} to {end:,}, by the tensors before it and its shape {at:,} to "
            f"{at + size:,}; the file is broken"
        )
    return Stored(dtype, shape, path, data + begin, size)


def _indexed(folder: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of a model in several files: names in order, each in the file that the index names."""
    path = folder / INDEX
    try:
        told: dict[str, str] = json.loads(path.read_bytes())["weight_map"]
        names = sorted(set(told.values()))
        if wrong := [one for one in names if one != os.path.basename(one) or one in ("", ".", "..")]:
            raise StagewiseError(f"{path}: names the file {wrong[0]!r}; valid are files beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StagewiseError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    headers = {one: read_header(folder / one) for one in names}
    if lost := sorted(name for name, one in told.items() if name not in headers[one][0]):
        raise StagewiseError(f"{path}: says that {told[lost[0]]} holds {lost[0]}, which it does not")
    tensors = {name: headers[told[name]][0][name] for name in sorted(told)}
    shared = [set(metadata.items()) for _, metadata in headers.values()]
    return tensors, dict(sorted(set.intersection(*shared))) if shared else {}


def _step(path: Path) -> int | None:
    """The step of a checkpoint's folder, by its manifest; None where it is none."""
    try:
        metadata = read_manifest(path).metadata if (path / MANIFEST).is_file() else {}
    except Broken:
        return None
    step = metadata.get("step")
    return step if metadata.get("kind") == "checkpoint" and type(step) is int else None
