"""Which code measured, and with what."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from scaling.versions import versions

_COMPUTED_BY = ("torch", "numpy", "tokenizers", "pandas", "scipy")


def commit() -> str:
    """The commit that the code stands at; "" where it is no checkout of its own."""
    top = Path(__file__).resolve().parents[2]
    # Installed beneath somebody's repository, the code is not what that repository's commit names.
    if Path(_git(top, "rev-parse", "--show-toplevel") or "/") != top:
        return ""
    return _git(top, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def computed_by() -> dict[str, str]:
    """Versions of what computes."""
    return {"Python": platform.python_version(), **versions(_COMPUTED_BY)}


def _git(folder: Path, *words: str) -> str:
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
