"""Tasks whose class is known by construction, and questions that cannot be answered."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.classes import CLASSES, Classification, classify
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from scaling.stage import Stage
from tests.scaling.synthetic import constant, facts, frame_of, power, sigmoid, table_of

TRUTHS = {
    "flat": constant(0.26),
    "early": sigmoid(0.25, 0.95, 20.5, 0.9),
    "late": sigmoid(0.25, 0.9, 22.5, 3.0),
    "ceiling": constant(0.99),
    "plateau": sigmoid(0.25, 0.7, 19.0, 4.0),
    "rising": sigmoid(0.25, 0.95, 22.5, 0.9),
}
KNOWN = {
    "flat": "noisy", "early": "early-signal", "late": "late-signal", "ceiling": "saturated",
    "plateau": "saturated", "rising": "early-signal",
}  # fmt: skip
SPREAD = {"flat": 0.01, "early": 0.004, "late": 0.004, "ceiling": 0.001, "plateau": 0.004, "rising": 0.004}


def frame(runs: int = 20, seed: int = 0, **options) -> pd.DataFrame:
    options = {"checkpoints": 10, "high": 22.5, "checkpoint_sd": SPREAD, "n_items": 1000} | options
    return frame_of(TRUTHS, runs=runs, seed=seed, **options)


def asked(table, **options) -> Classification:
    if isinstance(table, pd.DataFrame):
        table = ScoreTable.from_frame(table)
    options = {"early_by": 3e20, "replicates": 100, "facts": facts(ceiling={"ceiling": 0.99})} | options
    return classify(table, **options)


def by_task(result: Classification) -> dict:
    return {task.task: task for task in result.tasks}


@pytest.fixture(scope="module")
def result() -> Classification:
    return asked(frame())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_task_gets_the_class_it_was_made_for(seed):
    # Oracle: the construction.
    found = by_task(asked(frame(seed=seed)))
    assert {name: task.klass for name, task in found.items()} == KNOWN


@pytest.mark.parametrize("task", ["early", "late", "plateau", "rising"])
def test_a_task_alone_gets_the_class_that_it_gets_in_company(task):
    # Oracle: the construction; one task has no others to share a false discovery rate with.
    whole = frame()
    found = by_task(asked(whole[whole["task"] == task]))[task]
    assert found.klass == KNOWN[task], found.evidence


def test_probabilities_sum_to_one_and_the_class_is_the_likeliest(result):
    # Oracle: the definition; no class below 0.6.
    for task in result.tasks:
        shares = [task.p_early_signal, task.p_late_signal, task.p_saturated, task.p_noisy]
        assert sum(shares) == pytest.approx(1.0) and min(shares) >= 0
        if task.klass != "undetermined":
            assert CLASSES[int(np.argmax(shares))] == task.klass and max(shares) >= 0.6


def test_a_window_lies_within_its_interval(result):
    # Oracle: order.
    for task in result.tasks:
        if np.isfinite(task.opens):
            assert task.opens_low <= task.opens_high and task.opens <= task.closes
            assert task.opens_before_data == (task.opens <= 1.01e18)


def test_the_late_task_opens_after_the_bound_and_the_early_one_before(result):
    # Oracle: the construction.
    found = by_task(result)
    assert found["early"].opens <= 3e20 < found["late"].opens
    assert found["plateau"].closes < 3e20 and np.isnan(found["flat"].opens)


def test_directions_and_evidence(result):
    # Oracle: the construction.
    found = by_task(result)
    assert found["flat"].direction == "flat" and found["early"].direction == "improves"
    assert "none shown" in found["flat"].evidence and "20 clusters" in found["early"].evidence
    fall = by_task(asked(frame_of({"fall": sigmoid(0.5, 0.3, 20, 2)}, runs=16, checkpoint_sd=0.005)))["fall"]
    assert fall.direction == "inverse" and fall.klass in {"noisy", "undetermined"}


@pytest.mark.parametrize("floor", [0.1, 0.5, 0.8])
def test_a_floor_that_is_not_chance_is_said_to_be_fitted(floor):
    # Oracle: the construction; a guesser scores 0.25.
    table = table_of(
        {"t": sigmoid(floor, floor + 0.1, 20, 2.0)}, runs=20, checkpoints=1, run_sd=0.002, seed=9
    )
    evidence = asked(table, replicates=20).tasks[0].evidence
    assert "floor fitted, not at chance" in evidence and "below chance" not in evidence


def test_moving_the_bound_turns_late_into_early():
    # Oracle: the window of the late task, which opens before 1e23.
    assert by_task(asked(frame(), early_by=1e23))["late"].klass == "early-signal"
    assert by_task(asked(frame(), early_by=1e19))["early"].klass in {"early-signal", "late-signal"}


def test_a_stage_asks_at_its_lower_end_and_is_early_at_its_upper():
    # Oracle: the rule in the settings.
    settings = asked(frame(8), stage="1e20..1e22", early_by=None, replicates=5).settings
    assert (settings.asked_at, settings.early_by) == (1e20, 1e22)
    both = asked(frame(8), stage=Stage(1e20, 1e22), early_by=3e20, replicates=5).settings
    assert (both.asked_at, both.early_by) == (1e20, 3e20)


def test_the_plateau_is_not_saturated_before_it_is_reached():
    # Oracle: the construction; at 1e18 the task has its whole rise before it.
    found = by_task(asked(frame(), stage="1.1e18..1e21", early_by=None))["plateau"]
    assert found.klass == "early-signal", found.evidence


@pytest.mark.parametrize("runs", [1, 3, 5])
def test_few_runs_are_undetermined(runs):
    # Oracle: the rule, six clusters.
    for task in asked(frame(runs)).tasks:
        assert task.klass == "undetermined" and f"only {runs} independent runs" in task.evidence
        assert np.isnan(task.opens_low) and np.isnan(task.trend_q)


def test_a_task_that_still_rises_is_never_saturated():
    # Oracle: the construction, at 38% accuracy in the end, over seeds and numbers of runs.
    truth = sigmoid(0.25, 0.9, 23.0, 1.2)
    assert 0.36 < truth(np.array([22.0]))[0] < 0.42
    for seed in range(4):
        for runs in (6, 12):
            table = table_of(
                {"t": truth}, runs=runs, checkpoint_sd=0.006, run_sd=0.004, n_items=1200, seed=seed
            )
            for early_by in (1e20, 1e22):
                found = asked(table, early_by=early_by).tasks[0]
                assert found.klass != "saturated" and found.p_saturated <= 0.25, (seed, runs, early_by, found)


@pytest.mark.parametrize("seed", range(4))
def test_a_task_that_wakes_up_at_the_end_is_not_noisy(seed):
    # Oracle: the construction; the three largest runs stand 5 to 25 noise SDs above the other seventeen.
    tasks = {f"flat{i}": constant(0.3) for i in range(5)} | {"t": sigmoid(0.25, 0.9, 23.0, 3.0)}
    table = table_of(tasks, runs=20, checkpoints=10, high=22.5, checkpoint_sd=0.004, n_items=1000, seed=seed)
    result = asked(table, early_by=1e21)
    y, found = result.curves["t"].series.y, by_task(result)["t"]
    assert y[-3:].min() > y[:-3].max() and (y[-3:] - y[:-5].mean() > 5 * 0.004).all()
    assert found.klass != "noisy", found.evidence


@pytest.mark.parametrize("runs", [6, 8, 12])
def test_a_steep_rise_seen_by_few_runs_is_not_noisy(runs):
    # Oracle: the construction; it rises from 25% to 57% where runs and checkpoints scatter by half a point.
    tasks = {f"t{i}": sigmoid(0.25, 0.9, 22.0, 2.0) for i in range(5)}
    table = table_of(tasks, runs=runs, checkpoints=10, run_sd=0.005, checkpoint_sd=0.005, seed=3)
    found = asked(table, early_by=1e20).counts()
    assert found["noisy"] == found["saturated"] == 0


@pytest.mark.parametrize(("runs", "seed"), [(6, 101), (6, 102), (7, 102), (12, 103)])
def test_flat_tasks_near_chance_are_never_saturated(runs, seed):
    # Oracle: the construction; a task that has shown no rise cannot have finished one.
    table = table_of(
        {f"t{i}": constant(0.26) for i in range(10)}, runs=runs, checkpoints=1, run_sd=0.01, seed=seed
    )
    for task in asked(table, early_by=1e20).tasks:
        assert task.klass != "saturated", task.evidence


def test_an_upper_bound_of_the_noise_never_makes_a_trending_task_noisy():
    # Oracle: the rule; final models only, so the residual is all that is known of the noise.
    for seed in range(6):
        table = table_of(
            {"t": lambda x: 0.3 + 0.02 * (x - 18)}, runs=24, checkpoints=1, run_sd=0.02, seed=seed
        )
        found = asked(table).tasks[0]
        assert found.noise_is_upper_bound
        if found.trend_q <= 0.05:
            assert found.klass != "noisy", found.evidence


def test_bits_open_before_accuracy():
    # Oracle: the construction of the two metrics of one task.
    bits = frame_of({"late": power(0.5, 0.6, 0.15)}, runs=20, high=22.5, metric="bpb", checkpoint_sd=0.003)
    accuracy = frame()
    table = pd.concat([accuracy[accuracy["task"] == "late"], bits], ignore_index=True)
    found = {task.metric: task for task in asked(table).tasks}
    assert (found["bpb"].klass, found["acc"].klass) == ("early-signal", "late-signal")
    assert found["bpb"].opens < found["acc"].opens


@pytest.mark.parametrize("metric", ["acc", "bpb"])
@pytest.mark.parametrize("level", [0.0, 0.3, 0.5])
def test_scores_that_are_all_equal_are_no_signal(metric, level):
    # Oracle: the construction; warnings are errors here.
    table = table_of({"t": constant(level)}, metric=metric, runs=10)
    assert asked(table, replicates=20).tasks[0].klass in {"noisy", "undetermined"}


def test_scores_that_are_all_one_are_saturated():
    # Oracle: the construction.
    assert asked(table_of({"t": constant(1.0)}, runs=10), replicates=20).tasks[0].klass == "saturated"


def test_one_model_only_is_undetermined():
    # Oracle: the rule, six clusters; warnings are errors here.
    one = frame()
    assert {task.klass for task in asked(one[one["model"] == "run019"], early_by=1e23).tasks} == {
        "undetermined"
    }


def test_runs_of_one_size_are_undetermined():
    # Oracle: without any range of compute nothing is known of a trend.
    table = frame(12, checkpoints=1)
    table = table.assign(params=1e9, tokens=2e10)
    for task in asked(table, early_by=1e21, replicates=20).tasks:
        assert task.klass in {"undetermined", "saturated"}, (task.task, task.evidence)


def test_a_task_of_two_points_is_listed():
    # Oracle: the count by hand.
    whole = frame(8, checkpoints=1)
    short = whole[whole["task"] == "early"].head(2).assign(task="short")
    found = asked(pd.concat([whole, short]), replicates=5)
    assert "short" not in by_task(found)
    assert [(o.where, o.count) for o in found.omissions if "2 point" in o.what] == [
        ("short (acc, 0-shot)", 2)
    ]


def test_neither_bound_nor_stage_is_a_usage_error():
    with pytest.raises(UsageError, match=r"early_by=FLOPS.*stage=LO\.\.HI") as caught:
        classify(table_of(TRUTHS))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshold": 0.5}, "threshold: got 0.5"),
        ({"threshold": 1.0}, "threshold: got 1.0"),
        ({"threshold": float("nan")}, "threshold: got nan"),
        ({"early_by": -1.0}, "early_by: got -1.0"),
        ({"early_by": float("inf")}, "early_by: got inf"),
        ({"early_by": float("nan")}, "early_by: got nan"),
        ({"stage": "1e21..1e20"}, "valid is LO..HI"),
        ({"replicates": -1}, "replicates: got -1"),
        ({"horizon": -1.0}, "horizon"),
        ({"horizon": float("nan")}, "horizon"),
        ({"level": 0.0}, "level"),
        ({"level": 1.5}, "level"),
    ],
)
def test_a_value_outside_its_range_is_a_usage_error(options, text):
    with pytest.raises(UsageError, match=text):
        asked(frame(6, checkpoints=1), **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"early_by": 1e17}, "below all data, which begin at"),
        ({"early_by": None, "stage": "1e15..1e16"}, "stage .*outside all data"),
        ({"early_by": None, "stage": "1e24..1e25"}, "stage .*outside all data.*credible to 3.2e.23"),
    ],
)
def test_a_question_outside_all_data_is_an_error(options, text):
    with pytest.raises(StagewiseError, match=text) as caught:
        asked(frame(8, checkpoints=1), **options)
    assert caught.value.exit_code == 1


def test_the_same_seed_gives_the_same_classes_in_any_order_of_rows():
    # Oracle: the same call again.
    whole = frame(8)
    first = asked(whole, replicates=30).to_frame()
    second = asked(whole.sample(frac=1.0, random_state=0), replicates=30).to_frame()
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    other = asked(whole, replicates=30, seed=1).to_frame()
    assert not first.equals(other)


def test_without_replicates_there_are_classes_but_no_probabilities():
    # Oracle: the construction.
    found = by_task(asked(frame(), replicates=0))
    assert {name: task.klass for name, task in found.items()} == KNOWN
    assert all(np.isnan(task.p_noisy) for task in found.values())


def test_frames_and_counts_agree(result):
    # Oracle: counting the frame's column.
    frame = result.to_frame()
    counts = result.counts()
    assert sum(counts.values()) == len(frame) == len(TRUTHS)
    assert {name: n for name, n in counts.items() if n} == frame["class"].value_counts().to_dict()
    assert (result.settings.early_by, result.settings.asked_at) == (3e20, 3e20)
