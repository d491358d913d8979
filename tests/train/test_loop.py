"""The loop: the same curve however a batch is cut and computed, and what it does when numbers end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.prepared import Prepared
from scaling.errors import StagewiseError
from tests.train import runs
from tests.train.runs import (
    CHANGING,
    STEPS,
    Child,
    Harm,
    at,
    config,
    data,
    files,
    lines,
    losses,
    same,
    steps_of,
)
from train.checkpoint import Checkpoint
from train.config import RunConfig
from train.loop import CHECKPOINTS, Trainer
from train.mtp import TrainedModel
from train.optim import Optimisers
from train.plan import Plan

__all__ = ["data"]
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def trainer(folder: Path, told: RunConfig) -> Trainer:
    return Trainer(folder, Plan.of(told, Prepared.read(str(told.data.folder))))


def trained(one: Trainer, **more: Any) -> Any:
    with runs.no_measuring():
        return one.run(**more)


def curve(folder: Path, told: RunConfig) -> np.ndarray:
    """Losses of all depths, and bits per byte, of all steps."""
    runs.start(folder, told)
    bpb = [x for one in lines(folder) if one["kind"] == "validation" for x in one["bpb"].values()]
    return np.array([x for step in losses(folder) for x in step] + bpb)


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory) -> np.ndarray:
    """Of a run with five rows at once."""
    return curve(tmp_path_factory.mktemp("plain") / "run", config(data, batch__rows=5, **CHANGING))


# --- the same curve -----------------------------------------------------------------------------------


@pytest.mark.parametrize("micro", [1, 2, 3, 5, 100])
def test_rows_can_be_accumulated(data, plain, tmp_path, micro):
    """Float32 sums in another order; 18 steps of Muon and AdamW make 2e-7 of it here."""
    told = config(data, batch__rows=5, batch__micro=micro, **CHANGING)
    assert curve(tmp_path / "run", told) == pytest.approx(plain, rel=1e-5)


def test_activations_can_be_recomputed(data, plain, tmp_path):
    """To the bit: the same operations, once more."""
    told = config(data, batch__rows=5, device__recompute=True, **CHANGING)
    assert curve(tmp_path / "run", told).tolist() == plain.tolist()


@pytest.mark.slow
def test_blocks_can_be_compiled(data, plain, tmp_path):
    """Traced and partitioned as torch.compile does, but not turned into C++, which takes a minute."""
    told = config(data, batch__rows=5, device__compile=True, **CHANGING)
    runs.ran(runs.compiled, tmp_path / "run", told, "aot_eager")
    found = [x for step in losses(tmp_path / "run") for x in step]
    assert found == pytest.approx(plain[: len(found)], rel=1e-5)
    # Names of weights are those of the plain model, so that either goes on from the other's checkpoints.
    ours = Checkpoint(at(tmp_path / "run", STEPS), STEPS).tensors("model")
    assert ours.keys() == dict(trainer(tmp_path, config(data, **CHANGING)).model.named_parameters()).keys()


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler")
def test_blocks_can_become_machine_code(tmp_path):
    """Fused operations round otherwise. As little as can be: each shape costs seconds of the C++ compiler."""
    tokens = runs.tokens(tmp_path / "tokens", held_out=0.0)
    runs.start(tmp_path / "plain", config(tokens, steps=4))
    told = config(tokens, steps=4, device__compile=True)
    end = Child(runs.compiled, tmp_path / "run", told, "inductor", TORCHINDUCTOR_COMPILE_THREADS="1").end(150)
    assert (end.code, end.error, end.complaints) == (0, "", ())
    assert np.array(losses(tmp_path / "run")) == pytest.approx(np.array(losses(tmp_path / "plain")), rel=1e-5)


def test_half_precision_is_near(data, plain, tmp_path):
    """bfloat16 has 8 bits: a loss of 5 is known to some hundredths."""
    told = config(data, batch__rows=5, device__precision="bfloat16", **CHANGING)
    found = curve(tmp_path / "run", told)
    assert found == pytest.approx(plain, rel=0.01)
    assert found.tolist() != plain.tolist()
    kept = Checkpoint(at(tmp_path / "run", STEPS), STEPS).tensors("model")
    assert {one.dtype for one in kept.values()} == {torch.float32}


def test_a_first_step_by_hand(data, tmp_path):
    """Oracle: autograd over torch's cross_entropy, mean over all targets, then AdamW of torch."""
    told = config(
        data, steps=1, batch__rows=5, batch__micro=2, optim__name="adamw", optim__lr=0.01, optim__clip=0.5,
        schedule__kind="constant", schedule__warmup=0.0,
    )  # fmt: skip
    one, other = trainer(tmp_path / "run", told), trainer(tmp_path, told)
    trained(one)
    ids = torch.from_numpy(other.batches.batch(0).ids)
    logits = other.model(ids[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(other.model.parameters(), 0.5)
    other.optimisers.set_rate(0.01)
    other.optimisers.step()
    (line,) = (line for line in lines(tmp_path / "run") if line["kind"] == "train")
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-6) and line["rate"] == 0.01
    assert line["norm"] == pytest.approx(norm.item(), rel=1e-5) and line["norm"] > 0.5
    # The first step of Adam is a sign: a gradient near nothing may point either way.
    for (name, ours), theirs in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4, msg=lambda said, n=name: f"{n}: {said}")


def test_the_weight_of_deeper_losses(data, tmp_path):
    """Oracle: the gradient of L0 + weight mean(L1, L2), each a mean over its own targets."""
    told = config(data, steps=1, mtp__depth=2, mtp__weight=0.5, schedule__warmup=0.0)
    one = trainer(tmp_path / "run", told)
    batch = one.batches.batch(0)
    sums, counts = one._gradients(batch, 0.5)
    found = {name: p.grad for name, p in one.model.named_parameters()}
    one.optimisers.clear()
    each = one.model(torch.from_numpy(batch.ids), losses="sums")
    assert (counts[1:] <= torch.tensor([4 * 15, 4 * 14])).all() and counts[0] == 64
    mean = each / counts
    (mean[0] + 0.5 * mean[1:].mean()).backward()
    assert sums.tolist() == pytest.approx(each.tolist(), rel=1e-6)
    for name, p in one.model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_no_clipping(data, tmp_path):
    told = config(data, optim__clip=0.0, steps=4)
    other = config(data, optim__clip=1e9, steps=4)
    assert curve(tmp_path / "a", told).tolist() == curve(tmp_path / "b", other).tolist()


@pytest.mark.parametrize("every, steps", [(0, [18]), (1, list(range(1, 19))), (7, [7, 14, 18])])
def test_when_it_validates(data, tmp_path, every, steps):
    """The last step always, once."""
    runs.start(tmp_path / "run", config(data, validation__every=every))
    assert [one["step"] for one in lines(tmp_path / "run") if one["kind"] == "validation"] == steps


def test_validation_changes_nothing(data, tmp_path):
    runs.start(tmp_path / "a", config(data, validation__every=0))
    runs.start(tmp_path / "b", config(data, validation__every=1))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


# --- numbers that are none ----------------------------------------------------------------------------


def poisoned(monkeypatch, ids: Tensor) -> None:
    """A batch at which the model gives no number."""
    forward = TrainedModel.forward

    def passed(self: TrainedModel, input_ids: Tensor, *more: Any, **named: Any) -> Any:
        found: Any = forward(self, input_ids, *more, **named)
        if named.get("losses") == "sums" and bool((input_ids[0] == ids[0]).all()):
            found = found * float("nan")
        return found

    monkeypatch.setattr(TrainedModel, "forward", passed)


def test_a_batch_that_gives_no_number_is_skipped(data, tmp_path, monkeypatch):
    """Step 5 changes no weight, the rest goes on; also where it is resumed."""
    told = config(data, checkpoint__every=1, steps=8)
    poisoned(monkeypatch, torch.from_numpy(trainer(tmp_path, told).batches.batch(4).ids))
    outcome = runs.start(tmp_path / "run", told)
    assert (outcome.step, outcome.skipped) == (8, 1)
    train = [one for one in lines(tmp_path / "run") if one["kind"] == "train"]
    assert [one.get("skipped") for one in train] == [None] * 4 + ["loss is nan"] + [None] * 3
    assert train[4]["loss"] is None and all(one["loss"] < 6 for one in train if one["step"] != 5)
    before, after = files(at(tmp_path / "run", 4)), files(at(tmp_path / "run", 5))
    for name in ("model", "optimizer"):
        ours, theirs = (Checkpoint(at(tmp_path / "run", s), s).tensors(name) for s in (4, 5))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert before["state.json"] != after["state.json"]
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    for step in (5, 6, 7, 8):
        shutil.rmtree(at(tmp_path / "again", step))
    assert runs.resume(tmp_path / "again").skipped == 1
    same(tmp_path / "again", tmp_path / "run", 8)


def test_a_gradient_that_is_no_number_is_skipped(data, tmp_path):
    one = trainer(tmp_path / "run", config(data, steps=6))
    calls = [0]

    def broken(grad: Tensor) -> Tensor:
        calls[0] += 1
        return grad * float("inf") if calls[0] == 3 else grad

    one.model.model.norm.weight.register_hook(broken)
    outcome = trained(one)
    assert outcome.skipped == 1
    told = [line.get("skipped") for line in lines(tmp_path / "run") if line["kind"] == "train"]
    assert told[2] is not None and told[2].startswith("norm of the gradient is ")
    assert [told[i] for i in (0, 1, 3, 4, 5)] == [None] * 5


def broken_at(one: Trainer, step: int) -> Any:
    """A progress callback that breaks a weight."""

    def progress(done: int, total: int, text: str) -> None:
        if done == step:
            with torch.no_grad():
                one.model.model.norm.weight[0] = float("nan")

    return progress


def test_it_ends_after_some_skipped_in_a_row(data, tmp_path):
    told = config(data, guard__stop_after=2, validation__every=0)
    one = trainer(tmp_path / "run", told)
    with pytest.raises(StagewiseError, match="loss is nan; 2 steps in a row were skipped, the run") as caught:
        trained(one, progress=broken_at(one, 3))
    assert "The last checkpoint stands" in str(caught.value)
    assert steps_of(tmp_path / "run") == [3]
    Checkpoint(at(tmp_path / "run", 3), 3).verify()
    assert [line["step"] for line in lines(tmp_path / "run") if "skipped" in line] == [4]


def test_a_broken_model_takes_no_place_among_checkpoints(data, tmp_path):
    """While steps are skipped none is written: else the broken ones would push out all that are whole."""
    told = config(data, guard__stop_after=12, checkpoint__every=1, validation__every=0)
    one = trainer(tmp_path / "run", told)
    with pytest.raises(StagewiseError, match="12 steps in a row"):
        trained(one, progress=broken_at(one, 3))
    for step in steps_of(tmp_path / "run"):
        weights = Checkpoint(at(tmp_path / "run", step), step).tensors("model")
        assert all(bool(weight.isfinite().all()) for weight in weights.values()), step


def test_validation_without_a_number_does_not_hide_why(data, tmp_path):
    """It is logged as null; what ends the run is the guard."""
    told = config(data, guard__stop_after=6, validation__every=6)
    one = trainer(tmp_path / "run", told)
    with pytest.raises(StagewiseError, match=r"loss is nan; 6 steps in a row"):
        trained(one, progress=broken_at(one, 3))
    (line,) = (line for line in lines(tmp_path / "run") if line["kind"] == "validation")
    assert set(line["bpb"].values()) == {None}


def test_it_may_go_on_for_ever(data, tmp_path):
    one = trainer(tmp_path / "run", config(data, guard__stop_after=0, validation__every=0, steps=12))
    weights = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    assert trained(one, progress=broken_at(one, 1)).skipped == 11
    assert bool(one.model.model.norm.weight[0].isnan())
    assert any(not torch.equal(p, weights[name]) for name, p in one.model.named_parameters())


def test_a_loss_that_jumps_is_skipped(data, tmp_path, monkeypatch):
    """Against the last 25 losses, ten times as much is far outside."""
    told = config(data, steps=30, guard__spike=6.0)
    one = trainer(tmp_path / "run", told)
    gradients = one._gradients

    def raised(batch: Any, weight: float) -> Any:
        sums, counts = gradients(batch, weight)
        return (sums * 10 if one.step == 25 else sums), counts

    monkeypatch.setattr(one, "_gradients", raised)
    assert trained(one).skipped == 1
    (line,) = (line for line in lines(tmp_path / "run") if "skipped" in line)
    assert line["step"] == 26 and "jumped above" in line["skipped"]


# --- how it ends --------------------------------------------------------------------------------------


def test_an_error_of_an_optimiser_leaves_what_was_written(data, tmp_path, monkeypatch):
    step = Optimisers.step
    calls = [0]

    def broken(self: Optimisers) -> None:
        calls[0] += 1
        if calls[0] == 5:
            raise RuntimeError("out of memory")
        step(self)

    told = config(data)
    with monkeypatch.context() as patch:
        patch.setattr(Optimisers, "step", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            runs.start(tmp_path / "run", told)
    assert steps_of(tmp_path / "run") == [3]
    runs.resume(tmp_path / "run")
    runs.start(tmp_path / "whole", told)
    same(tmp_path / "run", tmp_path / "whole")


def test_a_checkpoint_that_cannot_be_written_ends_it(data, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINTS).write_text("a file where a folder should be")
    with pytest.raises(StagewiseError, match=r"checkpoints"):
        runs.start(tmp_path / "run", config(data))


def test_a_signal_at_the_last_step(data, tmp_path):
    """The run is at its end: nothing is left to go on with."""
    end = Child(runs.train, tmp_path / "run", config(data), Harm(at=STEPS - 1, signals=("SIGTERM",))).end()
    assert end.code == 0 and end.value["step"] == STEPS
    assert steps_of(tmp_path / "run")[-1] == STEPS
