"""Driving a model: every architecture against the naive way, and the model is left as it was found.

Oracle of the numbers: `modules.naive`, each request alone through the model, log_softmax in float64.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evalsuite.engine import Engine, Mode
from evalsuite.packing import pack
from evalsuite.scorer import Scorer
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.modules import (
    VOCABULARY,
    Breaks,
    Bytes,
    Masked,
    Noisy,
    ReturnsObject,
    SoftCapped,
    Toy,
    naive,
    questions,
)  # fmt: skip

# Whether half precision is fast here is measured, and told by a warning where it is not.
pytestmark = pytest.mark.filterwarnings("ignore:autocast to:RuntimeWarning")

FULL = Mode(packed=True, cached=True, head="chunks")
SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 256,
}  # fmt: skip
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
WINDOW = {"num_key_value_heads": 1, "sliding_window": 16}

# Configuration, what it is made of, the mode where that is certain, and the error in float64. Some compute a
# part in float32 whatever their weights are: 1e-7 is then what two ways of summing may differ by.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], Mode | None, float]] = {
    "llama": ("LlamaConfig", {**SMALL, "num_key_value_heads": 1}, FULL, 1e-10),
    "gpt2": ("GPT2Config", GPT, FULL, 1e-10),
    "gpt_neox": ("GPTNeoXConfig", SMALL, FULL, 1e-10),
    "qwen3": ("Qwen3Config", {**SMALL, "num_key_value_heads": 1, "head_dim": 16}, FULL, 1e-10),
    "opt": ("OPTConfig", {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}, FULL, 1e-10),
    # A window, and logits capped after the head.
    "gemma2": (
        "Gemma2Config", {**SMALL, **WINDOW, "head_dim": 16, "final_logit_softcapping": 3.0},
        Mode(head="scored"), 1e-7,
    ),
    "mistral": ("MistralConfig", {**SMALL, **WINDOW}, Mode(head="chunks"), 1e-7),
    # No positions in their signature, or a mask that is no mask of pairs.
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 2}, Mode(head="chunks"), 1e-7),
    "falcon": (
        "FalconConfig", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True},
        Mode(head="chunks"), 1e-7,
    ),
    "gptj": ("GPTJConfig", {**GPT, "rotary_dim": 8}, FULL, 1e-7),
    "mpt": (
        "MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 256}, Mode(head="chunks"),
        1e-7,
    ),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, None, 1e-6),
}  # fmt: skip


def made(name: str, dtype: torch.dtype, **changes: Any) -> nn.Module:
    """A tiny model of an architecture of transformers, its weights large enough that context matters."""
    import transformers

    kind, parts, _, _ = ARCHITECTURES[name]
    config = getattr(transformers, kind)(
        vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, pad_token_id=1, **(parts | changes)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(5.0)
    return model.to(dtype).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_scores_as_the_naive_way(name):
    _, _, mode, error = ARCHITECTURES[name]
    for dtype, rtol, atol in (
        (torch.float64, error, error),
        (torch.float32, 1e-5 if mode is None else 2e-6, 1e-5),
    ):
        model = made(name, dtype)
        scorer = Scorer(model, Bytes(), max_length=256)
        # Without and with a common beginning, and free answers.
        for asked in (
            questions(1),
            questions(2, shared=20, context=(2, 8)),
            questions(3, answers=1, shared=30),
        ):
            ll, greedy = scorer.loglikelihoods(asked)
            expected, likeliest = naive(model, asked)
            np.testing.assert_allclose(ll, expected, rtol=rtol, atol=atol, err_msg=f"{name} {dtype}")
            np.testing.assert_array_equal(greedy, likeliest)
            if mode is not None:
                assert scorer.parity is not None and scorer.parity.mode == mode, scorer.parity.words


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_packed_equals_plain_in_float64(name):
    """Oracle: the same scorer with the plain mode alone."""
    model = made(name, torch.float64)
    asked = questions(1, items=30, shared=20)
    plain, _ = Scorer(model, Bytes(), modes=[Mode()]).loglikelihoods(asked)
    for mode in Engine(model).modes:
        scorer = Scorer(model, Bytes(), modes=[mode])
        ll, _ = scorer.loglikelihoods(asked)
        assert scorer.parity is not None and scorer.parity.mode == mode
        np.testing.assert_allclose(ll, plain, rtol=1e-10, atol=1e-10, err_msg=str(mode))


def test_a_window_that_never_closes_does_not_stand_in_the_way():
    """As many models have one, longer than any item; rows of several items are longer than each of them."""
    model = made("mistral", torch.float32, sliding_window=64)
    scorer = Scorer(model, Bytes(), max_length=256)
    asked = questions(2, items=40, context=(5, 20))
    np.testing.assert_allclose(scorer.loglikelihoods(asked)[0], naive(model, asked)[0], rtol=2e-6, atol=1e-5)
    longer = questions(3, items=10, context=(70, 90))
    np.testing.assert_allclose(
        scorer.loglikelihoods(longer)[0], naive(model, longer)[0], rtol=2e-6, atol=1e-5
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_ways_to_attend(attention):
    model = made("llama", torch.float32, attn_implementation=attention)
    scorer = Scorer(model, Bytes())
    asked = questions(4, shared=20)
    np.testing.assert_allclose(scorer.loglikelihoods(asked)[0], naive(model, asked)[0], rtol=2e-6, atol=1e-5)
    assert scorer.parity is not None and scorer.parity.mode == FULL


@pytest.mark.filterwarnings("ignore:autocast to:RuntimeWarning")  # on a machine without fast bfloat16
def test_bfloat16_stays_close_to_float32():
    model = made("llama", torch.float32)
    asked = questions(5, shared=20)
    exact, _ = Scorer(model, Bytes()).loglikelihoods(asked)
    scorer = Scorer(model, Bytes(), autocast=torch.bfloat16)
    near, _ = scorer.loglikelihoods(asked)
    assert scorer.parity is not None and scorer.parity.mode.packed
    tokens = np.array([len(ids) for ids in asked.targets])
    assert 0 < np.abs(near - exact).max()  # it did compute in another type
    assert np.sqrt(np.mean(((near - exact) / tokens) ** 2)) < 0.1
    assert next(model.parameters()).dtype == torch.float32


# --- what a model may be and return ---------------------------------------------------------------


def test_only_a_module_is_a_model():
    with pytest.raises(UsageError, match=r"model: got function, valid is a torch\.nn\.Module"):
        Engine(lambda ids: ids)  # type: ignore[arg-type]


class Returns(Toy):
    what: Any = None

    def forward(self, ids: torch.Tensor) -> Any:
        return self.what(self.head(self.hidden(ids)))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda logits: {"a": logits}, "returned dict"),
        (lambda logits: logits[:, -1], "returned a tensor of shape"),
        (lambda logits: logits.mean(), r"returned a tensor of shape \[\]"),
        (lambda logits: (), "returned"),
        (lambda logits: None, "returned NoneType"),
    ],
)
def test_what_is_no_logits_is_told(what, said):
    model = Returns()
    model.what = what
    with pytest.raises(StagewiseError, match=f"{said}(.|\n)*valid are logits"):
        Scorer(model, Bytes()).loglikelihoods(questions(1))


def test_ids_beyond_the_logits_are_told():
    """An embedding padded to a round number, a head that is not: 50 is read and cannot be scored."""
    model = Toy(vocabulary=64)
    model.head = nn.Linear(32, VOCABULARY, bias=False)
    with pytest.raises(StagewiseError, match="0 to 47, the tokenizer gives 5"):
        Scorer(model, Bytes()).loglikelihoods(questions(1, vocabulary=60))


class OneHot(nn.Module):
    """No embedding module at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.weight[ids]


def test_a_model_without_parts_to_recognise():
    model, asked = OneHot(), questions(1)
    engine = Engine(model)
    assert engine.head is None and engine.vocabulary is None and engine.max_length is None
    assert engine.modes == [Mode()]
    np.testing.assert_allclose(
        Scorer(model, Bytes()).loglikelihoods(asked)[0], naive(model, asked)[0], rtol=2e-6
    )


def test_the_vocabulary_is_not_the_number_of_positions():
    """More positions than ids is common among small models."""
    assert Engine(Toy(vocabulary=VOCABULARY, length=512)).vocabulary == VOCABULARY
    assert Engine(made("gpt2", torch.float32)).vocabulary == VOCABULARY


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_the_length_is_read_from_the_configuration(name):
    assert Engine(made(name, torch.float32)).max_length == 256


def test_the_length_of_a_module():
    assert Engine(Toy(length=100)).max_length == 100


# --- wrappers -------------------------------------------------------------------------------------


# torch's own, on the way to its compiler.
compiles = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")


@compiles
def test_a_compiled_model_is_not_compiled_again():
    model, asked = Masked(), questions(1)
    compiled = torch.compile(model)
    engine = Engine(compiled)  # type: ignore[arg-type]
    assert engine.inner is model
    np.testing.assert_allclose(
        Scorer(compiled, Bytes()).loglikelihoods(asked)[0], naive(model, asked)[0], rtol=2e-6
    )


@compiles
def test_a_data_parallel_model(tmp_path):
    from torch import distributed

    distributed.init_process_group(
        "gloo", store=distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        model, asked = Masked(), questions(1)
        wrapped = nn.parallel.DistributedDataParallel(model)
        scorer = Scorer(wrapped, Bytes())
        np.testing.assert_allclose(scorer.loglikelihoods(asked)[0], naive(model, asked)[0], rtol=2e-6)
        assert scorer.engine.inner is model and scorer.parity is not None and scorer.parity.mode.packed
        assert Engine(torch.compile(wrapped)).inner is model  # type: ignore[arg-type]
    finally:
        distributed.destroy_process_group()


# --- nothing is left behind -----------------------------------------------------------------------


def state(model: nn.Module) -> tuple:
    return (
        torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), np.random.get_state()[2],  # type: ignore[index]
        random.getstate(), [module.training for module in model.modules()],
        [(p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
        torch.is_grad_enabled(), [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()],
        {name: value.tolist() for name, value in model.state_dict().items()},
    )  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_and_chance_are_left_as_they_were(training, fails):
    """Modes of every submodule, gradients, hooks and three generators, also when the model raises."""
    model = Noisy()
    model.train(training)
    model.mix[0].eval()  # frozen parts stay frozen, and what trains trains
    model.drop.train()
    model.embed.requires_grad_(False)
    model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
    model.fails = fails
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    before = state(model)
    scorer = Scorer(model, Bytes())
    if fails:
        with pytest.raises(Exception, match="broken on purpose"):
            scorer.loglikelihoods(questions(1))
    else:
        scorer.loglikelihoods(questions(1))
    assert state(model) == before


def test_dropout_is_off():
    model, asked = Noisy(), questions(1)
    model.train()
    ll, _ = Scorer(model, Bytes()).loglikelihoods(asked)
    np.testing.assert_allclose(ll, naive(model.eval(), asked)[0], rtol=2e-6, atol=1e-5)


@pytest.mark.filterwarnings("ignore:autocast to:RuntimeWarning")  # on a machine without fast bfloat16
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("around", [False, True])
def test_training_goes_on(autocast, around):
    """No inference tensors, no cast weights without gradients in the cache of an autocast around it.

    Oracle: the gradients of a model that was never scored.
    """
    asked = questions(1)
    grads = []
    for scored in (False, True):
        model = Masked()
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around):
            if scored:
                Scorer(model, Bytes(), autocast=autocast).loglikelihoods(asked)
            out = model(torch.from_numpy(asked.inputs[0].astype(np.int64))[None])
            out.float().logsumexp(-1).sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        assert grad is not None and grads[1][name] is not None, name
        assert torch.equal(grad, grads[1][name]), name


def test_a_broken_call_leaves_no_hook_behind():
    model = SoftCapped()
    engine = Engine(model)
    (batch, *_) = pack(questions(1), budget=4096).batches
    model.forward = None  # type: ignore[method-assign]
    with pytest.raises(StagewiseError, match="it raised TypeError"):
        engine.run(batch, Mode(head="scored"))
    assert not model.head._forward_pre_hooks


# --- one batch ------------------------------------------------------------------------------------


def test_the_first_of_equal_logits_is_the_likeliest():
    """Oracle: argmax, as the naive way has it, where all logits are equal."""
    model = Toy()
    nn.init.zeros_(model.head.weight)
    asked = questions(1, vocabulary=2)
    ll, greedy = Scorer(model, Bytes()).loglikelihoods(asked)
    expected, likeliest = naive(model, asked)
    np.testing.assert_allclose(ll, expected, rtol=1e-6)
    assert greedy.tolist() == likeliest.tolist() and 0 < greedy.sum() < len(greedy)


def test_large_logits_do_not_overflow():
    model = ReturnsObject()
    with torch.no_grad():
        model.head.weight.mul_(1e3)
    asked = questions(1)
    np.testing.assert_allclose(
        Scorer(model, Bytes()).loglikelihoods(asked)[0], naive(model, asked)[0], rtol=1e-5
    )


def test_not_a_number_stays_where_it_is():
    """One id breaks a row's activations at that place only: other requests keep their numbers."""
    model, asked = Breaks(), questions(1, items=20)
    ll, _ = Scorer(model, Bytes()).loglikelihoods(asked)
    expected, _ = naive(model, asked)
    assert 0 < np.isnan(expected).sum() < len(expected)
    np.testing.assert_allclose(ll, expected, rtol=2e-6, atol=1e-5)


def test_out_of_memory_halves_a_batch(monkeypatch):
    """Oracle: the same scorer with room enough."""
    model, asked = Masked(), questions(1, items=20)
    expected, likeliest = Scorer(model, Bytes()).loglikelihoods(asked)
    scorer = Scorer(model, Bytes())
    run, sizes = scorer.engine.run, []

    def small(batch, *rest):
        sizes.append(len(batch.tokens))
        if len(batch.tokens) > 3:
            raise torch.OutOfMemoryError("too much")
        return run(batch, *rest)

    monkeypatch.setattr(scorer.engine, "run", small)
    ll, greedy = scorer.loglikelihoods(asked)
    np.testing.assert_allclose(ll, expected, rtol=1e-6)
    assert greedy.tolist() == likeliest.tolist() and max(sizes) > 3
    monkeypatch.setattr(scorer.engine, "run", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(torch.OutOfMemoryError):
        scorer.loglikelihoods(asked)
