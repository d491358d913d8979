"""Snapshots of the weights of a run, and their mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from evalsuite.durable import ASIDE, MANIFEST, PART, Broken, remove, sync_folder, verify, write_folder
from evalsuite.mean import Kind, Lazy, mean_of
from evalsuite.place import Place
from evalsuite.swap import check_kinds, everyone, local, named_tensors, together, whole_tensors
from evalsuite.weights_file import WeightsFile, laid_out, write_weights
from scaling.errors import StagewiseError, UsageError

WEIGHTS = "weights.safetensors"
KIND = "snapshot"
_NAME = re.compile(r"step-[0-9]{9,}")
_OURS = re.compile(rf"step-[0-9]{{9,}}({re.escape(PART)}|{re.escape(ASIDE)})?")

_BLOCK = 1 << 22  # bytes of each file that are in memory at a time

Say = Callable[[str], object]


class Snapshots:
    """The snapshots that a run has kept, on disk or in CPU memory.

    All ranks of a run call every method together; where one fails, all raise. On disk the first rank writes
    whole tensors, and each rank reads its own part, so that any number of ranks can go on from them; the
    folder has to be one that all of them see. In memory each rank keeps its own part.

    Example:
        >>> model, shots = torch.nn.Linear(2, 1), Snapshots.open(None, print)
        >>> for step in (1, 2):
        ...     shots.take(model, Place(step))
        >>> [place.step for place in shots.places]
        [1, 2]
        >>> torch.equal(shots.mean((1, 2), (0.5, 0.5), model)["bias"], model.bias)
        True
    """

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}

    @staticmethod
    def open(where: str | os.PathLike[str] | None, say: Say) -> Snapshots:
        """Find what there is.

        Args:
            where: a folder, made when the first is taken; None for CPU memory.
            say: told of each that is broken: those are left out. Every byte is read.
        """
        return _InMemory() if where is None else _OnDisk(Path(os.path.abspath(where)), say)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the whole ones were taken, ascending."""
        return tuple(self._places[step] for step in sorted(self._places))

    def take(self, model: nn.Module, place: Place) -> None:
        """Keep the weights as they are now; one of the same step is replaced.

        Raises:
            StagewiseError: it could not be kept, as on a full disk; older ones stand.
        """
        raise NotImplementedError

    def rewind(self, step: int) -> None:
        """Drop those of later steps, as a run does that is resumed at `step`."""
        self.keep(one for one in self._places if one <= step)

    def keep(self, steps: Iterable[int]) -> None:
        """Delete all others, and what is broken or half written."""
        raise NotImplementedError

    def mean(self, steps: Sequence[int], weights: Sequence[float], model: nn.Module) -> Mapping[str, Tensor]:
        """The weighted mean of snapshots, as this rank of the model holds it.

        Args:
            steps: of the snapshots, ascending: whole numbers and booleans are those of the last.
            weights: of each, see `evalsuite.mean.weights_of`. model: whose tensors they become.

        Returns:
            By the names of `named_tensors(model)`, on the CPU; each is computed when it is asked for.

        Raises:
            UsageError: no snapshot of a step. StagewiseError: one is of another model, or broken meanwhile:
                it is then no longer among `places`.
        """
        unknown = [step for step in steps if step not in self._places]
        if unknown or not steps or len(steps) != len(weights):
            have = ", ".join(str(step) for step in sorted(self._places)) or "none"
            raise UsageError(
                f"a mean of steps {list(steps)} with {len(weights)} weights: valid are steps of {have}, one "
                "at least, and a weight for each"
            )
        return self._mean(steps, weights, model)

    def _mean(self, steps: Sequence[int], weights: Sequence[float], model: nn.Module) -> Mapping[str, Tensor]:
        raise NotImplementedError


class _InMemory(Snapshots):
    def __init__(self) -> None:
        super().__init__()
        self._tensors: dict[int, dict[str, Tensor]] = {}

    def take(self, model: nn.Module, place: Place) -> None:
        with together():
            own = {name: one.to("cpu", copy=True) for name, one in named_tensors(model).items()}
        self._tensors[place.step], self._places[place.step] = own, place

    def keep(self, steps: Iterable[int]) -> None:
        for step in set(self._places) - set(steps):
            del self._places[step], self._tensors[step]

    def _mean(self, steps: Sequence[int], weights: Sequence[float], model: nn.Module) -> Mapping[str, Tensor]:
        kinds = _kinds(named_tensors(model))
        members = [self._tensors[step] for step in steps]
        with together():
            for step, one in zip(steps, members, strict=True):
                check_kinds(kinds, one, f"snapshot of step {step}")
        return Lazy(kinds, lambda name: mean_of([one[name] for one in members], weights))


class _OnDisk(Snapshots):
    def __init__(self, folder: Path, say: Say) -> None:
        super().__init__()
        self.folder, self._say = folder, say
        with together():
            found = self._found() if _first() else {}
        self._places = everyone(found)[0]

    def take(self, model: nn.Module, place: Place) -> None:
        self._places.pop(place.step, None)
        with together():
            whole = whole_tensors(model)
            gathered = (_whole(whole[name]) for name in laid_out(_kinds(whole)))
            try:
                if _first():
                    self._write(_kinds(whole), gathered, place)
            finally:
                for _ in gathered:  # the other ranks gather along, and do not know what became of the first
                    pass
        self._places[place.step] = place

    def _write(self, kinds: Mapping[str, Kind], tensors: Iterator[Tensor], place: Place) -> None:
        write_folder(
            self._path(place.step),
            {WEIGHTS: lambda path: write_weights(path, kinds, tensors)},
            {"kind": KIND, "place": asdict(place)},
            needed=sum(prod(shape) * dtype.itemsize for shape, dtype in kinds.values()),
            replace=True,
        )

    def keep(self, steps: Iterable[int]) -> None:
        kept = set(steps) & set(self._places)
        with together():
            if _first() and self.folder.is_dir():
                self._delete({self._path(step).name for step in kept})
        self._places = {step: self._places[step] for step in kept}

    def _delete(self, kept: set[str]) -> None:
        """Delete all but these; each loses its name before it loses a file, so a kill leaves no half one."""
        try:
            for name in sorted(os.listdir(self.folder)):
                if name in kept or not _OURS.fullmatch(name):
                    continue
                path = part = self.folder / name
                if not name.endswith(PART):
                    part = path.with_name(name + PART)
                    remove(part)
                    os.rename(path, part)
                    sync_folder(self.folder)
                remove(part)
        except OSError as error:
            raise StagewiseError(
                f"{self.folder}: old snapshots could not be deleted: {error}; delete them by hand"
            ) from error

    def _mean(self, steps: Sequence[int], weights: Sequence[float], model: nn.Module) -> Mapping[str, Tensor]:
        whole = whole_tensors(model)
        files, broken = [], {}
        for step in steps:
            try:
                verify(self._path(step), digests=False)
                files.append(WeightsFile.open(self._path(step) / WEIGHTS))
            except StagewiseError as error:
                broken[step] = f"{error}"
        broken = {step: why for one in everyone(broken) for step, why in one.items()}
        for step, why in sorted(broken.items()):
            del self._places[step]
            self._say(f"SNAPSHOT NOT USED: {why}")
        if broken:
            raise StagewiseError(f"{len(broken)} of {len(steps)} snapshots broke: {min(broken.items())[1]}")
        with together():
            for one in files:
                check_kinds(_kinds(whole), Lazy(one.kinds, one.rows), f"{one.path}")
        part = {name: local(one) for name, one in whole.items()}
        return Lazy(_kinds(part), lambda name: _part(whole[name], partial(_mean_rows, files, weights, name)))

    def _path(self, step: int) -> Path:
        return self.folder / _name(step)

    def _found(self) -> dict[int, Place]:
        """The whole ones."""
        found = {}
        for name in sorted(os.listdir(self.folder)) if self.folder.is_dir() else ():
            if not _NAME.fullmatch(name):
                continue
            try:
                place = _place(self.folder / name)
                found[place.step] = place
            except StagewiseError as error:
                self._say(f"SNAPSHOT NOT USED: {error}")
        return found


def _place(folder: Path) -> Place:
    """Where a snapshot was taken; every byte of it is read."""
    told = verify(folder).metadata
    try:
        if told["kind"] != KIND:
            raise ValueError(f"kind {told['kind']!r}")
        place = Place(**told["place"])
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise Broken(
            f"{folder}: {MANIFEST}: not of a snapshot ({type(error).__name__}: {error}); move it away"
        ) from error
    if folder.name != _name(place.step):
        raise Broken(f"{folder}: is of step {place.step}; give it its name back")
    return place


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _first() -> bool:
    """Whether this is the rank that writes."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, Kind]:
    return {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()}


def _whole(tensor: Tensor) -> Tensor:
    """All of a distributed tensor; every rank has to ask."""
    found: Any = tensor.detach()
    return found.full_tensor() if hasattr(found, "full_tensor") else found


def _part(tensor: Any, read: Callable[..., Tensor]) -> Tensor:
    """What this rank holds of the values that `read(start, stop)` gives by rows."""
    if not hasattr(tensor, "to_local"):
        return read()
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh, placements = tensor.device_mesh, tensor.placements
    if any(type(one) not in (Shard, Replicate) for one in placements):
        return distribute_tensor(read(), mesh, placements, src_data_rank=None).to_local().cpu()
    start, size = [0] * tensor.ndim, list(tensor.shape)
    for count, at, one in zip(mesh.shape, mesh.get_coordinate(), placements, strict=True):
        if isinstance(one, Shard):  # as torch.chunk cuts it
            each = -(-size[one.dim] // count)
            skip = min(at * each, size[one.dim])
            start[one.dim] += skip
            size[one.dim] = min(each, size[one.dim] - skip)
    found = read(start[0], start[0] + size[0]) if tensor.ndim else read()
    for dim in range(1, tensor.ndim):
        found = found.narrow(dim, start[dim], size[dim])
    return found


def _mean_rows(
    files: Sequence[WeightsFile], weights: Sequence[float], name: str, start: int = 0, stop: int | None = None
) -> Tensor:
    """The mean of a tensor in files, some rows at a time."""
    shape, dtype = files[-1].kinds[name]
    if not shape:
        return mean_of([one.rows(name) for one in files], weights)
    stop = shape[0] if stop is None else stop
    out = torch.empty((stop - start, *shape[1:]), dtype=dtype)
    step = max(1, _BLOCK // max(1, prod(shape[1:]) * dtype.itemsize))
    for row in range(start, stop, step):
        end = min(row + step, stop)
        out[row - start : end - start] = mean_of([one.rows(name, row, end) for one in files], weights)
    return out
