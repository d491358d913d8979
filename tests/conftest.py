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
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
)
settings.load_profile("stagewise")

ROOT = Path(__file__).resolve().parents[1]

# No test asks the network, and what would (lm-eval looks up a tokenizer) fails at once, not after retries.
# Set before anything imports the hub, and handed on to processes.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")


# The dearest tests, by the end of their names: `make test` leaves them out, `make test-all` runs everything.
SLOW = (
    "test_suites_committed.py::test_it_follows_from_the_scores_of_the_package[mid]",
    "test_suites_committed.py::test_it_follows_from_the_scores_of_the_package[late]",
    "test_runs_from_start_to_end[3_building_and_comparing_suites]",
    "test_runs_from_start_to_end[4_training_with_the_hook]",
    "test_runs_from_start_to_end[5_forecasts_and_decisions]",
    "test_climb.py::test_two_at_a_time_give_the_same",
    "test_planted.py::test_as_a_user_calls_it",
    "test_loop.py::test_blocks_can_be_compiled",
    "test_loop.py::test_blocks_can_become_machine_code",
    "test_forecasts.py::test_a_dask_cluster_gives_the_same_numbers",
    "test_backtests.py::test_pythia",
    "test_run.py::test_two_processes_score_as_one",
    "test_agreement.py::test_the_goal",
    "test_agreement.py::test_the_tidy_tables_read_as_the_same_tasks",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.endswith(SLOW):
            item.add_marker(pytest.mark.slow)


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
