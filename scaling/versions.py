"""Versions of what is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


def versions(names: Sequence[str]) -> dict[str, str]:
    """Version of each distribution that is installed, in the order given; of the others nothing is said.

    Example:
        >>> list(versions(["numpy", "no-such-thing"]))
        ['numpy']
    """
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an extra that is not wanted, or a checkout that was never installed
            continue
    return found
