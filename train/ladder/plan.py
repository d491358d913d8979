"""What a ladder will cost, worked out before the first run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch

from evalsuite.loading import device_of
from evalsuite.registry import Registry
from evalsuite.scorer import Scorer
from train.distributed import world
from train.ladder.cells import Cell
from train.model import initialise
from train.mtp import TrainedModel
from train.optim import optimisers
from train.plan import shape_of
from train.sizes import size_of

if TYPE_CHECKING:
    from train.ladder.climb import Place

_PART = 6  # one task in so many is timed
_STEPS = 3  # timed, after one that is not


@dataclass(frozen=True)
class Plan:
    """The runs of a ladder and what they cost.

    Attributes:
        runs: one row per run: run, size, mixture, seed, params, tokens, flops, evaluation_flops, seconds,
            evaluation_seconds (one process, by timings taken now), done.
    """

    runs: pd.DataFrame

    @classmethod
    def of(cls, place: Place) -> Plan:
        """Count the FLOPs of all runs, and time a few steps and a part of an evaluation of each size.

        Evaluation is counted as a forward pass over all tokens that are asked, with the head at each: more
        than is computed.
        """
        ladder, rows, speeds = place.ladder, [], {}
        asked = ladder.checkpoints + (ladder.checkpoints // ladder.raw if ladder.raw else 0)
        for cell in place.cells:
            config = place.config(cell)
            shape = shape_of(config, place.prepared.tokenizer.size)
            size, plain = size_of(shape, ladder.context, cell.mtp), size_of(shape, ladder.context)
            tokens = config.length * cell.rows * ladder.context
            key = (cell.size, cell.rows, cell.mtp)
            if key not in speeds:
                with world(place.device.device, place.device.threads):
                    speeds[key] = _timed(place, cell)
            step, evaluation = speeds[key]
            rows.append(
                {
                    "run": cell.name, "size": cell.size, "mixture": cell.family, "seed": cell.seed,
                    "params": plain.params, "tokens": tokens, "flops": tokens * size.training,
                    "evaluation_flops": asked * place.questions.tokens * plain.forward,
                    "seconds": config.length * step, "evaluation_seconds": asked * evaluation,
                    "done": place.done(cell),
                }
            )  # fmt: skip
        return cls(pd.DataFrame(rows))

    def by_size(self) -> pd.DataFrame:
        """One row per size: runs, params, tokens and FLOPs of the longest, hours, evaluation share."""
        rows = []
        for size, group in self.runs.groupby("size", sort=False):
            seconds = group["seconds"].sum() + group["evaluation_seconds"].sum()
            rows.append(
                {
                    "size": size, "runs": len(group), "done": int(group["done"].sum()),
                    "params": int(group["params"].max()), "tokens": int(group["tokens"].max()),
                    "flops": group["flops"].max(), "hours": seconds / 3600,
                    "evaluation": group["evaluation_seconds"].sum() / seconds,
                }
            )  # fmt: skip
        return pd.DataFrame(rows).sort_values("params", ignore_index=True)

    def told(self, jobs: int) -> list[str]:
        """The whole of it in a few lines."""
        runs = self.runs
        left = runs[~runs["done"]]
        seconds = left["seconds"].sum() + left["evaluation_seconds"].sum()
        share = left["evaluation_seconds"].sum() / seconds if seconds else 0.0
        return [
            f"{len(runs)} runs, {len(left)} to do; from {runs['flops'].min():.3g} to "
            f"{runs['flops'].max():.3g} FLOPs each, {runs['flops'].sum():.3g} of training and at most "
            f"{runs['evaluation_flops'].sum():.3g} of evaluation in all",
            f"about {seconds / 3600 / jobs:.2g} hours with {jobs} at a time, {share:.0%} of it evaluation "
            "(timed now, on this machine)",
        ]

    def _repr_html_(self) -> str:
        return self.by_size().to_html(index=False)


def _timed(place: Place, cell: Cell) -> tuple[float, float]:
    """Seconds of a training step and of an evaluation, on an untrained model of one size."""
    config, device = place.config(cell), device_of(place.device.device)
    shape = shape_of(config, place.prepared.tokenizer.size)
    model = TrainedModel(shape, cell.mtp, place.prepared.tokenizer.eos).to(device)
    initialise(model, shape.layers, 0)
    draw = torch.Generator().manual_seed(0)
    size = (cell.rows, place.ladder.context + 1)
    ids = torch.randint(shape.vocab_size, size, generator=draw).to(device)
    steps = optimisers(model, config.optim)
    times = []
    for _ in range(1 + _STEPS):
        start = _now(device)
        model(ids, losses="sums").sum().backward()
        steps.step()
        steps.clear()
        times.append(_now(device) - start)
    registry = Registry.open([place.questions.folder])
    scorer = Scorer(model.eval(), place.prepared.tokenizer, max_length=place.ladder.context)
    some = place.questions.tasks[::_PART]
    ready = [scorer.prepare(registry.task(one.task), None) for one in some]
    start = _now(device)
    scorer.check(ready)
    checked = _now(device)
    for one in ready:
        scorer.score(one)
    part = _now(device) - checked
    return min(times[1:]), checked - start + part * place.questions.tokens / sum(one.tokens for one in some)


def _now(device: torch.device) -> float:
    """Seconds, when all that the device was told to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
