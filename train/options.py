"""What the commands of `train` can be told: each option once, with its help, and how it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.console import note
from scaling.errors import UsageError
from scaling.progress import progress_bar

if TYPE_CHECKING:
    from train.config import RunConfig

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Config = Annotated[Path | None, typer.Argument(help="TOML file of settings; the defaults without one.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help='A setting, such as optim.lr=1e-3 or mixture.code="0.3 until 40%, then 0". Repeatable.'
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", help="File, folder, hf:NAME, embedded or python; with its domain: code=src/. Repeatable."
    ),
]

_LENGTHS = ("steps", "tokens")


def read(
    config: Path | None, settings: list[str] | None, flags: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> RunConfig:  # fmt: skip
    """Settings: defaults, then those of a file, then --set, then the flags that were given.

    Args:
        config: the file. settings: NAME=VALUE each. flags: by dotted name; None where one was not given.
        defaults: by dotted name, where they are not those of `train.config.RunConfig`.

    Raises:
        UsageError: what `train.config.read_config` raises; a setting that is not NAME=VALUE.
    """
    from train.config import read_config

    told = dict(map(setting, settings or []))
    told |= {name: value for name, value in flags.items() if value is not None}
    lengths = [name for name in _LENGTHS if name in told]
    if len(lengths) == 1:  # it stands for that of the file, in whatever unit that is
        told |= {name: None for name in _LENGTHS if name not in told}
    if defaults:
        given = names_in(config) if config is not None else []
        told = {name: value for name, value in defaults.items() if name not in given} | told
    return read_config(config, told)


def names_in(config: Path) -> list[str]:
    """The dotted names that a file sets; none of a file that cannot be read, which `read` complains of."""
    import tomllib

    try:
        told = tomllib.loads(config.read_bytes().decode("utf-8"))
    except (OSError, ValueError):
        return []
    names = []
    for name, value in told.items():
        names += [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]
    return names


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as in TOML, or else text.

    Example:
        >>> setting("optim.lr=1e-3"), setting("data.tokenizer=bytes")
        (('optim.lr', 0.001), ('data.tokenizer', 'bytes'))
    """
    import tomllib

    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise UsageError(f"{text!r}: valid is NAME=VALUE, such as optim.lr=1e-3")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def source_of(text: str) -> dict[str, str]:
    """PATH, or DOMAIN=PATH.

    Example:
        >>> source_of("code=src/"), source_of("notes/a=b.txt")
        ({'domain': 'code', 'path': 'src/'}, {'path': 'notes/a=b.txt'})
    """
    domain, found, path = text.partition("=")
    return {"domain": domain, "path": path} if found and "/" not in domain else {"path": text}


def seeds_of(text: str) -> tuple[int, ...]:
    """Whole numbers, with commas between.

    Example:
        >>> seeds_of("0,1,2")
        (0, 1, 2)
    """
    parts = [one.strip() for one in text.split(",")]
    if not all(one.isascii() and one.isdigit() and len(one) < 19 for one in parts):
        raise UsageError(f"--seeds: got {text!r}; valid are whole numbers from 0, with commas between: 0,1,2")
    return tuple(map(int, parts))


@contextmanager
def work(what: str) -> Iterator[Any]:
    """A progress bar, for one process of several."""
    if int(os.environ.get("RANK", 0)):
        yield None
        return
    with progress_bar(what) as step:
        yield step


def say(text: str) -> None:
    """Say something that is no result, as one process of several."""
    if not int(os.environ.get("RANK", 0)):
        note(text)
