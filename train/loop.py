"""The training loop: one step after the other, each the same however often the run was cut off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from data.batches import Batch
from data.prepared import Prepared
from evalsuite.hook import EvalHook
from evalsuite.run_log import RunLog
from evalsuite.sinks import Sink
from scaling.errors import StagewiseError
from train import rng
from train.checkpoint import Checkpoint, checkpoints, prune, write_checkpoint
from train.distributed import World, quiet
from train.guard import Guard
from train.model import initialise
from train.mtp import TrainedModel, target_counts
from train.optim import optimisers
from train.peak import peak_rate
from train.plan import Plan
from train.state import gathered, scattered
from train.stopping import Stop
from train.validation import Loss

CHECKPOINTS, LOG = "checkpoints", "log.jsonl"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step, steps: done, and to do. stopped: the signal that ended it, empty where none did.
        skipped: steps without an update. losses: of the last validation, by domain.
        tokens, flops: trained on, and spent (counted exactly, without validation).
    """

    step: int
    steps: int
    stopped: str
    skipped: int
    losses: dict[str, Loss]
    tokens: int
    flops: float


@dataclass
class Trainer:
    """A run in memory.

    Attributes:
        folder: of the run. plan: what to do. world: with whom. step: optimiser steps done.
        model: what is trained; `spread` is what is called, the same model or a wrapper.
        sink: where numbers go beside the log. hook: evaluates along the way.
    """

    folder: Path
    plan: Plan
    world: World = field(default_factory=World)
    sink: Sink | None = None
    hook: EvalHook | None = None
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        plan, config, device = self.plan, self.plan.config, self.plan.config.device
        self.mine = self.world.rows(config.batch.rows)
        self.eos = plan.prepared.tokenizer.eos
        self.model = TrainedModel(plan.shape, config.mtp.depth, self.eos, device.recompute)
        initialise(self.model, plan.shape.layers, config.seed)
        self.model.to(self.world.device)
        half = device.precision == "bfloat16" or (
            device.precision == "auto" and self.world.device.type == "cuda"
        )
        self.dtype = torch.bfloat16 if half else torch.float32
        blocks: list[Any] = [*self.model.model.layers, *(one.block for one in self.model.mtp)]
        if device.compile:
            for block in blocks:
                block.compile()
        self.spread = self.world.spread(self.model, device.parallel, blocks)
        self.optimisers = optimisers(self.model, config.optim)
        self.guard = Guard(spike=config.guard.spike, stop_after=config.guard.stop_after)
        self.batches, self.validation = plan.batches(), plan.validation()
        self.losses: dict[str, Loss] = {}

    def run(self, stop: Stop | None = None, progress: Progress | None = None) -> Outcome:
        """Train to the end of the plan, or until a signal is heard.

        Raises:
            StagewiseError: a checkpoint that cannot be written, too many steps skipped. What was written
                before stands.
        """
        stop, config = stop or Stop(), self.plan.config
        steps, every = config.length, config.validation.every
        self.peak, self.peak_from = peak_rate(self.world.device, self.dtype)
        with RunLog(self.folder / LOG) if self.world.first else _Nowhere() as log:
            while self.step < steps:
                record = self._trained()
                log.append(record)
                self._track("train", record)
                self._look(record)
                last = self.step == steps
                if last or (every and self.step % every == 0):
                    self._validate(log)
                stopping = self.world.any(bool(stop.by))
                due = last or stopping or self.step % config.checkpoint.every == 0
                # Weights that are no numbers must not push out the last ones that are.
                if due and not (self.guard.in_row and self._broken()):
                    log.sync()
                    self.save()
                if progress is not None:
                    progress(self.step, steps, _told(record))
                if stopping:
                    break
        ended = (stop.by or "signal") if self.step < steps else ""
        return Outcome(self.step, steps, ended, self.guard.skipped, self.losses, self.tokens, self.flops)

    @property
    def tokens(self) -> int:
        """Trained on so far, by all ranks."""
        return self.step * self.plan.tokens_per_step

    @property
    def flops(self) -> float:
        """Spent on them, counted exactly."""
        return self.tokens * self.plan.size.training

    def _trained(self) -> dict[str, Any]:
        """One step, and what the log says of it."""
        start = time.perf_counter()
        config, step = self.plan.config, self.step
        if step in self.plan.phases.starts:
            self.guard.forget()
        rate = self.plan.schedule.at(step)
        sums, counts = self._gradients(self.batches.batch(step), self.plan.mtp_weight(step))
        norm = self._norm()
        *each, length = torch.stack([*(sums / counts), norm.double()]).tolist()
        why = self.guard.judge(step, each[0], length)
        if not why:
            if config.optim.clip:
                clip_grads_with_norm_(self.model.parameters(), config.optim.clip, norm.to(torch.float32))
            self.optimisers.set_rate(rate)
            self.optimisers.step()
        self.optimisers.clear()
        self.step += 1
        record: dict[str, Any] = {
            "step": self.step, "kind": "train", "loss": each[0], "rate": rate, "norm": length,
            "tokens": self.tokens, "flops": self.flops, "phase": self.plan.phases.phase(step),
        }  # fmt: skip
        if len(each) > 1:
            record["mtp"] = each[1:]
        if why:
            record["skipped"] = why
        return record | {"speed": self._speed(time.perf_counter() - start)}

    def _gradients(self, batch: Batch, mtp_weight: float) -> tuple[Tensor, Tensor]:
        """Add up the gradients of a batch; its losses by depth (sums over all ranks) and their counts."""
        device, config = self.world.device, self.plan.config
        ids = torch.from_numpy(batch.ids)
        # Every rank reads the whole batch, which costs next to nothing, and so knows the counts of all.
        counts = target_counts(ids, config.mtp.depth, self.eos).to(device)
        weights = torch.full_like(counts, mtp_weight / max(1, config.mtp.depth))
        weights[0] = 1.0
        # Ranks average their gradients; the loss is a mean over all of them.
        scale = (weights / counts * self.world.size).float()
        mine = ids[self.mine].to(device, non_blocking=True)
        micro = config.batch.micro or len(mine)
        parts = mine.split(micro)
        # Shards and copies wait for each other: ranks with a row less make as many passes.
        passes = math.ceil(math.ceil(config.batch.rows / self.world.size) / micro)
        sums = torch.zeros_like(counts)
        for i in range(passes):
            part = parts[i] if i < len(parts) else mine[:1]
            with quiet(self.spread, i == passes - 1), self._autocast():
                losses = self.spread(part, losses="sums")
                (losses * scale).sum().mul(float(i < len(parts))).backward()
            if i < len(parts):
                sums += losses.detach()
        return self.world.sum(sums), counts

    def _norm(self) -> Tensor:
        """Length of the gradient over all weights, on the device."""
        norm: Any = get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def _broken(self) -> bool:
        """Whether a weight is not finite, on any rank."""
        kept: list[Any] = [getattr(p, "_local_tensor", p) for p in self.model.parameters()]
        return self.world.any(not all(bool(p.isfinite().all()) for p in kept))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.world.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16
        )

    def _validate(self, log: Any) -> None:
        with self._autocast():
            self.losses = self.validation.run(self.spread, self.world)
        bpb = {name: loss.bpb for name, loss in self.losses.items()}
        record = {"step": self.step, "kind": "validation", "bpb": bpb}
        log.append(record)
        self._track("validation", bpb)

    def save(self) -> None:
        """Write a checkpoint of this step, then delete the old ones."""
        config = self.plan.config
        tensors = gathered(self.model, self.optimisers) | {"rng": rng.captured()}
        prepared = self.plan.prepared
        state = {
            "step": self.step, "tokens": self.tokens, "guard": self.guard.state,
            "data": prepared.digest, "tokenizer": prepared.tokenizer.digest, "torch": str(torch.__version__),
            "losses": {
                name: [one.bits, one.tokens, one.bytes]
                for name, one in self.losses.items() if math.isfinite(one.bits)
            },
        }  # fmt: skip
        place = self.folder / CHECKPOINTS
        with self.world.first_alone() as first:
            if first:
                write_checkpoint(place, self.step, tensors, state)
                prune(place, config.checkpoint.keep_last, config.checkpoint.keep_every)
        if self.hook is not None:
            kept = checkpoints(place)[-config.checkpoint.keep_last :] if self.world.first else ()
            self.hook.saved(self.step, self.world.told(kept[0].step if kept else None))

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, as if nothing had happened since.

        Raises:
            StagewiseError: it is of other data, another tokenizer, or another shape.
        """
        fits(checkpoint, self.plan.prepared)
        state = checkpoint.state
        scattered(self.model, self.optimisers, checkpoint.tensors("model"), checkpoint.tensors("optimizer"))
        self.guard.restore(state["guard"])
        self.losses = {name: Loss(*one) for name, one in state["losses"].items()}
        rng.restored(checkpoint.tensors("rng"))
        self.step = checkpoint.step

    def _look(self, record: dict[str, Any]) -> None:
        """Let the hook see a step."""
        if self.hook is not None:
            self.hook(
                self.step, self.spread, flops=self.flops, tokens=self.tokens, lr=record["rate"],
                loss=record["loss"], phase=record["phase"],
            )  # fmt: skip

    def _speed(self, seconds: float) -> dict[str, Any]:
        rate = self.plan.tokens_per_step / seconds
        share = rate * self.plan.size.training / (self.peak * self.world.size)
        return {"seconds": seconds, "tokens_per_second": rate, "peak_share": share, "peak": self.peak_from}

    def _track(self, kind: str, values: dict[str, Any]) -> None:
        if self.sink is not None and self.world.first:
            told = {f"{kind}/{name}": one for name, one in values.items() if isinstance(one, int | float)}
            self.sink.log(told, self.step, {"tokens": self.tokens, "flops": self.flops})


def fits(checkpoint: Checkpoint, prepared: Prepared) -> None:
    """Refuse a checkpoint that was trained on other tokens, which would be another run.

    Raises:
        StagewiseError: which of tokenizer and data it is.
    """
    state = checkpoint.state
    for name, here in (("tokenizer", prepared.tokenizer.digest), ("data", prepared.digest)):
        if state[name] != here:
            raise StagewiseError(
                f"{checkpoint.path}: was trained with {name} {state[name][:12]}, {prepared.folder} has "
                f"{here[:12]}; give the folder of tokens that the run was started on (data.folder)"
            )


class _Nowhere:
    """The log of the ranks after the first."""

    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def append(self, record: object) -> None:
        pass

    def sync(self) -> None:
        pass


def _told(record: dict[str, Any]) -> str:
    """A step for a progress bar."""
    loss, speed = record["loss"], record["speed"]
    of = "MFU" if speed["peak"] == "sheet" else "of peak"
    shown = f"{loss:.3f}" if math.isfinite(loss) else "nan"
    return f"loss {shown} · {speed['tokens_per_second'] / 1e3:.1f}k tok/s · {speed['peak_share']:.0%} {of}"
