"""The hook inside the `Trainer` of transformers: real training of a tiny model with dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from evalsuite.evaluations import Evaluations
from evalsuite.hf_trainer import EvalCallback
from tests.evalsuite.net import VOCABULARY
from tests.evalsuite.trainers import CONTEXT, Seen, hook, left, rows, same, scores


def train(folder: Path, callback: EvalCallback | None, resume: str | None = None, **changes: Any):
    """Six steps of four rows; returns the trainer and what it left."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=512, attention_dropout=0.1, use_cache=False,
    )  # fmt: skip
    options: dict[str, Any] = {
        "max_steps": 6, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
        "logging_steps": 2, "learning_rate": 1e-3, "warmup_steps": 2, "save_strategy": "no", "report_to": [],
        "disable_tqdm": True, "use_cpu": True, "include_num_input_tokens_seen": "all",
        "dataloader_pin_memory": False,
    }  # fmt: skip
    data: Any = [{"input_ids": row, "labels": row} for row in rows()]
    trainer = Trainer(
        LlamaForCausalLM(config), TrainingArguments(str(folder), **options | changes), train_dataset=data,
        callbacks=[] if callback is None else [callback],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.model is not None
    return trainer, left(trainer.model, trainer.optimizer)


def test_training_is_the_same_and_evaluations_appear(tmp_path):
    """Oracle: the run without the callback, bit for bit."""
    made = hook(tmp_path / "evals")
    seen = Seen(made)
    _, plain = train(tmp_path / "plain", None)
    trainer, watched = train(tmp_path / "watched", EvalCallback(made))
    assert same(plain, watched) and made.failures == 0
    assert trainer.model is not None and trainer.model.training
    found = Evaluations.open(tmp_path / "evals")
    assert [(one.step, one.members) for one in found.all] == [(3, (2, 3)), (6, (5, 6))]
    # Two batches make a step, and what is told is of that step.
    each = 4 * CONTEXT
    assert [(one["step"], one["tokens"]) for one in seen.steps] == [(i, i * each) for i in range(1, 7)]
    assert [one["lr"] for one in seen.steps] == pytest.approx([0, 5e-4, 1e-3, 7.5e-4, 5e-4, 2.5e-4])
    logged = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    assert [one["loss"] for one in seen.steps] == [None, None, logged[0], None, logged[1], None]
    made(7, trainer.model)  # closed: nothing happens
    assert len(Evaluations.open(tmp_path / "evals").all) == 2


def test_resumed(tmp_path):
    """Oracle: the uninterrupted run: weights, and every score."""
    whole = hook(tmp_path / "whole")
    seen = Seen(whole)
    saving = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2}
    _, at_end = train(tmp_path / "a", EvalCallback(whole), **saving)
    assert seen.saves == [(2, 2), (4, 2), (6, 4)]
    train(tmp_path / "b", EvalCallback(hook(tmp_path / "cut")), **saving)
    last = str(tmp_path / "b" / "checkpoint-4")
    _, again = train(tmp_path / "b", EvalCallback(lambda model: hook(tmp_path / "cut")), last, **saving)
    assert same(at_end, again)
    a, b = Evaluations.open(tmp_path / "whole"), Evaluations.open(tmp_path / "cut")
    assert scores(a) == scores(b) and [one.step for one in b.all] == [3, 6]
    assert [one.doubts for one in b.all] == [one.doubts for one in a.all]


def test_a_hook_per_call_of_train(tmp_path):
    models = []

    def make(model):
        models.append(model)
        return hook(tmp_path / str(len(models)))

    trainer, _ = train(tmp_path / "run", EvalCallback(make))
    trainer.train()
    assert models == [trainer.model] * 2
    for one in "12":
        assert [each.step for each in Evaluations.open(tmp_path / one).all] == [3, 6]


def test_tokens_that_are_not_counted(tmp_path):
    told = {}
    for name, options in (("none", {}), ("given", {"tokens_per_step": 96.0})):
        made = hook(tmp_path / name)
        seen = Seen(made)
        train(tmp_path / "run", EvalCallback(made, **options), include_num_input_tokens_seen="no")
        told[name] = [one["tokens"] for one in seen.steps]
        assert made.failures == 0
    assert told == {"none": [None] * 6, "given": [96.0 * i for i in range(1, 7)]}
