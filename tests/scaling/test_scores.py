"""The score table: round trips, and every bad row reported at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import BadScores, StagewiseError
from scaling.scores import COLUMNS, KEY, ScoreTable

_NAMES = st.text("abcXYZ-_.@:/0 é", min_size=1, max_size=12)
_POSITIVE = st.one_of(st.none(), st.floats(1e-3, 1e30))

_ROW = st.fixed_dictionaries(
    {
        "source": _NAMES,
        "family": st.one_of(st.none(), _NAMES),
        "model": _NAMES,
        "step": st.one_of(st.none(), st.integers(1, 10**9)),
        "params": _POSITIVE,
        "tokens": _POSITIVE,
        "flops": _POSITIVE,
        "seed": st.one_of(st.none(), st.integers(0, 2**31)),
        "variant": st.one_of(st.none(), _NAMES),
        "task": _NAMES,
        "metric": st.sampled_from(["acc", "bpb", "ppl", "never_heard_of_it"]),
        "shots": st.one_of(st.none(), st.integers(0, 64)),
        "score": st.floats(0, 1),
        "stderr": st.one_of(st.none(), st.floats(0, 1)),
        "n_items": st.one_of(st.none(), st.integers(1, 10**6)),
    }
)
_ROWS = st.lists(_ROW, min_size=1, max_size=12, unique_by=lambda row: tuple(row[key] for key in KEY))


def _frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[column.name for column in COLUMNS])


def good(**changes) -> dict:
    row = {"source": "s", "family": "f", "model": "m", "task": "t", "metric": "acc", "score": 0.5}
    return row | {"params": 1e9, "tokens": 1e10} | changes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_survives_a_round_trip(tmp_path, suffix, rows):
    # CSV cannot tell an all-digit name from a number, so names here always hold a letter.
    rows = [row | {"model": "m" + row["model"].strip(), "task": "t" + row["task"].strip()} for row in rows]
    rows = [row | {"source": "s" + row["source"].strip()} for row in rows]
    rows = [
        row | {key: None if row[key] is None else "v" + row[key].strip() for key in ("family", "variant")}
        for row in rows
    ]
    keys = [tuple(row[key] for key in KEY) for row in rows]
    if len(set(keys)) < len(keys):
        return
    table = ScoreTable.from_frame(_frame(rows))
    path = tmp_path / f"scores{suffix}"
    table.write(path)
    again = ScoreTable.read(path)
    assert again.digest == table.digest
    pd.testing.assert_frame_equal(again.frame, table.frame, check_exact=False, rtol=1e-15)


@settings(max_examples=40, deadline=None)
@given(rows=_ROWS, seed=st.integers(0, 1000))
def test_order_of_rows_does_not_matter(rows, seed):
    frame = _frame(rows)
    shuffled = frame.iloc[np.random.default_rng(seed).permutation(len(frame))]
    assert ScoreTable.from_frame(frame).digest == ScoreTable.from_frame(shuffled).digest


_BAD = {
    "score nan": ("score", float("nan")),
    "score inf": ("score", float("inf")),
    "score 1.7": ("score", 1.7),
    "score negative": ("score", -0.1),
    "flops negative": ("flops", -1.0),
    "flops zero": ("flops", 0.0),
    "params zero": ("params", 0.0),
    "tokens negative": ("tokens", -5.0),
    "step negative": ("step", -1),
    "shots negative": ("shots", -1),
    "n_items zero": ("n_items", 0),
    "stderr negative": ("stderr", -0.1),
    "task empty": ("task", ""),
    "model missing": ("model", None),
}


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from(["good", *_BAD]), min_size=1, max_size=15))
def test_bad_rows_are_reported_by_row_column_and_value_all_at_once(kinds):
    rows = []
    for number, kind in enumerate(kinds):
        row = good(model=f"m{number}")
        if kind != "good":
            column, value = _BAD[kind]
            row[column] = value
        rows.append(row)
    expected = {(number, _BAD[kind][0]) for number, kind in enumerate(kinds) if kind != "good"}
    if not expected:
        assert len(ScoreTable.from_frame(_frame(rows))) == len(rows)
        return
    with pytest.raises(BadScores) as caught:
        ScoreTable.from_frame(_frame(rows), where="here.csv")
    problems = caught.value.problems
    found = set(zip(problems["row"], problems["column"], strict=True))
    # Negative params or tokens make the completed compute wrong too: more may be reported, never less.
    assert expected <= found
    assert {row for row, _ in found} == {row for row, _ in expected}
    assert str(caught.value).startswith("here.csv: ")
    kept = [number for number, kind in enumerate(kinds) if kind == "good"]
    if kept:
        table = ScoreTable.from_frame(_frame(rows), drop_bad=True)
        assert sorted(table.frame["model"]) == sorted(f"m{number}" for number in kept)
        assert table.omissions


def test_duplicate_keys_are_all_named():
    frame = pd.DataFrame([good(score=0.1), good(score=0.2), good(model="other")])
    with pytest.raises(BadScores) as caught:
        ScoreTable.from_frame(frame)
    assert sorted(caught.value.problems["row"]) == [0, 1]


def test_step_zero_has_zero_compute_and_stays():
    table = ScoreTable.from_frame(pd.DataFrame([good(step=0, tokens=0.0)]))
    assert table.frame["flops"].item() == 0


def test_unknown_and_missing_columns_are_named():
    with pytest.raises(StagewiseError, match=r"unknown column.*colour"):
        ScoreTable.from_frame(pd.DataFrame([good(colour="red")]))
    with pytest.raises(StagewiseError, match=r"missing column.*score"):
        ScoreTable.from_frame(pd.DataFrame([good()]).drop(columns="score"))
