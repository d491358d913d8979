"""Exported models: `transformers` computes what the model computes, from files whole or not there."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from data.tokenizer import byte_tokenizer, train_tokenizer
from evalsuite.durable import MANIFEST, verify
from evalsuite.loading import load_model
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.test_durable import cut, flip
from train.export import export, shapes
from train.model import Model, ModelConfig

CONFIG = ModelConfig(
    vocab_size=257, width=32, layers=3, heads=4, kv_heads=4, head_width=16, hidden=48, context_length=64,
    rope_theta=5_000.0, norm_eps=1e-5, qk_norm=True, tied=True,
)  # fmt: skip
SHAPES = {
    "qwen, tied": CONFIG,
    "qwen, grouped": replace(CONFIG, kv_heads=2, tied=False),
    "qwen, one head of keys": replace(CONFIG, kv_heads=1, head_width=8),
    "llama, tied": replace(CONFIG, qk_norm=False),
    "llama, grouped": replace(CONFIG, qk_norm=False, kv_heads=2, tied=False),
    "llama, wide heads": replace(CONFIG, qk_norm=False, head_width=24, tied=False),
}


def made(config: ModelConfig = CONFIG, seed: int = 0) -> Model:
    """A model whose weights, those of norms too, all matter to its logits."""
    model = Model(config).eval()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=chance)
            weight.copy_(noise / math.sqrt(weight.shape[1]) * 1.5 if weight.dim() == 2 else 1 + 0.3 * noise)
        model.model.embed_tokens.weight.mul_(2.0)
    return model


def ids(rows: int = 3, length: int = 40) -> torch.Tensor:
    return torch.randint(0, 257, (rows, length), generator=torch.Generator().manual_seed(1))


def loaded(folder: Path, **options):
    found: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, **options
    )
    model, told = found
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


@pytest.mark.parametrize("case", SHAPES)
def test_logits_agree_in_float32(tmp_path, case):
    """Oracle: transformers, as it is."""
    model = made(SHAPES[case])
    theirs = loaded(export(model, byte_tokenizer(), tmp_path / "out"))
    assert type(theirs).__name__ == ("Qwen3ForCausalLM" if SHAPES[case].qk_norm else "LlamaForCausalLM")
    with torch.no_grad():
        ours, other = model(ids()).logits, theirs(ids()).logits
    assert ours.std() > 0.5 and other.dtype == torch.float32
    assert (ours - other).abs().max() < 1e-5 * ours.abs().max()


@pytest.mark.parametrize("case", SHAPES)
def test_logits_agree_in_float64(tmp_path, case):
    """Oracle: transformers, but for two places at which it rounds to float32 whatever the type: the norms,
    which are told not to, and the table of angles, which is given ours."""
    model = made(SHAPES[case]).double()
    theirs = loaded(export(model, byte_tokenizer(), tmp_path / "out", dtype=torch.float64))
    for part in theirs.modules():
        if type(part).__name__.endswith("RMSNorm"):
            part.forward = exact(part)
    tables: Any = (model.cos, model.sin)
    cos, sin = (torch.cat((one[:40], one[:40]), -1)[None].double() for one in tables)
    theirs.model.rotary_emb.forward = lambda x, position_ids=None, **_: (cos, sin)
    with torch.no_grad():
        ours, other = model(ids()).logits, theirs(ids()).logits
    assert ours.dtype == other.dtype == torch.float64
    assert (ours - other).abs().max() < 1e-10


def exact(norm):
    def forward(x):
        return nn.functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)

    return forward


def test_the_files(tmp_path):
    """Oracle: names and shapes of a model that transformers makes from the same configuration."""
    for case, config in SHAPES.items():
        out = export(made(config), byte_tokenizer(), tmp_path / case)
        assert sorted(os.listdir(out)) == [
            "config.json", "generation_config.json", MANIFEST, "model.safetensors", "tokenizer.json",
            "tokenizer_config.json",
        ]  # fmt: skip
        assert verify(out).metadata["kind"] == "export"
        weights = load_file(out / "model.safetensors")
        assert ("lm_head.weight" in weights) == (not config.tied)
        told = transformers.AutoConfig.from_pretrained(out)
        theirs = transformers.AutoModelForCausalLM.from_config(told).state_dict()
        if config.tied:
            theirs.pop("lm_head.weight")
        assert {name: tuple(one.shape) for name, one in theirs.items()} == shapes(config)
        assert {name: tuple(one.shape) for name, one in weights.items()} == shapes(config)
        assert (told.bos_token_id, told.eos_token_id) == (256, 256)
        assert told.rope_parameters["rope_theta"] == config.rope_theta
        assert told.max_position_embeddings == 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_type_is_that_of_the_rounded_weights(tmp_path, dtype):
    model = made()
    out = export(model, byte_tokenizer(), tmp_path / "out", dtype=dtype)
    for name, weight in load_file(out / "model.safetensors").items():
        assert torch.equal(weight, model.state_dict()[name].to(dtype))
    assert loaded(out, dtype="auto").dtype == dtype
    assert next(model.parameters()).dtype == torch.float32  # the model itself is left alone


def test_the_same_model_gives_the_same_bytes(tmp_path):
    one, two = (export(made(), byte_tokenizer(), tmp_path / name) for name in ("one", "two"))
    assert (one / MANIFEST).read_bytes() == (two / MANIFEST).read_bytes()


@pytest.mark.parametrize("case", ["qwen, tied", "llama, grouped"])
def test_evalsuite_loads_it(tmp_path, case):
    words = train_tokenizer(["the cat sat on the mat, the cat sat"] * 4, 265)
    model = made(replace(SHAPES[case], vocab_size=words.size + 3))  # padded, as vocabularies often are
    words.save(tmp_path / "words")
    found = load_model(str(export(model, tmp_path / "words", tmp_path / "out")), device="cpu")
    text = "the cat <|endoftext|> sat 42"
    assert found.tokenizer(text)["input_ids"] == words.encode([text])[0].tolist()
    assert found.tokenizer.eos_token_id == words.eos
    with torch.no_grad():
        given = torch.tensor([found.tokenizer(text)["input_ids"]])
        assert torch.allclose(found.model(given).logits, model(given).logits, atol=1e-4)
    assert found.warnings == ()


def test_lm_eval_reads_it(tmp_path):
    """Oracle: log-likelihoods from our logits, token by token, against those of lm-eval's HFLM."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, words = made(), byte_tokenizer()
    where = str(export(model, words, tmp_path / "out"))
    lm = HFLM(pretrained=where, device="cpu", dtype="float32", batch_size=1)
    asked = [("2 + 3 =", " 5"), ("a cat", " sat")]
    found = lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in asked], disable_tqdm=True)
    for (context, answer), (logprob, _) in zip(asked, found, strict=True):
        row = torch.tensor(words.encode([context + answer])[0], dtype=torch.long)[None]
        with torch.no_grad():
            told = model(row).logits[0].log_softmax(dim=-1)
        start = len(context.encode())
        wanted = sum(float(told[i - 1, row[0, i]]) for i in range(start, row.shape[1]))
        assert logprob == pytest.approx(wanted, abs=1e-4)


def test_generation_stops_at_the_end_of_a_document(tmp_path):
    """Greedy words of transformers are those of the model, up to the end of a document."""
    model = made()
    theirs = loaded(export(model, byte_tokenizer(), tmp_path / "out"))
    start = ids(1, 5)
    with torch.no_grad():
        found = theirs.generate(start, max_new_tokens=12, do_sample=False, pad_token_id=256)
        wanted = start
        while wanted.shape[1] < 17 and wanted[0, -1] != 256:
            wanted = torch.cat((wanted, model(wanted).logits[:, -1:].argmax(-1)), 1)
    assert found.tolist() == wanted.tolist()
    assert theirs.generation_config.eos_token_id == 256


def test_a_compiled_wrapper_is_seen_through(tmp_path):
    model = made()
    compiled = torch.compile(model, backend="eager")
    out = export(compiled, byte_tokenizer(), tmp_path / "out")  # type: ignore[arg-type]
    assert set(load_file(out / "model.safetensors")) == set(shapes(CONFIG))


# --- what is refused ----------------------------------------------------------------------------------


class More(Model):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.beside = nn.Linear(2, 2)


def test_only_the_plain_model_is_exported(tmp_path):
    with pytest.raises(StagewiseError, match=r"has also beside\.bias \(2 such\); export the plain model"):
        export(More(CONFIG), byte_tokenizer(), tmp_path / "out")
    model = made()
    model.config = replace(CONFIG, layers=4)
    with pytest.raises(StagewiseError, match=r"has no model\.layers\.3\..*\(11 such\)"):
        export(model, byte_tokenizer(), tmp_path / "out")
    model.config = replace(CONFIG, hidden=50)
    with pytest.raises(StagewiseError, match=r"mlp\..*_proj\.weight has shape \[48, 32\], .*\[50, 32\]"):
        export(model, byte_tokenizer(), tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_a_tokenizer_of_another_model(tmp_path):
    with pytest.raises(StagewiseError, match="the tokenizer has 257 ids, the model knows 100"):
        export(made(replace(CONFIG, vocab_size=100)), byte_tokenizer(), tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_a_type_of_no_weights(tmp_path):
    with pytest.raises(UsageError, match=r"int64: valid are float32, bfloat16"):
        export(made(), byte_tokenizer(), tmp_path / "out", dtype=torch.int64)


def test_an_export_is_replaced_by_force_alone(tmp_path):
    out = export(made(seed=0), byte_tokenizer(), tmp_path / "out")
    before = (out / MANIFEST).read_bytes()
    with pytest.raises(StagewiseError, match="holds an export already"):
        export(made(seed=1), byte_tokenizer(), out)
    assert (out / MANIFEST).read_bytes() == before
    export(made(seed=1), byte_tokenizer(), out, force=True)
    assert torch.equal(
        load_file(out / "model.safetensors")["model.norm.weight"], made(seed=1).model.norm.weight
    )
    (out / "README.md").write_text("mine")
    with pytest.raises(StagewiseError, match=r"holds README\.md beside the export"):
        export(made(seed=0), byte_tokenizer(), out, force=True)
    (out / "README.md").unlink()
    flip(out / "model.safetensors", 10_000)
    export(made(seed=0), byte_tokenizer(), out, force=True)
    assert (out / MANIFEST).read_bytes() == before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_of_somebody_else_is_refused(tmp_path, force):
    made_by_others = tmp_path / "out"
    transformers.LlamaConfig().save_pretrained(made_by_others)
    (made_by_others / MANIFEST).write_text(json.dumps({"format": 1, "suite": None}))
    before = (made_by_others / "config.json").read_bytes()
    with pytest.raises(StagewiseError, match="is there already, and no export"):
        export(made(), byte_tokenizer(), made_by_others, force=force)
    (made_by_others / MANIFEST).unlink()
    with pytest.raises(StagewiseError, match="is there already, and no export"):
        export(made(), byte_tokenizer(), made_by_others, force=force)
    assert (made_by_others / "config.json").read_bytes() == before


def test_files_and_empty_folders(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StagewiseError, match="is there already, and no export"):
        export(made(), byte_tokenizer(), tmp_path / "file", force=True)
    (tmp_path / "empty").mkdir()
    verify(export(made(), byte_tokenizer(), tmp_path / "empty"))


def test_a_broken_export_is_an_export(tmp_path):
    out = export(made(), byte_tokenizer(), tmp_path / "out")
    cut(out / "model.safetensors")
    with pytest.raises(StagewiseError, match="holds an export already"):
        export(made(), byte_tokenizer(), out)
    verify(export(made(), byte_tokenizer(), out, force=True))


def test_a_full_disk_leaves_the_export_that_stands(tmp_path, monkeypatch):
    out = export(made(seed=0), byte_tokenizer(), tmp_path / "out")
    before = (out / MANIFEST).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.export.save_file", full)
    with pytest.raises(StagewiseError, match=r"No space left on device .* are needed"):
        export(made(seed=1), byte_tokenizer(), out, force=True)
    assert (out / MANIFEST).read_bytes() == before and verify(out)
    assert os.listdir(tmp_path) == ["out"]
