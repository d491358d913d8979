"""What a shape costs: counted from the model that is built, and from the products it makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scaling.errors import UsageError
from tests.train.test_model import SHAPES, ids
from train.model import ModelConfig
from train.mtp import TrainedModel
from train.sizes import PRESETS, preset, size_of


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("depth", [0, 3])
def test_weights_are_those_of_the_model(case, depth):
    """Oracle: parameters of the model itself."""
    model = TrainedModel(SHAPES[case], depth)
    size = size_of(SHAPES[case], 40, depth)
    found = {name: p.numel() for name, p in model.named_parameters()}
    assert size.mtp == sum(n for name, n in found.items() if name.startswith("mtp."))
    assert size.params == sum(found.values()) - size.mtp
    assert size.embedding == found["model.embed_tokens.weight"]
    assert size.head == found.get("lm_head.weight", 0)
    assert size.six_n == 6 * size.params and size.length == 40


def counted(config: ModelConfig, length: int, depth: int = 0, rows: int = 3) -> float:
    """FLOPs that torch counts on the way there, by token. Attention is made of plain products, as the one
    kernel that a CPU has for it is not counted at all."""
    model = TrainedModel(config, depth)
    text = ids(rows, length + 1)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        if depth:
            model(text, losses="sums")
        else:
            model(text[:, :-1])
    return counter.get_total_flops() / (rows * length)


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("length", [1, 17, 40])
def test_flops_of_the_forward_pass_are_those_that_torch_counts(case, length):
    """Oracle: FlopCounterMode. It counts attention over the whole square of places, 4 h e length by token and
    layer; a causal one needs the half below the diagonal, (length + 1) / 2 of them, which is what `forward`
    says."""
    config = SHAPES[case]
    square = 4 * config.heads * config.head_width * config.layers
    found = size_of(config, length).forward + square * (length - (length + 1) / 2)
    assert found == counted(config, length)


@pytest.mark.parametrize("case", ["qwen, grouped", "llama, tied"])
@pytest.mark.parametrize("depth", [1, 3])
def test_flops_of_deeper_prediction(case, depth):
    """Oracle: FlopCounterMode, corrected as above. Depth k reads k places less than a row has; `forward`
    counts whole rows, which is more by that share of a module, at most."""
    config, length = SHAPES[case], 40
    e = config.heads * config.head_width
    size = size_of(config, length, depth)
    exact = size_of(config, length).forward + 4 * e * config.layers * (length - (length + 1) / 2)
    for k in range(1, depth + 1):
        places = length - k
        module = (size.forward - size_of(config, length).forward) / depth - 4 * e * (length + 1) / 2
        exact += places / length * (module + 4 * e * places)
    assert counted(config, length, depth) == pytest.approx(exact, rel=1e-12)
    assert size.training == 3 * size.forward


@pytest.mark.parametrize("depth", [0, 1])
def test_training_costs_three_forward_passes(depth):
    """Oracle: FlopCounterMode over both passes: twice as much on the way back as on the way there. The fused
    loss makes its share on the way there; one of its products, `addmm_`, the counter does not know, and it is
    added."""
    config = SHAPES["llama, grouped"]
    model = TrainedModel(config, depth)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids(3, 41), losses="sums").sum().backward()
    unknown = 2 * 61 * 32 * (1 + (39 / 40 if depth else 0))
    found = counter.get_total_flops() / (3 * 40) + unknown
    assert found == pytest.approx(3 * counted(config, 40, depth), rel=1e-12)


@pytest.mark.parametrize("name", PRESETS)
def test_the_ladder(name):
    """A preset is named after the weights of its blocks, to a digit or so; depth and width grow together."""
    shape = preset(name, vocab_size=4096, context_length=256)
    size = size_of(shape, 256)
    told = float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]
    assert 0.75 < size.blocks / told < 1.25 or round(size.blocks / 1e6, 2) == told / 1e6
    assert shape.heads * shape.head_width == shape.width
    assert shape.hidden % 32 == 0 and 0 <= shape.hidden - shape.width * 8 / 3 < 32
    assert shape.kv_heads == shape.heads and shape.tied and shape.qk_norm
    # ... so that a block has about 12 width^2 weights.
    assert 0.99 < size.blocks / (shape.layers * 12 * shape.width**2) < 1.1


def test_the_ladder_ascends():
    sizes = [size_of(preset(name, vocab_size=4096, context_length=64), 64).blocks for name in PRESETS]
    assert sizes == sorted(sizes)


def test_what_differs_from_a_preset():
    shape = preset("0.3m", vocab_size=300, context_length=64, kv_heads=1, hidden=50, tied=False)
    wanted = preset("0.3m", vocab_size=300, context_length=64)
    assert shape == replace(wanted, kv_heads=1, hidden=50, tied=False)
    assert preset("0.1m", vocab_size=9, context_length=8, width=128).hidden == 352  # 8/3 of 128, up to 32s
    assert preset("0.1m", vocab_size=9, context_length=8, heads=4).kv_heads == 4


def test_no_such_preset():
    with pytest.raises(
        UsageError, match=r"model: preset '0\.1': valid are 0\.01m, .*; did you mean '0\.1m'\?"
    ):
        preset("0.1", vocab_size=9, context_length=8)
    with pytest.raises(UsageError, match=r"preset 'large': valid are 0\.01m, [^;]*$"):
        preset("large", vocab_size=9, context_length=8)
