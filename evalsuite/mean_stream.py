"""Stretches of several files, read, averaged and written by a few threads at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from evalsuite.chunk_mean import FLOATS, ChunkMean, chunk_size
from scaling.errors import StagewiseError

Progress = Callable[[int, int], object]

_COPIED = 1 << 18  # bytes at once of what is not averaged
_MOST_THREADS = 4  # disk and memory have no use for more
_TICK = 0.2  # seconds between two steps of a progress bar


@dataclass(frozen=True)
class Run:
    """A stretch of one dtype.

    Attributes:
        dtype: as safetensors names it. start, size: bytes of the output. sources: for each model the file,
            and where the stretch begins there; one source alone is copied.
    """

    dtype: str
    start: int
    size: int
    sources: tuple[tuple[Path, int], ...]

    def joins(self, later: Run) -> bool:
        """Whether another begins where this one ends, in every file."""
        ends = tuple((path, start + self.size) for path, start in self.sources)
        return later.dtype == self.dtype and later.start == self.start + self.size and later.sources == ends


def write_mean(
    path: Path,
    header: bytes,
    size: int,
    runs: Sequence[Run],
    weights: Sequence[float],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Fill a file: the header, then the mean of each stretch.

    Args:
        path: a file that is there. size: bytes it will have. header: its first.
        weights: of the sources of a stretch.
        threads: as many as there are cores, at most 4, where None.
        progress: called now and then with bytes written, and bytes in all.

    Raises:
        OSError: it cannot be written. StagewiseError: a source cannot be read.
    """
    with ExitStack() as stack:
        files: dict[Path, int] = {}
        for source in dict.fromkeys(source for run in runs for source, _ in run.sources):
            files[source] = _opened(source)
            stack.callback(os.close, files[source])
        out = os.open(path, os.O_WRONLY)
        stack.callback(os.close, out)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(out, 0, size)  # a full disk shows now
        _put(out, memoryview(header), 0)
        stream = _Stream(files, out, runs, weights)
        with ThreadPoolExecutor(threads or _threads()) as pool:
            waiting = {pool.submit(stream.work) for _ in range(threads or _threads())}
            try:
                while waiting:
                    done, waiting = wait(waiting, _TICK, FIRST_EXCEPTION)
                    for one in done:
                        one.result()
                    if progress is not None:
                        progress(len(header) + stream.done, size)
            finally:
                stream.stop()


class _Stream:
    """What the threads share: the next chunk, and how far they are."""

    def __init__(
        self, files: dict[Path, int], out: int, runs: Sequence[Run], weights: Sequence[float]
    ) -> None:
        self._files, self._out, self._weights = files, out, weights
        self._chunks, self._lock = self._cut(runs), Lock()
        self.done = 0

    def stop(self) -> None:
        """Have the threads end after their chunk."""
        with self._lock:
            self._chunks = iter(())

    def work(self) -> None:
        """Average chunks until there are no more."""
        means: dict[str, ChunkMean] = {}
        copied = np.empty((1, _COPIED), np.uint8)
        while (chunk := self._next()) is not None:
            run, at, size = chunk
            if run.dtype in FLOATS and run.dtype not in means:
                means[run.dtype] = ChunkMean(run.dtype, self._weights)
            mean = means.get(run.dtype)
            rows = copied if mean is None else mean.rows
            for row, (path, start) in zip(rows, run.sources, strict=True):
                _get(self._files[path], row.data[:size], start + at, path)
            result = rows[0, :size] if mean is None else mean.of(size)
            _put(self._out, result.data, run.start + at)

    def _next(self) -> tuple[Run, int, int] | None:
        with self._lock:
            chunk = next(self._chunks, None)
            self.done += chunk[2] if chunk else 0
            return chunk

    def _cut(self, runs: Sequence[Run]) -> Iterator[tuple[Run, int, int]]:
        for run in runs:
            step = chunk_size(len(self._weights)) if run.dtype in FLOATS else _COPIED
            for at in range(0, run.size, step):
                yield run, at, min(step, run.size - at)


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise StagewiseError(f"{path}: cannot be read ({error.strerror})") from error


def _get(file: int, buffer: memoryview, at: int, path: Path) -> None:
    while buffer:
        try:
            count = os.preadv(file, [buffer], at)
        except OSError as error:
            raise StagewiseError(f"{path}: cannot be read ({error.strerror})") from error
        if not count:
            raise StagewiseError(f"{path}: was cut off while it was read; average what is whole")
        buffer, at = buffer[count:], at + count


def _put(file: int, data: memoryview, at: int) -> None:
    while data:
        count = os.pwrite(file, data, at)
        data, at = data[count:], at + count
