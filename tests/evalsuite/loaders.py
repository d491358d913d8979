"""What processes of their own call to get a model; torch is loaded by those alone that need it."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any


def net(seed: int) -> tuple[Any, Any]:
    """A network of other weights than any that is trained."""
    import torch

    from tests.evalsuite.net import Bytes, Net

    torch.manual_seed(seed)
    return Net(), Bytes()


def small_files(limit: int) -> tuple[Any, Any]:
    """As on a full disk: no file of more bytes."""
    found = net(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return found


def killed(argument: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def raises(argument: Any) -> Any:
    raise ValueError(f"no model of {argument}")


def hangs(path: str) -> Any:
    """Says its number and that of a process it starts, and does not come back."""
    import subprocess

    other = subprocess.Popen(["sleep", "600"])
    part = Path(f"{path}.tmp")
    part.write_text(f"{os.getpid()} {other.pid}")
    part.rename(path)
    time.sleep(600)


def tells(path: str) -> Any:
    """Writes down what it finds itself in."""
    known = {
        "environment": dict(os.environ), "path": sys.path, "nice": os.nice(0), "session": os.getsid(0),
        "first": Path("/proc/self/oom_score_adj").read_text().strip(),
    }  # fmt: skip
    Path(path).write_text(json.dumps(known))
    raise SystemExit("told")
