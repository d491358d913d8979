"""Where logged numbers go: a file of JSON lines, TensorBoard, W&B and what is called like it."""

from __future__ import annotations

import inspect
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
TRACKERS = ("wandb", "trackio")  # modules that are imported by name
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
        step, numbers, over = _checked(values, step, axes)
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
        step, numbers, over = _checked(values, step, axes)
        for name, value in (over | numbers).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the rest, and close the file."""
        if not self._closed:
            self._closed = True
            self._writer.close()


class Wandb:
    """Weights & Biases, or a module that is called like it: `init`, `log(values, step=)`, `finish`.

    W&B drops rows whose step goes back, as steps do after a resume. Where a tracker has `define_metric`, its
    step is therefore a count of rows that only goes up: the optimiser's step where it can be, the next free
    number where it cannot. The optimiser's step is logged beside as `global_step`, and everything is drawn
    over that. Calls for one step share a row. A tracker without `define_metric` gets the step as it is.

    Numbers that are not finite are passed on as plain floats. Its charts leave them out, so that each is
    counted in a curve of its own, `not_finite/<name>`.

    Args:
        module: "wandb" or "trackio", or such a module itself.
        project, name, config: of the run.
        id: of the run to go on with, where there is one of it; a new run gets it. A module whose `init` takes
            no id goes on by name.
        options: more for `init`, such as `mode="offline"` or `entity=`.

    Attributes:
        id: what to give as `id` to go on with this run; None where the tracker tells none.

    Raises:
        UsageError: another name of a module. StagewiseError: it is not installed.

    Example:
        >>> sink = Wandb(project="small", name="first", config={"seed": 0})   # doctest: +SKIP
        >>> sink.log({"train/loss": 2.5}, step=10, axes={"tokens": 5120})     # doctest: +SKIP
        >>> Wandb(project="small", id=sink.id)                                # doctest: +SKIP
    """

    def __init__(
        self,
        module: Any = "wandb",
        *,
        project: str,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        id: str | None = None,
        **options: Any,
    ) -> None:
        self._module = _tracker(module) if isinstance(module, str) else module
        by_id = _takes(self._module.init, "id")
        wanted: dict[str, Any] = {"project": project, "name": name, "config": dict(config or {})}
        if id is not None:
            wanted |= {"id": id, "resume": "allow"} if by_id else {"name": id, "resume": "allow"}
        run = self._module.init(**wanted, **options)
        self.id: str | None = getattr(run, "id" if by_id else "name", None) or id
        self._run = run if hasattr(run, "log") else self._module
        self._define = getattr(self._run, "define_metric", None) or getattr(
            self._module, "define_metric", None
        )
        at = getattr(run, "step", 0)  # of a resumed run: where its rows have got to
        self._row = at if isinstance(at, int) and at > 0 else -1
        self._step: int | None = None
        self._axes: set[str] = set()
        self._closed = False
        if self._define is not None:
            self._define(ROW_STEP, hidden=True)
            self._define("*", step_metric=ROW_STEP)

    def log(self, values: Numbers, step: int, axes: Numbers | None = None) -> None:
        """Add to the row of a step. Axes are numbers of the row, which charts can be set to be drawn over."""
        step, numbers, over = _checked(values, step, axes)
        odd = {f"{NOT_FINITE}/{name}": 1.0 for name, value in numbers.items() if not math.isfinite(value)}
        row = over | numbers | odd
        if self._define is None:
            self._run.log(row, step=step)
            return
        for name in over.keys() - self._axes:
            self._define(name, hidden=True)
        self._axes |= over.keys()
        if step != self._step:
            self._step, self._row = step, max(step, self._row + 1)
        self._run.log({**row, ROW_STEP: step}, step=self._row)

    def close(self) -> None:
        """Finish the run."""
        if not self._closed:
            self._closed = True
            (getattr(self._run, "finish", None) or self._module.finish)()


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


def _checked(
    values: Numbers, step: int, axes: Numbers | None
) -> tuple[int, dict[str, float], dict[str, float]]:
    """Step, values and axes as plain numbers."""
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


def _tracker(name: str) -> Any:
    if name not in TRACKERS:
        raise UsageError(
            f"tracker {name!r}: valid is {' or '.join(TRACKERS)}, or a module with init, log and finish"
        )
    try:
        module = import_module(name)
        if not hasattr(module, "init"):  # a folder of that name, as runs leave behind
            raise ImportError(f"{list(getattr(module, '__path__', []))} is no such package")
    except ImportError as error:
        raise StagewiseError(
            f"tracker {name}: cannot be loaded ({error}); pip install {name}, or leave this sink out"
        ) from error
    return module


def _takes(function: Any, name: str) -> bool:
    """Whether a function has that parameter, or takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(one.name == name or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
