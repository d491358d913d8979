"""Which code measured."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that the code stands at; "" outside a repository."""
    top = Path(__file__).resolve().parents[2]
    try:
        found = subprocess.run(
            ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
