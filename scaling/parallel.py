"""One function over many items: in this process, over the cores, or on a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from scaling.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[R]:
    """`[function(item) for item in items]`, by several workers at once.

    Where it runs is joblib's setting, so that whoever calls decides, on a laptop or on a cluster:
    `with joblib.parallel_config(backend="loky", n_jobs=8)`, or `backend="dask"` with a Dask client, or
    `backend="ray"` once Ray has registered it. Without any, and with `jobs` unset, it runs right here.

    While it runs, the linear algebra of this process keeps to its share of the cores, as joblib's own worker
    processes do: many workers with many threads each are slower than one. (OpenMP keeps a limit per thread,
    so on the threading backend it holds for BLAS alone.) Dask and Ray see to theirs.

    Args:
        function: called with one item. Worker processes get it pickled, with what it holds on to. It draws
            random numbers from a seed in its item alone, or the result depends on who did what.
        items: what to call it with.
        jobs: workers; -1 is all cores, -2 all but one. Where None, as joblib is set, else 1. A cluster
            uses all the workers it has, save for 1, which is always this process.
        progress: called with (results here, items) in this process, as results come in; on backends that
            give all results at once (multiprocessing, Ray), once they are all here.

    Returns:
        The results in the order of the items.

    Raises:
        UsageError: `jobs` is 0.
        Exception: the first that came back from `function`, as itself where it can be pickled; work that has
            not begun is dropped.

    Example:
        >>> parallel_map(abs, [-2, -1, 0])
        [2, 1, 0]
    """
    if jobs is not None and (isinstance(jobs, bool) or jobs == 0):
        raise UsageError(
            f"jobs: got {jobs}, valid is 1 or more, -1 for all cores, or None for joblib's setting"
        )
    items = list(items)
    if len(items) < 2 or jobs == 1:
        return _here(function, items, progress)
    # Both take a while to load.
    import joblib
    from threadpoolctl import threadpool_limits

    workers = joblib.effective_n_jobs(jobs)  # pyright: ignore[reportArgumentType]
    if workers == 1:  # joblib, too, leaves a cluster of one alone
        return _here(function, items, progress)
    backend, _ = joblib.parallel.get_active_backend()
    streams = getattr(backend, "supports_return_generator", False)
    # Unordered, or one slow item would hold back the news of all behind it.
    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered" if streams else "list")
    calls = (joblib.delayed(_numbered)(function, i, item) for i, item in enumerate(items))
    found: dict[int, R] = {}
    with threadpool_limits(max(1, joblib.cpu_count() // workers)):
        if not streams:
            found.update(cast("list[tuple[int, R]]", pool(calls)))
        else:
            with _stopped(cast("Generator[tuple[int, R]]", pool(calls))) as results:
                for i, result in results:
                    found[i] = result
                    if progress is not None:
                        progress(len(found), len(items))
    if not streams and progress is not None:
        progress(len(items), len(items))
    return [found[i] for i in range(len(items))]


def _here(
    function: Callable[[T], R], items: Sequence[T], progress: Callable[[int, int], None] | None
) -> list[R]:
    results = []
    for item in items:
        results.append(function(item))
        if progress is not None:
            progress(len(results), len(items))
    return results


@contextmanager
def _stopped(results: Generator[T]) -> Iterator[Generator[T]]:
    """Results whose workers stop when the body is left, by an exception of `progress` too."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            # joblib advises not to ask for results that go unused; here something went wrong.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"joblib\.parallel")
            results.close()


def _numbered(function: Callable[[T], R], index: int, item: T) -> tuple[int, R]:
    return index, function(item)
