"""Where logged numbers go: a file of JSON lines, TensorBoard; `evalsuite.trackers` has W&B."""

from __future__ import annotations

import json
import logging
import math
import operator
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from scaling.errors import StagewiseError, UsageError

if TYPE_CHECKING:
    import pandas as pd

STEP = "step"  # the field of a JSON line; no value may bear the name
NOT_FINITE = "not_finite"  # the field of a JSON line that keeps what JSON has no number for
ROW_STEP = "global_step"  # the metric that W&B draws the others over
_RESERVED = (STEP, NOT_FINITE, ROW_STEP)

Numbers = Mapping[str, float]

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes numbers of a run, step by step."""

    def log(self, values: Numbers, step: int, axes: Numbers | None = None) -> None:
        """Take numbers.

        Args:
            values: by name, such as `train/loss`; whatever `float()` takes. Numbers that are not finite too.
            step: optimiser step. After a resume steps may repeat: what comes later counts.
            axes: what else the values can be drawn over, such as `tokens` and `flops`.
        """
        ...

    def close(self) -> None:
        """Write what is not written yet. Closing twice does no harm."""
        ...


class JsonLines:
    r"""A file with one JSON object per call: `step`, then axes and values by name.

    A number that is not finite is null, since JSON has no such thing, and stands as text under `not_finite`.
    Lines are added at the end, each by one write, so that a kill leaves whole lines; half a line that a
    machine left behind is cut off when the file is opened again.

    Args:
        path: the file. Missing parent folders are made.

    Example:
        >>> sink = JsonLines("run/log.jsonl")                     # doctest: +SKIP
        >>> sink.log({"loss": float("inf")}, 3, {"tokens": 96.0})  # doctest: +SKIP
        >>> open("run/log.jsonl").read()                          # doctest: +SKIP
        '{"step": 3, "tokens": 96.0, "loss": null, "not_finite": {"loss": "inf"}}\n'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _cut_half_line(self.path)
        self._file = open(self.path, "ab", buffering=0)

    def log(self, values: Numbers, step: int, axes: Numbers | None = None) -> None:
        """Add a line."""
        step, numbers, over = checked(values, step, axes)
        numbers = over | numbers
        line: dict[str, Any] = {STEP: step}
        line |= {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        if odd := {name: str(value) for name, value in numbers.items() if not math.isfinite(value)}:
            line[NOT_FINITE] = odd
        data = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode()
        while data:  # a write to a full pipe or disk may be short
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_log(path: str | os.PathLike[str]) -> pd.DataFrame:
    """What `JsonLines` wrote: one row per step, ascending, one column per name.

    Of a name that was logged twice at a step the later number counts: a run that was killed and resumed
    repeats steps, and beyond the last of them stands what was logged before the kill. Numbers that are not
    finite are what they were; missing ones are NaN.

    Raises:
        StagewiseError: no such file, or a line that is no such object.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise StagewiseError(f"{path}: no such file; give the log of a run")
    rows: dict[int, dict[str, float]] = {}
    lines = path.read_bytes().split(b"\n")
    for number, text in enumerate(lines, 1):
        if not text or number == len(lines):  # after the last line end stands nothing, or half a line
            continue
        try:
            line = json.loads(text)
            step = operator.index(line.pop(STEP))
            line |= {name: float(value) for name, value in line.pop(NOT_FINITE, {}).items()}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise StagewiseError(
                f"{path}:{number}: got {text[:60]!r}, valid is a JSON object with a whole {STEP}; "
                "take the line out"
            ) from error
        rows.setdefault(step, {}).update(line)
    frame = pd.DataFrame([{STEP: step, **rows[step]} for step in sorted(rows)])
    return frame if len(frame) else pd.DataFrame(columns=[STEP])


class TensorBoard:
    """Scalars for TensorBoard. Numbers that are not finite are passed on; it marks them on the curve.

    Args:
        folder: of event files; a resumed run goes on in the same one.
        resumed: the step a resumed run goes on from. TensorBoard then hides what was logged after it before;
            without it, a step that was logged twice is drawn twice.

    Raises:
        StagewiseError: tensorboard, or torch, is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, resumed: int | None = None) -> None:
        try:
            writer = import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError as error:
            raise StagewiseError(
                f"TensorBoard: cannot be loaded ({error}); pip install tensorboard, or leave this sink out"
            ) from error
        purge = None if resumed is None else resumed + 1
        self._writer = writer(log_dir=os.fspath(folder), purge_step=purge, flush_secs=30)
        self._closed = False

    def log(self, values: Numbers, step: int, axes: Numbers | None = None) -> None:
        """Add a scalar per value; axes are scalars too, since TensorBoard draws over steps only."""
        step, numbers, over = checked(values, step, axes)
        for name, value in (over | numbers).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the rest, and close the file."""
        if not self._closed:
            self._closed = True
            self._writer.close()


class Several:
    """Sinks as one, none of which can break training.

    A sink that raises is said once, with its error, by `logging`; every failure is counted, and the sink is
    tried again at the next call. Interrupts pass.

    Args:
        sinks: in the order they are called.

    Attributes:
        failures: calls that failed, by sink, such as `{"Wandb": 3}`; sinks without failures are not in it.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = tuple(sinks)
        self.failures: dict[str, int] = {}
        kinds = [type(sink).__name__ for sink in self.sinks]
        self._names = [
            kind if kinds.count(kind) == 1 else f"{kind} {kinds[: i + 1].count(kind)}"
            for i, kind in enumerate(kinds)
        ]

    def log(self, values: Numbers, step: int, axes: Numbers | None = None) -> None:
        """Give the numbers to every sink."""
        for name, sink in zip(self._names, self.sinks, strict=True):
            self._guarded(name, f"log of step {step}", sink.log, values, step, axes)

    def close(self) -> None:
        """Close every sink."""
        for name, sink in zip(self._names, self.sinks, strict=True):
            self._guarded(name, "close", sink.close)

    def _guarded(self, name: str, what: str, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except Exception as error:
            self.failures[name] = self.failures.get(name, 0) + 1
            if self.failures[name] == 1:
                _log.warning(
                    "sink %s: %s failed (%s: %s); training goes on, further failures of it are counted only",
                    name, what, type(error).__name__, error,
                )  # fmt: skip


def checked(
    values: Numbers, step: int, axes: Numbers | None
) -> tuple[int, dict[str, float], dict[str, float]]:
    """Step, values and axes as plain numbers, for a sink.

    Raises:
        UsageError: what is no number, a name that is taken, a step that is no whole number from 0.
    """
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(f"log: got step {step!r}, valid is a whole number from 0")
    step, numbers, over = number, _numbers(values, number), _numbers(axes or {}, number)
    if both := sorted(numbers.keys() & over.keys()):
        raise UsageError(f"log, step {step}: {both[0]!r} is a value and an axis; give each name once")
    return step, numbers, over


def _numbers(values: Numbers, step: int) -> dict[str, float]:
    found = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name or name in _RESERVED:
            raise UsageError(
                f"log, step {step}: got the name {name!r}, valid is text other than {', '.join(_RESERVED)}"
            )
        try:
            if isinstance(value, str | bytes):  # float() would read them
                raise TypeError("text")
            found[name] = float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise UsageError(
                f"log, step {step}: {name}: got {value!r:.60}, valid is one number ({error})"
            ) from error
    return found


def _cut_half_line(path: Path) -> None:
    """Take off what stands after the last line end, where there is a file."""
    if not path.is_file():
        return
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        kept = end
        while kept > 0:
            start = max(kept - 2**16, 0)
            file.seek(start)
            at = file.read(kept - start).rfind(b"\n")
            if at >= 0:
                kept = start + at + 1
                break
            kept = start
        if kept < end:
            file.truncate(kept)
