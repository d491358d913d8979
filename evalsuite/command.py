"""The call that builds a suite again, as it stands in the suite's first lines."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

Value = str | int | float | bool | Path | Sequence[str] | Sequence[Path] | None


def command_of(scores: Sequence[str], *, held_out: bool = True, **options: Value) -> str:
    """`evalsuite build` with these options, in this order.

    Paths are relative to the working folder, so that no committed file names a place on a machine.

    Args:
        scores: what `--scores` was given.
        options: by name, `_` for `-`; None and False are left out, lists repeat the option.

    Example:
        >>> command_of(["a.parquet"], stage="early", budget="20%", whole=True)
        'evalsuite build --scores a.parquet --stage early --budget 20% --whole'
    """
    parts = ["evalsuite", "build"]
    for path in scores:
        parts += ["--scores", relative(path)]
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            parts.append(option)
            continue
        for one in [value] if isinstance(value, str | int | float | Path) else value:
            if isinstance(one, Path):
                text = relative(one)
            else:
                text = repr(one) if isinstance(one, float) else str(one)
            parts += [option, text]
    return shlex.join(parts if held_out else [*parts, "--no-held-out"])


def relative(path: str | Path) -> str:
    """A path as it is, or relative to the working folder where it is absolute."""
    return os.path.relpath(path) if os.path.isabs(path) else str(path)
