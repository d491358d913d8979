"""The rate that training is measured against."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from train import peak
from train.peak import peak_rate

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cpu_is_measured(dtype):
    """Oracle: a product timed here, within a factor of five (the machine has other work)."""
    rate, source = peak_rate(CPU, dtype, seconds=0.05)
    assert source == "measured"
    one = torch.ones(1024, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        torch.mm(one, one)
        best = min(best, time.perf_counter() - start)
    assert 0.2 < rate / (2 * 1024**3 / best) < 5


def test_it_keeps_to_its_time(monkeypatch):
    """Oracle: a clock that is told what each product takes; the best of them counts, and one is always
    made."""
    now = [0.0]
    took = iter([0.05, 0.02, 0.04, 9.0])
    monkeypatch.setattr(peak, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def product(*_: Any, **__: Any) -> None:
        now[0] += next(took)

    monkeypatch.setattr(torch, "mm", product)
    assert peak_rate(CPU, torch.float32, seconds=0.1)[0] == pytest.approx(2 * 1024**3 / 0.02)
    assert next(took) == 9.0
    took = iter([0.5])
    assert peak_rate(CPU, torch.float32, seconds=0.0)[0] == pytest.approx(2 * 1024**3 / 0.5)


@pytest.mark.parametrize(
    ("name", "rate"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H200", 989e12), ("NVIDIA A100-SXM4-40GB", 312e12),
     ("NVIDIA B200", 2250e12), ("NVIDIA L40S", 362e12)],
)  # fmt: skip
def test_a_known_gpu_has_a_sheet(name, rate, monkeypatch):
    """Oracle: the makers' data sheets, dense bfloat16."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_rate(torch.device("cuda"), torch.bfloat16) == (rate, "sheet")
