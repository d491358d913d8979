"""Means of tensors: held against numpy in float64, and against exact fractions for the last rounding."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evalsuite.averaging import Averaging
from evalsuite.mean import CHUNK, Lazy, mean_of, rounded, weights_of
from scaling.errors import StagewiseError, UsageError

KINDS = [Averaging(), Averaging(weights="linear"), Averaging(weights="ema", decay=0.7)]
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
EXACT = st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e30, max_value=1e30)


def drawn(count: int, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    """Tensors whose numbers differ much in size."""
    made = torch.Generator().manual_seed(seed)
    size = torch.exp(2 * torch.randn(shape, generator=made))
    return [(torch.randn(shape, generator=made) * size).to(dtype) for _ in range(count)]


@cache
def values_of(dtype: torch.dtype) -> Tensor:
    """0 and all positive values, ascending: the index of each is its bit pattern."""
    found = torch.arange(0, 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).double()
    return found[found.isfinite()]


def nearest(x: float, dtype: torch.dtype) -> float:
    """The value of a narrow dtype that is nearest, of two the even one; in exact fractions."""
    ladder, size = values_of(dtype), Fraction(abs(x))
    above = int(torch.searchsorted(ladder, torch.tensor(abs(x), dtype=torch.float64)))
    if above == len(ladder):
        step = Fraction(float(ladder[-1])) - Fraction(float(ladder[-2]))
        found = float("inf") if size >= Fraction(float(ladder[-1])) + step / 2 else float(ladder[-1])
    else:
        near = [i for i in (above - 1, above) if i >= 0]
        found = float(ladder[min(near, key=lambda i: (abs(Fraction(float(ladder[i])) - size), i % 2))])
    return float(np.copysign(found, x))


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


# --- weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_weights(n):
    """Oracle: the formulas, in numpy."""
    age = np.arange(n)[::-1]
    wanted = {
        "uniform": np.ones(n), "linear": np.arange(1, n + 1), "ema": 0.7 ** age.astype(float),
    }  # fmt: skip
    for kind in KINDS:
        found = weights_of(kind, n)
        assert found == pytest.approx(wanted[kind.weights] / wanted[kind.weights].sum(), rel=1e-15)
        assert sum(found) == pytest.approx(1, abs=1e-15)
        assert list(found) == sorted(found)  # the newest the heaviest


def test_no_snapshots_have_no_weights():
    with pytest.raises(UsageError, match="mean of 0 snapshots"):
        weights_of(Averaging(), 0)


# --- means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.weights)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [1, 3, 4])
def test_the_float64_mean_rounded_once(kind, dtype, n):
    """Oracle: numpy in float64, then numpy's own rounding (float32, float16) or fractions (bfloat16)."""
    tensors, weights = drawn(n, 3, 67, dtype=dtype), weights_of(kind, n)
    exact = sum(w * one.double().numpy() for w, one in zip(weights, tensors, strict=True))
    found = mean_of(tensors, weights)
    assert found.dtype == dtype and found.shape == (3, 67) and found.is_contiguous()
    if dtype == torch.bfloat16:
        wanted = np.vectorize(lambda x: nearest(x, dtype))(exact)
    else:
        wanted = exact.astype(str(dtype).removeprefix("torch."))
    np.testing.assert_array_equal(found.double().numpy(), wanted.astype(float))


@given(EXACT, st.sampled_from([torch.float16, torch.bfloat16]))
def test_one_rounding(x, dtype):
    """Oracle: exact fractions."""
    assert float(rounded(torch.tensor([x], dtype=torch.float64), dtype)) == nearest(x, dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_near_the_middle_of_two(dtype):
    """Where two roundings go wrong: the middle, and what is beside it by about what float32 still tells."""
    patterns = torch.randint(0, 0x7BFF, (40,), generator=torch.Generator().manual_seed(0))
    for pattern in (0, 1, 0x7BFD, 0x7BFE, *patterns.tolist()):
        one, other = torch.tensor([pattern, pattern + 1], dtype=torch.int16).view(dtype).double().tolist()
        middle = (one + other) / 2
        beside = [
            middle * (1 + side * 2.0**-depth) for depth in (22, 23, 24, 25, 26, 40, 52) for side in (-1, 1)
        ]
        for x in (middle, *beside, -middle, *(-x for x in beside)):
            assert float(rounded(torch.tensor([x], dtype=torch.float64), dtype)) == nearest(x, dtype)


def test_torch_rounds_twice():
    """What `rounded` is for; when this fails, torch has learned it."""
    x = torch.tensor([1 + 2**-8 + 2**-40], dtype=torch.float64)
    assert float(x.bfloat16()) == 1.0
    assert float(rounded(x, torch.bfloat16)) == 1 + 2**-7
    assert float(rounded(-x, torch.bfloat16)) == -1 - 2**-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_no_number_stays(dtype):
    inf, nan = float("inf"), float("nan")
    values = torch.tensor([nan, inf, -inf, 0.0, -0.0, 1e-40, -1e-45], dtype=torch.float64)
    found, wanted = rounded(values, dtype), values.to(dtype)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert bits(found[1:]) == bits(wanted[1:])
    told = mean_of(
        [torch.tensor([nan, inf, inf, -0.0], dtype=dtype), torch.tensor([1.0, inf, -inf, -0.0], dtype=dtype)],
        [0.5, 0.5],
    )
    assert told.isnan().tolist() == [True, False, True, False]
    assert told[1] == inf and torch.signbit(told[3])


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.weights)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_does_not_move_stays_to_the_bit(kind, dtype):
    one = drawn(1, 500, dtype=dtype, seed=3)[0]
    one[:4] = torch.tensor([-0.0, 0.0, float("inf"), -float("inf")])
    for n in (1, 2, 3, 5, 7):
        assert bits(mean_of([one.clone() for _ in range(n)], weights_of(kind, n))) == bits(one)


def test_whole_numbers_are_the_newest():
    for dtype in (torch.int64, torch.int8, torch.uint8, torch.bool):
        one, two = torch.tensor([0, 1, 1]).to(dtype), torch.tensor([1, 0, 1]).to(dtype)
        found = mean_of([one, two], [0.9, 0.1])
        assert torch.equal(found, two) and found.data_ptr() != two.data_ptr()


def test_complex_numbers():
    one, two = torch.tensor([1 + 2j, 3j]), torch.tensor([3 + 0j, 1j])
    assert torch.equal(mean_of([one, two], [0.5, 0.5]), torch.tensor([2 + 1j, 2j]))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_chunks(size):
    tensors = drawn(3, size)
    wanted = sum(one.double() * w for one, w in zip(tensors, (0.5, 0.25, 0.25), strict=True))
    assert torch.equal(mean_of(tensors, (0.5, 0.25, 0.25)), torch.as_tensor(wanted).float())


def test_any_layout():
    one, two = drawn(2, 6, 4)
    found = mean_of([one.T, two.T], [0.5, 0.5])
    assert torch.equal(found, ((one.double() + two.double()) / 2).float().T)
    assert mean_of([torch.tensor(1.0), torch.tensor(2.0)], [0.5, 0.5]).item() == 1.5
    parameter = torch.nn.Parameter(one)
    assert not mean_of([parameter, parameter], [0.5, 0.5]).requires_grad


def test_the_sources_stay_as_they_are():
    tensors = drawn(3, 50) + drawn(1, 50, dtype=torch.float32)
    before = [bits(one) for one in tensors]
    mean_of(tensors, [0.25] * 4)
    assert [bits(one) for one in tensors] == before
    double = drawn(2, 50, dtype=torch.float64)
    before = [bits(one) for one in double]
    mean_of(double, [0.3, 0.7])
    assert [bits(one) for one in double] == before


@pytest.mark.parametrize(
    ("tensors", "weights"),
    [
        ([torch.zeros(2), torch.zeros(3)], [0.5, 0.5]),
        ([torch.zeros(2), torch.zeros(2).double()], [0.5, 0.5]),
        ([torch.zeros(2), torch.zeros(2)], [1.0]),
    ],
)
def test_what_does_not_go_together(tensors, weights):
    with pytest.raises(UsageError, match="valid is one shape, one dtype, and a weight for each"):
        mean_of(tensors, weights)


# --- lazy ---------------------------------------------------------------------------------------------


def test_lazy():
    asked = []

    def compute(name: str) -> Tensor:
        asked.append(name)
        return torch.ones(2 if name == "a" else 3)

    lazy = Lazy({"a": ((2,), torch.float32), "b": ((2,), torch.float32)}, compute)
    assert list(lazy) == ["a", "b"] and len(lazy) == 2 and "a" in lazy.kinds and asked == []
    assert torch.equal(lazy["a"], torch.ones(2)) and torch.equal(lazy["a"], torch.ones(2))
    assert asked == ["a", "a"]
    with pytest.raises(KeyError):
        lazy["c"]
    with pytest.raises(StagewiseError, match="b: computed as"):
        lazy["b"]
