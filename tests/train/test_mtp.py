"""Multi-token prediction against section 2.2 of the DeepSeek-V3 report, written out place by place."""

from __future__ import annotations

import cmath
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scaling.errors import UsageError
from tests.train.test_model import exact_angles, stirred
from train.loss import IGNORED
from train.model import Model, ModelConfig
from train.mtp import TrainedModel, target_counts, targets

CONFIG = ModelConfig(
    vocab_size=7, width=8, layers=2, heads=2, kv_heads=1, head_width=4, hidden=12, context_length=9,
    rope_theta=50.0, norm_eps=1e-5, qk_norm=True, tied=True,
)  # fmt: skip
EOS = 0


def made(depth: int, config: ModelConfig = CONFIG, eos: int | None = EOS, **how: Any) -> TrainedModel:
    """A model in float64 with exact angles, whose weights all matter."""
    model = stirred(TrainedModel(config, depth, eos, **how)).double()
    model.cos, model.sin = exact_angles(config)
    return model


def text(rows: int = 3, length: int = 10, seed: int = 0) -> Tensor:
    found = torch.randint(1, 7, (3, length), generator=torch.Generator().manual_seed(seed))
    found[0, 4] = found[1, 0] = found[1, 6] = found[1, 7] = found[2, length - 1] = EOS
    return found[:rows]


# --- the oracle: one row, one place, one head at a time -------------------------------------------------


def rms(x: Tensor, weight: Tensor, eps: float = CONFIG.norm_eps) -> Tensor:
    return weight * x / (x.square().mean() + eps).sqrt()


def turned(x: Tensor, place: int, config: ModelConfig) -> Tensor:
    """A head of a query or key at a place, turned pair by pair as complex numbers."""
    half = config.head_width // 2
    one, two = [], []
    for i in range(half):
        turn = cmath.exp(1j * place * config.rope_theta ** (-2 * i / config.head_width))
        pair = torch.complex(x[i], x[i + half]) * turn
        one.append(pair.real)
        two.append(pair.imag)
    return torch.stack(one + two)


def block(w: dict[str, Any], name: str, xs: list[Tensor], config: ModelConfig) -> list[Tensor]:
    """TRM over the places of a row."""
    e, group = config.head_width, config.heads // config.kv_heads

    def of(part: str) -> Tensor:
        return w[f"{name}.{part}.weight"]

    def heads(part: str, x: Tensor, count: int) -> list[Tensor]:
        return list((of(f"self_attn.{part}_proj") @ x).view(count, e))

    normed = [rms(x, of("input_layernorm")) for x in xs]
    q = [
        [turned(rms(one, of("self_attn.q_norm")), i, config) for one in heads("q", x, config.heads)]
        for i, x in enumerate(normed)
    ]
    k = [
        [turned(rms(one, of("self_attn.k_norm")), i, config) for one in heads("k", x, config.kv_heads)]
        for i, x in enumerate(normed)
    ]
    v = [heads("v", x, config.kv_heads) for x in normed]
    out = []
    for i, x in enumerate(xs):
        mixed = []
        for h in range(config.heads):
            g = h // group
            scores = torch.stack([q[i][h] @ k[j][g] / e**0.5 for j in range(i + 1)]).softmax(0)
            mixed.append(sum(scores[j] * v[j][g] for j in range(i + 1)))
        x = x + of("self_attn.o_proj") @ torch.cat(mixed)  # type: ignore[arg-type]
        y = rms(x, of("post_attention_layernorm"))
        out.append(x + of("mlp.down_proj") @ (F.silu(of("mlp.gate_proj") @ y) * (of("mlp.up_proj") @ y)))
    return out


def reference(model: TrainedModel, ids: Tensor, depth: int) -> Tensor:
    """Sums of the losses by depth, formulas 21 to 24 of the report; documents by their ends."""
    w: dict[str, Any] = dict(model.named_parameters())
    config = model.config
    embedding = w["model.embed_tokens.weight"]
    head = w.get("lm_head.weight", embedding)
    sums = [torch.zeros((), dtype=torch.float64) for _ in range(depth + 1)]
    for row in ids.tolist():
        t = len(row) - 1
        h = [embedding[token] for token in row[:t]]
        for layer in range(config.layers):
            h = block(w, f"model.layers.{layer}", h, config)
        for k in range(depth + 1):
            if k:
                name = f"mtp.{k - 1}"
                joined = [
                    w[f"{name}.projection.weight"]
                    @ torch.cat(
                        (
                            rms(h[i], w[f"{name}.hidden_norm.weight"]),
                            rms(embedding[row[i + k]], w[f"{name}.embedding_norm.weight"]),
                        )
                    )
                    for i in range(t - k)
                ]
                h = block(w, f"{name}.block", joined, config)
            last = w[f"mtp.{k - 1}.norm.weight" if k else "model.norm.weight"]
            for i in range(t - k):
                if EOS not in row[i + 1 : i + k + 1] or model.eos is None:
                    sums[k] = sums[k] - (head @ rms(h[i], last)).log_softmax(0)[row[i + k + 1]]
    return torch.stack(sums)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_losses_and_gradients_are_those_of_the_report(depth, tied):
    """Oracle: the report in loops over places and heads, and autograd over them, in float64. Above all the
    embedding and the head: every depth adds to their gradients."""
    model = made(depth, replace(CONFIG, tied=tied))
    ids = text(2)
    lambdas = torch.tensor([1.0, 0.3, 0.2, 0.1], dtype=torch.float64)[: depth + 1]
    wanted = reference(model, ids, depth)
    slopes = torch.autograd.grad((wanted * lambdas).sum(), list(model.parameters()))
    sums = model(ids, losses="sums")
    assert torch.allclose(sums, wanted, rtol=1e-10)
    (sums * lambdas).sum().backward()
    names = [name for name, _ in model.named_parameters()]
    assert sum(name.startswith("mtp.") for name in names) == depth * 15
    for (name, weight), slope in zip(model.named_parameters(), slopes, strict=True):
        assert weight.grad is not None and slope.abs().max() > 1e-6
        assert (weight.grad - slope).abs().max() <= 1e-9 * slope.abs().max(), name


@pytest.mark.parametrize("depth", [1, 3])
def test_rows_of_one_document(depth):
    """Oracle: as above, and no id ends a document."""
    model = made(depth, eos=None)
    with torch.no_grad():
        assert torch.allclose(model(text(), losses="sums"), reference(model, text(), depth), rtol=1e-10)


def test_the_gradient_of_a_deep_loss_reaches_the_blocks_of_the_model():
    """Oracle: the report, section 2.2: the main model learns from all depths, a module from its own and
    deeper."""
    model = made(2)
    model(text(), losses="sums")[1].backward()
    for name, weight in model.named_parameters():
        silent = name.startswith("mtp.1.") or name == "model.norm.weight"
        assert (weight.grad is None or bool((weight.grad == 0).all())) == silent, name


@pytest.mark.parametrize("depth", [0, 2])
def test_depth_0_is_the_cross_entropy_of_the_plain_model(depth):
    """Oracle: F.cross_entropy over the logits. Modules of deeper prediction change nothing in it."""
    model = made(depth)
    ids = text()
    with torch.no_grad():
        each = model(ids, losses="tokens")
        logits = model(ids[:, :-1]).logits
        sums = model(ids, losses="sums")
    wanted = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    assert each.shape == (3, 9) and torch.allclose(each, wanted, rtol=1e-10)
    assert torch.allclose(sums[0], wanted.sum(), rtol=1e-10) and sums.shape == (depth + 1,)


@pytest.mark.parametrize("cut", [[1, 2], [2, 1], [1, 1, 1]])
def test_parts_of_a_batch_add_up(cut):
    """Oracle: the whole batch, its losses, counts and gradients; parts have unlike numbers of targets."""
    model = made(2)
    ids = text()
    scale = torch.tensor([1.0, 0.15, 0.15]) / target_counts(ids, 2, EOS)

    def slopes(parts: list[Tensor]) -> list[Tensor]:
        model.zero_grad()
        for part in parts:
            (model(part, losses="sums") * scale).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for one, other in zip(slopes(list(ids.split(cut))), slopes([ids]), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    counts = [target_counts(part, 2, EOS) for part in ids.split(cut)]
    assert torch.equal(sum(counts), target_counts(ids, 2, EOS))  # type: ignore[arg-type]


def test_recomputing_gives_the_same_gradients_to_the_bit():
    one, two = made(2).float(), made(2, recompute=True).float()
    for model in (one, two):
        model(text(), losses="sums").sum().backward()
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad), name


# --- what is a target -----------------------------------------------------------------------------------


rows = st.integers(2, 14).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=1, max_size=3)
)


@settings(max_examples=200)
@given(ids=rows, depth=st.integers(0, 4), eos=st.sampled_from([0, 2, None]))
def test_targets_stay_in_the_document(ids, depth, eos):
    """Oracle: number the documents; a place and its target at every depth but the first are in one. The end
    mark is the last of its document, and as a place it begins the next."""
    depth = min(depth, len(ids[0]) - 2)
    found = targets(torch.tensor(ids), depth, eos)
    assert len(found) == depth + 1
    for r, row in enumerate(ids):
        document = [sum(token == eos for token in row[:j]) for j in range(len(row))]
        for k in range(depth + 1):
            wanted = []
            for i in range(len(row) - 1 - k):
                inside = k == 0 or document[i + k + 1] == document[i + 1]
                wanted.append(row[i + k + 1] if inside else IGNORED)
            assert found[k][r].tolist() == wanted
    counts = target_counts(torch.tensor(ids), depth, eos)
    assert counts.dtype == torch.float64
    assert counts.tolist() == [max(1, int((one != IGNORED).sum())) for one in found]


def test_targets_by_hand():
    # 5 6 | 7 8 9 | with 0 as the mark. Oracle: written by hand.
    one, two, three = (found.tolist()[0] for found in targets(torch.tensor([[5, 6, 0, 7, 8, 9]]), 2, eos=0))
    assert one == [6, 0, 7, 8, 9]
    assert two == [0, IGNORED, 8, 9]  # 6 predicts the mark, not what follows it; the mark predicts 7 and 8
    assert three == [IGNORED, IGNORED, 9]


@pytest.mark.parametrize("length", [4, 6])
def test_rows_shorter_than_the_context(length):
    """Oracle: the report, on rows of few tokens: four leave one place for the second depth."""
    model = made(2)
    ids = torch.randint(0, 7, (3, length), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert torch.allclose(model(ids, losses="sums"), reference(model, ids, 2), rtol=1e-10)


# --- the plain model within -----------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_the_plain_model_is_in_it(tied):
    """Oracle: logits of a model that knows nothing of deeper prediction."""
    config = replace(CONFIG, tied=tied)
    trained, plain = stirred(TrainedModel(config, depth=2)), Model(config)
    weights = trained.plain()
    missing, unexpected = plain.load_state_dict(weights, strict=False)
    assert missing == (["lm_head.weight"] if tied else []) and not unexpected
    assert not any(weight.requires_grad for weight in weights.values())
    with torch.no_grad():
        assert torch.equal(plain(text()[:, :9]).logits, trained(text()[:, :9]).logits)
    assert set(plain.state_dict()) == {n for n in trained.state_dict() if not n.startswith("mtp.")}


def test_it_is_called_as_the_plain_model_is():
    model = made(1).eval()
    with torch.no_grad():
        whole = model(text()[:, :9], use_cache=True)
        first = model(text()[:, :5], use_cache=True)
        rest = model(text()[:, 5:9], past_key_values=first.past_key_values)
    assert torch.allclose(torch.cat((first.logits, rest.logits), 1), whole.logits, rtol=1e-9)
    assert len(whole.past_key_values) == 2


@pytest.mark.parametrize("depth", [-1, 9])
def test_more_depths_than_places(depth):
    with pytest.raises(UsageError, match=rf"mtp: depth is {depth}, valid is 0 to 8 \(context_length - 1\)"):
        TrainedModel(CONFIG, depth)
