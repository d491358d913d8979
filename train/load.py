"""A checkpoint of a run as a model in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from data.prepared import Prepared
from data.tokenizer import Tokenizer
from scaling.errors import StagewiseError, UsageError
from train.checkpoint import Checkpoint, checkpoints, latest
from train.config import read_config
from train.loop import CHECKPOINTS
from train.model import Model
from train.mtp import TrainedModel
from train.plan import Plan
from train.run import CONFIG, DATA


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds, ready to use.

    Attributes:
        model: with its modules of multi-token prediction, in evaluation mode. tokenizer: it was trained with.
        plan: of its run. step: optimiser steps done.
    """

    model: TrainedModel = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    plan: Plan = field(repr=False)
    step: int

    def plain(self) -> Model:
        """The model alone: what an export holds."""
        model = Model(self.model.config)
        weights = self.model.plain()
        if self.model.config.tied:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        model.load_state_dict(weights)
        return model.eval()


def load(where: Path) -> Loaded:
    """Load a checkpoint, or the newest whole one of a run.

    Args:
        where: RUN/checkpoints/step-N, or RUN.

    Raises:
        UsageError: no run there.
        StagewiseError: a checkpoint that is broken, or of another tokenizer than its run has.

    Example:
        >>> load(Path("runs/a")).plain()                        # doctest: +SKIP
    """
    run, one = _found(where)
    one.verify()
    config = read_config(run / CONFIG)
    prepared = Prepared.read(config.data.folder or run / DATA)
    if one.state["tokenizer"] != prepared.tokenizer.digest:
        raise StagewiseError(
            f"{one.path}: was trained with another tokenizer than {prepared.folder} holds; give the folder "
            "of tokens that the run was started on (data.folder)"
        )
    plan = Plan.of(config, prepared)
    model = TrainedModel(plan.shape, config.mtp.depth, prepared.tokenizer.eos)
    weights = one.tensors("model")
    if plan.shape.tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    try:
        model.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        raise StagewiseError(
            f"{one.path}: its weights are not those of the model that {run / CONFIG} describes: {error}"
        ) from error
    return Loaded(model.eval(), prepared.tokenizer, plan, one.step)


def _found(where: Path) -> tuple[Path, Checkpoint]:
    """The run, and its checkpoint."""
    path = where.resolve()
    if (path / CONFIG).is_file():
        broken: list[str] = []
        newest = latest(path / CHECKPOINTS, broken.append)
        if newest is None:
            raise StagewiseError("\n".join([*broken, f"{where}: has no whole checkpoint; train it first"]))
        return path, newest
    run = path.parent.parent
    found = next((one for one in checkpoints(path.parent) if one.path.name == path.name), None)
    if found is None or not (run / CONFIG).is_file():
        raise UsageError(f"{where}: no run and no checkpoint of one; give RUN, or RUN/{CHECKPOINTS}/step-N")
    return run, found
