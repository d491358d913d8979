"""What a run was started with, so that an edited setting cannot make it another run unseen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scaling.errors import StagewiseError
from scaling.files import replacing
from train.config import RunConfig

RECORD = "record.json"


def settle(folder: Path, name: str, told: Mapping[str, Any], anew: bool = False) -> None:
    """Note settings under a name in RUN/record.json, or compare them with what was noted.

    Args:
        folder: of the run. name: such as course. told: the settings.
        anew: note them whatever stands there.

    Raises:
        StagewiseError: what differs: the setting, what it was, what it is.

    Example:
        >>> settle(Path("runs/a"), "text", {"seed": 0})          # doctest: +SKIP
    """
    path = folder / RECORD
    try:
        noted = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError as error:
        raise StagewiseError(
            f"{path}: is no JSON ({error}); delete it, if config.toml is as it was"
        ) from error
    now = json.loads(json.dumps(dict(told)))
    if anew or name not in noted:
        with replacing(path) as part:
            part.write_text(json.dumps(noted | {name: now}, indent=1) + "\n", encoding="utf-8")
        return
    before, after = _flat(noted[name]), _flat(now)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            raise StagewiseError(
                f"{folder}: {key} was {before.get(key)!r} when the run was started and is {after.get(key)!r} "
                "now; put it back, or start a run in another folder"
            )


def text_of(config: RunConfig) -> dict[str, Any]:
    """The settings that tokens made for a run follow from."""
    told = asdict(config.data)
    return {"data": told, "seed": config.seed}


def course_of(config: RunConfig) -> dict[str, Any]:
    """The settings that its weights follow from; rows of a pass, disk, device and trackers may change."""
    told = asdict(config)
    told["batch"].pop("micro")
    return {
        name: told[name]
        for name in ("steps", "seed", "mixture", "model", "mtp", "batch", "optim", "schedule", "guard")
    }


def _flat(told: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(told, dict):
        parts = (_flat(inner, f"{prefix}{name}.") for name, inner in told.items())
        return {key: one for part in parts for key, one in part.items()}
    return {prefix.removesuffix("."): told}
