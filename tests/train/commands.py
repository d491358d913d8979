"""The command `train`, called right here."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.scaling.test_cli import strict
from tests.train.runs import no_measuring
from train import options
from train.cli import main


@dataclass(frozen=True)
class Said:
    """What a command said; in `plain` lines are not broken."""

    out: str
    err: str

    @property
    def plain(self) -> str:
        return " ".join(self.out.split())

    @property
    def json(self) -> Any:
        return strict(self.out)


def call(*args: object, code: int = 0) -> Said:
    """`train ARGS`, right here."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["train", *map(str, args)]), redirect_stdout(out), redirect_stderr(err),
        no_measuring(), pytest.raises(SystemExit) as end,
    ):  # fmt: skip
        main()
    said = Said(out.getvalue(), err.getvalue())
    assert (end.value.code or 0) == code, said
    assert "Traceback" not in said.err and "\x1b" not in said.out  # no colours off a terminal
    return said


@contextmanager
def signalled(step: int, name: str = "SIGTERM") -> Iterator[None]:
    """A run is sent a signal at a step."""

    @contextmanager
    def bar(_: str) -> Iterator[Any]:
        def progress(done: int, total: int, text: str = "") -> None:
            if text and done == step:
                signal.raise_signal(getattr(signal, name))

        yield progress

    with patch.object(options, "progress_bar", bar):
        yield


def lines_of(text: str) -> dict[str, list[str]]:
    """First cell -> the other cells of the rows of a table."""
    return {cells[0]: cells[1:] for cells in map(str.split, text.splitlines()) if cells}


def toml(path: Path, settings: dict[str, Any]) -> Path:
    """Dotted names as a file; what JSON writes of these values, TOML reads."""
    told = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    path.write_text("".join(told), encoding="utf-8")
    return path
