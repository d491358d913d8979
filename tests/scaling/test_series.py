"""Which rows of a table become the points of a curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.scores import ScoreTable
from scaling.series import Key, grouped, series_of, with_runs
from tests.scaling.synthetic import constant, facts, frame_of, power, sigmoid, table_of

RISE = sigmoid(0.25, 0.8, 20.0, 1.5)


def test_the_last_checkpoint_is_final_and_a_model_without_a_step_too():
    # Oracle: the highest step per run by hand.
    frame = frame_of({"t": RISE}, runs=3, checkpoints=4)
    finished = frame[frame["step"] == 1000].assign(step=pd.NA, tokens=lambda f: f["tokens"] * 1.001)
    frame = pd.concat([frame, finished[finished["model"] == "run001"]], ignore_index=True)
    marked = with_runs(ScoreTable.from_frame(frame).frame)
    assert marked.groupby("model")["final"].sum().to_dict() == {"run000": 1, "run001": 1, "run002": 1}
    last = marked[marked["final"]].set_index("model")["step"]
    assert last["run000"] == 1000 and pd.isna(last["run001"])


def test_a_task_that_was_not_scored_at_the_end_has_no_final_point():
    # Oracle: steps of the run over all its tasks.
    frame = frame_of({"t": RISE, "u": RISE}, runs=2, checkpoints=3)
    frame = frame[~((frame["task"] == "u") & (frame["step"] == 1000))]
    marked = with_runs(ScoreTable.from_frame(frame).frame)
    assert marked.groupby("task")["final"].sum().to_dict() == {"t": 2, "u": 0}


def test_repeats_and_variants_are_runs_of_their_own():
    # Oracle: counting (model, seed, variant) by hand.
    frame = pd.concat([frame_of({"t": RISE}, runs=2, checkpoints=2).assign(seed=s, variant=v) for s, v in
                       [(0, None), (1, None), (0, "web")]])  # fmt: skip
    assert with_runs(ScoreTable.from_frame(frame).frame)["run"].nunique() == 6


def test_what_cannot_be_fitted_is_left_out_and_counted():
    # Oracle: rows counted by hand.
    frame = frame_of({"t": RISE}, runs=10, checkpoints=1)
    other = frame.assign(metric="ppl", score=12.0)
    unknown = frame.head(3).assign(model=["x", "y", "z"], params=np.nan, tokens=np.nan)
    start = frame.head(2).assign(model=["run000", "run001"], step=0, tokens=0.0)
    short = frame.head(2).assign(task="short")
    table = ScoreTable.from_frame(pd.concat([frame, other, unknown, start, short], ignore_index=True))
    found, omissions = series_of(table, facts=facts())
    assert [one.key for one in found] == [Key("t", "acc", 0)]
    assert len(found[0].x) == 10 and np.isfinite(found[0].x).all()
    counted = {omission.what: omission.count for omission in omissions}
    assert counted == {
        "metric without a law": 10, "no known compute": 3, "zero compute (step 0)": 2,
        "2 point(s), 4 needed": 2,
    }  # fmt: skip
    assert [o.where for o in omissions if "needed" in o.what] == ["short (acc, 0-shot)"]


@pytest.mark.parametrize(
    ("runs", "checkpoints", "points", "chosen", "count"),
    [
        (8, 5, "auto", "final", 8), (7, 5, "auto", "all", 35), (7, 1, "auto", "final", 7),
        (7, 5, "final", "final", 7), (12, 5, "all", "all", 60),
    ],
)  # fmt: skip
def test_final_points_are_used_where_there_are_enough(runs, checkpoints, points, chosen, count):
    # Oracle: the rule, 8 finished runs.
    found, _ = series_of(table_of({"t": RISE}, runs=runs, checkpoints=checkpoints), points=points)
    assert (found[0].points, len(found[0].x)) == (chosen, count)
    assert found[0].final.sum() == runs


def test_points_ascend_and_carry_their_facts():
    # Oracle: the columns of the table.
    table = table_of({"t": RISE}, runs=9, checkpoints=3, n_items=None)
    one = series_of(table, points="all", facts=facts(t={"n_items": 321}))[0][0]
    assert (np.diff(one.x) >= 0).all() and (one.n_items == 321).all()
    frame = table.frame.sort_values("flops")
    assert np.allclose(one.y, frame["score"]) and np.allclose(10**one.x, frame["flops"])
    assert np.allclose(one.log_ratio, np.log10(frame["tokens"] / frame["params"]))


@pytest.mark.parametrize(("families", "clusters"), [(1, 12), (5, 12), (6, 6)])
def test_families_are_clusters_where_there_are_several(families, clusters):
    # Oracle: the rule, 6 families.
    frame = frame_of({"t": RISE}, runs=12, checkpoints=1)
    frame["family"] = [f"family{i % families}" for i in range(12)]
    assert series_of(ScoreTable.from_frame(frame))[0][0].n_clusters == clusters


def test_shots_part_series_and_none_is_a_value():
    # Oracle: the keys by hand.
    frame = frame_of({"t": RISE}, runs=8, checkpoints=1)
    table = ScoreTable.from_frame(pd.concat([frame, frame.assign(shots=5), frame.assign(shots=pd.NA)]))
    assert {one.key.shots for one in series_of(table)[0]} == {0, 5, None}
    assert str(Key("t", "acc", None)) == "t (acc)" and str(Key("t", "acc", 5)) == "t (acc, 5-shot)"


def test_lower_is_better_turns_the_sign():
    found = (
        series_of(table_of({"t": power(0.5, 0.5, 0.2)}, metric="bpb"))[0]
        + series_of(table_of({"t": RISE}))[0]
    )
    assert [one.sign for one in found] == [-1.0, 1.0]


def test_series_of_the_same_runs_share_a_batch():
    # Oracle: two tasks on all runs, one on half of them.
    frame = frame_of({"a": RISE, "b": constant(0.3), "c": RISE}, runs=12, checkpoints=1)
    frame = frame[~((frame["task"] == "c") & (frame["model"] > "run005"))]
    found, _ = series_of(ScoreTable.from_frame(frame))
    assert sorted(map(sorted, grouped(found))) == [[0, 1], [2]]
