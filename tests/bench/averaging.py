"""The mean of four files of 500M bfloat16 parameters, beside dd and torch.load."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

FILES, TENSORS, SHAPE = 4, 25, (4000, 5000)
ROUNDS = 5

# What runs in processes of their own: the command with its memory sampled, and the loading of pickles.
COMMAND = """
import json, sys, threading, time

def anonymous():
    with open("/proc/self/status") as handle:
        return int(next(line for line in handle if line.startswith("RssAnon")).split()[1]) / 1024

most, ended = [], threading.Event()
def sample():
    while not ended.wait(0.005):
        most.append(anonymous())

import evalsuite.file_average, train.cli
imported = anonymous()
threading.Thread(target=sample, daemon=True).start()
begun = time.perf_counter()
try:
    train.cli.main()
finally:
    seconds = time.perf_counter() - begun
    ended.set()
    print(json.dumps([seconds, imported, max(most)]), file=sys.stderr)
"""
LOAD = """
import sys, time, torch
begun = time.perf_counter()
kept = [torch.load(path, weights_only=True, mmap=sys.argv[1] == "mmap") for path in sys.argv[2:]]
print(time.perf_counter() - begun)
"""
SAVE = """
import sys, torch
from safetensors.torch import load_file
torch.save(load_file(sys.argv[1]), sys.argv[2])
"""


def run() -> pd.DataFrame:
    """Seconds, medians of rounds in which each has a turn; inputs in the page cache, outputs brought to disk.

    dd reads the four files (of=/dev/null) and writes one from /dev/zero (conv=fsync), in blocks of 4 MB. The
    command is `train average` as a process of its own, with the start of Python; the call is without that.
    torch.load reads pickles of the same tensors and keeps all four, without the import of torch; with mmap
    it reads no tensor at all. Memory is anonymous, sampled every 5 ms.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = _files(folder)
        pickles = [path.with_suffix(".pt") for path in paths]
        for path, pickle in zip(paths, pickles, strict=True):
            _python(SAVE, path, pickle)
        size, out = paths[0].stat().st_size, folder / "out.safetensors"
        turns: dict[str, Callable[[], float]] = {
            "dd reads four": lambda: _seconds(lambda: [_dd(f"if={path}", "of=/dev/null") for path in paths]),
            "dd writes one": lambda: _seconds(
                lambda: _dd("if=/dev/zero", f"of={out}", f"count={size}", "iflag=count_bytes", "conv=fsync")
            ),
            "train average, command": lambda: _seconds(
                lambda: _python("from train.cli import main; main()", "average", *paths, "-o", out)
            ),
            "train average, call": lambda: _sampled(paths, out)[0],
            "torch.load of four": lambda: float(_python(LOAD, "read", *pickles).stdout),
            "torch.load of four, mmap": lambda: float(_python(LOAD, "mmap", *pickles).stdout),
        }
        taken: dict[str, list[float]] = {turn: [] for turn in turns}
        for _ in range(ROUNDS):
            for turn, work in turns.items():
                os.sync()
                taken[turn].append(work())
                out.unlink(missing_ok=True)
        _, imported, most = _sampled(paths, out)
    dd = [one + other for one, other in zip(taken["dd reads four"], taken["dd writes one"], strict=True)]
    rows = []
    for turn, seconds in ({"dd": dd} | taken).items():
        ratios = [one / other for one, other in zip(seconds, dd, strict=True)]
        loads = [one / other for one, other in zip(taken["torch.load of four"], seconds, strict=True)]
        rows.append(
            {
                "what": turn, "seconds": statistics.median(seconds), "least": min(seconds),
                "over_dd": statistics.median(ratios), "torch_load_over": statistics.median(loads),
            }
        )  # fmt: skip
    rows[3] |= {"anonymous_mb_imported": imported, "anonymous_mb_most": most}
    return pd.DataFrame(rows)


def _files(folder: Path) -> list[Path]:
    """Checkpoints of a run: weights that are near one another."""
    header, size = {}, 2 * SHAPE[0] * SHAPE[1]
    for i in range(TENSORS):
        told = {"dtype": "BF16", "shape": SHAPE, "data_offsets": [i * size, (i + 1) * size]}
        header[f"layers.{i}.weight"] = told
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    base = random.standard_normal(size // 2, dtype=np.float32)
    paths = [folder / f"{i}.safetensors" for i in range(FILES)]
    for path in paths:
        weights = (base + random.standard_normal(size // 2, dtype=np.float32) / 10) / 50
        bits = (weights.view(np.uint32) >> 16).astype(np.uint16)
        with open(path, "wb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            for i in range(TENSORS):
                handle.write(np.roll(bits, 7919 * i).tobytes())
    return paths


def _sampled(paths: list[Path], out: Path) -> tuple[float, float, float]:
    """Seconds of the call; MB of anonymous memory before it, and at most."""
    return tuple(json.loads(_python(COMMAND, "average", *paths, "-o", out).stderr.splitlines()[-1]))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _dd(*args: str) -> None:
    subprocess.run(["dd", "bs=4M", "status=none", *args], check=True)


def _python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=True
    )
