"""Weights and optimiser of a run as whole tensors, whatever the ranks hold of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from scaling.errors import StagewiseError
from train.model import Model
from train.optim import Optimisers

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_TIED = ("lm_head.weight", "model.embed_tokens.weight")
_BETWEEN = "|"  # no part of a weight's name, nor of a slot's


def gathered(model: Model, optimisers: Optimisers) -> dict[str, dict[str, Tensor]]:
    """The files of a checkpoint, {"model": weights, "optimizer": slots}, on the CPU.

    All ranks have to call it; those after the first get nothing. A tied head is left out. A slot is named
    `weight|slot`, such as `model.norm.weight|exp_avg`.
    """
    weights: dict[str, Any] = dict(get_model_state_dict(model, options=_WHOLE))
    slots: Any = {}
    # Of a new optimiser torch makes slots by a step with it, which AdamW counts.
    if any(part.state for part in optimisers.parts):
        slots = get_optimizer_state_dict(model, list(optimisers.parts), options=_WHOLE).get("state", {})
    if model.config.tied:
        weights.pop(_TIED[0], None)
    flat = {
        f"{name}{_BETWEEN}{slot}": torch.as_tensor(value)
        for name, of_weight in slots.items()
        for slot, value in of_weight.items()
    }
    return {"model": weights, "optimizer": flat}


def scattered(
    model: Model, optimisers: Optimisers, weights: Mapping[str, Tensor], slots: Mapping[str, Tensor]
) -> None:
    """Put what `gathered` gave back, on any number of ranks; every rank has to have all of it.

    Raises:
        StagewiseError: weights or slots that are missing, foreign, or of another shape.
    """
    whole: dict[str, Any] = dict(weights)
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    given = {name: tuple(tensor.shape) for name, tensor in whole.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise StagewiseError(
                f"checkpoint: weight {name} has shape {given.get(name, 'none')}, the model that the config "
                f"describes {wanted.get(name, 'none')}; give the config the run was started with"
            )
    if model.config.tied:
        whole[_TIED[0]] = whole[_TIED[1]]
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, whole, options=options)
    parts = list(optimisers.parts)
    state: dict[str, Any] = {}
    for key, value in slots.items():
        name, slot = key.split(_BETWEEN)
        state.setdefault(name, {})[slot] = value
    mine: Any = get_optimizer_state_dict(model, parts, options=options)
    if not slots:  # of a run whose every step was skipped; to ask for slots has just made some
        for part in parts:
            part.state.clear()
        return
    known = {f"{name}{_BETWEEN}{slot}" for name, told in mine["state"].items() for slot in told}
    for key in sorted(known ^ slots.keys()):
        raise StagewiseError(
            f"checkpoint: {key} of the optimiser is {'missing' if key in known else 'unknown'}; give the "
            "config the run was started with (optim.name)"
        )
    # What is no slot (rates, decay) follows from the config.
    groups = mine["param_groups"]
    set_optimizer_state_dict(model, parts, {"state": state, "param_groups": groups}, options=options)
