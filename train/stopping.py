"""Signals that ask a run to end, heard between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stop:
    """Whether a signal asked the run to end.

    Attributes:
        by: name of the signal; empty while there was none.
    """

    by: str = ""


@contextmanager
def stopping() -> Iterator[Stop]:
    """While the body runs, SIGINT and SIGTERM only set `Stop.by`; the second one ends the process as ever.

    Outside the main thread nothing is caught (Python allows it there alone).

    Example:
        >>> with stopping() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        >>> stop.by
        'SIGTERM'
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def heard(number: int, _: object) -> None:
        stop.by = signal.Signals(number).name
        for one, handler in before.items():
            signal.signal(one, handler)

    try:
        for number in before:
            signal.signal(number, heard)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
