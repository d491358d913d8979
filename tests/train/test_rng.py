"""Random states: what is drawn after they were restored is what was drawn after they were captured."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from train.rng import captured, restored


@pytest.fixture(autouse=True)
def _as_before():
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(kept[0])
    np.random.set_state(kept[1])
    random.setstate(kept[2])


def drawn() -> list[Any]:
    """An odd number of each, so that numpy and Python keep half a pair of normal numbers."""
    return [
        torch.randn(3).tolist(), torch.rand(1).tolist(), np.random.standard_normal(3).tolist(),
        np.random.random(2).tolist(), random.gauss(0, 1), random.random(), random.getrandbits(40),
    ]  # fmt: skip


@pytest.mark.parametrize("before", range(4))
def test_the_same_is_drawn_again(before):
    """Oracle: the first draw; from fresh states, and with the second half of a pair still to come."""
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    for _ in range(before):
        drawn()
    kept = captured()
    first = drawn()
    assert drawn() != first
    restored(kept)
    assert drawn() == first


def test_states_survive_a_file():
    """Oracle: the states themselves, through safetensors as in a checkpoint."""
    random.seed(7)
    drawn()
    kept = captured()
    states = torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()
    drawn()
    restored(load(save(kept)))
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    for one, other in zip(np.random.get_state(legacy=True), states[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_to_capture_draws_nothing():
    torch.manual_seed(5)
    kept = captured()
    again = captured()
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) or kept[name].isnan().all() for name in kept)
