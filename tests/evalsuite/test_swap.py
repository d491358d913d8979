"""Other values in a model for a while: its own come back bit for bit, and training does not notice."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evalsuite.mean import Lazy
from evalsuite.swap import everyone, named_tensors, swapped, together
from scaling.errors import StagewiseError, UsageError


class Model(nn.Module):
    """Tied weights, buffers of all kinds, several dtypes, chance, and state that a forward pass changes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(7, 4)
            self.module = nn.Linear(4, 4)  # a name that wrappers use too
            self.norm = nn.BatchNorm1d(4)
            self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight
        self.drop = nn.Dropout(0.3)
        self.low = nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(1)).bfloat16())
        self.register_buffer("odd", torch.tensor([float("nan"), -0.0, float("-inf")]))
        self.register_buffer("unsaved", torch.arange(3.0), persistent=False)
        self.register_buffer("wide", torch.ones(1).expand(5))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.drop(self.norm(self.module(self.embed(ids))))
        return self.head(x) + self.low.float().sum() + self.unsaved.sum()


NAMES = [
    "low", "embed.weight", "module.weight", "module.bias", "norm.weight", "norm.bias", "odd", "unsaved",
    "wide", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
]  # fmt: skip


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def state(model: nn.Module) -> dict[str, bytes]:
    """Every bit of parameters, buffers, and gradients."""
    told = {name: bits(one) for name, one in (*model.named_parameters(), *model.named_buffers())}
    return told | {f"{n}.grad": bits(p.grad) for n, p in model.named_parameters() if p.grad is not None}


def others(model: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    made = torch.Generator().manual_seed(seed)
    found = {}
    for name, one in named_tensors(model).items():
        found[name] = torch.rand(one.shape, generator=made).to(one.dtype).clone()
    found["wide"] = torch.full((5,), 0.25)
    return found


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    # NaNs with a message of their own, as only bits tell.
    with torch.no_grad():
        model.module.weight.view(torch.int32)[0, 0] = 0x7FC12345
        model.module.weight.view(torch.int32)[0, 1] = -1
        model.low.view(torch.int16)[0] = 0x7FC5
    return model


# --- names --------------------------------------------------------------------------------------------


def test_names(model):
    """Tied weights once, buffers that are not saved too; they share memory with the model."""
    found = named_tensors(model)
    assert list(found) == NAMES
    assert found["module.weight"].data_ptr() == model.module.weight.data_ptr()
    assert not any(one.requires_grad for one in found.values())


def test_ties_by_memory_count_once():
    one = nn.Linear(3, 3, bias=False)
    two = nn.Linear(3, 3, bias=False)
    two.weight = nn.Parameter(one.weight.data)
    turned = nn.Linear(3, 3, bias=False)
    turned.weight = nn.Parameter(one.weight.data.T)  # another view: not the same numbers at the same places
    empty = nn.Module()
    empty.register_buffer("a", torch.zeros(0))
    empty.register_buffer("b", torch.zeros(0))
    assert list(named_tensors(nn.Sequential(one, two, turned, empty))) == [
        "0.weight",
        "2.weight",
        "3.a",
        "3.b",
    ]


def test_wrappers_do_not_change_names(model, tmp_path):
    compiled = partial(torch.compile, backend="eager")
    assert list(named_tensors(compiled(model))) == NAMES
    assert list(named_tensors(nn.DataParallel(model))) == NAMES
    assert list(named_tensors(compiled(nn.DataParallel(compiled(model))))) == NAMES
    model.norm = compiled(model.norm)
    assert list(named_tensors(model)) == NAMES
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'a'}", rank=0, world_size=1)
    model.wide = torch.ones(5)  # DDP cannot send the other
    try:
        assert list(named_tensors(nn.parallel.DistributedDataParallel(model))) == NAMES
    finally:
        torch.distributed.destroy_process_group()


def test_a_model_within_a_module_of_ones_own():
    """Only a wrapper without weights of its own is looked through."""
    outer = nn.Module()
    outer.module = nn.Linear(2, 1)
    assert list(named_tensors(outer)) == ["weight", "bias"]
    outer.scale = nn.Parameter(torch.ones(1))
    assert list(named_tensors(outer)) == ["scale", "module.weight", "module.bias"]
    assert list(named_tensors(nn.Sequential(nn.Linear(2, 1)))) == ["0.weight", "0.bias"]


class Odd(Tensor):
    pass


def held(tensor: Any) -> nn.Module:
    module = nn.Module()
    module.register_buffer("b", tensor)
    return module


def test_what_cannot_be_averaged():
    one = nn.Linear(2, 2)
    one.weight.ds_id = 1
    wrapped = nn.Module()
    wrapped.a = nn.Module()
    wrapped.a._fsdp_wrapped_module = nn.Linear(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    for model, what in (
        (held(torch.zeros(2, device="meta")), "b is on the meta device"),
        (held(torch.eye(2).to_sparse()), "b is torch.sparse_coo"),
        (held(quantised), "b is torch.strided torch.qint8"),
        (held(torch.zeros(2).as_subclass(Odd)), "b is a Odd"),
        (nn.LazyLinear(2), "weight is a UninitializedParameter"),
        (one, "weight is sharded by DeepSpeed"),
        (wrapped, "weight is sharded by FullyShardedDataParallel"),
    ):
        with pytest.raises(UsageError, match=what):
            named_tensors(model)


# --- there and back -----------------------------------------------------------------------------------


def test_there_and_back(model):
    model(torch.arange(7)).sum().backward()
    before, values = state(model), others(model)
    grads = {name: p.grad for name, p in model.named_parameters()}
    tensors = dict(named_tensors(model))
    with swapped(model, values):
        for name, one in named_tensors(model).items():
            assert bits(one) == bits(values[name]), name
        assert model.head.weight is model.embed.weight
    assert state(model) == before
    assert {name: p.grad for name, p in model.named_parameters()} == grads
    assert all(one.data_ptr() == tensors[name].data_ptr() for name, one in named_tensors(model).items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_body_raises(model, error):
    before = state(model)
    with pytest.raises(error), swapped(model, others(model)):
        raise error("in the body")
    assert state(model) == before


def test_what_the_body_does_to_the_model_is_undone(model):
    """A forward pass in training mode moves buffers; some models put a new tensor in place of one."""
    before, had = state(model), model.unsaved
    with swapped(model, others(model)):
        model.train()(torch.arange(7))
        with torch.no_grad():
            model.low.fill_(3)
            model.odd.zero_()
        model.unsaved = torch.zeros(9)
    assert state(model) == before and model.unsaved is had


FOREIGN = {
    "missing": lambda v: v.pop("odd"), "one too many": lambda v: v.update(more=torch.zeros(1)),
    "shape": lambda v: v.update(odd=torch.zeros(4)),
    "fits by broadcast": lambda v: v.update(odd=torch.zeros(1)),
    "dtype": lambda v: v.update(low=torch.zeros(3)),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("lazy", [False, True])
def test_other_names_and_shapes_are_found_before_anything_is_touched(model, case, lazy):
    values, touched = others(model), []
    FOREIGN[case](values)
    if lazy:
        kinds = {name: (tuple(one.shape), one.dtype) for name, one in values.items()}
        values = Lazy(kinds, touched.append)  # pyright: ignore[reportArgumentType]
    before, versions = state(model), [one._version for one in named_tensors(model).values()]
    with pytest.raises(StagewiseError, match=r"(odd|more|low) is .*, the model has .* \(1 of 12"):
        with swapped(model, values):
            pytest.fail("the body ran")
    assert state(model) == before and touched == []
    assert [one._version for one in named_tensors(model).values()] == versions


@pytest.mark.parametrize("at", range(len(NAMES)))
def test_a_value_that_cannot_be_had(model, at):
    values, before = others(model), state(model)

    def compute(name: str) -> Tensor:
        if name == NAMES[at]:
            raise OSError("gone")
        return values[name]

    lazy = Lazy({name: (tuple(one.shape), one.dtype) for name, one in values.items()}, compute)
    with pytest.raises(OSError, match="gone"), swapped(model, lazy):
        pytest.fail("the body ran")
    assert state(model) == before


def test_one_value_at_a_time(model):
    """Each is asked for once, and let go before the next."""
    import weakref

    alive: list[weakref.ref[Tensor]] = []
    values = others(model)

    def compute(name: str) -> Tensor:
        assert not any(one() is not None for one in alive[:-1])
        found = values[name].clone()
        alive.append(weakref.ref(found))
        return found

    with swapped(model, Lazy({n: (tuple(v.shape), v.dtype) for n, v in values.items()}, compute)):
        assert len(alive) == len(NAMES)


def test_within_each_other(model):
    before = state(model)
    with swapped(model, others(model, 1)):
        inner = state(model)
        with swapped(model, others(model, 2)):
            assert state(model) != inner
        assert state(model) == inner
    assert state(model) == before


def test_a_compiled_model(model):
    values = others(model)
    wrapped = torch.compile(model, backend="eager")
    before = state(model)
    with swapped(wrapped, values):
        assert bits(model.low) == bits(values["low"])
    assert state(model) == before


def test_inference_mode(model):
    before = state(model)
    with torch.inference_mode(), swapped(model, others(model)):
        model(torch.arange(7))
    assert state(model) == before
    model(torch.arange(7)).sum().backward()


# --- training -----------------------------------------------------------------------------------------


def trained(evaluate: bool) -> list[Any]:
    """All that a run is made of after ten steps with dropout."""
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    model = Model()
    model.odd.zero_()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    losses = []
    for step in range(10):
        for micro in range(2):
            loss = model(torch.randint(0, 7, (8,)))[:, micro].square().mean()
            loss.backward()
            losses.append(float(loss.detach()).hex())
        if evaluate and step % 3 == 0:  # gradients are there meanwhile
            with swapped(model, others(model, step)), torch.no_grad():
                model.eval()(torch.arange(7))
                model.train()
        optimiser.step()
        optimiser.zero_grad()
        if evaluate and step % 2:
            with swapped(model, others(model, step)), torch.no_grad():
                model.eval()(torch.arange(7))
                model.train()
    slots = [bits(one) for s in optimiser.state.values() for one in s.values()]
    chance = [bits(torch.get_rng_state()), random.getstate(), np.random.get_state()[1].tolist()]
    return [losses, state(model), slots, chance]


def test_training_does_not_notice():
    """Oracle: training without; losses, weights, buffers, slots of the optimiser, and chance."""
    assert trained(True) == trained(False)


# --- ranks --------------------------------------------------------------------------------------------


def test_alone():
    assert everyone("x") == ["x"]
    with together():
        pass
    with pytest.raises(ZeroDivisionError), together():
        raise ZeroDivisionError
