"""YAML files that people edit: read with an error that names line and field, written in one stable form."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import ComposerError

from scaling.errors import StagewiseError

MAX_BYTES = 8_000_000  # a suite of a thousand tasks takes a tenth of this
_SHOWN = 10  # problems listed in one message

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[Any, ...]


class Line(dict):
    """A mapping that is written on one line."""


class Items(list):
    """A list that is written on one line."""


class _Loader(yaml.SafeLoader):
    """The safe loader, without aliases (a few lines of them can stand for gigabytes)."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise ComposerError(None, None, "an alias (*name); write the value itself", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Keys in the order given, lists indented under their key."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)


# YAML 1.1 takes 1e19 for text unless it has a dot and a sign; people write it without. The dumper must
# know it too, or a task named 1e19 would be written without quotes and read as a number.
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def number(value: float, digits: int = 6) -> str:
    """A float as text: at most `digits` significant digits, and always a float to any YAML reader.

    Example:
        >>> number(1e19), number(0.25), number(3.0)
        ('1.0e+19', '0.25', '3.0')
    """
    text = f"{value:.{digits}g}"
    mantissa, e, exponent = text.partition("e")
    return (mantissa if "." in mantissa else mantissa + ".0") + e + exponent


_Dumper.add_representer(
    float, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", number(value))
)
_Dumper.add_representer(
    Line,
    lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=True),
)
_Dumper.add_representer(
    Items,
    lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True),
)


def dump(data: Any) -> str:
    """YAML text of plain data: the order given, one line per string and per `Line`, floats to six digits."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=10**9)


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """The text of a small file.

    Raises:
        StagewiseError: no such file, not UTF-8, empty, or too large to be `what`.
    """
    path = Path(path)
    if not path.is_file():
        raise StagewiseError(f"{path}: no such file; give the YAML file of a {what}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise StagewiseError(f"{path}: {size:,} bytes is no {what}; valid is up to {MAX_BYTES:,}")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise StagewiseError(
            f"{path}: not UTF-8 text at byte {error.start}; a {what} is a YAML file"
        ) from error
    if not text.strip():
        raise StagewiseError(f"{path}: empty file; a {what} is a YAML file")
    return text


def read_document(path: str | os.PathLike[str], model: type[Model], what: str, advice: str) -> Model:
    """Read a YAML file into a pydantic model.

    Args:
        path: the file. model: what it must hold.
        what: what to call the file, such as "suite". advice: what to do about a broken one.

    Raises:
        StagewiseError: one message with every problem: file, line, field, what was got, what is valid.
    """
    path = Path(path)
    text = read_text(path, what)
    return parse(text, model, str(path), what, advice)


def parse(text: str, model: type[Model], name: str, what: str, advice: str) -> Model:
    """`read_document` for text in memory; `name` stands for the file in messages."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise StagewiseError(f"{name}: holds comments only; {advice}")
        twice = [_place(name, line, field) + ": stands twice" for line, field in _duplicates(node)]
        if twice:
            raise StagewiseError("\n".join([*twice[:_SHOWN], advice]))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise StagewiseError(f"{name}{line}: not valid YAML: {error.problem}; {advice}") from error
    except yaml.YAMLError as error:  # a character YAML does not allow
        problem = str(error).splitlines()[0]
        raise StagewiseError(f"{name}: not valid YAML: {problem}; {advice}") from error
    except RecursionError as error:
        raise StagewiseError(f"{name}: nested too deeply for a {what}; {advice}") from error
    except ValueError as error:  # a date that does not exist, a number with a broken tag
        raise StagewiseError(f"{name}: not valid YAML: {error}; {advice}") from error
    if not isinstance(data, dict):
        raise StagewiseError(f"{name}: got {_short(data)}, valid is a mapping of a {what}'s fields; {advice}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False):
            place = _place(name, _line_of(node, item["loc"]), item["loc"])
            problems.append(f"{place}: {_words(item, model)}")
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise StagewiseError("\n".join([*problems[:_SHOWN], *more, advice])) from error


def _place(name: str, line: int, field: Path_) -> str:
    dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field).lstrip(".")
    return f"{name}, line {line}" + (f", {dotted}" if dotted else "")


def _words(item, model: type[BaseModel]) -> str:
    """A pydantic problem as: what was got, what is valid."""
    if item["type"] == "missing":
        return f"missing; valid fields are {_fields(model, item['loc'][:-1])}"
    if item["type"] == "extra_forbidden":
        return f"no such field; valid fields are {_fields(model, item['loc'][:-1])}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and isinstance(item["input"], dict):
        return message  # a rule over several fields: the message names them
    return f"got {_short(item['input'])}; {message[:1].lower()}{message[1:]}"


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(model: type[BaseModel], loc: Path_) -> str:
    """Names of the fields of the (sub)model at a place."""
    for part in loc:
        if isinstance(part, str) and issubclass(model, BaseModel):
            named = {field.alias or name: field for name, field in model.model_fields.items()}
            if part in named:
                model = _inner(named[part].annotation) or model
    return ", ".join(field.alias or name for name, field in model.model_fields.items())


def _inner(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (tuple, list, dict, Union, UnionType):
        found = [inner for part in get_args(annotation) if (inner := _inner(part))]
        return found[0] if found else None
    return None


def _line_of(node: yaml.Node, loc: Path_) -> int:
    """Line (from 1) of the value at a place, or of what holds it where the value is missing."""
    line = node.start_mark.line + 1
    for part in loc:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(key, value) for key, value in pairs if str(getattr(key, "value", None)) == str(part)]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def _duplicates(node: yaml.Node, field: Path_ = ()) -> Iterator[tuple[int, Path_]]:
    """Line and place of every key that its mapping already holds: plain YAML keeps the last one silently."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else str(key.value)
            if name in seen:
                yield key.start_mark.line + 1, (*field, name)
            seen.add(name)
            yield from _duplicates(value, (*field, name))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield from _duplicates(value, (*field, i))
