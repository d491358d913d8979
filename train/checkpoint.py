"""Checkpoints that a kill at any byte, a full disk and a flipped bit cannot turn into a wrong resume."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from evalsuite.durable import (
    ASIDE,
    MANIFEST,
    PART,
    Broken,
    read_manifest,
    remove,
    sync_folder,
    verify,
    write_folder,
)
from scaling.errors import StagewiseError, UsageError

FORMAT = 1
STATE = "state.json"
_NAME = re.compile(r"step-([0-9]{9,})")
_LEFT = re.compile(rf"step-[0-9]{{9,}}({re.escape(PART)}|{re.escape(ASIDE)})")
_ABOUT = "stagewise"  # one key: safetensors writes several in an order of chance

Say = Callable[[str], object]


@dataclass(frozen=True)
class Checkpoint:
    """A run at one step, on disk.

    Attributes:
        path: its folder. step: optimiser steps done.

    Example:
        >>> latest("runs/a", print).state["tokens"]          # doctest: +SKIP
        4096000
    """

    path: Path
    step: int

    @property
    def names(self) -> tuple[str, ...]:
        """What `tensors` can be asked for."""
        files = read_manifest(self.path).files
        return tuple(name.removesuffix(".safetensors") for name in files if name != STATE)

    @property
    def state(self) -> dict[str, Any]:
        """What the run keeps beside tensors.

        Raises:
            StagewiseError: the file is missing or no JSON.
        """
        try:
            return json.loads((self.path / STATE).read_bytes())
        except (OSError, ValueError) as error:
            raise Broken(f"{self.path}: {STATE}: cannot be read ({error})") from error

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one file, on the CPU, bit for bit those that were written.

        Raises:
            UsageError: no such name. StagewiseError: the file is missing, broken, or of another step.
        """
        if name not in self.names:
            raise UsageError(f"{self.path}: holds no tensors {name!r}; it has {', '.join(self.names)}")
        self._check_about(name)
        try:
            mapped = load_file(self.path / f"{name}.safetensors")
            # A copy: safetensors maps the file, and whoever cuts it off later would kill the process.
            return {key: mapped[key].clone() for key in mapped}
        except Exception as error:  # whatever safetensors raises
            raise Broken(f"{self.path}: {name}.safetensors: cannot be read ({error})") from error

    def verify(self) -> None:
        """Read every byte, and check that it is the one that was written.

        Raises:
            Broken: the first thing that is wrong, and in which file.
            StagewiseError: it is of a later version.
        """
        metadata = verify(self.path).metadata
        if metadata.get("kind") != "checkpoint" or metadata.get("step") != self.step:
            raise Broken(
                f"{self.path}: {MANIFEST}: of {metadata.get('kind')} step {metadata.get('step')}, not of "
                f"checkpoint step {self.step}; give the folder its name back"
            )
        for name in self.names:
            self._check_about(name)

    def _check_about(self, name: str) -> None:
        """Check that a file says it belongs to this step."""
        file = f"{name}.safetensors"
        try:
            with safe_open(self.path / file, framework="pt") as handle:
                about = json.loads((handle.metadata() or {})[_ABOUT])
        except Exception as error:  # whatever safetensors raises
            raise Broken(f"{self.path}: {file}: cannot be read ({type(error).__name__}: {error})") from error
        if about != (wanted := _about(self.step)):
            raise Broken(f"{self.path}: {file}: says {about}, valid is {wanted}")


def checkpoint_name(step: int) -> str:
    """The name of a checkpoint's folder.

    Example:
        >>> checkpoint_name(1200)
        'step-000001200'
    """
    return f"step-{step:09d}"


def write_checkpoint(
    folder: str | os.PathLike[str],
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> Checkpoint:
    """Write a checkpoint whole or not at all.

    Args:
        folder: of the checkpoints; this one gets a folder within it.
        step: optimiser steps done.
        tensors: tensors by name, for each file (such as model, optimizer, rng). Any strides and devices.
        state: what else the run needs, as strict JSON: finite numbers, text keys. Tuples come back as lists.

    Returns:
        The checkpoint; whoever holds it knows that it is on the disk.

    Raises:
        UsageError: tensors that share memory or cannot be written, a state that is no JSON.
        StagewiseError: there is a whole checkpoint of this step, or writing failed, as on a full disk; older
            checkpoints stand.

    Example:
        >>> write_checkpoint("runs/a", 100, {"model": model.state_dict()}, {"seed": 0})   # doctest: +SKIP
    """
    if type(step) is not int or step < 0:
        raise UsageError(f"step {step!r}: valid is a whole number from 0")
    _check_json(state, "state")
    text = json.dumps(state, indent=1, allow_nan=False).encode() + b"\n"
    needed = len(text)
    for name, group in tensors.items():
        _check_tensors(name, group)
        needed += sum(tensor.numel() * tensor.element_size() for tensor in group.values())
    files = {f"{name}.safetensors": partial(_save, group, step) for name, group in tensors.items()}
    path = Path(folder) / checkpoint_name(step)
    about = {"kind": "checkpoint", "step": step}
    write_folder(path, {**files, STATE: lambda part: part.write_bytes(text)}, about, needed=needed)
    return Checkpoint(path, step)


def checkpoints(folder: str | os.PathLike[str]) -> tuple[Checkpoint, ...]:
    """The checkpoints in a folder, oldest first: by name, and by a manifest, which is written last.

    What is inside is not looked at; `Checkpoint.verify` does.
    """
    path = Path(folder)
    found = []
    for name in os.listdir(path) if path.is_dir() else ():
        match = _NAME.fullmatch(name)
        if match and name == checkpoint_name(int(match[1])) and (path / name / MANIFEST).is_file():
            found.append(Checkpoint(path / name, int(match[1])))
    return tuple(sorted(found, key=lambda one: one.step))


def latest(folder: str | os.PathLike[str], say: Say) -> Checkpoint | None:
    """The newest checkpoint that is whole.

    Args:
        folder: of the checkpoints.
        say: told of each broken one: its file, what is wrong, and which is tried in its place.

    Returns:
        The checkpoint; None where there is none that is whole.

    Example:
        >>> latest("runs/a", print).step                     # doctest: +SKIP
        12000
    """
    found = checkpoints(folder)
    for i in range(len(found) - 1, -1, -1):
        try:
            found[i].verify()
            return found[i]
        except StagewiseError as error:
            older = f"the next older, {found[i - 1].path.name}, is tried" if i else "there is no older one"
            say(f"CHECKPOINT NOT USED: {error}; {older}")
    return None


def prune(folder: str | os.PathLike[str], keep_last: int, keep_every: int | None = None) -> tuple[int, ...]:
    """Delete old checkpoints, and what killed writers and deleters left.

    The last `keep_last` stay, and those of a step that `keep_every` divides. A checkpoint with a file missing
    or cut off does not count as one of the last; the newest that is whole byte for byte stays in any case.
    A checkpoint loses its name before it loses a file, so a kill leaves no half one. No writer may be at work
    in the folder meanwhile.

    Args:
        folder: of the checkpoints.
        keep_last: how many, 1 or more.
        keep_every: in steps; None for none.

    Returns:
        The steps deleted, ascending.

    Raises:
        UsageError: a count below 1.
    """
    if keep_last < 1 or (keep_every is not None and keep_every < 1):
        raise UsageError(f"keep_last {keep_last}, keep_every {keep_every}: valid are whole numbers from 1")
    path = Path(folder)
    for name in os.listdir(path) if path.is_dir() else ():
        if _LEFT.fullmatch(name):
            remove(path / name)
    found = checkpoints(path)
    recent = [one.step for one in found if _has_its_files(one)][-keep_last:]
    if len(recent) < keep_last:
        return ()
    old = [one for one in found if one.step < recent[0] and (not keep_every or one.step % keep_every)]
    newest = latest(path, lambda _: None) if old else None
    if newest is None:
        return ()
    gone = [one for one in old if one.step != newest.step]
    for one in gone:
        part = one.path.with_name(one.path.name + PART)
        os.rename(one.path, part)
        sync_folder(path)
        remove(part)
    return tuple(one.step for one in gone)


def _has_its_files(one: Checkpoint) -> bool:
    try:
        verify(one.path, digests=False)
    except StagewiseError:
        return False
    return True


def _about(step: int) -> dict[str, int]:
    return {"format": FORMAT, "step": step}


def _save(tensors: Mapping[str, Tensor], step: int, path: Path) -> None:
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(ready, path, {_ABOUT: json.dumps(_about(step))})


def _check_tensors(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what a file cannot hold as it is: tensors that are one in memory would come back as two."""
    if f"{name}.safetensors" != os.path.basename(f"{name}.safetensors") or not name:
        raise UsageError(f"tensors {name!r}: valid is the stem of a file name, such as model")
    areas: dict[tuple[torch.device, int], list[tuple[int, int, str]]] = {}
    for key, tensor in tensors.items():
        where = f"tensors {name!r}, {key!r}"
        # Subclasses (a shard of a distributed tensor) would lose what they are more than.
        if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided:
            raise UsageError(
                f"{where}: got {type(tensor).__name__}, valid is a dense torch.Tensor; gather shards first"
            )
        if tensor.is_meta:
            raise UsageError(f"{where}: is on the meta device and has no values")
        if not tensor.numel():
            continue
        start = tensor.data_ptr()
        last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        storage = tensor.device, tensor.untyped_storage().data_ptr()
        areas.setdefault(storage, []).append((start, start + (last + 1) * tensor.element_size(), key))
    for ranges in areas.values():
        ranges.sort()
        for (_, end, one), (start, _, other) in pairwise(ranges):
            if start < end:
                raise UsageError(
                    f"tensors {name!r}: {one!r} and {other!r} share memory, which a file cannot tell; leave "
                    "one out and tie it again on reading, or clone it"
                )


def _check_json(value: Any, where: str) -> None:
    """Refuse what JSON would lose or change, by its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UsageError(f"{where}: key {key!r}: valid is text")
            _check_json(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_json(inner, f"{where}[{i}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError(f"{where}: got {value}, valid is a finite number; write what it means as text")
    elif not (value is None or type(value) in (bool, int, str)):
        raise UsageError(
            f"{where}: got {type(value).__name__}, valid is what JSON has; put tensors into `tensors`"
        )
