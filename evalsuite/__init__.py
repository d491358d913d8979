"""Suites of benchmarks: what to run at which stage of a training run, and on what evidence.

A suite is a reviewable YAML file that this package builds from the classes and clusters that :mod:`scaling`
found in real scores. It is made to be imported into other people's trainers: importing it loads neither torch
nor lm_eval, and it never imports the ``train`` and ``data`` packages of this project, whose names a trainer's
own folder may hold too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalsuite.settings import Settings
    from evalsuite.suite import Suite

__all__ = ["Settings", "Suite"]


def __getattr__(name: str):
    """Load what is asked for, when it is asked for."""
    if name == "Suite":
        from evalsuite.suite import Suite

        return Suite
    if name == "Settings":
        from evalsuite.settings import Settings

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
