"""The weighted mean of a stretch of several files, equal to the float64 mean rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

FLOATS = {"F64": np.dtype("f8"), "F32": np.dtype("f4"), "F16": np.dtype("f2"), "BF16": np.dtype("u2")}
_CHUNK = 1 << 21  # bytes of all rows: read at once
_BLOCKS = 4  # of a chunk: each with what is computed of it fits the second-level cache
_LEAST = 4096  # bytes of a row in a block

_HIGH, _LOW = np.uint32(0xFFFF0000), np.uint32(16)
_ODD, _HALF, _TIE = np.uint32(1), np.uint32(0x7FFF), np.uint32(0x8000)
_SIGNS = np.uint64(0x7FFF7FFF7FFF7FFF)
_NAN = np.uint16(0x7FC0)
_EXPONENT = 7  # bit at which the exponent of a bfloat16 begins


def chunk_size(n: int) -> int:
    """Bytes of each of n rows that are averaged at once."""
    return max(_LEAST, _CHUNK // _BLOCKS // n // 8 * 8) * _BLOCKS


class ChunkMean:
    """The mean of chunks of one dtype, in buffers that are used again.

    mean = (w_1 x_1 + .. + w_n x_n) / (w_1 + .. + w_n), summed in float64 in the order of the rows, then
    rounded to the dtype, to nearest even, in one step. NaN and infinities go through it as float64 has them.

    bfloat16 goes a faster way to the same bits. A uint32 holds two of them, and each is a float32 with 16
    zeros behind. For whole weights a float32 sum is exact as long as the exponents of the addends lie near
    enough; where they do not, the element is computed in float64.

    Args:
        dtype: F64, F32, F16 or BF16.
        weights: of each of two or more rows, above zero.

    Attributes:
        rows: (n, bytes) buffer to read into. size: bytes of a row.

    Example:
        >>> mean = ChunkMean("F32", (1.0, 1.0))
        >>> mean.rows[:, :4] = np.array([[1.0], [2.0]], dtype="f4").view("u1")
        >>> mean.of(4).view("f4")
        array([1.5], dtype=float32)
    """

    def __init__(self, dtype: str, weights: Sequence[float]) -> None:
        self._dtype, n = FLOATS[dtype], len(weights)
        self.size = chunk_size(n)
        self._weights, self._total = tuple(map(float, weights)), math.fsum(weights)
        self._block = block = self.size // _BLOCKS
        self.rows = np.zeros((n, self.size), np.uint8)
        self._out = np.zeros(self.size, np.uint8)
        # The largest exponent is at most this far above the smallest where a float32 sum is exact: weights
        # of 24 - 8 bits in all.
        self._whole = _whole(self._weights) if dtype == "BF16" else None
        self._reach = 16 - (sum(self._whole or (1 << 16,)) - 1).bit_length()
        if self._whole is None:
            return
        pairs = block // 4
        self._column = np.array(self._whole, np.float32)[:, None] if set(self._whole) != {1} else None
        self._divisor = np.float32(sum(self._whole))
        self._exact = sum(self._whole).bit_count() == 1  # division by a power of two
        self._work = np.empty((n, pairs), np.uint32)
        self._sum, self._extra = np.empty((2, pairs), np.uint32), np.empty((2, pairs), np.uint32)
        self._most, self._least = np.empty(2 * pairs, np.uint16), np.empty(2 * pairs, np.uint16)
        self._far = np.empty(2 * pairs, bool)

    def of(self, size: int) -> np.ndarray:
        """The mean of the first `size` bytes of the rows, as bytes; good until the next call."""
        whole = -(-size // 4) * 4  # bfloat16 goes in pairs
        doubtful = []
        with np.errstate(all="ignore"):
            for at in range(0, whole, self._block):
                end = min(at + self._block, whole)
                rows, out = self.rows[:, at:end], self._out[at:end]
                if self._whole:
                    doubtful.append(self._fast(rows, out) + at // 2)
                elif self._dtype.kind == "u":
                    out.view(np.uint16)[:] = self._bfloat16(rows.view(np.uint16))
                else:
                    self._plain(rows, out)
            if doubtful and len(again := np.concatenate(doubtful)):
                self._out.view(np.uint16)[again] = self._bfloat16(self.rows.view(np.uint16)[:, again])
        return self._out[:size]

    def _plain(self, rows: np.ndarray, out: np.ndarray) -> None:
        size = len(out) // self._dtype.itemsize * self._dtype.itemsize
        np.copyto(out[:size].view(self._dtype), self._float64(rows[:, :size].view(self._dtype)), "unsafe")

    def _float64(self, rows: np.ndarray) -> np.ndarray:
        total = np.multiply(rows[0], self._weights[0], dtype=np.float64)
        for row, weight in zip(rows[1:], self._weights[1:], strict=True):
            total += np.multiply(row, weight, dtype=np.float64)
        return np.divide(total, self._total, out=total)

    def _bfloat16(self, rows: np.ndarray) -> np.ndarray:
        """(n, k) bits of bfloat16 -> (k,) bits of their mean, by float64."""
        mean = self._float64((rows.astype(np.uint32) << _LOW).view(np.float32))
        near = mean.astype(np.float32)
        bits = near.view(np.uint32)
        # float32 in between would round twice where it comes to lie in the middle of two bfloat16: it is put
        # back to the side on which the mean is.
        middle = (bits & ~_HIGH) == _TIE
        away = np.abs(near.astype(np.float64)) - np.abs(mean)
        bits -= middle & (away > 0)
        bits += middle & (away < 0)
        found = ((bits + ((bits >> _LOW) & _ODD) + _HALF) >> _LOW).astype(np.uint16)
        found[np.isnan(mean)] = _NAN
        return found

    def _fast(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fill in the mean by float32; returns the indices of the elements that float64 has to do."""
        pairs, result = rows.view(np.uint32), out.view(np.uint32)
        m = len(result)
        work, total, extra = self._work[:, :m], self._sum[:, :m], self._extra[:, :m]
        sums, values = total.view(np.float32), work.view(np.float32)
        # Of each pair the second, then the first, as float32.
        for half, (cut, by) in enumerate(((np.bitwise_and, _HIGH), (np.left_shift, _LOW))):
            cut(pairs, by, out=work)
            if self._column is not None:
                np.multiply(values, self._column, out=values)
            # Not np.add.reduce, which makes 0.0 of all -0.0.
            np.add(values[0], values[1], out=sums[half])
            for value in values[2:]:
                np.add(sums[half], value, out=sums[half])
        doubtful = self._doubtful(rows, 2 * m)
        if self._exact:
            np.multiply(sums, np.float32(1) / self._divisor, out=sums)
        else:
            np.divide(sums, self._divisor, out=sums)
            np.bitwise_and(total, ~_HIGH, out=extra)
            # In the middle of two bfloat16, or rounded to there.
            second, first = (np.flatnonzero(half == _TIE) for half in extra)
            doubtful = np.concatenate((doubtful, 2 * second + 1, 2 * first))
        np.right_shift(total, _LOW, out=extra)
        np.bitwise_and(extra, _ODD, out=extra)
        np.add(total, extra, out=total)
        np.add(total, _HALF, out=total)
        np.bitwise_and(total[0], _HIGH, out=result)
        np.right_shift(total[1], _LOW, out=total[1])
        np.bitwise_or(result, total[1], out=result)
        return doubtful

    def _doubtful(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Indices of the elements whose float32 sum may be inexact or overflow; those with NaN too."""
        work = self._work[:, : count // 2].view(np.uint16)
        most, least, far = self._most[:count], self._least[:count], self._far[:count]
        magnitudes = rows.view(np.uint64) if rows.shape[1] % 8 == 0 else None
        if magnitudes is not None:
            np.bitwise_and(magnitudes, _SIGNS, out=work.view(np.uint64))
        else:
            np.bitwise_and(rows.view(np.uint16), np.uint16(0x7FFF), out=work)
        np.maximum(work[0], work[1], out=most)
        np.minimum(work[0], work[1], out=least)
        for one in work[2:]:
            np.maximum(most, one, out=most)
            np.minimum(least, one, out=least)
        np.subtract(most, least, out=least)
        np.greater(least, np.uint16(self._reach << _EXPONENT), out=far)
        limit = np.uint16((238 + self._reach) << _EXPONENT)  # the sum stays below the largest float32
        if most.max() >= limit:
            far |= most >= limit
        return np.flatnonzero(far)


def _whole(weights: Sequence[float]) -> tuple[int, ...] | None:
    """Weights as small whole numbers, times a power of two; None where they are no such."""
    ratios = [weight.as_integer_ratio() for weight in weights]
    scale = max(bottom for _, bottom in ratios)  # powers of two
    found = [top * (scale // bottom) for top, bottom in ratios]
    twos = math.gcd(*found) & -math.gcd(*found)
    found = [one // twos for one in found]
    return tuple(found) if sum(found) <= 1 << 12 else None
