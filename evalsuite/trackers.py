"""Weights & Biases, and what is called like it, as a sink."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from evalsuite.sinks import NOT_FINITE, ROW_STEP, Numbers, checked
from scaling.errors import StagewiseError, UsageError

TRACKERS = ("wandb", "trackio")  # modules that are imported by name


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
        step, numbers, over = checked(values, step, axes)
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
