"""Random states as tensors, to be kept in a checkpoint."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor


def captured() -> dict[str, Tensor]:
    """The states of torch (CPU, and GPUs that are in use), numpy and Python.

    Training itself draws nothing; what hangs in the loop may.

    Example:
        >>> kept = captured(); a = torch.rand(1); restored(kept); bool(torch.rand(1) == a)
        True
    """
    _, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, spare = random.getstate()
    kept = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, keys), place, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([gauss], dtype=torch.float64),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([np.nan if spare is None else spare], dtype=torch.float64),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        kept["cuda"] = torch.cuda.get_rng_state()
    return kept


def seeded(seed: int) -> None:
    """Start all states from one seed, so that a run depends on nothing that the process did before."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def restored(kept: dict[str, Tensor]) -> None:
    """Set the states to those of `captured`."""
    torch.set_rng_state(kept["torch"])
    *keys, place, has_gauss = kept["numpy"].tolist()
    gauss = float(kept["numpy_gauss"])
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), place, has_gauss, gauss))
    version, *words = kept["python"].tolist()
    spare = float(kept["python_gauss"])
    random.setstate((version, tuple(words), None if np.isnan(spare) else spare))
    if "cuda" in kept and torch.cuda.is_available():
        torch.cuda.set_rng_state(kept["cuda"])
