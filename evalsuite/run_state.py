"""Where a run is, from the folder it writes: read in a moment, also while it is being written."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import StagewiseError

LOG, CONFIG, HOOK = "log.jsonl", "config.toml", "evals"
_TAIL = 1 << 20  # bytes at the end of a log, which hold its last steps and its last validation


@dataclass(frozen=True)
class RunState:
    """Where a run is; None for what is not known.

    Attributes:
        folder: of the run. name: of it. hook: folder of its `EvalHook`, which need not be there yet.
        step, steps: done, and to do. loss, rate, phase: of the last step. tokens, flops: so far.
        speed: of the last step, such as `tokens_per_second`. bpb: of the last validation, by domain.
        config: settings of the run, as its file has them.
    """

    folder: Path
    name: str
    hook: Path
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    rate: float | None = None
    phase: Any = None
    tokens: float | None = None
    flops: float | None = None
    speed: dict[str, Any] = field(default_factory=dict)
    bpb: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, folder: Path) -> RunState:
        """From the folder of a run, or of the hook of another trainer.

        Raises:
            StagewiseError: there is no run.

        Example:
            >>> RunState.read(Path("runs/a")).step           # doctest: +SKIP
            1200
        """
        from evalsuite.evaluations import JOURNAL

        if (folder / JOURNAL).is_file() and not (folder / LOG).is_file():
            up = folder.resolve().parent
            if folder.resolve().name != HOOK or not (up / LOG).is_file():
                return cls(
                    folder, up.name if folder.resolve().name == HOOK else folder.resolve().name, folder
                )
            folder = up
        hook = folder / HOOK
        if not any(one.is_file() for one in (folder / LOG, folder / CONFIG, hook / JOURNAL)):
            raise StagewiseError(
                f"{folder}: no run here ({LOG}, {CONFIG} and {JOURNAL} are missing); give the folder of a "
                "run, or of an EvalHook"
            )
        config = _config(folder / CONFIG)
        last = _last(folder / LOG)
        train, tested = last.get("train", {}), last.get("validation", {})
        return cls(
            folder, folder.resolve().name, hook, train.get("step", 0), _steps(config), _loss(train),
            train.get("rate"), train.get("phase"), train.get("tokens"), train.get("flops"),
            dict(train.get("speed", {})), dict(tested.get("bpb", {})), config,
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether the last step is done; False where it is not known which that is."""
        return self.steps is not None and self.step >= self.steps

    @property
    def told(self) -> str:
        """In words, how far it is."""
        if self.steps is None:
            return f"step {self.step:,}"
        rest = "ended" if self.ended else f"{self.step / self.steps:.0%}"
        return f"step {self.step:,} of {self.steps:,}, {rest}"


def _config(path: Path) -> dict[str, Any]:
    """The settings; none of a file that is missing or broken, which is nothing to end a view for."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError):
        return {}


def _steps(config: dict[str, Any]) -> int | None:
    found = config.get("steps")
    if isinstance(found, int) and found > 0:
        return found
    try:  # a length in tokens
        return max(1, math.ceil(config["tokens"] / (config["batch"]["rows"] * config["model"]["context"])))
    except (KeyError, TypeError, ZeroDivisionError, OverflowError, ValueError):
        return None


def _loss(train: dict[str, Any]) -> float | None:
    """JSON has null for a loss that is no number."""
    return math.nan if "loss" in train and train["loss"] is None else train.get("loss")


def _last(path: Path) -> dict[str, dict[str, Any]]:
    """The last record of each kind in the tail of a log."""
    found: dict[str, dict[str, Any]] = {}
    for record in _backwards(path):
        found.setdefault(record["kind"], record)
        if {"train", "validation"} <= found.keys():
            break
    return found


def _backwards(path: Path) -> Iterator[dict[str, Any]]:
    """Records from the last whole line back; what is no record is passed over."""
    try:
        with open(path, "rb") as handle:
            end = handle.seek(0, 2)
            handle.seek(max(0, end - _TAIL))
            tail = handle.read(_TAIL)
    except OSError:
        return
    for line in reversed(tail[: tail.rfind(b"\n") + 1].splitlines()):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int and "kind" in record:
            yield record
