"""Models from disk: weights that are data and nothing else, and one clear error for the rest."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from evalsuite import loading
from evalsuite.loading import load_model, model_digest, tokenizer_digest
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.modules import Bytes
from tests.evalsuite.scored import model_folder
from tests.evalsuite.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    """A copy of the model that a test may break."""
    return shutil.copytree(saved, tmp_path / "copy")


def test_what_was_saved_is_loaded(saved):
    """Oracle: the model that was saved."""
    for where in (str(saved), f"hf:{saved}"):
        found = load_model(where, device="cpu")
        assert (found.name, found.warnings, found.model.training) == ("tiny", (), False)
        assert model_digest(found.model) == model_digest(tiny_llama())
        assert tokenizer_digest(found.tokenizer) == tokenizer_digest(tiny_tokenizer())
        assert found.tokenizer("the cat")["input_ids"] == tiny_tokenizer()("the cat")["input_ids"]


def test_a_path_ends_as_it_may(saved, monkeypatch):
    assert load_model(f"{saved}/", device="cpu").name == "tiny"
    monkeypatch.chdir(saved)
    assert load_model(".", device="cpu").name == "tiny"


class Malice:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_and_not_run(copy, tmp_path):
    mark = tmp_path / "executed"
    (copy / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "training_args.bin"):
        with open(copy / name, "wb") as handle:
            pickle.dump({"lm_head.weight": Malice(mark)}, handle)
    with pytest.raises(StagewiseError, match=r"copy: cannot be loaded: .*only safetensors are read"):
        load_model(str(copy))
    assert not mark.exists()
    with open(copy / "pytorch_model.bin", "rb") as handle:
        pickle.load(handle)  # the trap works
    assert mark.exists()


@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_model_is_not_run(copy, tmp_path, known):
    mark = tmp_path / "executed"
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    config["model_type"] = "llama" if known else "own"
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    if known:
        assert model_digest(load_model(str(copy)).model) == model_digest(tiny_llama())
    else:
        with pytest.raises(StagewiseError, match="cannot be loaded"):
            load_model(str(copy))
    assert not mark.exists()


def weights(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def lose_head(folder: Path) -> None:
    weights(folder, lambda tensors: tensors.pop("lm_head.weight"))


def other_head(folder: Path) -> None:
    weights(folder, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(100, 64)}))


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def set_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


BROKEN = {
    "no config": (
        lambda f: (f / "config.json").unlink(),
        r"holds no config\.json; give a folder as transformers",
    ),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "not a valid JSON"),
    "no type": (lambda f: (f / "config.json").write_text("{}"), "model_type"),
    "a text for a number": (lambda f: set_config(f, hidden_size="x"), "hidden_size"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "only safetensors are read"),
    "no bytes": (lambda f: (f / "model.safetensors").write_bytes(b""), "header too small"),
    "cut off": (cut, "not fully covered"),
    "no head": (lose_head, r"holds no weights for lm_head\.weight \(1 missing\)"),
    "another head": (other_head, "cannot be loaded"),
    "no tokenizer": (
        lambda f: [path.unlink() for path in f.glob("tokenizer*")],
        "its tokenizer cannot be loaded: .*--tokenizer",
    ),
    "half a tokenizer": (
        lambda f: (f / "tokenizer.json").write_text('{"version": "1.0"}'),
        "its tokenizer cannot be loaded",
    ),
}


@pytest.mark.parametrize(("breaks", "said"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_loaded(copy, capfd, breaks, said):
    breaks(copy)
    with pytest.raises(StagewiseError, match=said) as caught:
        load_model(str(copy))
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def test_no_such_folder_type_or_device(saved, tmp_path):
    with pytest.raises(StagewiseError, match=r"no such folder; give one with config\.json"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="dtype 'int4': valid are auto, float32"):
        load_model(str(saved), dtype="int4")
    for device in ("tpu", "cuda:99"):
        with pytest.raises(UsageError, match=f"device '{device}': .*valid is cpu"):
            load_model(str(saved), device=device)


def test_a_tokenizer_elsewhere(copy, tmp_path):
    other = tmp_path / "words"
    other.mkdir()
    for path in copy.glob("tokenizer*"):
        path.rename(other / path.name)
    found = load_model(str(copy), tokenizer=str(other))
    assert tokenizer_digest(found.tokenizer) == tokenizer_digest(tiny_tokenizer())


def test_types_and_the_warning_where_half_precision_is_slow(saved, tmp_path, monkeypatch):
    def loaded(where=saved, **options):
        found = load_model(str(where), device="cpu", **options)
        return str(next(found.model.parameters()).dtype), found.warnings

    half = model_folder(tmp_path / "half", dtype=torch.bfloat16)
    monkeypatch.setattr(loading, "fast_half", lambda device, dtype: False)
    assert loaded() == ("torch.float32", ())
    kind, (line,) = loaded(half)
    assert kind == "torch.bfloat16"
    assert (
        line.startswith("half: bfloat16 has no fast path on this machine's cpu") and "--dtype float32" in line
    )
    assert loaded(half, dtype="float32") == ("torch.float32", ())
    assert len(loaded(dtype="float16")[1]) == 1
    monkeypatch.setattr(loading, "fast_half", lambda device, dtype: True)
    assert loaded(half) == ("torch.bfloat16", ())


# --- digests --------------------------------------------------------------------------------------


class Odd(nn.Module):
    """Tied weights, half precision, and buffers of no dimension, of no element and of truth values."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4, dtype=torch.bfloat16)
        self.head = nn.Linear(4, 5, bias=False, dtype=torch.bfloat16)
        with torch.no_grad():
            self.embed.weight.copy_(torch.arange(20).reshape(5, 4))
        self.head.weight = self.embed.weight
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("none", torch.zeros(0, 2))
        self.register_buffer("seen", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def test_a_digest_is_of_what_is_saved():
    one = Odd()
    assert model_digest(one) == model_digest(Odd()) and len(model_digest(one)) == 64
    one.scratch += 1  # not saved
    assert model_digest(one) == model_digest(Odd())
    for change in (
        lambda m: m.count.add_(1),
        lambda m: m.seen.logical_not_(),
        lambda m: m.embed.weight.data[0].neg_(),  # 0 becomes -0
        lambda m: m.register_buffer("none", torch.zeros(0, 3)),
        lambda m: m.float(),
    ):
        other = Odd()
        change(other)
        assert model_digest(other) != model_digest(one)


def test_a_digest_changes_with_one_weight_and_not_with_where_it_is_kept(saved, tmp_path):
    model = tiny_llama()
    before = model_digest(model)
    parts = tmp_path / "parts"
    model.save_pretrained(parts, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(parts)
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert model_digest(load_model(str(parts), device="cpu").model) == before
    weight = model.lm_head.weight
    # Another layout in memory, the same numbers.
    weight.data = weight.data.t().contiguous().t()
    assert not weight.is_contiguous() and model_digest(model) == before
    if torch.cuda.is_available():
        assert model_digest(tiny_llama().cuda()) == before
    weight.data[3, 5] = torch.nextafter(weight.data[3, 5], torch.tensor(9.0))
    assert model_digest(model) != before


def test_a_digest_of_a_tokenizer():
    one, other = tiny_tokenizer(), tiny_tokenizer()
    assert tokenizer_digest(one) == tokenizer_digest(other)
    other.add_tokens(["zebra"])
    assert tokenizer_digest(one) != tokenizer_digest(other)
    other = tiny_tokenizer()
    other.bos_token = "a"
    assert tokenizer_digest(one) != tokenizer_digest(other)
    assert tokenizer_digest(one.backend_tokenizer) != tokenizer_digest(one)  # says nothing of special tokens
    assert tokenizer_digest(Bytes()) == tokenizer_digest(Bytes())


def test_a_tokenizer_that_was_used_is_the_same():
    one = tiny_tokenizer()
    one.backend_tokenizer.enable_truncation(5)
    one.backend_tokenizer.enable_padding()
    before = tokenizer_digest(one)
    one(["the cat sat on the mat"])  # switches both off
    assert tokenizer_digest(one) == before
