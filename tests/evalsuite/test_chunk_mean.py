"""Means of chunks: bit for bit the float64 mean rounded once; the oracle searches all numbers of a dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from evalsuite.chunk_mean import ChunkMean, chunk_size
from evalsuite.file_average import shares_of

KINDS = [("uniform", 0.5), ("linear", 0.5), ("ema", 0.5), ("ema", 0.9), ("ema", 2**-12)]
BITS = {"BF16": "u2", "F16": "u2", "F32": "u4", "F64": "u8"}
TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def wide(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Bits of a dtype as float64, by torch."""
    return torch.from_numpy(bits.copy()).view(TORCH[dtype]).double().numpy()


def every(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers from 0 of a dtype of 16 bits, ascending, and their bits; infinity as 2**n."""
    infinity = {"BF16": 0x7F80, "F16": 0x7C00}[dtype]
    bits = np.arange(infinity + 1, dtype=np.uint16)
    values = wide(bits, dtype)
    values[-1] = 2 * 2.0 ** np.floor(np.log2(values[-2]))
    return values, bits


EVERY = {dtype: every(dtype) for dtype in ("BF16", "F16")}


def rounded(mean: np.ndarray, dtype: str) -> np.ndarray:
    """Bits of the nearest number of a dtype, of two the even one; NaN is any."""
    if dtype not in EVERY:
        return mean.astype({"F32": "f4", "F64": "f8"}[dtype]).view(BITS[dtype])
    values, bits = EVERY[dtype]
    size = np.minimum(np.abs(np.nan_to_num(mean, posinf=np.inf, neginf=-np.inf)), values[-1])
    above = np.clip(np.searchsorted(values, size), 1, None)
    down, up = size - values[above - 1], values[above] - size
    even = bits[above] % 2 == 0
    nearest = np.where((up < down) | ((up == down) & even), bits[above], bits[above - 1])
    return nearest | (np.signbit(mean).astype(np.uint16) << 15)


def means(rows: np.ndarray, dtype: str, shares: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Bits of the rows -> float64 mean, and the bits it has in the dtype."""
    with np.errstate(all="ignore"):
        addends = [wide(row, dtype) * share for row, share in zip(rows, shares, strict=True)]
        total = addends[0]
        for one in addends[1:]:
            total = total + one
        mean = total / math.fsum(shares)
        return mean, rounded(mean, dtype)


def check(rows: np.ndarray, dtype: str, shares: tuple[float, ...]) -> None:
    mean = ChunkMean(dtype, shares)
    raw = np.ascontiguousarray(rows).view(np.uint8)
    found = []
    for at in range(0, raw.shape[1], mean.size):
        part = raw[:, at : at + mean.size]
        mean.rows[:, : part.shape[1]] = part
        found.append(mean.of(part.shape[1]).copy())
    bits = np.concatenate(found).view(BITS[dtype])
    exact, wanted = means(rows, dtype, shares)
    nan = np.isnan(exact)
    assert np.array_equal(np.isnan(wide(bits, dtype)), nan)
    wrong = np.flatnonzero((bits != wanted) & ~nan)
    assert not len(wrong), [(rows[:, i], exact[i], bits[i], wanted[i]) for i in wrong[:3]]


@st.composite
def stacks(draw) -> tuple[np.ndarray, str, tuple[float, ...]]:
    """Bits of any kind: all of them alike, near one another, or special."""
    dtype = draw(st.sampled_from(sorted(BITS)))
    n, k = draw(st.integers(2, 6)), draw(st.integers(1, 9))
    width = 8 * np.dtype(BITS[dtype]).itemsize
    anything = st.integers(0, 2**width - 1)
    infinity = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000, "F64": 0x7FF << 52}[dtype]
    special = [0, 1, infinity - 1, infinity, infinity + 1]
    special += [one | 1 << (width - 1) for one in special]
    base = draw(anything)
    near = st.integers(-2000, 2000).map(lambda one: (base + one) % 2**width)
    element = draw(
        st.sampled_from([anything, near, st.sampled_from(special), near | st.sampled_from(special)])
    )
    rows = draw(st.lists(st.lists(element, min_size=k, max_size=k), min_size=n, max_size=n))
    kind, decay = draw(st.sampled_from(KINDS))
    return np.array(rows, BITS[dtype]), dtype, shares_of(n, kind, decay)


@given(stacks())
# In float32 the sum lies in the middle of two bfloat16, in float64 above it.
@example((np.array([[0x3F80], [0x3B80], [0x2000], [0x0000]], "u2"), "BF16", (1.0,) * 4))
@example((np.array([[0x8000], [0x8000], [0x8000]], "u2"), "BF16", (1.0,) * 3))  # -0.0
@example((np.array([[0x7F7F]] * 4, "u2"), "BF16", (1.0,) * 4))  # a sum beyond float32, a mean that is not
def test_equals_the_float64_mean_rounded_once(stack: tuple[np.ndarray, str, tuple[float, ...]]):
    check(*stack)


@pytest.mark.parametrize("kind, decay", KINDS)
@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_bfloat16_weights_as_they_are_in_models(kind: Any, decay: float, n: int):
    """Near one another, some tiny, one zero: over several blocks, and a last chunk of odd size."""
    random = np.random.default_rng(n)
    size = chunk_size(n) // 2 + 12_345
    base = random.standard_normal(size) * 0.02 * 2.0 ** random.integers(-18, 1, size)
    rows = np.stack([base + random.standard_normal(size) * 0.002 for _ in range(n)])
    bits = torch.from_numpy(rows).bfloat16().view(torch.uint16).numpy()
    bits[0, :3] = 0
    check(bits, "BF16", shares_of(n, kind, decay))


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64", "BF16"])
def test_any_bits_over_several_blocks(dtype: str):
    random = np.random.default_rng(0)
    rows = random.integers(0, 2**16, (3, 4 * 70_000), dtype=np.uint16).view(BITS[dtype])
    check(rows, dtype, (1.0, 1.0, 1.0))


def test_every_pair_of_exponents():
    """The limit up to which float32 is believed: all distances of two exponents, at all heights."""
    one, other = np.meshgrid(np.arange(256), np.arange(256))
    for low in (0, 1, 0x7F):
        rows = np.stack([one << 7 | 0x55, other << 7 | low, other << 7 | 0x8001]).reshape(3, -1).astype("u2")
        for shares in ((1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (3.0, 2.0, 1.0)):
            check(rows, "BF16", shares)


@pytest.mark.parametrize("n", [2, 3, 64, 1000])
def test_memory_does_not_grow_with_the_number_of_files(n: int):
    mean = ChunkMean("BF16", (1.0,) * n)
    held = sum(one.nbytes for one in vars(mean).values() if isinstance(one, np.ndarray))
    assert held < max(8 << 20, 9 * 4096 * n * 4)
