"""Training: tokens per second beside transformers' Llama, share of the matrix rate, memory, time."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from data.prepared import Prepared
from data.sources import Source
from train.config import DataConfig, RunConfig, read_config
from train.loop import Trainer
from train.peak import peak_rate
from train.plan import Plan
from train.text import tokens_of

THREADS = 2
VOCABULARIES = (4096, 32768)
ROUNDS = 9
SHAPE = {
    "model.preset": "2.7m", "model.context": 256, "batch.rows": 16, "model.qk_norm": False, "steps": 1000,
    "validation.every": 0, "data.overlap": False,
}  # fmt: skip

# Time to a loss: a small model of bytes. Rates were tuned for each optimiser on a seed that is not measured.
SMALL = {
    "model.preset": "0.3m", "model.context": 128, "batch.rows": 16, "validation.every": 0,
    "checkpoint.every": 10**6, "device.threads": 1, "data.overlap": False,
}  # fmt: skip
STEPS = 400
PARTS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
TUNED_ON, SEEDS = 100, (0, 1)


def run() -> pd.DataFrame:
    """Our step (data, loss, gradient, clipping, update, record) and a plain loop over transformers' Llama.

    Both in float32 on two threads, a step of each in turn on the same batches, medians. Shares are FLOPs per
    second over a matrix rate taken in between: of products of 1024 wide matrices (the fastest there are), of
    4096 wide ones, and of the products that the step itself is made of, run alone. FLOPs are counted as
    `train.sizes` does (causal attention at its half).
    """
    torch.set_num_threads(THREADS)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for vocabulary in VOCABULARIES:
            prepared = tokens_of(
                DataConfig(tokenizer=vocabulary, overlap=False), Path(folder) / str(vocabulary)
            )
            for name in ("adamw", "muon"):
                ours = _trainer(prepared, Path(folder), {**SHAPE, "optim.name": name})
                theirs = _hugging_face(ours)
                times: dict[str, list[float]] = {"ours": [], "theirs": [], "1024": [], "4096": [], "own": []}
                for _ in range(ROUNDS):
                    times["theirs"].append(_seconds(theirs))
                    times["ours"].append(_seconds(ours._trained))
                    times["1024"].append(peak_rate(torch.device("cpu"), torch.float32, 0.1)[0])
                    times["4096"].append(_rate([(4096, 4096, 4096)]))
                    times["own"].append(_rate(_products(ours)))
                middle = {key: statistics.median(values[1:]) for key, values in times.items()}
                tokens = ours.plan.tokens_per_step
                rate = tokens * ours.plan.size.training / middle["ours"]
                row: dict[str, Any] = {
                    "vocabulary": ours.plan.shape.vocab_size, "optimiser": name,
                    "tokens/s": tokens / middle["ours"], "theirs": tokens / middle["theirs"],
                    "ratio": middle["theirs"] / middle["ours"], "GFLOP/s": rate / 1e9,
                }  # fmt: skip
                for kind in ("1024", "4096", "own"):
                    row |= {f"rate_{kind}": middle[kind] / 1e9, f"share_{kind}": rate / middle[kind]}
                rows.append(row)
                print(rows[-1], file=sys.stderr)
    return pd.DataFrame(rows)


def memory() -> pd.DataFrame:
    """How much a process grows over two steps, ours and theirs, each in a process of its own, MB."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for vocabulary in VOCABULARIES:
            place = Path(folder) / str(vocabulary)
            tokens_of(DataConfig(tokenizer=vocabulary, overlap=False), place)
            row: dict[str, Any] = {
                "vocabulary": vocabulary,
                "all_logits_mb": 16 * 256 * vocabulary * 4 / 2**20,
            }
            for which in ("ours", "theirs"):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    row[which] = pool.apply(_grown, (str(place), which))
            rows.append(row)
    return pd.DataFrame(rows)


def target() -> pd.DataFrame:
    """CPU time to the loss that AdamW with a cosine reaches, by Muon with warmup, stable phase and decay.

    Each has the best learning rate of `RATES`, by bits per byte of held-out text on a seed that is not
    measured. AdamW trains `STEPS` steps. The other is trained anew for parts of that, each with a schedule of
    its length: the shortest that reaches the loss counts, with the CPU time that it took.
    """
    with tempfile.TemporaryDirectory() as folder:
        sources = (Source("embedded", most=2_000_000),)
        tokens = DataConfig(tokenizer="bytes", sources=sources, held_out=0.05, overlap=False)
        prepared = tokens_of(tokens, Path(folder) / "tokens")
        arms = {
            "adamw": {"schedule.kind": "cosine", "schedule.floor": 0.1, "schedule.warmup": 0.1},
            "muon": {"schedule.kind": "wsd"},
        }
        best = {}
        for name, more in arms.items():
            best[name] = _best_rate(
                lambda rate, name=name, more=more: _small(
                    prepared, Path(folder), name, more, rate, STEPS, TUNED_ON
                )[0]
            )
            print(name, best[name], file=sys.stderr, flush=True)
        rows = []
        for seed in SEEDS:
            wanted, theirs = _small(
                prepared, Path(folder), "adamw", arms["adamw"], best["adamw"], STEPS, seed
            )
            row = {"seed": seed, "adamw_rate": best["adamw"], "adamw_bpb": wanted, "adamw_cpu": theirs,
                   "muon_rate": best["muon"]}  # fmt: skip
            for part in PARTS:
                steps = round(part * STEPS)
                found, ours = _small(prepared, Path(folder), "muon", arms["muon"], best["muon"], steps, seed)
                print(seed, part, found, ours, file=sys.stderr)
                if found <= wanted:
                    row |= {"muon_steps": part, "muon_bpb": found, "muon_cpu": ours, "ratio": theirs / ours}
                    break
            rows.append(row)
    return pd.DataFrame(rows)


def _best_rate(loss: Callable[[float], float]) -> float:
    """The rate with a higher loss on both its sides, found from the middle of `RATES` on."""
    known: dict[int, float] = {}

    def at(i: int) -> float:
        if not 0 <= i < len(RATES):
            return float("inf")
        if i not in known:
            known[i] = loss(RATES[i])
            print(f"rate {RATES[i]:g}: {known[i]:.4f}", file=sys.stderr, flush=True)
        return known[i]

    i = len(RATES) // 2
    while (side := min((i - 1, i + 1), key=at)) is not None and at(side) < at(i):
        i = side
    return RATES[i]


def _small(
    prepared: Prepared, folder: Path, name: str, more: dict[str, Any], rate: float, steps: int, seed: int
) -> tuple[float, float]:
    """Bits per byte over all domains at the end of a run, and the CPU seconds of its steps."""
    told = {**SMALL, **more, "optim.name": name, "optim.lr": rate, "steps": steps, "seed": seed}
    torch.set_num_threads(1)
    trainer = _trainer(prepared, folder, told)
    start = time.process_time()
    for _ in range(steps):
        trainer._trained()
    spent = time.process_time() - start
    losses = trainer.validation.run(trainer.model).values()
    return sum(one.bits for one in losses) / sum(one.bytes for one in losses), spent


def _trainer(prepared: Prepared, folder: Path, settings: dict[str, Any]) -> Trainer:
    config: RunConfig = read_config(settings={**settings, "data.folder": str(prepared.folder)})
    trainer = Trainer(folder, Plan.of(config, prepared))
    trainer.peak, trainer.peak_from = 1.0, "measured"
    return trainer


def _hugging_face(ours: Trainer) -> Callable[[], None]:
    """A step of the plain loop: the same shape, batches, optimiser settings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, config = ours.plan.shape, ours.plan.config
    torch.manual_seed(0)
    told = LlamaConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.width, intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context_length, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(told).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=config.optim.weight_decay)
    done = [0]

    def step() -> None:
        ids = torch.from_numpy(ours.batches.batch(done[0]).ids)
        done[0] += 1
        logits = model(input_ids=ids[:, :-1]).logits
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
        optimiser.step()
        optimiser.zero_grad()

    return step


def _products(trainer: Trainer) -> list[tuple[int, int, int]]:
    """Shapes (rows, inner, columns) of the matrix products of a step but for attention, forward and back."""
    tokens = trainer.plan.tokens_per_step
    layers = [one for one in trainer.model.modules() if isinstance(one, nn.Linear)]
    shapes = [(one.in_features, one.out_features) for one in layers]
    return [told for k, n in shapes for told in ((tokens, k, n), (tokens, n, k), (k, tokens, n))]


def _rate(shapes: list[tuple[int, int, int]]) -> float:
    """FLOPs per second of these products, one after the other."""
    spent, done = 0.0, 0.0
    for (m, k, n), count in Counter(shapes).items():
        one, other, out = torch.ones(m, k), torch.ones(k, n), torch.empty(m, n)
        work = partial(torch.mm, one, other, out=out)
        work()  # pages are there
        spent += count * min(_seconds(work) for _ in range(2))
        done += count * 2.0 * m * k * n
    return done / spent


def _highest() -> float:
    """Largest resident size since it was reset, MB. Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def _grown(place: str, which: str) -> float:
    """Growth of the largest resident size over two steps, MB."""
    torch.set_num_threads(THREADS)
    trainer = _trainer(Prepared.read(place), Path(place), {**SHAPE, "optim.name": "adamw"})
    step = trainer._trained if which == "ours" else _hugging_face(trainer)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is that of now
    before = _highest()
    for _ in range(2):
        step()
    return _highest() - before


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
