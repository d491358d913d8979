"""The command `evalsuite`, called inside a test."""

from __future__ import annotations

import sys
from collections.abc import Callable

from evalsuite.cli import main


def caller(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """`call(*args)`: exit code, stdout and stderr of `evalsuite ARGS`."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evalsuite", *args])
        code = 0
        try:
            main()
        except SystemExit as leave:
            code = int(leave.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call
