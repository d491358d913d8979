"""One thread for the tiny models of these tests: two only wait for each other."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    yield
    torch.set_num_threads(before[0])
    del os.environ["OMP_NUM_THREADS"]
    if before[1] is not None:
        os.environ["OMP_NUM_THREADS"] = before[1]
