"""Models and tokenizers from disk, by transformers; weights from safetensors alone."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evalsuite.precision import fast_half
from scaling.errors import StagewiseError, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer.

    Attributes:
        name: what to call it. model, tokenizer: ready to use, the model in evaluation mode.
        warnings: what the user should know, a line each.
    """

    name: str
    model: nn.Module = field(repr=False)
    tokenizer: Any = field(repr=False)
    warnings: tuple[str, ...] = ()


def load_model(
    where: str, *, tokenizer: str | None = None, dtype: str = "auto", device: str | None = None
) -> LoadedModel:
    """Load a causal language model.

    Args:
        where: a folder as transformers saves it (config.json, *.safetensors, tokenizer), or `hf:` and such a
            folder or a name on the Hugging Face hub. Code that comes with a model is not run.
        tokenizer: where to find that, if not beside the model.
        dtype: float32, bfloat16, float16, or auto for what the weights are.
        device: such as cuda:1; a GPU where there is one, if absent.

    Raises:
        StagewiseError: what cannot be loaded, and why. UsageError: an unknown dtype or device.

    Example:
        >>> load_model("checkpoints/step-1000").name         # doctest: +SKIP
        'step-1000'
    """
    import transformers

    name = where.removeprefix("hf:")
    if not where.startswith("hf:") and not Path(name).is_dir():
        raise StagewiseError(
            f"{where}: no such folder; give one with config.json, *.safetensors and a tokenizer, or hf:NAME "
            "for a model on the Hugging Face hub"
        )
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise StagewiseError(
            f"{where}: holds no config.json; give a folder as transformers saves it (save_pretrained)"
        )
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r}: valid are auto, {', '.join(DTYPES)}")
    place = device_of(device)
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype=DTYPES.get(dtype, "auto"), use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
        model, told = loaded
    except Exception as error:  # whatever transformers, safetensors and their checks of types raise
        raise StagewiseError(
            f"{where}: cannot be loaded: {_line(error)}; only safetensors are read, pickled weights never "
            "(convert them with save_pretrained)"
        ) from error
    if lost := sorted(told["missing_keys"]):
        # Transformers fills them with random numbers and goes on.
        raise StagewiseError(
            f"{where}: holds no weights for {lost[0]} ({len(lost)} missing); give the whole checkpoint of a "
            "model that config.json describes"
        )
    beside = tokenizer or name
    try:
        words = transformers.AutoTokenizer.from_pretrained(beside, trust_remote_code=False)
    except Exception as error:
        raise StagewiseError(
            f"{beside}: its tokenizer cannot be loaded: {_line(error)}; give a folder that holds one with "
            "--tokenizer"
        ) from error
    model = model.to(place).eval()
    called = Path(name).resolve().name if Path(name).is_dir() else name
    used = next(model.parameters()).dtype
    warnings = ()
    if used in (torch.bfloat16, torch.float16) and not fast_half(place, used):
        warnings = (
            f"{called}: {str(used).removeprefix('torch.')} has no fast path on this machine's {place.type}: "
            "slower than float32 (--dtype float32) and less exact",
        )
    return LoadedModel(called, model, words, warnings)


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.400}".rstrip(".")


def device_of(name: str | None) -> torch.device:
    """The device of a name, or a GPU where there is one; `cuda` is that of this process under torchrun.

    Raises:
        UsageError: one that is not there.

    Example:
        >>> device_of("cpu")
        device(type='cpu')
    """
    rank = int(os.environ.get("LOCAL_RANK", 0))
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cuda", rank) if name == "cuda" else torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {name!r}: cannot be used here; valid is cpu, or cuda and cuda:N where there is one"
        ) from error
    return device


def model_digest(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights and buffers that are saved.

    Example:
        >>> model_digest(nn.Linear(2, 2)) == model_digest(nn.Linear(2, 2))
        False
    """
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # of shards
        flat = whole.detach().cpu().contiguous().flatten()
        total.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return total.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of what a tokenizer does, as far as it tells."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        # A call switches truncation and padding on and off; neither says how text is cut into tokens.
        told = {"truncation": None, "padding": None}
        text = json.dumps(json.loads(backend.to_str()) | told, sort_keys=True)
    elif hasattr(tokenizer, "get_vocab"):
        text = repr(sorted(tokenizer.get_vocab().items()))
    else:
        text = type(tokenizer).__qualname__
    special = [getattr(tokenizer, name, None) for name in ("bos_token_id", "eos_token_id")]
    return hashlib.sha256(f"{special}\n{text}".encode()).hexdigest()
