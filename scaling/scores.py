"""The score table: one row is one measured number."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.errors import BadScores, StagewiseError
from scaling.files import replacing
from scaling.metrics import metric_info


@dataclass(frozen=True)
class Column:
    """One column of a score table: its type, whether it may be NA, and what it means."""

    name: str
    kind: str  # "str", "float" or "int"
    optional: bool
    meaning: str

    @property
    def dtype(self) -> str:
        return {"str": "string", "float": "float64", "int": "Int64"}[self.kind]


COLUMNS: tuple[Column, ...] = (
    Column("source", "str", False, "where the number comes from"),
    Column("family", "str", False, "models of one recipe share a family"),
    Column("model", "str", False, "a run's unique name"),
    Column("step", "int", True, "optimiser step of the checkpoint; NA for a final model"),
    Column("params", "float", True, "total parameters N"),
    Column("tokens", "float", True, "training tokens D"),
    Column("flops", "float", True, "training FLOPs (given, else 6*N*D)"),
    Column("seed", "int", True, "repeat of the same recipe"),
    Column("variant", "str", True, "data mixture, batch size or prompt variant"),
    Column("task", "str", False, "what was asked"),
    Column("metric", "str", False, "how the answers were scored"),
    Column("shots", "int", True, "solved examples in the prompt"),
    Column("score", "float", False, "the number"),
    Column("stderr", "float", True, "its standard error over items"),
    Column("n_items", "int", True, "items it is a mean of"),
)
KEY = ("source", "model", "step", "seed", "variant", "task", "metric", "shots")
_NAMES = [column.name for column in COLUMNS]
_SHOWN = 20  # bad rows printed in a message; BadScores.problems holds all of them


@dataclass(frozen=True)
class Omission:
    """Something a reader or a filter left out, said instead of silently dropped.

    Attributes:
        what: the reason, in words a user can act on.
        where: file, folder, task or model.
        count: how many rows or files.
    """

    what: str
    where: str
    count: int


@dataclass(frozen=True)
class ScoreTable:
    """A validated table of scores.

    Build one with `from_frame`, `read` or a reader; the constructor itself checks nothing.

    Attributes:
        frame: one row per measured number, the columns of `COLUMNS` in that order, sorted by key.
        omissions: what was left out on the way here.

    Example:
        >>> table = ScoreTable.from_frame(pd.DataFrame({
        ...     "source": ["mine"], "family": ["m"], "model": ["m-1b"], "task": ["piqa"],
        ...     "metric": ["acc"], "score": [0.71], "params": [1e9], "tokens": [2e10]}))
        >>> table.frame.flops.item()
        1.2e+20
    """

    frame: pd.DataFrame
    omissions: tuple[Omission, ...] = field(default=())

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        where: str = "table",
        drop_bad: bool = False,
        omissions: Iterable[Omission] = (),
    ) -> ScoreTable:
        """Check a frame and put it in canonical form.

        Columns that may be NA are filled where absent; `flops` is completed to 6*N*D where it is NA
        and both N and D are known (a checkpoint at zero tokens therefore has zero compute); unknown
        columns are refused by name.

        Args:
            frame: the rows.
            where: what to call the input in messages.
            drop_bad: keep the good rows and list the bad ones in `omissions` instead of refusing.
            omissions: carried over into the result.

        Raises:
            BadScores: with every bad row by row, column and value.
            StagewiseError: when a required column is missing or a column is unknown.
        """
        frame = _typed(frame, where)
        problems = _problems(frame, where)
        left_out = list(omissions)
        if len(problems):
            if not drop_bad:
                raise BadScores(_report(problems, where), problems)
            for problem, rows in problems.groupby("problem", sort=True):
                left_out.append(Omission(f"bad row: {problem}", where, rows["row"].nunique()))
            frame = frame.drop(index=frame.index[problems["row"].unique()])
        if frame.empty:
            raise StagewiseError(f"{where}: no scores left; give a file with at least one row")
        frame = frame.sort_values(list(KEY), kind="stable", na_position="first", ignore_index=True)
        return cls(frame, tuple(left_out))

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, drop_bad: bool = False) -> ScoreTable:
        """Read a parquet or CSV file in the format of `COLUMNS` (for others: `scaling.read_scores`)."""
        path = Path(path)
        if not path.is_file():
            raise StagewiseError(f"{path}: no such file; give a parquet or CSV file of scores")
        if path.stat().st_size == 0:
            raise StagewiseError(f"{path}: empty file; a score table has at least a header and one row")
        with open(path, "rb") as handle:
            is_parquet = handle.read(4) == b"PAR1"
        try:
            frame = pd.read_parquet(path) if is_parquet else pd.read_csv(path)
        except (ValueError, OSError) as error:  # pyarrow and pandas parse errors are both of these
            raise StagewiseError(f"{path}: not a readable score table: {error}") from error
        return cls.from_frame(frame, where=str(path), drop_bad=drop_bad)

    @classmethod
    def concat(cls, tables: Sequence[ScoreTable]) -> ScoreTable:
        """One table from several; a key that two of them hold is refused."""
        frame = pd.concat([table.frame for table in tables], ignore_index=True)
        omissions = [omission for table in tables for omission in table.omissions]
        return cls.from_frame(frame, where="joined tables", omissions=omissions)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write parquet (or CSV, by suffix), beside the target and then renamed over it."""
        with replacing(path) as part:
            if part.suffix == ".csv":
                self.frame.to_csv(part, index=False)
            else:
                self.frame.to_parquet(part, index=False, compression="zstd")

    def where(self, mask: pd.Series, why: str) -> ScoreTable:
        """The rows for which `mask` is true; the others are counted in `omissions` under `why`."""
        kept = self.frame[mask.to_numpy(dtype=bool)].reset_index(drop=True)
        dropped = len(self.frame) - len(kept)
        extra = (Omission(why, "filter", dropped),) if dropped else ()
        return ScoreTable(kept, self.omissions + extra)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical rows: equal for equal content, whatever file it came from."""
        total = hashlib.sha256()
        for name in _NAMES:
            column = self.frame[name]
            if column.dtype == "float64":
                total.update(column.to_numpy(dtype="<f8").tobytes())
            else:
                hashed = pd.util.hash_array(column.astype("string").fillna("\0").to_numpy(dtype=object))
                total.update(hashed.astype("<u8").tobytes())
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self.frame)

    def _repr_html_(self) -> str:
        head = f"<p>{self}</p>"
        return head + self.frame.head(10).to_html()

    def __str__(self) -> str:
        frame = self.frame
        with_compute = frame.loc[frame["flops"] > 0, "model"].nunique()
        return (
            f"{len(frame):,} scores of {frame['model'].nunique():,} models "
            f"({with_compute:,} with known compute) on {frame['task'].nunique():,} tasks "
            f"from {frame['source'].nunique()} source(s)"
        )


def _typed(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """A copy with exactly the canonical columns, in order, each of its type."""
    required = [column.name for column in COLUMNS if not column.optional and column.name != "family"]
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise StagewiseError(
            f"{where}: missing column(s) {', '.join(missing)}; required are {', '.join(required)}"
        )
    unknown = [str(name) for name in frame.columns if name not in _NAMES]
    if unknown:
        raise StagewiseError(
            f"{where}: unknown column(s) {', '.join(unknown)}; a score table has {', '.join(_NAMES)}"
        )
    typed = {}
    for column in COLUMNS:
        if column.name not in frame.columns:
            # A model that names no family is a family of its own.
            values = frame["model"] if column.name == "family" else pd.Series(pd.NA, index=frame.index)
        else:
            values = frame[column.name]
        if column.name == "family":
            values = values.where(values.notna(), frame["model"])
        try:
            if column.kind == "str":
                typed[column.name] = values.astype("string")
            elif column.kind == "float":
                typed[column.name] = pd.to_numeric(values).astype("Float64").astype("float64")
            else:
                typed[column.name] = pd.to_numeric(values).astype("Float64").astype("Int64")
        except (ValueError, TypeError) as error:
            raise StagewiseError(
                f"{where}: column {column.name} must hold {column.kind} values: {error}"
            ) from error
    out = pd.DataFrame(typed).reset_index(drop=True)
    computed = 6.0 * out["params"] * out["tokens"]
    out["flops"] = out["flops"].where(out["flops"].notna(), computed)
    return out


def _problems(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Every broken rule as a row: row, column, value, problem, where."""
    found: list[pd.DataFrame] = []

    def add(mask, column: str, problem: str) -> None:
        mask = np.asarray(mask, dtype=bool)
        if mask.any():
            rows = np.flatnonzero(mask)
            where_rows = (frame["model"] + " / " + frame["task"] + " / " + frame["metric"]).iloc[rows]
            found.append(
                pd.DataFrame(
                    {
                        "row": rows,
                        "column": column,
                        "value": frame[column].iloc[rows].astype("string").to_numpy(dtype=object),
                        "problem": problem,
                        "where": where_rows.to_numpy(dtype=object),
                    }
                )
            )

    for column in COLUMNS:
        if not column.optional and column.kind == "str":
            empty = frame[column.name].isna() | (frame[column.name].str.len() == 0).fillna(True)
            add(empty, column.name, "empty")
    score = frame["score"]
    add(~np.isfinite(score), "score", "not a finite number")
    metrics = {name: metric_info(name) for name in frame["metric"].dropna().unique()}
    low = frame["metric"].map({name: info.low for name, info in metrics.items()}).astype("float64")
    high = frame["metric"].map({name: info.high for name, info in metrics.items()}).astype("float64")
    add(np.isfinite(score) & ((score < low) | (score > high)), "score", "outside the metric's range")
    at_start = (frame["step"] == 0).fillna(False).to_numpy(dtype=bool)
    for name in ("params", "tokens", "flops"):
        value = frame[name]
        given = value.notna()
        zero_is_fine = at_start & (value == 0) if name != "params" else np.zeros(len(frame), dtype=bool)
        add(given & ((value <= 0) | np.isinf(value)) & ~zero_is_fine, name, "not positive")
    add((frame["step"] < 0).fillna(False), "step", "negative")
    add((frame["shots"] < 0).fillna(False), "shots", "negative")
    add((frame["n_items"] <= 0).fillna(False), "n_items", "not positive")
    add(frame["stderr"].notna() & ~(frame["stderr"] >= 0), "stderr", "negative")
    duplicated = frame.duplicated(list(KEY), keep=False)
    add(duplicated, "score", "duplicate key (" + ", ".join(KEY) + ")")
    if not found:
        return pd.DataFrame(columns=["row", "column", "value", "problem", "where"])
    return pd.concat(found, ignore_index=True).sort_values(["row", "column"], ignore_index=True)


def _report(problems: pd.DataFrame, where: str) -> str:
    lines = [f"{where}: {problems['row'].nunique():,} bad row(s)"]
    for item in problems.head(_SHOWN).itertuples():
        lines.append(f"  row {item.row}, column {item.column}: {item.value!r} {item.problem} ({item.where})")
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN:,} more")
    lines.append("correct them, or read with --drop-bad (drop_bad=True) to keep the rest")
    return "\n".join(lines)
