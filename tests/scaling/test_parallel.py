"""One function over many items: the same as a loop, whoever runs it."""

from __future__ import annotations

import os
import threading
import time
from functools import partial

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from scaling.curves import fit_curves
from scaling.errors import UsageError
from scaling.parallel import parallel_map
from tests.scaling.synthetic import facts, frame_of, sigmoid

BACKENDS = ("loky", "threading", "multiprocessing")


def slow_square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0.0)  # later items overtake earlier ones
    return number**2


def square(number: int) -> int:
    return number**2


def where(_: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def threads(_: int) -> int:
    """Threads of the linear algebra where this runs."""
    np.ones((2, 2)) @ np.ones((2, 2))  # loads it
    return max([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"], default=1)


def fail_at_seven(number: int) -> int:
    if number == 7:
        raise UsageError("seven: got 7, valid is anything else")
    return number


def fitted(frame, seed: int) -> list[list[float]]:
    """The estimate and all draws of the curves of a table."""
    from scaling.scores import ScoreTable

    curves = fit_curves(ScoreTable.from_frame(frame), replicates=20, seed=seed, facts=facts())
    return [curve.fit.parameters.tolist() for curve in curves]


@given(items=st.lists(st.integers(), max_size=8))
def test_without_any_setting_it_is_a_loop(items):
    # Oracle: the loop.
    told = []
    found = parallel_map(square, items, progress=lambda *now: told.append(now))
    assert found == [item**2 for item in items]
    assert told == [(i + 1, len(items)) for i in range(len(items))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_order_is_that_of_the_items(backend):
    told = []
    with joblib.parallel_config(backend=backend):
        found = parallel_map(slow_square, range(12), jobs=2, progress=lambda *now: told.append(now))
    assert found == [number**2 for number in range(12)]
    if backend == "multiprocessing":
        assert told == [(12, 12)]
    else:
        assert told == [(i + 1, 12) for i in range(12)]


def test_news_come_in_before_the_last_result():
    """Item 0 waits for the news of another one: it would wait in vain if they came in order."""
    heard = threading.Event()

    def wait(number: int) -> bool:
        return number != 0 or heard.wait(timeout=10)

    with joblib.parallel_config(backend="threading"):
        assert all(parallel_map(wait, range(4), jobs=2, progress=lambda *_: heard.set()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_jobs_none_is_the_ambient_setting(backend):
    here = where(0)
    assert set(parallel_map(where, range(4))) == {here}
    with joblib.parallel_config(backend=backend, n_jobs=1):
        assert set(parallel_map(where, range(4))) == {here}
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert here not in parallel_map(where, range(4))
        assert set(parallel_map(where, range(4), jobs=1)) == {here}
        assert parallel_map(where, [0]) == [here]


def test_jobs_alone_is_worker_processes():
    assert os.getpid() not in {process for process, _ in parallel_map(where, range(4), jobs=2)}


def test_a_closure_may_be_mapped():
    by = 3
    assert parallel_map(lambda number: by * number, range(4), jobs=2) == [0, 3, 6, 9]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exception_arrives_as_itself(backend):
    with joblib.parallel_config(backend=backend), pytest.raises(UsageError, match="seven: got 7"):
        parallel_map(fail_at_seven, range(9), jobs=2)
    with pytest.raises(UsageError, match="seven: got 7"):
        parallel_map(fail_at_seven, range(9))
    # And what it ran on is still good.
    with joblib.parallel_config(backend=backend):
        assert parallel_map(slow_square, range(3), jobs=2) == [0, 1, 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_share_the_cores(backend):
    """Oracle: threadpoolctl, inside the workers and here before and after."""
    before = threads(0)
    with joblib.parallel_config(backend=backend):
        found = parallel_map(threads, range(4), jobs=2)
    assert max(found) <= max(1, joblib.cpu_count() // 2)
    assert threads(0) == before


def test_progress_that_fails_stops_the_work():
    before, begun = threads(0), []

    def begin(number: int) -> None:
        begun.append(number)
        time.sleep(0.005)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with joblib.parallel_config(backend="threading"), pytest.raises(KeyboardInterrupt):
        parallel_map(begin, range(1000), jobs=2, progress=stop)
    assert len(begun) < 1000
    assert threads(0) == before


@pytest.mark.parametrize("jobs", [0, False, True])
def test_no_workers_at_all_are_refused(jobs):
    with pytest.raises(UsageError, match="valid is 1 or more"):
        parallel_map(slow_square, range(4), jobs=jobs)


def test_a_dask_cluster_gives_the_same_numbers():
    """Oracle: the loop, bit for bit, for curves and their draws on two worker processes."""
    distributed = pytest.importorskip("distributed", reason="make test installs it")
    frame = frame_of({"a": sigmoid(0.25, 0.75, 20.0, 2.0)}, runs=8, checkpoints=2, run_sd=0.01)
    fit = partial(fitted, frame)
    told = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        processes = {process for process, _ in parallel_map(where, range(8))}
        found = parallel_map(fit, range(4), progress=lambda *now: told.append(now))
        inner = parallel_map(threads, range(2))
        with pytest.raises(UsageError, match="seven: got 7"):
            parallel_map(fail_at_seven, range(9))
        pids = set(client.run(os.getpid).values())
    assert processes <= pids and len(pids) == 2 and os.getpid() not in pids
    assert found == [fit(seed) for seed in range(4)]
    assert found[0] != found[1]
    assert told == [(i + 1, 4) for i in range(4)]
    assert max(inner) == 1
