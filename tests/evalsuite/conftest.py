"""One thread for the tiny models of these tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread(one_thread):
    """See `tests/conftest.py`."""
