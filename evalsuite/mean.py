"""Weighted means of tensors, summed in float64 and rounded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from evalsuite.averaging import Averaging, counts_of
from scaling.errors import StagewiseError, UsageError

CHUNK = 1 << 15  # numbers at a time: what is computed in between stays in the processor's cache

Kind = tuple[tuple[int, ...], torch.dtype]


class Lazy(Mapping[str, Tensor]):
    """Tensors that are computed each time they are asked for.

    Attributes:
        kinds: shape and dtype of each, known without computing it.

    Example:
        >>> Lazy({"w": ((2,), torch.float32)}, lambda name: torch.zeros(2))["w"]
        tensor([0., 0.])
    """

    def __init__(self, kinds: Mapping[str, Kind], compute: Callable[[str], Tensor]) -> None:
        self.kinds = dict(kinds)
        self._compute = compute

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.kinds:
            raise KeyError(name)
        found = self._compute(name)
        if (kind := (tuple(found.shape), found.dtype)) != self.kinds[name]:
            raise StagewiseError(f"{name}: computed as {kind}, wanted was {self.kinds[name]}")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)


def weights_of(averaging: Averaging, n: int) -> tuple[float, ...]:
    """The weights of n snapshots, oldest first; they sum to 1.

    uniform: 1/n. linear: i / (1 + ... + n), i = 1, ..., n. ema: decay^(n - i) / sum, the newest 1 / sum.

    Args:
        averaging: names the kind. n: how many there are, which may be fewer than it asks for.

    Example:
        >>> weights_of(Averaging(weights="ema", decay=0.5), 2)
        (0.3333333333333333, 0.6666666666666666)
    """
    if n < 1:
        raise UsageError(f"a mean of {n} snapshots; there has to be one")
    parts = counts_of(averaging.weights, n, averaging.decay)
    total = sum(parts)
    return tuple(part / total for part in parts)


def mean_of(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i x_i, in float64 and in the order given, rounded once to the dtype of the tensors.

    Whole numbers and booleans have no mean: they are those of the last tensor. NaN stays NaN.

    Args:
        tensors: of one shape and dtype, on the CPU, the newest last. weights: of each.

    Returns:
        A new contiguous tensor.

    Example:
        >>> mean_of([torch.zeros(2), torch.ones(2)], [0.5, 0.5])
        tensor([0.5000, 0.5000])
    """
    newest = tensors[-1]
    kinds = {(one.shape, one.dtype) for one in tensors}
    if len(kinds) > 1 or len(tensors) != len(weights):
        raise UsageError(
            f"a mean of {len(tensors)} tensors ({', '.join(sorted(map(str, kinds)))}) with {len(weights)} "
            "weights; valid is one shape, one dtype, and a weight for each"
        )
    if newest.dtype.is_complex:
        return torch.view_as_complex(mean_of([torch.view_as_real(one) for one in tensors], weights))
    if not newest.dtype.is_floating_point:
        return newest.clone(memory_format=torch.contiguous_format)
    out = torch.empty(newest.shape, dtype=newest.dtype)
    flat, target = [one.detach().reshape(-1) for one in tensors], out.view(-1)
    for start in range(0, target.numel(), CHUNK):
        parts = [one[start : start + CHUNK] for one in flat]
        target[start : start + CHUNK] = rounded(_summed(parts, weights), out.dtype)
    return out


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """float64 values to a narrower dtype: to the nearest, ties to even, in one rounding.

    torch goes from float64 over float32 to 16 bits and so rounds twice. Here float32 is rounded to odd
    first, which keeps what the second rounding has to know.

    Source:
        Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms using
        rounding to odd".
    """
    if dtype.itemsize >= 4:
        return values.to(dtype)
    single = values.float()
    bits, back = single.view(torch.int32), single.double().abs_()
    size = values.abs()
    bits += ((size > back).int() - (size < back).int()) * (1 - (bits & 1))
    return single.to(dtype)


def _summed(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = parts[0].double() * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total += part.double() * weight
    if parts[0].dtype == torch.float64:  # weights sum to 1 but for a rounding: what never moved, stays
        same = torch.stack([part == parts[-1] for part in parts]).all(dim=0)
        total = torch.where(same, parts[-1], total)
    return total
