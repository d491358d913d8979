"""Signals that are heard between steps, and given back as they were."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from train.stopping import stopping

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def _as_before():
    before = [signal.getsignal(one) for one in BOTH]
    yield
    assert [signal.getsignal(one) for one in BOTH] == before


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_is_only_noted(number):
    with stopping() as stop:
        assert not stop.by
        signal.raise_signal(number)
        assert stop.by == number.name
    assert stop.by == number.name


@pytest.mark.parametrize("second", BOTH)
def test_the_second_does_what_it_did_before(second):
    told = []
    before = [signal.signal(one, lambda number, _: told.append(number)) for one in BOTH]
    try:
        with stopping() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert not told
            signal.raise_signal(second)
            assert told == [second] and stop.by == "SIGTERM"
        signal.raise_signal(signal.SIGINT)
        assert told == [second, signal.SIGINT]
    finally:
        for one, handler in zip(BOTH, before, strict=True):
            signal.signal(one, handler)


def test_an_error_gives_them_back():
    with pytest.raises(KeyError), stopping():
        raise KeyError


def test_one_within_the_other():
    with stopping() as outer:
        with stopping() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert inner.by == "SIGTERM" and not outer.by
        signal.raise_signal(signal.SIGINT)
    assert outer.by == "SIGINT"


def test_another_thread_hears_nothing():
    found = []

    def body() -> None:
        with stopping() as stop:
            found.append((stop.by, [signal.getsignal(one) for one in BOTH]))

    before = [signal.getsignal(one) for one in BOTH]
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [("", before)]


def test_the_second_ends_a_process():
    """Oracle: the system: a process that SIGTERM ended says so."""
    code = (
        "import signal\nfrom train.stopping import stopping\n"
        "with stopping() as stop:\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print(stop.by, flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "SIGTERM\n" and done.returncode == -signal.SIGTERM
