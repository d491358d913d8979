"""A trained model as a folder that `transformers`, lm-eval and `evalsuite run` load."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from data.tokenizer import Tokenizer
from evalsuite.durable import MANIFEST, Broken, read_manifest, write_folder
from scaling.errors import StagewiseError, UsageError
from train.model import Model, ModelConfig

WEIGHTS = "model.safetensors"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def export(
    model: Model,
    tokenizer: Tokenizer | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    force: bool = False,
) -> Path:
    """Write a model as a Hugging Face folder, whole or not at all.

    With normalised queries and keys it is a Qwen3, without a Llama: the weights are the same tensors under
    the same names. `manifest.json` says what was written; loaders pass over it.

    Args:
        model: the plain one, without what was beside it in training.
        tokenizer: it was trained with, or a folder that holds that.
        out: the folder to write.
        dtype: of the weights in the file.
        force: replace a folder that an earlier export wrote and nobody added to.

    Returns:
        The folder.

    Raises:
        UsageError: a dtype of no weights.
        StagewiseError: a folder that stands in the way, a tokenizer with ids the model does not have, weights
            that are not those of the plain model, a full disk.

    Example:
        >>> export(model, "runs/a/tokenizer", "exported")       # doctest: +SKIP
    """
    if dtype not in _DTYPES:
        known = ", ".join(str(one).removeprefix("torch.") for one in _DTYPES)
        raise UsageError(f"dtype {dtype}: valid are {known}")
    target = Path(out)
    _check_free(target, force)
    words = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.read(tokenizer)
    config = model.config
    if words.size > config.vocab_size:
        raise StagewiseError(
            f"{target}: the tokenizer has {words.size:,} ids, the model knows {config.vocab_size:,}; give "
            "the tokenizer that the model was trained with"
        )
    weights = _plain(model, target)
    documents = {
        "config.json": hugging_face(config, eos=words.eos, dtype=dtype),
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": words.eos,
            "eos_token_id": words.eos,
        },
    }
    files = {name: _text(json.dumps(told, indent=2) + "\n") for name, told in documents.items()}
    with tempfile.TemporaryDirectory() as kept:
        words.save(kept)
        files |= {path.name: path.read_bytes() for path in sorted(Path(kept).iterdir())}
    write_folder(
        target,
        {name: partial(_write, content) for name, content in files.items()}
        | {WEIGHTS: partial(_save, weights, dtype)},
        {"kind": "export", "architecture": documents["config.json"]["architectures"][0]},
        needed=sum(map(len, files.values())) + sum(one.numel() for one in weights.values()) * dtype.itemsize,
        replace=force,
    )
    return target


def hugging_face(config: ModelConfig, *, eos: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """config.json of a model.

    Args:
        config: its shape. eos: id that ends a document, and so begins the next. dtype: of its weights.

    Example:
        >>> hugging_face(config, eos=256)["architectures"]      # doctest: +SKIP
        ['Qwen3ForCausalLM']
    """
    kind, name = ("qwen3", "Qwen3ForCausalLM") if config.qk_norm else ("llama", "LlamaForCausalLM")
    return {
        "architectures": [name],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **({"use_sliding_window": False} if config.qk_norm else {"mlp_bias": False}),
    }


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the file of a model."""
    d, e, hidden = config.width, config.head_width, config.hidden
    block = {
        "input_layernorm": (d,),
        "self_attn.q_proj": (config.heads * e, d),
        "self_attn.k_proj": (config.kv_heads * e, d),
        "self_attn.v_proj": (config.kv_heads * e, d),
        "self_attn.o_proj": (d, config.heads * e),
        "post_attention_layernorm": (d,),
        "mlp.gate_proj": (hidden, d),
        "mlp.up_proj": (hidden, d),
        "mlp.down_proj": (d, hidden),
    } | ({"self_attn.q_norm": (e,), "self_attn.k_norm": (e,)} if config.qk_norm else {})
    found = {"model.embed_tokens.weight": (config.vocab_size, d), "model.norm.weight": (d,)}
    for i in range(config.layers):
        found |= {f"model.layers.{i}.{name}.weight": shape for name, shape in block.items()}
    return found if config.tied else found | {"lm_head.weight": (config.vocab_size, d)}


def _check_free(target: Path, force: bool) -> None:
    """Refuse a folder that was not exported, that somebody added to, or that nobody said to replace."""
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        manifest = read_manifest(target)
    except Broken:
        manifest = None
    if manifest is None or manifest.metadata.get("kind") != "export":
        raise StagewiseError(
            f"{target}: is there already, and no export; give another folder, or move it away"
        )
    if not force:
        raise StagewiseError(
            f"{target}: holds an export already; give another folder, or replace it (--force)"
        )
    if added := sorted({one.name for one in target.iterdir()} - set(manifest.files) - {MANIFEST}):
        raise StagewiseError(
            f"{target}: holds {added[0]} beside the export, which would be lost; move it away first"
        )


def _plain(model: Model, target: Path) -> dict[str, Tensor]:
    """The weights of the plain model, and no others."""
    config = model.config
    state = {name.removeprefix("_orig_mod."): one.detach() for name, one in model.state_dict().items()}
    if config.tied:
        state.pop("lm_head.weight", None)  # the embedding under another name
    wanted = shapes(config)
    if wrong := sorted(set(state) ^ set(wanted)):
        what = "has no" if wrong[0] in wanted else "has also"
        raise StagewiseError(
            f"{target}: the model {what} {wrong[0]} ({len(wrong)} such); export the plain model that its "
            "config describes"
        )
    for name, shape in wanted.items():
        if (found := tuple(state[name].shape)) != shape:
            raise StagewiseError(f"{target}: {name} has shape {list(found)}, its config says {list(shape)}")
    return {name: state[name] for name in wanted}


def _save(weights: Mapping[str, Tensor], dtype: torch.dtype, path: Path) -> None:
    ready = {name: one.to("cpu", dtype).contiguous() for name, one in weights.items()}
    save_file(ready, path, {"format": "pt"})


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _text(text: str) -> bytes:
    return text.encode("utf-8")
