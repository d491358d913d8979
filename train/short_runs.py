"""Short runs of equal compute, one for each vocabulary and seed."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.prepared import Prepared
from scaling.errors import StagewiseError, UsageError
from scaling.files import replacing
from train.shared_text import Progress, labelled, train_bytes_per_token

if TYPE_CHECKING:
    from train.config import RunConfig
    from train.loop import Outcome
    from train.plan import Plan

SECTIONS = ("model", "mtp", "optim", "schedule", "guard", "device")
_LENGTH = 1_000_000  # steps of the plan that only tells what a step costs
_TIMED = 4  # steps run to measure a rate; the first is left out
_OURS = {"model.preset": "preset", "model.context": "context"}


def check_asked(
    flops: float | None, seconds: float | None, seeds: Sequence[int], context_bytes: int | None,
    held_out_bytes: int, settings: Mapping[str, Any],
) -> None:  # fmt: skip
    """Refuse at once what would fail late.

    Raises:
        UsageError: a budget, seeds or settings that short runs cannot have.
    """
    if flops is not None and seconds is not None:
        raise UsageError("got both flops and seconds; give one of them")
    for what, value in {
        "flops": flops, "seconds": seconds, "context_bytes": context_bytes, "held_out_bytes": held_out_bytes
    }.items():  # fmt: skip
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{what}: got {value}, valid is a number above 0")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds: got {list(seeds)}, valid is at least one, each once")
    for name in settings:
        if name in _OURS or name.partition(".")[0] not in SECTIONS:
            hint = f"give {_OURS[name]}" if name in _OURS else f"valid are those of {', '.join(SECTIONS)}"
            raise UsageError(f"settings: {name} cannot be set here; {hint}")


def config_of(told: Mapping[str, Any], **more: Any) -> RunConfig:
    """The settings of a run, before its length is known."""
    from train.config import read_config

    # All held-out text counts, whatever the vocabulary makes of it, and only at the end.
    ours = {"steps": _LENGTH, "validation.every": 0, "validation.tokens": 2**62, "data.overlap": False}
    return read_config(settings={**ours, **told, **more})


def plan_of(told: Mapping[str, Any], prepared: Prepared, context_bytes: int | None) -> Plan:
    """A run on the tokens of one vocabulary, before its length is known."""
    from train.plan import Plan

    context, rows = told["model.context"], told["batch.rows"]
    if context_bytes is not None:
        step = context * rows
        context = max(2, round(context_bytes / train_bytes_per_token(prepared)))
        rows = max(1, round(step / context))
    more = {"model.context": context, "batch.rows": rows, "data.folder": str(prepared.folder)}
    return Plan.of(config_of({**told, **more}), prepared)


def lasting(plan: Plan, flops: float, name: str) -> Plan:
    """The plan whose steps cost a number of FLOPs in all."""
    from train.plan import Plan

    cost = plan.tokens_per_step * plan.size.training
    steps = round(flops / cost)
    if steps < 1:
        raise UsageError(
            f"vocabulary {name}: a step costs {cost:.2g} FLOPs, the budget is {flops:.2g}; give more, or "
            "fewer rows"
        )
    config = replace(plan.config, steps=steps, checkpoint=replace(plan.config.checkpoint, every=steps))
    return Plan.of(config, plan.prepared)


def affordable(place: Path, plans: Mapping[str, Plan], seconds: float, progress: Progress | None) -> float:
    """FLOPs that the slowest of the runs makes in some seconds; measured once in a folder."""
    from evalsuite.run_log import read
    from train.loop import LOG
    from train.run import start

    kept = place / f"flops-{_digest([seconds, *map(_identity, plans.values())])}.json"
    if kept.is_file():
        return float(json.loads(kept.read_text(encoding="utf-8")))
    rates = []
    for name, plan in plans.items():
        cost = plan.tokens_per_step * plan.size.training
        one = lasting(plan, _TIMED * cost, name).config
        one = replace(one, validation=replace(one.validation, tokens=1))
        with tempfile.TemporaryDirectory(prefix="stagewise-") as made:
            start(Path(made), one, progress=labelled(progress, f"measuring {name}"))
            spent = [line["speed"]["seconds"] for line in read(Path(made) / LOG) if line["kind"] == "train"]
        rates.append(cost / float(np.median(spent[1:])))
    budget = seconds * min(rates)
    with replacing(kept) as part:
        part.write_text(json.dumps(budget), encoding="utf-8")
    return budget


def run_of(place: Path, name: str, plan: Plan, seed: int, progress: Progress | None) -> tuple[Outcome, float]:
    """A short run, made or found; how it ended, and the seconds its steps took."""
    from evalsuite.run_log import read
    from train.loop import LOG
    from train.run import CONFIG, resume, start

    folder = place / "runs" / _digest(_identity(plan, seed))
    shown = labelled(progress, f"vocabulary {name}, seed {seed}")
    if (folder / CONFIG).is_file():
        outcome = resume(folder, progress=shown)
    else:
        outcome = start(folder, replace(plan.config, seed=seed), progress=shown)
    if outcome.stopped:
        raise StagewiseError(
            f"stopped by {outcome.stopped} in the run of vocabulary {name}, seed {seed}; what is in a folder "
            "is kept, and the same call goes on from there"
        )
    spent = sum(line["speed"]["seconds"] for line in read(folder / LOG) if line["kind"] == "train")
    return outcome, spent


def row_of(name: str, plan: Plan, seed: int, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """What `Tradeoff.runs` tells of a run."""
    parts = outcome.losses.values()
    at_hand = sum(map(len, plan.prepared.tokens("train").values()))
    return {
        "vocabulary": name, "seed": seed, "steps": outcome.steps, "tokens": outcome.tokens,
        "bytes": outcome.tokens * train_bytes_per_token(plan.prepared),
        "epochs": outcome.tokens / at_hand, "flops": outcome.flops, "skipped": outcome.skipped,
        "seconds": seconds, "bpb": sum(one.bits for one in parts) / sum(one.bytes for one in parts),
        **{f"bpb.{domain}": one.bpb for domain, one in outcome.losses.items()},
    }  # fmt: skip


def _identity(plan: Plan, seed: int = 0) -> list[Any]:
    """What a run hangs on: settings and data, wherever these lie."""
    told = asdict(replace(plan.config, seed=seed))
    return [plan.prepared.digest, {name: one for name, one in told.items() if name != "data"}]


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
