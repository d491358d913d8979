"""Wide CSV files, one row per model and one column per task, read with a mapping file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import yaml

from scaling.errors import StagewiseError
from scaling.readers.candidate import Candidate
from scaling.readers.reading import Reading

_TARGETS = ("model", "family", "step", "seed", "variant", "params", "tokens", "flops")
_KEYS = {"name", "source", "when", "absent", "skip", "columns", "constants", "scores", "reference", "drop"}


@dataclass(frozen=True)
class Mapping:
    """How one kind of wide CSV becomes rows.

    Attributes:
        name: what to call it in messages.
        source: the `source` column.
        when, absent: columns a file must, and must not, have for this mapping to apply.
        skip: why such files are not read; empty to read them.
        columns: for each of model, family, step, seed, variant, params, tokens, flops: a column name,
            or a dict with `column`, and optionally `times`, `pattern` (its first group is kept), `words`
            (what each word is called here) and `zero_is_missing`; or for text a list of those, or of
            dicts with a fixed `text`, joined with `|`.
        constants: fixed values, such as `variant: v2`.
        scores: list of dicts with `column` or `pattern` (a regular expression over column names with
            named groups task, metric, shots), and `task`, `metric`, `shots`, `times` where not named.
        reference: where the meaning of the columns stands.

    Example:
        >>> Mapping.parse({"name": "mine", "source": "mine", "when": ["run", "piqa"],
        ...     "columns": {"model": "run"}, "scores": [{"column": "piqa", "metric": "acc", "times": 0.01}]},
        ...     "mine.yaml").scores[0]["times"]
        0.01
    """

    name: str
    source: str
    when: tuple[str, ...]
    absent: tuple[str, ...] = ()
    skip: str = ""
    columns: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    scores: tuple[dict[str, Any], ...] = ()
    reference: str = ""

    @classmethod
    def parse(cls, data: Any, where: str) -> Mapping:
        """Check a mapping as read from YAML.

        Raises:
            StagewiseError: says which key of which mapping is missing or unknown.
        """
        if not isinstance(data, dict):
            raise StagewiseError(
                f"{where}: a mapping file holds keys {', '.join(sorted(_KEYS))}; got {data!r:.80}"
            )
        unknown = set(data) - _KEYS
        missing = {"name", "source", "when"} - set(data)
        if unknown or missing:
            raise StagewiseError(
                f"{where}: unknown key(s) {sorted(unknown)}, missing key(s) {sorted(missing)}; "
                f"valid are {', '.join(sorted(_KEYS))}"
            )
        columns = data.get("columns") or {}
        if not data.get("skip") and "model" not in columns:
            raise StagewiseError(f"{where}: columns must name at least the one that holds the model")
        bad = set(columns) - set(_TARGETS)
        if bad:
            raise StagewiseError(
                f"{where}: unknown target(s) {sorted(bad)} in columns; valid are {', '.join(_TARGETS)}"
            )
        scores = tuple(data.get("scores") or ())
        for entry in scores:
            if not isinstance(entry, dict) or not ({"column", "pattern"} & set(entry)):
                raise StagewiseError(f"{where}: each of scores needs `column` or `pattern`; got {entry!r}")
            if "pattern" in entry:
                try:
                    re.compile(entry["pattern"])
                except re.error as error:
                    raise StagewiseError(f"{where}: pattern {entry['pattern']!r}: {error}") from error
        return cls(
            name=str(data["name"]),
            source=str(data["source"]),
            when=tuple(data["when"]),
            absent=tuple(data.get("absent") or ()),
            skip=str(data.get("skip") or ""),
            columns=columns,
            constants=data.get("constants") or {},
            scores=scores,
            reference=str(data.get("reference") or ""),
        )

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a file with these columns is of this kind."""
        return set(self.when) <= set(columns) and not set(self.absent) & set(columns)


@cache
def shipped_mappings() -> tuple[Mapping, ...]:
    """The mappings in `scaling/facts/mappings`, those with the most required columns first."""
    folder = files("scaling") / "facts" / "mappings"
    found = [
        Mapping.parse(yaml.safe_load(entry.read_text(encoding="utf-8")), entry.name)
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    return tuple(sorted(found, key=lambda mapping: (-len(mapping.when), mapping.name)))


def read_mapping(path: str | os.PathLike[str]) -> Mapping:
    """A user's own mapping file.

    Raises:
        StagewiseError: no such file, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise StagewiseError(f"{path}: no such mapping file")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StagewiseError(f"{path}: not readable as YAML ({error})") from error
    return Mapping.parse(data, str(path))


class WideCsvReader:
    """Reads CSV (or parquet) files for which a mapping is known."""

    format: ClassVar[str] = (
        "wide CSV with a mapping (shipped: ObsScaling, Sloth, Open LLM Leaderboard; your own by mapping=)"
    )

    def __init__(self, mapping: Mapping | None = None) -> None:
        self._mappings = ((mapping,) if mapping else ()) + shipped_mappings()
        self._reading = Reading()

    def _find(self, file: Candidate) -> Mapping | None:
        columns = file.columns
        return (
            next((mapping for mapping in self._mappings if mapping.fits(columns)), None) if columns else None
        )

    def takes(self, file: Candidate) -> bool:
        return self._find(file) is not None

    def add(self, file: Candidate) -> None:
        mapping = self._find(file)
        if mapping is None:
            raise StagewiseError(f"{file.name}: no mapping fits its columns")
        if mapping.skip:
            self._reading.omit(f"{mapping.name}: {mapping.skip}", file.name, 1)
            return
        table = file.table()
        base = {target: _column(table, rule, target, file.name) for target, rule in mapping.columns.items()}
        parts, bad = [], Counter()
        for column in table.columns:
            found = _score_rule(mapping, str(column))
            if found is None:
                continue
            task, metric, shots, times = found
            score = pd.to_numeric(table[column], errors="coerce")
            bad["cells that are no number"] += int((score.isna() & table[column].notna()).sum())
            bad["empty cells (not measured)"] += int(table[column].isna().sum())
            parts.append(
                pd.DataFrame(
                    base
                    | {
                        "task": task,
                        "metric": metric,
                        "shots": pd.Series(shots, index=table.index, dtype="Int64"),
                        "score": score * times,
                    }
                ).dropna(subset="score")
            )
        if not parts:
            raise StagewiseError(f"{file.name}: mapping {mapping.name} names no column of this file")
        for what, count in bad.items():
            self._reading.omit(what, file.name, count)
        frame = pd.concat(parts, ignore_index=True)
        self._reading.frames.append(
            frame.assign(source=mapping.source, dialect=mapping.source, file=file.name, **mapping.constants)
        )

    def finish(self) -> Reading:
        return self._reading


def _column(table: pd.DataFrame, rule: Any, target: str, where: str) -> pd.Series:
    if isinstance(rule, list):
        joined: pd.Series | None = None
        for part in rule:
            text = _column(table, part, target, where).astype("string").fillna("?")
            joined = text if joined is None else joined + "|" + text
        if joined is None:
            raise StagewiseError(f"{where}: the mapping's list for {target} is empty")
        return joined
    rule = rule if isinstance(rule, dict) else {"column": rule}
    if "text" in rule:
        return pd.Series(str(rule["text"]), index=table.index)
    if rule["column"] not in table.columns:
        raise StagewiseError(
            f"{where}: the mapping takes {target} from column {rule['column']!r}, which is absent"
        )
    values = table[rule["column"]]
    if "pattern" in rule:
        values = values.astype("string").str.extract(rule["pattern"])[0]
    if "words" in rule:
        values = values.astype("string").map(rule["words"])
    if "times" in rule:
        values = pd.to_numeric(values, errors="coerce") * rule["times"]
    if rule.get("zero_is_missing"):
        values = values.where(values > 0)
    return values


def _score_rule(mapping: Mapping, column: str) -> tuple[str, str, int | None, float] | None:
    for rule in mapping.scores:
        if "column" in rule:
            if rule["column"] != column:
                continue
            groups: dict[str, Any] = {}
        else:
            match = re.fullmatch(rule["pattern"], column)
            if match is None:
                continue
            groups = {key: value for key, value in match.groupdict().items() if value is not None}
        shots = groups.get("shots", rule.get("shots"))
        return (
            str(groups.get("task", rule.get("task", column))),
            str(groups.get("metric", rule.get("metric", "acc"))),
            int(shots) if shots is not None else None,
            float(rule.get("times", 1.0)),
        )
    return None
