"""Alarms of a run: who falls behind, since when, by how much, and what changed near it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evalsuite.alarms import MARGIN, Alarm, source_of, watch, watch_capabilities
from evalsuite.capabilities import Capability
from evalsuite.evaluations import Evaluations
from evalsuite.likelihoods import Likelihoods
from scaling.errors import UsageError
from scaling.series import Key
from tests.evalsuite.watched import Watching, falling, hook_folder
from tests.study.false_alarms import SMOKE, run
from train.studies.threshold import threshold_alarms


def series(y: np.ndarray, name: str = "x", kind: str = "bits", alone: np.ndarray | None = None) -> Capability:
    n = len(y)
    return Capability(
        name, "s", kind, 100 * np.arange(1, n + 1), 1e15 * np.arange(1.0, n + 1), y, y,
        np.ones(n, dtype=bool) if alone is None else alone, np.ones(n), np.zeros(n),
    )  # fmt: skip


def growing(n: int, seed: int = 0) -> np.ndarray:
    return 1.0 + 0.2 * np.log(np.arange(1, n + 1)) + 0.01 * np.random.default_rng(seed).standard_normal(n)


def test_an_alarm_names_capability_step_size_and_what_changed_near_it(tmp_path):
    made = Evaluations.open(hook_folder(tmp_path / "evals", range(100, 4100, 100)))
    found = watch(made)
    assert [one.capability for one in found.alarms] == ["code"]
    alarm = found.alarms[0]
    assert (alarm.suite, alarm.since) == ("early", 2000)
    assert 2100 < alarm.noticed <= 2600
    assert alarm.near == ("step 1980: mixture phase 1 begins",)
    assert alarm.evidence >= found.threshold == MARGIN * 3 / 0.05
    assert "code (early) falls behind since step 2,000" in str(alarm)
    assert "more bits per byte than expected; near it: step 1980: mixture phase 1 begins" in str(alarm)
    table = found.to_frame().set_index("capability")
    assert table["alarm"].to_dict() == {"arithmetic": False, "code": True, "symbolic": False}
    assert table.loc["code", ["since", "status", "scale"]].tolist() == [2000, "behind", "ln(8 / bpb)"]
    assert (table["now"] < table["low"])["code"]
    assert "code" in found._repr_html_()


def test_the_size_is_what_is_lost_against_the_expectation_from_before():
    y = growing(20)
    y[12:] -= 0.2
    alarm = watch_capabilities([series(y)]).alarms[0]
    assert (alarm.since, alarm.noticed) == (1200, 1400)
    assert alarm.size == pytest.approx(0.2, abs=0.04)
    assert alarm.lost.startswith(f"{np.expm1(alarm.size):.1%} more bits")
    points = Alarm("x", "s", 1, 2, 0.034, 99.0, (), "proportions")
    assert "3.4 points" in str(points)
    assert "nothing known changed near it" in str(points)


def test_after_the_alarm_the_band_is_the_one_from_before():
    y = growing(24)
    y[12:] -= 0.3
    history = watch_capabilities([series(y)]).history
    clean = 1.0 + 0.2 * np.log(np.arange(13, 25))
    assert np.abs(history["expected"].to_numpy()[12:] - clean).max() < 0.1


def test_the_same_answer_at_every_look():
    y = growing(24)
    y[12:] -= 0.2
    whole = watch_capabilities([series(y)])
    for n in range(25):
        part = watch_capabilities([series(y[:n])] if n else [])
        assert len(part.alarms) == (n >= 14)
        if n >= 14:
            assert part.alarms[0].noticed == whole.alarms[0].noticed
            assert part.alarms[0].size == pytest.approx(whole.alarms[0].size)
            pd.testing.assert_frame_equal(part.history, whole.history.head(n))


def test_controls_are_quiet_over_seeds():
    capabilities = [series(growing(20, seed), str(seed)) for seed in range(30)]
    assert watch_capabilities(capabilities, count=1).alarms == ()  # as if each were alone


def test_only_evaluations_that_share_no_snapshot_are_tested():
    y = growing(24)
    y[23] -= 1.0
    y[22] -= 1.0
    alone = np.arange(24) % 3 == 0
    found = watch_capabilities([series(y, alone=alone)])
    assert found.alarms == ()
    assert found.history["tested"].tolist() == alone.tolist()
    assert found.history["expected"].notna().sum() > 12  # but all are shown with a band


def test_learning_is_said(tmp_path):
    made = watch_capabilities([series(growing(3)), series(growing(1), "y")]).to_frame()
    assert made["status"].tolist() == ["learning until step 700", "learning: 1 of 7 independent evaluations"]
    assert not made["alarm"].any()
    assert made["evidence"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_any_number_of_evaluations(tmp_path, count):
    made = Evaluations.open(hook_folder(tmp_path / "evals", range(100, 100 + 100 * count, 100)))
    found = watch(made)
    assert len(found.to_frame()) == (3 if count else 0)
    assert len(found.history) == 3 * count
    assert list(found.to_frame().columns[:7]) == [
        "capability", "suite", "now", "expected", "low", "high", "trend",
    ]  # fmt: skip


def test_one_constant_capability_and_tasks_that_are_missing(tmp_path):
    tasks = [Watching("a", "x", lambda step: 0.5, metric="acc"), Watching("b", "y", falling(2, 1, 500))]
    missing = {300: {"a": "gone", "b": "gone"}, 500: {"a": "gone"}}
    folder = hook_folder(tmp_path / "evals", range(100, 1300, 100), tasks=tasks, missing=missing, noise=0.0)
    found = watch(Evaluations.open(folder))
    assert found.alarms == ()
    assert found.history.groupby("capability").size().to_dict() == {"x": 10, "y": 11}


def test_more_capabilities_need_more_evidence(tmp_path):
    folder = hook_folder(tmp_path / "evals", range(100, 900, 100), suites=("early", "late"))
    assert watch(Evaluations.open(folder), rate=0.01).threshold == pytest.approx(MARGIN * 6 / 0.01)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1, 2])
def test_a_rate_is_a_share(rate):
    with pytest.raises(UsageError, match="between 0 and 1"):
        watch_capabilities([], rate=rate)


def test_a_forecast_stands_beside_and_changes_no_alarm():
    def half(compute: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return 0 * compute + 0.5, 0 * compute + 0.4, 0 * compute + 0.6

    found = watch_capabilities([series(growing(9)), series(growing(9), "y")], forecast={"x": half})
    table = found.to_frame().set_index("capability")
    assert table.loc["x", ["forecast", "forecast_low", "forecast_high"]].tolist() == [0.5, 0.4, 0.6]
    assert np.isnan(table.loc["y", "forecast"])
    plain = watch_capabilities([series(growing(9)), series(growing(9), "y")]).to_frame()
    pd.testing.assert_frame_equal(found.to_frame()[plain.columns], plain)


def test_the_study_runs():
    found = run(setting=SMOKE)
    control = found[found["kind"] == "control"].set_index("scenario")
    assert control.loc["law, little noise", "alarms"] <= 0.1
    losses = found[found["kind"] == "loss"].set_index(["scenario", "evaluations"])
    assert losses.loc[("bits, little noise: at once, 12 sd", 24), "alarms"] >= 0.9


def test_the_alarm_by_hand():
    frame = pd.DataFrame({"capability": "x", "step": [1, 2, 3, 4], "score": [0.3, 0.5, 0.49, 0.47]})
    assert threshold_alarms(frame).to_dict("records") == [
        {"capability": "x", "since": 2, "noticed": 4, "size": pytest.approx(0.03)}
    ]
    assert len(threshold_alarms(frame, drop=0.05)) == 0


def test_items_are_read_from_the_results_and_paired(tmp_path):
    """Of two evaluations the second asks half the items, the harder half: no fall."""
    folder = hook_folder(tmp_path / "evals", [100, 200], tasks=[Watching("a", "x", lambda step: 0.5, "acc")])
    made = Evaluations.open(folder)
    for one, count in zip(made.all, (8, 4), strict=True):
        right = np.arange(count) >= 4  # the first four are wrong both times
        ll = np.where(right[:, None], [[-1.0, -2.0]], [[-2.0, -1.0]])
        answers = Likelihoods.of(
            "a", 0, [f"i{k}" for k in range(count)], [0] * count, ll, np.ones((count, 2))
        )
        done = one.results.manifest.tasks[0]
        done = done.model_copy(update={"file": "items/a@0.parquet", "answered": count, "rows": ()})
        (one.path / "items").mkdir()
        one.results.add(done, answers)
    read = Evaluations.open(folder)
    found = watch(read).history
    np.testing.assert_allclose(found["score"], [0.0, 0.0], atol=1e-12)  # (0.5 - c) / (1 - c), c = 0.5
    answers = source_of(read)(200, "early", Key("a", "acc", None))
    assert answers is not None
    assert (answers.value, answers.n_items) == (-1.0, 4)
