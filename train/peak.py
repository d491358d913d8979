"""How fast a device multiplies matrices: what a training step is measured against."""

from __future__ import annotations

import time

import torch

# Dense bfloat16 FLOPs per second, from the makers' data sheets: the usual base of MFU.
_SHEET = {"H100": 989e12, "H200": 989e12, "H800": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2250e12}


def peak_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> tuple[float, str]:
    """FLOPs per second, and where the figure is from.

    For a known GPU in bfloat16 that of its data sheet ("sheet"), so that the share of it is the MFU that
    others report; else the best of several products of 1024 (2048 on a GPU) wide matrices here and now
    ("measured").

    Args:
        device, dtype: of the products. seconds: to spend on measuring.

    Source: Chowdhery et al. 2022, "PaLM", appendix B (model FLOPs utilisation).

    Example:
        >>> peak_rate(torch.device("cpu"), torch.float32)[1]
        'measured'
    """
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for part, rate in _SHEET.items():
            if part in name:
                return rate, "sheet"
    n = 2048 if device.type == "cuda" else 1024
    one, out = torch.ones(n, n, device=device, dtype=dtype), torch.empty(n, n, device=device, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(one, one, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best, "measured"
