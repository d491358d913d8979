"""Panels: which points the tasks share, and what stands between compute and score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.methods import ratio_exponent
from scaling.panel import Panel, panels_of, thinned
from scaling.scores import ScoreTable
from scaling.series import RUN, Key, with_runs
from tests.scaling.synthetic import facts, frame_of, power, sigmoid, table_of


def table(rows: list[dict] | pd.DataFrame) -> ScoreTable:
    frame = pd.DataFrame(rows)
    fixed = {"source": "s", "task": "a", "metric": "acc", "shots": 0}
    return ScoreTable.from_frame(frame.assign(**{k: v for k, v in fixed.items() if k not in frame}))


def run(model: str, x: list[float], scores: list[float], **more) -> list[dict]:
    """Checkpoints of one run at log10 FLOPs x."""
    return [
        {"model": model, "step": i + 1, "params": 1e8, "tokens": 10**at / 6e8, "score": y} | more
        for i, (at, y) in enumerate(zip(x, scores, strict=True))
    ]


def panel_of(scores: ScoreTable, task: str = "a", metric: str = "acc", **options) -> tuple[Panel, int]:
    """The panel that holds a task, and the task's place in it."""
    for panel in panels_of(scores, facts=facts(), **options)[0]:
        for i, key in enumerate(panel.keys):
            if (key.task, key.metric) == (task, metric):
                return panel, i
    raise AssertionError(f"{task} ({metric}) is in no panel")


def test_checkpoints_close_together_become_their_mean():
    """Oracle: by hand. 20.01 and 20.03 share a cell of 0.05 decades; the last checkpoint is left alone."""
    scores = table(run("m", [20.01, 20.03, 20.06, 20.07], [0.1, 0.3, 0.5, 0.6]))
    found = thinned(scores).frame.sort_values("flops")
    assert np.log10(found["flops"]).tolist() == pytest.approx([20.02, 20.06, 20.07], abs=1e-9)
    assert found["score"].tolist() == pytest.approx([0.2, 0.5, 0.6])
    assert found["step"].tolist() == [2, 3, 4]
    assert found["params"].tolist() == pytest.approx([1e8] * 3)
    tokens = [(10**20.01 + 10**20.03) / 2 / 6e8, 10**20.06 / 6e8, 10**20.07 / 6e8]
    assert found["tokens"].tolist() == pytest.approx(tokens)


def test_tasks_metrics_and_shots_are_thinned_apart():
    """Oracle: the mean of each one's own two scores."""
    rows = []
    for i, (task, metric, shots) in enumerate(
        [("a", "acc", 0), ("b", "acc", 0), ("a", "bpb", 0), ("a", "acc", 5)]
    ):
        rows += run(
            "m", [20.01, 20.02, 20.5], [0.1 * i, 0.1 * i + 0.02, 0.9], task=task, metric=metric, shots=shots
        )
    found = thinned(table(rows)).frame
    early = found[found["flops"] < 10**20.3].set_index(["task", "metric", "shots"])["score"]
    assert early.to_dict() == pytest.approx(
        {("a", "acc", 0): 0.01, ("b", "acc", 0): 0.11, ("a", "bpb", 0): 0.21, ("a", "acc", 5): 0.31}
    )


def test_thinning_joins_no_runs_and_loses_none():
    """Oracle: the runs of the table as it was; seeds and variants that are NA are runs as well."""
    rows = []
    for source in ("s", "t"):
        for seed in (None, 1, 2):
            for variant in (None, "v"):
                at = len(rows) / 100
                rows += run(
                    "m",
                    [20.01, 20.02, 20.03],
                    [at, at, at + 0.001],
                    source=source,
                    seed=seed,
                    variant=variant,
                )
    scores = table(pd.DataFrame(rows).astype({"seed": "Int64"}))
    before, after = with_runs(scores.frame), with_runs(thinned(scores).frame)
    columns = [*RUN, "run"]
    expected = before[columns].drop_duplicates().sort_values("run").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        after[columns].drop_duplicates().sort_values("run").reset_index(drop=True), expected
    )
    assert len(after) == 2 * 12
    early = after[~after["final"]].sort_values("run")["score"].to_numpy()
    first = before[before["step"] == 1].sort_values("run")["score"].to_numpy()
    assert early == pytest.approx(first)
    last = after[after["final"]].sort_values("run")["score"].tolist()
    assert last == before[before["final"]].sort_values("run")["score"].tolist()
    assert dict(after.dtypes[scores.frame.columns]) == dict(scores.frame.dtypes)


def test_a_table_of_finished_models_is_not_touched():
    scores = table_of({"a": sigmoid(0.25, 0.8, 20.0, 1.5)}, checkpoints=1)
    assert thinned(scores) is scores


def test_points_without_compute_are_not_thinned_but_counted():
    rows = run("m", [20.0, 20.01, 20.5, 21.0], [0.3, 0.3, 0.4, 0.5])
    rows += [{"model": "m", "step": 0, "params": 1e8, "tokens": 0.0, "score": 0.25}]
    rows += [{"model": "unknown", "score": 0.5}, {"model": "m", "step": 1, "metric": "mcc", "score": 0.1}]
    frame = pd.DataFrame(rows)
    scores = table(frame.assign(metric=frame["metric"].fillna("acc")))
    panels, omissions = panels_of(scores, facts=facts())
    assert panels == [] or len(panels[0].x) == 3
    told = {one.what: one.count for one in omissions}
    assert told["metric without a law"] == 1
    assert told["no known compute"] == 1
    assert told["zero compute (step 0)"] == 1


def test_every_row_is_in_a_panel_or_counted():
    """Oracle: rows of the table = points of the panels + rows counted as left out (nothing to thin here)."""
    rows = run("m", [20.0, 20.1, 20.2, 20.3, 20.4], [0.3, 0.4, 0.5, 0.6, 0.7])
    rows += run("m", [20.0, 20.1, 20.2], [0.3, 0.4, 0.5], task="short")
    rows += run("m", [20.0, 20.1, 20.2, 20.3], [0.3, 0.4, 0.5, 0.6], task="b", metric="bpb")
    rows += [{"model": "unknown", "score": 0.5}]
    frame = pd.DataFrame(rows)
    scores = table(frame.assign(task=frame["task"].fillna("a"), metric=frame["metric"].fillna("acc")))
    panels, omissions = panels_of(scores, facts=facts())
    assert sum(panel.y.size for panel in panels) + sum(one.count for one in omissions) == len(scores)
    assert sorted(key for panel in panels for key in panel.keys) == [Key("a", "acc", 0), Key("b", "bpb", 0)]
    assert any("short" in one.where and one.count == 3 for one in omissions)


def test_what_has_no_law_is_counted_before_it_is_thinned():
    # Oracle: counting: ten checkpoints within 0.05 decades are ten rows.
    rows = run("m", list(np.linspace(20.001, 20.04, 10)), [0.5] * 10, metric="never_heard_of_it")
    rows += run("m", [20.0, 20.1, 20.2, 20.3], [0.3, 0.4, 0.5, 0.6], metric="acc")
    _, omissions = panels_of(table(rows), facts=facts())
    assert [(one.what, one.count) for one in omissions] == [("metric without a law", 10)]


def test_tasks_of_the_same_points_share_a_panel():
    """Oracle: the table itself, by point; facts by task."""
    truths = {"a": sigmoid(0.25, 0.8, 20.0, 1.5), "b": sigmoid(0.25, 0.5, 21.0, 1.0)}
    panels, omissions = panels_of(
        table_of(truths, checkpoints=3), facts=facts(a={"chance": 0.2, "ceiling": 0.9}, b={"chance": None})
    )
    assert not omissions and len(panels) == 1
    panel = panels[0]
    assert [key.task for key in panel.keys] == ["a", "b"] and panel.family == "proportion"
    assert (np.diff(panel.x) >= 0).all()
    for i, truth in enumerate(truths.values()):
        assert panel.y[i] == pytest.approx(truth(panel.x), abs=1e-12)
    assert panel.floor[0] == 0.2 and np.isnan(panel.floor[1])
    assert panel.ceiling.tolist() == [0.9, 1.0]
    assert panel.tasks(1).keys == (panel.keys[1],)
    assert panel.at(panel.final).y.shape == (2, 12)


def test_ends_are_the_last_points_of_the_runs():
    """Oracle: the largest x of each run, by a loop."""
    panel, _ = panel_of(table_of({"a": sigmoid(0.25, 0.8, 20.0, 1.5)}, runs=5, checkpoints=4))
    assert panel.ends.tolist() == [panel.x[panel.run == label].max() for label in panel.run]
    assert (panel.ends[panel.final] == panel.x[panel.final]).all() and panel.final.sum() == 5


def test_equal_compute_of_different_runs_is_no_common_panel():
    """Two sources hold runs of the same names and compute, of different size: each keeps its own."""
    one = frame_of({"a": sigmoid(0.25, 0.8, 20.0, 1.5)}, runs=6, checkpoints=1)
    two = frame_of({"b": sigmoid(0.25, 0.8, 20.0, 1.5)}, runs=6, checkpoints=1).assign(source="other")
    two["tokens"] *= 4.0
    two["params"] /= 4.0
    scores = ScoreTable.from_frame(pd.concat([one, two], ignore_index=True))
    first, second = panel_of(scores, "a")[0], panel_of(scores, "b")[0]
    assert first.x.tobytes() == second.x.tobytes() and first.cluster.tobytes() == second.cluster.tobytes()
    assert not set(first.run) & set(second.run)
    assert second.ratio - first.ratio == pytest.approx(np.log10(16.0))


def bridges(*, extra: dict | None = None, **options) -> ScoreTable:
    """A task whose score follows its own bits, and two losses on text of which one tells its score."""
    base = frame_of({"a": sigmoid(0.25, 0.8, 20.0, 1.5)}, checkpoints=1, runs=20)
    parts = [base]
    wanted = {
        ("a", "bpb", 0): power(0.5, 0.6, 0.15), ("loss:near", "ce_loss", 0): power(1.5, 1.0, 0.2),
        ("loss:far", "ce_loss", 0): lambda x: 3.0 + 0.5 * np.sin(40.0 * x),
    } | (extra or {})  # fmt: skip
    x = np.log10(6.0 * base["params"] * base["tokens"]).to_numpy()
    for (task, metric, shots), truth in wanted.items():
        if truth is not None:
            parts.append(base.assign(task=task, metric=metric, shots=shots, score=truth(x)))
    return ScoreTable.from_frame(pd.concat(parts, ignore_index=True))


def test_the_bits_of_the_same_task_come_first():
    """Planted: a loss on text goes with the score as well, but the task's own bits are known."""
    panel, i = panel_of(bridges())
    assert panel.bridge[i] == "a (bpb, 0-shot)"
    assert panel.bits[i] == pytest.approx(power(0.5, 0.6, 0.15)(panel.x))


def test_of_several_bits_those_of_the_same_shots():
    many = {("a", "bpb", 1): power(0.4, 0.6, 0.15), ("a", "bpb", 5): power(0.3, 0.6, 0.15)}
    scores = bridges(extra=many)
    panel, i = panel_of(scores)
    assert panel.bridge[i] == "a (bpb, 0-shot)"
    frame = scores.frame
    frame = frame.assign(shots=frame["shots"].mask(frame["metric"] == "acc", 5))
    panel, i = panel_of(ScoreTable.from_frame(frame))
    assert panel.bridge[i] == "a (bpb, 5-shot)"
    # None of the same shots: the first by name.
    frame = frame.assign(shots=frame["shots"].mask(frame["metric"] == "acc", 7))
    panel, i = panel_of(ScoreTable.from_frame(frame))
    assert panel.bridge[i] == "a (bpb, 0-shot)"


def test_without_bits_the_text_that_leaves_least_unexplained():
    """Planted: one loss falls with compute as the score rises, the other swings."""
    panel, i = panel_of(bridges(extra={("a", "bpb", 0): None}))
    assert panel.bridge[i] == "loss:near (ce_loss, 0-shot)"
    assert panel.bits[i] == pytest.approx(power(1.5, 1.0, 0.2)(panel.x))


def test_bits_known_at_few_points_are_no_bridge():
    frame = bridges().frame
    bits = frame["metric"] == "bpb"
    early = frame["flops"] < 1e19
    panel, i = panel_of(ScoreTable.from_frame(frame[~(bits & early)]))
    assert panel.bridge[i].startswith("loss:near")
    # One of twenty may be missing; there the surprise is unknown.
    panel, i = panel_of(ScoreTable.from_frame(frame[~(bits & (frame["flops"] < 1.1e18))]))
    assert panel.bridge[i].startswith("a (bpb") and np.isnan(panel.bits[i]).tolist() == [True] + [False] * 19


def test_losses_have_no_bridge_and_a_lonely_score_none():
    scores = bridges(extra={("loss:near", "ce_loss", 0): None, ("loss:far", "ce_loss", 0): None})
    panel, i = panel_of(scores, metric="bpb")
    assert panel.bridge[i] == "" and np.isnan(panel.bits[i]).all()
    panel, i = panel_of(table_of({"a": sigmoid(0.25, 0.8, 20.0, 1.5)}))
    assert panel.bridge[i] == "" and np.isnan(panel.bits[i]).all()


def test_a_loss_of_few_values_is_no_bridge():
    """Warnings are errors here: a cubic through three losses has no single answer."""
    steps = {
        ("a", "bpb", 0): None,
        ("loss:near", "ce_loss", 0): None,
        ("loss:far", "ce_loss", 0): lambda x: np.round(24 - x),
    }
    panel, i = panel_of(bridges(extra=steps))
    assert len(np.unique(np.round(24 - panel.x))) > 3 and panel.bridge[i].startswith("loss:far")
    steps[("loss:far", "ce_loss", 0)] = lambda x: 1.0 + (x > 20)
    panel, i = panel_of(bridges(extra=steps))
    assert panel.bridge[i] == ""


def test_the_bridge_is_chosen_on_what_was_learned_from():
    """Above the cut the other text tells the score: that must not count."""
    swap = bridges(extra={("a", "bpb", 0): None}).frame
    runs = with_runs(swap)
    above = runs["flops"] > 1e20
    other = swap["score"].mask(
        (swap["task"] == "loss:near") & above, 50.0 + np.sin(70 * np.log10(swap["flops"]))
    )
    scores = ScoreTable.from_frame(swap.assign(score=other))
    learned = runs.loc[~above, "run"].unique()
    panel, i = panel_of(scores, learned=learned)
    assert panel.bridge[i].startswith("loss:near")
    assert panel_of(scores)[0].bridge[i].startswith("loss:far")


def models(ratios, *, checkpoints: bool = False, tokens_known: bool = True) -> ScoreTable:
    """Nine finished models of 1e18 to 1e22 FLOPs, with log10(D/N) given."""
    x = np.linspace(18.0, 22.0, 9)
    ratio = np.broadcast_to(ratios, x.shape)
    params = 10 ** ((x - np.log10(6.0) - ratio) / 2)
    frame = pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(9)],
            "step": 2,
            "params": params,
            "tokens": 10**ratio * params,
            "score": 0.3,
        }
    )
    if checkpoints:
        early = frame.assign(step=1, tokens=frame["tokens"] / 2, flops=10**x / 2)
        frame = pd.concat([frame, early if tokens_known else early.assign(tokens=np.nan)])
    return table(frame)


def test_size_and_data_are_told_apart_where_compute_leaves_their_ratio_open():
    """Oracle: the rank of (1, x, ratio), and a spread of D/N by less than a factor two as no spread."""
    apart = np.tile([0.0, 1.0, 2.0], 3)
    assert panel_of(models(apart))[0].size_and_data
    assert not panel_of(models(1.3))[0].size_and_data
    assert not panel_of(models(np.linspace(0.0, 3.0, 9)))[0].size_and_data  # grows in step with compute
    assert not panel_of(models(0.1 * apart))[0].size_and_data
    few, _ = panel_of(models(apart))
    assert not few.at(np.arange(9) < 5).size_and_data


def test_checkpoints_of_unknown_data_leave_compute_alone():
    """The laws in size and data are fitted to all points: one without D would spoil them."""
    apart = np.tile([0.0, 1.0, 2.0], 3)
    assert panel_of(models(apart, checkpoints=True))[0].size_and_data
    panel, _ = panel_of(models(apart, checkpoints=True, tokens_known=False))
    assert not panel.size_and_data and ratio_exponent(panel) == 0.0
