"""The mean of model files, streamed: chunk by chunk from disk to disk, whatever their size."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from evalsuite.averaging import Weights, counts_of
from evalsuite.chunk_mean import FLOATS
from evalsuite.durable import sync_folder
from evalsuite.mean_stream import Progress, Run, write_mean
from evalsuite.tensor_files import ITEM_BYTES, METADATA, Stored, TensorFiles, checkpoints_in
from scaling.errors import StagewiseError, UsageError
from scaling.files import replacing

if TYPE_CHECKING:
    import pandas as pd

LAST = 4  # checkpoints of a run that stand for it
SUFFIX = ".safetensors"
ABOUT, FORMAT = "stagewise", 1

_SHOWN = 5  # differences in a message


@dataclass(frozen=True)
class Member:
    """One model of a mean: its name there, its step (None where it is no checkpoint of ours), its share."""

    name: str
    step: int | None
    weight: float


@dataclass(frozen=True)
class FileAverage:
    """A mean that was written.

    Attributes:
        path: the file. members: what it is of, oldest first; weights sum to 1.
        tensors, parameters: averaged ones. copied: names of those taken from the newest model, since they
            hold whole numbers. size: bytes of the file.
    """

    path: Path
    members: tuple[Member, ...]
    tensors: int
    parameters: int
    copied: tuple[str, ...]
    size: int

    def to_frame(self) -> pd.DataFrame:
        """One row per member: name, step, weight."""
        import pandas as pd

        frame = pd.DataFrame([vars(one) for one in self.members])
        return frame.astype({"step": "Int64"})

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def average_files(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: Weights = "uniform",
    decay: float = 0.5,
    force: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> FileAverage:
    """Write the mean of models as one safetensors file, whole or not at all.

    mean = sum(w x) / sum(w), in float64 and rounded once to the dtype of the files. With age 0 for the last
    of n: uniform w = 1, linear w = n - age, ema w = decay**age. Tensors of whole numbers and truth values
    are those of the last. Where tensors lie alike in all files, stretches of one dtype are read as one flat
    array; others go tensor by tensor. A few MB of memory are needed.

    The layout is that of the last model (of several files: as safetensors writes one); its metadata is what
    all share, and under `stagewise` what the mean is of.

    Args:
        inputs: oldest first: files, folders with one model (as transformers saves it, in one file or more; a
            checkpoint of ours), or a run of ours, which stands for its last 4 checkpoints.
        out: the file to write, ending in .safetensors.
        weights: uniform, linear or ema. decay: of ema, above 0 and at most 1.
        force: replace a file that is there.
        progress: called now and then with bytes written, and bytes in all.
        threads: as many as there are cores, at most 4, where None.

    Returns:
        What was written.

    Raises:
        UsageError: fewer than two models, one twice, unknown weights, `out` among the inputs, no such file.
        StagewiseError: models that differ in names, shapes or dtypes of tensors; a broken file; a file in
            the way; a full disk.

    Source:
        Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".

    Example:
        >>> average_files(["runs/a"], "mean.safetensors").members[0].weight    # doctest: +SKIP
        0.25
    """
    target = Path(out)
    named = _named(inputs)
    shares = shares_of(len(named), weights, decay)
    models = [TensorFiles.open(one) for one in named]
    _check_models(models)
    _check_target(target, models, force)
    members = tuple(
        Member(name, model.step, share / math.fsum(shares))
        for name, model, share in zip(_names(models), models, shares, strict=True)
    )
    order = _order(models[-1])
    header = _header(order, _metadata(models, members, weights))
    runs = list(_runs(order, models, len(header)))
    size = len(header) + sum(one.size for one in order.values())
    try:
        with replacing(target) as part:
            write_mean(part, header, size, runs, shares, threads=threads, progress=progress)
        sync_folder(target.parent)
    except OSError as error:
        raise StagewiseError(
            f"{target}: could not be written: {error.strerror or error} ({size:,} bytes are needed); nothing "
            "half written is left: make room or give another place"
        ) from error
    averaged = [one for one in order.values() if one.dtype in FLOATS]
    copied = tuple(name for name, one in order.items() if one.dtype not in FLOATS)
    parameters = sum(one.size // ITEM_BYTES[one.dtype] for one in averaged)
    return FileAverage(target, members, len(averaged), parameters, copied, size)


def shares_of(n: int, weights: Weights, decay: float = 0.5) -> tuple[float, ...]:
    """The weights of n models, oldest first; they need not sum to 1.

    Raises:
        UsageError: unknown weights, a decay that is none, or one so small that old models weigh nothing.

    Example:
        >>> shares_of(3, "linear"), shares_of(3, "ema", 0.5)
        ((1.0, 2.0, 3.0), (0.25, 0.5, 1.0))
    """
    if weights not in (kinds := get_args(Weights)):
        raise UsageError(f"weights {weights!r}: valid are {', '.join(kinds)}")
    if not 0 < decay <= 1:
        raise UsageError(f"decay {decay!r}: valid is above 0 and at most 1")
    if min(shares := counts_of(weights, n, decay)) == 0:
        raise UsageError(f"decay {decay!r}: leaves nothing of the oldest of {n} models; give a larger one")
    return shares


def _named(inputs: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The models that are meant: a run is its last checkpoints."""
    found: list[Path] = []
    for one in map(Path, inputs):
        found += (checkpoints_in(one)[-LAST:] if one.is_dir() else []) or [one]
    if len(found) < 2:
        got = f"got {found[0]}" if found else "got none"
        raise UsageError(f"a mean needs two models or more, {got}; give several, or a run with checkpoints")
    return found


def _check_models(models: Sequence[TensorFiles]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for model in models:
        for file in model.files:
            found = os.stat(file)
            if (twice := seen.setdefault((found.st_dev, found.st_ino), model.where)) is not model.where:
                raise UsageError(f"{model.where}: is there twice (also as {twice}); give each model once")
    for one, other in pairwise(models):
        beside = one.where.parent.absolute() == other.where.parent.absolute()
        if beside and one.step is not None and other.step is not None and one.step > other.step:
            raise UsageError(f"{one.where}: stands before {other.where.name}; give the oldest first")
    first = models[0]
    differ = [text for model in models[1:] for text in _differences(first, model)]
    if differ:
        more = f"; and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
        raise StagewiseError(
            f"models of one kind are needed, and these differ from {first.where}: "
            f"{'; '.join(differ[:_SHOWN])}{more}"
        )


def _differences(first: TensorFiles, other: TensorFiles) -> Iterator[str]:
    for name in sorted(set(first.tensors) | set(other.tensors)):
        one, two = first.tensors.get(name), other.tensors.get(name)
        if one is None or two is None:
            yield f"{other.where} has {'no' if two is None else 'also'} {name}"
        elif (one.dtype, one.shape) != (two.dtype, two.shape):
            was = f"{one.dtype} {list(one.shape)}"
            yield f"{other.where} has {name} as {two.dtype} {list(two.shape)}, not {was}"


def _check_target(target: Path, models: Sequence[TensorFiles], force: bool) -> None:
    if target.suffix != SUFFIX:
        raise UsageError(f"{target}: the file to write ends in {SUFFIX}")
    if not os.path.lexists(target):
        return
    for model in models:
        if target.exists() and any(os.path.samefile(target, file) for file in model.files):
            raise UsageError(f"{target}: is one of the models ({model.where}); give another file")
    if target.is_dir():
        raise StagewiseError(f"{target}: is a folder; give a file in it")
    if not force:
        raise StagewiseError(f"{target}: is there already; give another file, or replace it (--force)")


def _names(models: Sequence[TensorFiles]) -> list[str]:
    """The shortest ends of the paths that tell the models apart: no more of a machine than is needed."""
    paths = [model.where.absolute().parts for model in models]
    for length in range(1, max(map(len, paths))):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return ["/".join(parts) for parts in paths]


def _order(model: TensorFiles) -> dict[str, Stored]:
    """The tensors in the order in which they are written: as they are, or as safetensors orders them."""
    if len(model.files) <= 1:
        return dict(model.tensors)
    return dict(sorted(model.tensors.items(), key=lambda one: (-ITEM_BYTES[one[1].dtype], one[0])))


def _metadata(models: Sequence[TensorFiles], members: Sequence[Member], weights: str) -> dict[str, str]:
    shared = set.intersection(*(set(model.metadata.items()) for model in models))
    about = {"format": FORMAT, "kind": "average", "weights": weights, "of": [vars(one) for one in members]}
    return dict(sorted({**dict(shared), ABOUT: json.dumps(about)}.items()))


def _header(order: Mapping[str, Stored], metadata: Mapping[str, str]) -> bytes:
    told: dict[str, object] = {METADATA: metadata}
    at = 0
    for name, one in order.items():
        told[name] = {"dtype": one.dtype, "shape": one.shape, "data_offsets": [at, at + one.size]}
        at += one.size
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _runs(order: Mapping[str, Stored], models: Sequence[TensorFiles], start: int) -> Iterator[Run]:
    """Stretches as long as they go: where all files are alike, one for each change of dtype."""
    open_run: Run | None = None
    for name, one in order.items():
        used = models if one.dtype in FLOATS else models[-1:]
        places = [model.tensors[name] for model in used]
        run = Run(one.dtype, start, one.size, tuple((place.file, place.start) for place in places))
        start += one.size
        if open_run is not None and open_run.joins(run):
            run = Run(run.dtype, open_run.start, open_run.size + run.size, open_run.sources)
        elif open_run is not None:
            yield open_run
        open_run = run
    if open_run is not None:
        yield open_run
