"""Where half precision is worth its rounding."""

from __future__ import annotations

import time

import torch


def fast_half(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a machine multiplies matrices faster in bfloat16 or float16 than in float32.

    Graphics cards say so; on a processor, where support does not mean speed, it is tried (milliseconds).
    """
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return True

    def seconds(kind: torch.dtype) -> float:
        a, b = (torch.ones(512, 512, dtype=kind) for _ in range(2))
        spent = []
        for _ in range(4):
            start = time.perf_counter()
            torch.mm(a, b)
            spent.append(time.perf_counter() - start)
        return min(spent)

    return seconds(dtype) < seconds(torch.float32)
