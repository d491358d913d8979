"""The hook as a callback of PyTorch Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from evalsuite.hook import EvalHook

try:
    from lightning.pytorch import Callback
except ImportError:  # the older name of the same package
    from pytorch_lightning import Callback  # pyright: ignore[reportMissingImports]


class EvalCallback(Callback):  # pyright: ignore[reportGeneralTypeIssues]
    """Calls an `EvalHook` after every optimiser step of a Lightning `Trainer`.

    For automatic optimisation, with one optimiser; batches whose gradients are only accumulated do not count
    as steps. Trainers of `lightning` and of `pytorch_lightning` take it.

    - Loss: the mean since the last one told, every `log_every_n_steps` of the trainer: reading it each step
      would wait for the device.
    - Checkpoints: Lightning tells of one before it is written, so the hook is told of the one before, and
      a resume may start from the two last ones and the one being written.

    Args:
        hook: an `EvalHook`, for one call of `fit`; or a function that makes one, called with the network when
            training begins.
        network: the module from token ids to logits, of a LightningModule; that module itself, if absent.
        tokens_per_step: over all ranks: rows of a batch * accumulation * ranks * tokens of a row. Lightning
            counts no tokens; without it the hook cannot choose between suites by compute.

    Example:
        >>> hook = EvalHook("early.yaml", tokenizer, folder="runs/a/evals", every=500)   # doctest: +SKIP
        >>> watching = EvalCallback(hook, network=lambda module: module.model)           # doctest: +SKIP
        >>> Trainer(max_steps=10_000, callbacks=[watching]).fit(module, batches)         # doctest: +SKIP
    """

    def __init__(
        self,
        hook: EvalHook | Callable[[nn.Module], EvalHook],
        *,
        network: Callable[[Any], nn.Module] | None = None,
        tokens_per_step: float | None = None,
    ) -> None:
        self.hook = hook if isinstance(hook, EvalHook) else None
        self.network, self.tokens_per_step = network, tokens_per_step
        self._make = None if isinstance(hook, EvalHook) else hook
        self._lr: float | None = None
        self._step = 0
        self._saved: int | None = None
        self._loss: Tensor | None = None  # summed, where it was computed
        self._losses = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._make is not None:
            self.hook = self._make(self._network(pl_module))
        self._step = trainer.global_step
        self._saved = trainer.global_step or None  # what a resumed run began with

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        # When the batch ends, the schedule has gone on to the rate of the next one.
        self._lr = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self.hook is not None
        if isinstance(outputs, Mapping) and "loss" in outputs:  # already divided by the batches of a step
            loss = outputs["loss"].detach()
            self._loss = loss if self._loss is None else self._loss + loss
        if trainer.global_step == self._step:
            return
        self._losses += trainer.global_step - self._step
        self._step = trainer.global_step
        told = None
        if self._loss is not None and self._step % max(trainer.log_every_n_steps, 1) == 0:
            told, self._loss, self._losses = float(self._loss) / self._losses, None, 0
        tokens = None if self.tokens_per_step is None else self._step * self.tokens_per_step
        self.hook(self._step, self._network(pl_module), tokens=tokens, lr=self._lr, loss=told)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self.hook is None or trainer.global_step == self._saved:
            return
        if self._saved is not None:
            self.hook.saved(self._saved)
        self._saved = trainer.global_step

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _network(self, module: Any) -> nn.Module:
        return module if self.network is None else self.network(module)

    def _close(self) -> None:
        if self.hook is not None:
            self.hook.close()
