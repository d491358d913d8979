"""What tests share: where the real inputs are."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# The same examples on every run; a failure is shrunk but not explained, which takes minutes.
settings.register_profile(
    "stagewise",
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
)
settings.load_profile("stagewise")

ROOT = Path(__file__).resolve().parents[1]

# No test asks the network, and what would (lm-eval looks up a tokenizer) fails at once, not after retries.
# Set before anything imports the hub, and handed on to processes.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")


def pytest_collection_finish() -> None:
    """What the tests import stays as long as they run: no collection need look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs; the test is skipped, with the reason, where there is none."""
    named = os.environ.get("STAGEWISE_SHARED", "../shared")
    folder = (ROOT / named).resolve()
    if not (folder / "sources").is_dir():
        pytest.skip(f"no real inputs: {folder} has no sources/ (set STAGEWISE_SHARED to the folder that has)")
    return folder


@pytest.fixture(scope="session")
def one_thread():
    """Tiny models on one thread of torch: two only wait for each other."""
    import torch

    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    yield
    torch.set_num_threads(before[0])
    del os.environ["OMP_NUM_THREADS"]
    if before[1] is not None:
        os.environ["OMP_NUM_THREADS"] = before[1]
