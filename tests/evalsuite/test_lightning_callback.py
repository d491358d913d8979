"""The hook inside PyTorch Lightning: real training of a tiny module with dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from evalsuite.evaluations import Evaluations
from evalsuite.lightning_callback import EvalCallback
from tests.evalsuite.net import Net
from tests.evalsuite.trainers import CONTEXT, Seen, hook, left, rows, same, scores

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended"),
]


def module_of(package: Any, dropout: float) -> Any:
    """A module of either package, whose batches follow from their number: Lightning does not store what a
    loader has given, nor random states."""

    class Module(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Net(dropout=dropout)

        def training_step(self, batch, batch_idx):
            batch = rows(2, seed=batch_idx)
            logits = self.model(batch[:, :-1])
            return nn.functional.cross_entropy(logits.transpose(1, 2), batch[:, 1:])

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 6)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    return Module()


def train(
    folder: Path, *callbacks: Any, resume: Path | None = None, package: Any = lightning, dropout: float = 0.1,
    **changes: Any,
):  # fmt: skip
    """Six steps of four rows; returns the trainer and what it left."""
    torch.manual_seed(0)
    module = module_of(package, dropout)
    options: dict[str, Any] = {
        "max_steps": 6, "accumulate_grad_batches": 2, "accelerator": "cpu", "devices": 1, "logger": False,
        "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 2,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
    }  # fmt: skip
    trainer = package.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options | changes)
    trainer.fit(module, DataLoader(rows(), batch_size=2), ckpt_path=None if resume is None else str(resume))  # type: ignore[arg-type]
    return trainer, left(module.model, trainer.optimizers[0])


def watching(made: Any) -> EvalCallback:
    return EvalCallback(made, network=lambda module: module.model, tokens_per_step=4 * CONTEXT)


@pytest.mark.parametrize("package", [lightning, pytorch_lightning], ids=["lightning", "pytorch_lightning"])
def test_training_is_the_same_and_evaluations_appear(tmp_path, package):
    """Oracle: the run without the callback, bit for bit; losses by hand."""
    losses: list[float] = []

    class Losses(package.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(2 * float(outputs["loss"]))

    made = hook(tmp_path / "evals")
    seen = Seen(made)
    _, plain = train(tmp_path, Losses(), package=package)
    trainer, watched = train(tmp_path, watching(made), package=package)
    assert same(plain, watched) and made.failures == 0
    found = Evaluations.open(tmp_path / "evals")
    assert [(one.step, one.members) for one in found.all] == [(3, (2, 3)), (6, (5, 6))]
    # Two batches make a step, and what is told is of that step.
    assert [(one["step"], one["tokens"]) for one in seen.steps] == [(i, i * 4 * CONTEXT) for i in range(1, 7)]
    assert [one["lr"] for one in seen.steps] == pytest.approx([1e-3 * i / 6 for i in range(1, 7)])
    assert len(losses) == 12
    means = [sum(losses[i : i + 4]) / 4 for i in (0, 4, 8)]
    assert [one["loss"] for one in seen.steps][::2] == [None] * 3
    assert [one["loss"] for one in seen.steps][1::2] == pytest.approx(means, rel=1e-6)
    made(7, trainer.lightning_module.model)  # closed: nothing happens
    assert len(Evaluations.open(tmp_path / "evals").all) == 2


def test_resumed(tmp_path):
    """Oracle: the uninterrupted run: weights, and every score."""

    def go(name: str, watch: Any, **options: Any) -> dict[str, Any]:
        saves = ModelCheckpoint(tmp_path / name, every_n_train_steps=2, save_top_k=-1, filename="{step}")
        return train(tmp_path, watching(watch), saves, dropout=0.0, **options)[1] | {"random": torch.zeros(0)}

    whole = hook(tmp_path / "whole")
    seen = Seen(whole)
    at_end = go("a", whole)
    # Told of each when the next one is written: only then it is surely on the disk.
    assert seen.saves == [(2, None), (4, None)]
    go("b", hook(tmp_path / "cut"), max_steps=5)
    again = go("b", lambda network: hook(tmp_path / "cut"), resume=tmp_path / "b" / "step=4.ckpt")
    assert same(at_end, again)
    a, b = Evaluations.open(tmp_path / "whole"), Evaluations.open(tmp_path / "cut")
    assert scores(a) == scores(b) and [one.step for one in b.all] == [3, 6]
    assert [one.doubts for one in b.all] == [one.doubts for one in a.all]


def test_an_error_in_training_closes_the_hook(tmp_path):
    class Failing(lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 4:
                raise RuntimeError("no more data")

    made = hook(tmp_path / "evals")
    with pytest.raises(RuntimeError, match="no more data"):
        train(tmp_path, watching(made), Failing())
    made(6, Net())
    assert [one.step for one in Evaluations.open(tmp_path / "evals").all] == [3] and made.failures == 0
