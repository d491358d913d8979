"""The decoder: held against transformers, and against itself by masks, places and caches."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evalsuite.engine import Engine, Mode
from evalsuite.scorer import Scorer
from scaling.errors import UsageError
from tests.evalsuite.modules import naive, questions
from tests.evalsuite.tiny import tiny_tokenizer
from train.model import Model, ModelConfig, initialise, rotary, rotate
from train.mtp import TrainedModel

CONFIG = ModelConfig(
    vocab_size=61, width=32, layers=3, heads=4, kv_heads=4, head_width=8, hidden=48, context_length=40,
    rope_theta=5_000.0, norm_eps=1e-5, qk_norm=True, tied=True,
)  # fmt: skip
SHAPES = {
    "qwen, tied": CONFIG,
    "qwen, grouped": replace(CONFIG, kv_heads=2, tied=False),
    "qwen, one head of keys, tied": replace(CONFIG, kv_heads=1, head_width=12),
    "llama, tied": replace(CONFIG, qk_norm=False),
    "llama, grouped": replace(CONFIG, qk_norm=False, kv_heads=2, tied=False),
    "llama, wide heads": replace(CONFIG, qk_norm=False, head_width=24, tied=False),
}


def stirred(model: Any, seed: int = 0) -> Any:
    """The model with weights, those of norms too, that all matter to what it says."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=chance, dtype=torch.float64)
            weight.copy_(noise / weight.shape[1] ** 0.5 * 1.5 if weight.dim() == 2 else 1 + 0.3 * noise)
        model.model.embed_tokens.weight.mul_(2.0)
    return model


def made(config: ModelConfig = CONFIG, seed: int = 0, **how: Any) -> Model:
    return stirred(Model(config, **how), seed).eval()


def ids(rows: int = 3, length: int = 40, vocabulary: int = 61, seed: int = 1) -> Tensor:
    return torch.randint(0, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))


def library(model: Model) -> Any:
    """The same model as transformers has it."""
    c = model.config
    told: dict[str, Any] = {
        "vocab_size": c.vocab_size, "hidden_size": c.width, "intermediate_size": c.hidden,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_width, "max_position_embeddings": c.context_length, "rms_norm_eps": c.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "tie_word_embeddings": c.tied, "attention_bias": False, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    kinds: Any = transformers
    with torch.random.fork_rng():
        if c.qk_norm:
            theirs = kinds.Qwen3ForCausalLM(kinds.Qwen3Config(**told))
        else:
            theirs = kinds.LlamaForCausalLM(kinds.LlamaConfig(**told))
    theirs.load_state_dict(model.state_dict())
    return theirs.eval()


def precise(ours: Model, theirs: Any) -> None:
    """Both in float64. transformers rounds to float32 in the norms, which are told not to, and has a float32
    table of angles: both get an exact one."""
    ours.double()
    theirs.double()
    c = ours.config
    turn = np.outer(
        np.arange(c.context_length), c.rope_theta ** -(np.arange(0, c.head_width, 2) / c.head_width)
    )
    ours.cos, ours.sin = torch.from_numpy(np.cos(turn)), torch.from_numpy(np.sin(turn))

    def exact(norm: Any) -> Any:
        return lambda x: F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)

    for part in theirs.modules():
        if type(part).__name__.endswith("RMSNorm"):
            part.forward = exact(part)

    def angles(x: Tensor, position_ids: Tensor | None = None, **_: Any) -> tuple[Tensor, Tensor]:
        assert position_ids is not None
        cos, sin = (torch.cat((one, one), -1)[position_ids] for one in (ours.cos, ours.sin))  # type: ignore
        return cos, sin

    theirs.model.rotary_emb.forward = angles


def close(one: Tensor, other: Tensor, tolerance: float) -> None:
    """Apart by no more than a share of the largest."""
    assert one.dtype == other.dtype and one.shape == other.shape
    assert (one - other).abs().max() <= tolerance * other.abs().max()


# --- against transformers -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("exact", [False, True], ids=["float32", "float64"])
def test_logits_and_gradients_are_those_of_transformers(case, exact):
    """Oracle: Qwen3 and Llama of transformers, by the names of their weights; in float64 to 1e-10."""
    ours = made(SHAPES[case])
    theirs = library(ours)
    if exact:
        precise(ours, theirs)
    text = ids()
    logits, other = ours(text).logits, theirs(text, use_cache=False).logits
    assert logits.std() > 0.5
    close(logits, other, 1e-11 if exact else 2e-5)
    for one in (logits, other):
        F.cross_entropy(one[:, :-1].flatten(0, 1), text[:, 1:].flatten()).backward()
    wanted = dict(theirs.named_parameters())
    assert wanted.keys() == dict(ours.named_parameters()).keys()
    for name, weight in ours.named_parameters():
        assert weight.grad is not None and weight.grad.abs().max() > 1e-6, name
        close(weight.grad, wanted[name].grad, 1e-10 if exact else 1e-4)


@pytest.mark.parametrize("case", ["qwen, grouped", "llama, tied"])
def test_masks_and_places_are_those_of_transformers(case):
    """Oracle: transformers, given the same random 4-D mask and places."""
    ours = made(SHAPES[case])
    theirs = library(ours)
    precise(ours, theirs)
    text = ids(3, 20)
    chance = torch.Generator().manual_seed(5)
    seen = (torch.rand(3, 1, 20, 20, generator=chance) < 0.5).tril() | torch.eye(20, dtype=torch.bool)
    added = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)
    places = torch.randint(0, 40, (3, 20), generator=chance)
    with torch.no_grad():
        wanted = theirs(text, attention_mask=added, position_ids=places, use_cache=False).logits
        for mask in (seen, added, added.masked_fill(~seen, -torch.inf)):
            close(ours(text, attention_mask=mask, position_ids=places).logits, wanted, 1e-10)


def test_names_are_those_of_transformers():
    """Oracle: a model that transformers makes from the same shape."""
    for config in SHAPES.values():
        ours = Model(config)
        theirs = library(ours).state_dict()
        assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.items()}


# --- masks, places, cache -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["qwen, grouped", "llama, tied"])
def test_the_causal_mask_changes_nothing(case):
    """Oracle: the pass without a mask."""
    model = made(SHAPES[case])
    seen = torch.ones(40, 40, dtype=torch.bool).tril()
    with torch.no_grad():
        plain = model(ids()).logits
        for mask in (seen, seen.expand(3, 1, 40, 40), seen.expand(3, 4, 40, 40)):
            mask = mask if mask.dim() == 4 else mask[None, None]
            added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
            # An additive mask of another type is taken as well.
            for one in (mask, added, added.double().clamp(min=-1e30)):
                close(model(ids(), attention_mask=one).logits, plain, 1e-5)
        places = torch.arange(40).expand(3, 40)
        assert torch.equal(model(ids(), position_ids=places).logits, plain)
        assert torch.equal(model(ids(), position_ids=places[:1]).logits, plain)


@given(cuts=st.lists(st.integers(1, 39), max_size=3, unique=True).map(sorted))
@settings(max_examples=25)
def test_documents_apart_in_one_row(cuts):
    """Oracle: each document alone. A block mask and places that begin again part them."""
    model = made(SHAPES["qwen, grouped"]).double()
    text = ids(1)
    bounds = [0, *cuts, 40]
    lengths = np.diff(bounds)
    document = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    places = torch.from_numpy(np.concatenate([np.arange(n) for n in lengths]))[None]
    seen = (document[:, None] == document[None, :]).tril()[None, None]
    with torch.no_grad():
        alone = [model(text[:, a:b]).logits for a, b in pairwise(bounds)]
        close(model(text, attention_mask=seen, position_ids=places).logits, torch.cat(alone, 1), 1e-12)


@given(cuts=st.lists(st.integers(1, 39), min_size=1, max_size=4, unique=True).map(sorted))
@settings(max_examples=25)
def test_a_cache_goes_on_where_it_ended(cuts):
    """Oracle: the pass over the whole row, its keys and values too; parts of several lengths, one by one."""
    model = made(SHAPES["qwen, grouped"]).double()
    bounds = [0, *cuts, 40]
    with torch.no_grad():
        whole = model(ids(), use_cache=True)
        past, found = None, []
        for a, b in pairwise(bounds):
            out = model(ids()[:, a:b], past_key_values=past, use_cache=True)
            past = out.past_key_values
            found.append(out.logits)
    close(torch.cat(found, 1), whole.logits, 1e-12)
    assert past is not None and len(past) == 3 and past[0][0].shape == (3, 2, 40, 8)
    for one, other in zip(past, whole.past_key_values, strict=True):
        for a, b in zip(one, other, strict=True):
            close(a, b, 1e-12)


def test_a_cache_with_mask_and_places():
    """Oracle: the pass over the whole row with the mask and places of the whole."""
    model = made().double()
    chance = torch.Generator().manual_seed(2)
    seen = (torch.rand(3, 1, 40, 40, generator=chance) < 0.5).tril() | torch.eye(40, dtype=torch.bool)
    places = torch.randint(0, 40, (3, 40), generator=chance)
    with torch.no_grad():
        whole = model(ids(), attention_mask=seen, position_ids=places).logits
        first = model(
            ids()[:, :25], attention_mask=seen[:, :, :25, :25], position_ids=places[:, :25], use_cache=True
        )
        rest = model(
            ids()[:, 25:], attention_mask=seen[:, :, 25:], position_ids=places[:, 25:],
            past_key_values=first.past_key_values,
        )  # fmt: skip
    close(torch.cat((first.logits, rest.logits), 1), whole, 1e-12)
    assert rest.past_key_values is None


def test_only_distances_between_places_matter():
    """Oracle: rotary positions are relative (Su et al. 2021): a common shift changes nothing."""
    model = made().double()
    model.cos, model.sin = (one.double() for one in exact_angles(CONFIG))
    with torch.no_grad():
        here = model(ids(2, 20), position_ids=torch.arange(20)[None]).logits
        there = model(ids(2, 20), position_ids=torch.arange(20, 40)[None]).logits
        apart = model(ids(2, 20), position_ids=2 * torch.arange(20)[None]).logits
    close(here, there, 1e-11)
    assert (here - apart).abs().max() > 0.01 * here.abs().max()


def test_no_token_sees_what_comes_after():
    """Oracle: logits before a changed token stay to the last bit."""
    model = made()
    other = ids().clone()
    other[:, 25] = (other[:, 25] + 1) % 61
    with torch.no_grad():
        one, two = model(ids()).logits, model(other).logits
    assert torch.equal(one[:, :25], two[:, :25])
    assert (one[:, 25:] != two[:, 25:]).any(dim=-1).all()


# --- rotary positions -----------------------------------------------------------------------------------


def exact_angles(config: ModelConfig) -> tuple[Tensor, Tensor]:
    rate = np.longdouble(config.rope_theta) ** -(
        np.arange(0, config.head_width, 2, dtype=np.longdouble) / config.head_width
    )
    turn = np.outer(np.arange(config.context_length, dtype=np.longdouble), rate)
    cos, sin = (torch.from_numpy(one.astype(np.float64)) for one in (np.cos(turn), np.sin(turn)))
    return cos, sin


def test_angles_are_right_to_the_last_bit_at_far_places():
    """Oracle: numpy in extended precision; 100,000 places, where angles of float32 would be off by 1e-3."""
    config = replace(CONFIG, context_length=100_000, head_width=64)
    for ours, exact in zip(rotary(config), exact_angles(config), strict=True):
        assert ours.dtype == torch.float32
        assert (ours.double() - exact).abs().max() < 6.1e-8


def test_pairs_turn_as_complex_numbers():
    """Oracle: (one + i two) e^(i angle)."""
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, 8, generator=chance, dtype=torch.float64)
    angle = torch.rand(5, 1, 4, generator=chance, dtype=torch.float64) * 9
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angle), angle)
    assert torch.allclose(rotate(x, angle.cos(), angle.sin()), torch.cat((turned.real, turned.imag), -1))
    assert rotate(x.bfloat16(), angle.cos().float(), angle.sin().float()).dtype == torch.bfloat16


# --- the scorer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["qwen, grouped", "llama, tied"])
@pytest.mark.parametrize("depth", [0, 2])
def test_the_scorer_takes_it_as_fast_as_it_can(case, depth):
    """Oracle: each request alone through the model, and a sum in float64."""
    config = replace(SHAPES[case], vocab_size=384, context_length=512)
    model = stirred(TrainedModel(config, depth, eos=0) if depth else Model(config)).train()
    asked = questions(0, shared=40)
    scorer = Scorer(model, tiny_tokenizer())
    found, greedy = scorer.loglikelihoods(asked)
    model.eval()
    wanted, best = naive(model, asked)
    assert scorer.parity is not None and scorer.parity.mode == Mode(True, True, "chunks"), scorer.parity
    assert not scorer.parity.refused and scorer.max_length == 512
    assert scorer.parity.shown.branched and scorer.parity.shown.prefixed
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert greedy.tolist() == best.tolist()


def test_the_engine_knows_it():
    engine = Engine(made())
    assert engine.modes[0] == Mode(True, True, "chunks")
    assert engine.max_length == 40 and engine.vocabulary == 61 and engine.head is engine.inner.lm_head


# --- training -------------------------------------------------------------------------------------------


def test_recomputing_gives_the_same_gradients_to_the_bit():
    one, two = made(SHAPES["qwen, grouped"]).train(), made(SHAPES["qwen, grouped"], recompute=True).train()
    seen = torch.ones(3, 1, 40, 40, dtype=torch.bool).tril()
    for mask in (None, seen):
        losses = []
        for model in (one, two):
            model.zero_grad()
            losses.append(model(ids(), attention_mask=mask).logits.square().mean())
            losses[-1].backward()
        assert torch.equal(*losses)
        for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
            assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad), name


def test_recomputing_keeps_fewer_activations():
    """Counted: bytes that autograd keeps from the way there."""

    def kept(model: nn.Module) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = model(ids()).logits
        del out
        return sum(sizes.values())

    deep = replace(CONFIG, layers=6)
    assert kept(made(deep, recompute=True)) < 0.5 * kept(made(deep))


def test_a_tied_head_is_the_embedding():
    model = Model(CONFIG)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(model.named_parameters())
    loose = Model(replace(CONFIG, tied=False))
    assert loose.lm_head.weight is not loose.model.embed_tokens.weight


def test_weights_at_the_start():
    """Oracle: the deviations of GPT-2, 0.02, and over sqrt(2 layers) where the residual stream is written
    to."""
    config = replace(CONFIG, width=128, vocab_size=500, hidden=256, layers=4, head_width=32, tied=False)
    model = TrainedModel(config, depth=1)
    initialise(model, config.layers, seed=3)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == 1).all()
            continue
        wanted = 0.02 / 8**0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        assert abs(float(weight.detach().std()) / wanted - 1) < 0.03, name
        assert abs(float(weight.detach().mean())) < 0.03 * wanted, name


def test_the_start_follows_from_the_seed_alone():
    """Modules of multi-token prediction, and the random state of torch, change none of the other weights."""
    plain, deep, other = Model(CONFIG), TrainedModel(CONFIG, depth=2), Model(CONFIG)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    initialise(plain, 3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    initialise(deep, 3, seed=1)
    initialise(other, 3, seed=2)
    told = dict(deep.named_parameters())
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, told[name])
        assert weight.dim() == 1 or not torch.equal(weight, dict(other.named_parameters())[name])


# --- what is refused ------------------------------------------------------------------------------------


def test_more_tokens_than_it_reads():
    model = made()
    with pytest.raises(UsageError, match=r"given 41 tokens, it reads 40; cut them"):
        model(ids(1, 41))
    past = model(ids(1, 30), use_cache=True).past_key_values
    assert model(ids(1, 10), past_key_values=past).logits.shape == (1, 10, 61)
    with pytest.raises(UsageError, match=r"given 41 tokens, it reads 40"):
        model(ids(1, 11), past_key_values=past)


def test_a_mask_of_another_kind():
    with pytest.raises(UsageError, match=r"attention_mask of shape \[3, 40\]; valid is \[batch, 1, tokens"):
        made()(ids(), attention_mask=torch.ones(3, 40))


@pytest.mark.parametrize(
    "field", ["vocab_size", "width", "layers", "heads", "kv_heads", "head_width", "hidden", "context_length"]
)
def test_a_shape_without_size(field):
    with pytest.raises(UsageError, match=f"model: {field} is 0, valid is 1 or more"):
        replace(CONFIG, **{field: 0})


def test_shapes_that_do_not_fit():
    with pytest.raises(UsageError, match="heads is 4 and kv_heads 3; heads must be a multiple"):
        replace(CONFIG, kv_heads=3)
    with pytest.raises(UsageError, match="head_width is 7; rotary positions need an even one"):
        replace(CONFIG, head_width=7)
