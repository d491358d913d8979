"""Building a suite. Oracle: the world in world.py, whose midpoints, rises and noise were put in."""

import re

import numpy as np
import pytest

from evalsuite.build import Built, build
from evalsuite.settings import Override, Settings
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.world import STAGE, table


@pytest.fixture(scope="module")
def built() -> Built:
    return build(table(), STAGE, replicates=20)


@pytest.fixture
def classified(built: Built, monkeypatch) -> None:
    """Builds from `table()` take over the classes of `built`, half of the work; that these are the same each
    time is shown by `test_same_input_same_bytes`."""
    monkeypatch.setattr("evalsuite.build.classify", lambda *_, **__: built.classification)


def test_tasks_that_rise_in_the_stage_are_in_and_the_others_say_why_not(built: Built) -> None:
    suite = built.suite
    inside = {item.task for item in (*suite.tasks, *suite.held_out)}
    assert inside == {"alpha", "beta", "gamma", "delta", "epsilon"}
    reasons = {item.task: item.reason for item in suite.dropped}
    assert set(reasons) == {"flat", "past"}
    assert "noisy" in reasons["flat"] or "undetermined" in reasons["flat"]


def test_every_candidate_is_in_the_audit_with_a_reason(built: Built) -> None:
    audit = built.audit
    assert len(audit) == 7 * 2 + 1
    assert audit["reason"].str.len().gt(5).all()
    assert set(audit["decision"]) == {"kept", "held-out", "dropped"}
    unfit = audit[audit["metric"] == "margin"].iloc[0]
    assert unfit["decision"] == "dropped" and "without a law" in unfit["reason"]


def test_one_metric_per_task_and_it_is_the_one_that_says_most(built: Built) -> None:
    """p_correct has three times the noise of acc, so acc separates models better."""
    assert {item.metric for item in built.suite.tasks} == {"acc"}
    lost = built.audit[(built.audit["task"] == "alpha") & (built.audit["metric"] == "p_correct")].iloc[0]
    assert lost["decision"] == "dropped"


def test_every_cluster_weighs_the_same_and_keeps_a_task(built: Built) -> None:
    suite = built.suite
    for cluster in suite.clusters:
        weight = sum(item.weight for item in suite.tasks if item.cluster == cluster.cluster)
        assert weight == pytest.approx(1 / len(suite.clusters), abs=1e-5)


@pytest.mark.usefixtures("classified")
def test_held_out_is_one_per_cluster_of_two_and_more(built: Built) -> None:
    suite = built.suite
    held = [item.cluster for item in suite.held_out]
    assert len(held) == len(set(held))
    for cluster in suite.clusters:
        size = sum(item.cluster == cluster.cluster for item in (*suite.tasks, *suite.held_out))
        assert (cluster.cluster in held) == (size >= 2)
    assert not build(table(), STAGE, replicates=20, held_out=False).suite.held_out


def test_coverage_is_the_share_of_the_stage_in_which_a_decision_is_likely(built: Built) -> None:
    """Oracle: the decision probability in closed form from the true curve and noise of `alpha`."""
    from scipy.stats import norm

    x = np.linspace(19, 21, 401)
    curve = 0.25 + 0.6 / (1 + np.exp(-2 * (np.array([x, x + np.log10(2)]) - 20.0)))
    dp = norm.cdf((curve[1] - curve[0]) / (np.sqrt(2) * 0.004 * 1.2))
    row = built.audit[(built.audit["task"] == "alpha") & (built.audit["metric"] == "acc")].iloc[0]
    assert row["covers"] == pytest.approx((dp >= 0.8).mean(), abs=0.05)
    assert row["dp"] == pytest.approx(dp.mean(), abs=0.05)
    assert row["measured"] == 1.0


def test_same_input_same_bytes(built: Built) -> None:
    again = build(table(), STAGE, replicates=20)
    assert again.suite.text("x") == built.suite.text("x")
    assert again.audit.to_csv() == built.audit.to_csv()


def test_no_cluster_number_or_weight_depends_on_the_order_of_rows(built: Built) -> None:
    from scaling.scores import ScoreTable

    shuffled = ScoreTable.from_frame(table().frame.sample(frac=1, random_state=3))
    assert build(shuffled, STAGE, replicates=20).suite.text("x") == built.suite.text("x")


def override(**fields) -> Settings:
    return Settings(overrides=(Override(**{"metric": "acc", "reason": "we said so", **fields}),))


@pytest.mark.usefixtures("classified")
def test_overrides_keep_drop_and_cluster_and_give_their_reason() -> None:
    kept = build(table(), STAGE, replicates=20, settings=override(task="flat", action="keep")).suite
    assert {item.task: item.reason for item in kept.tasks}["flat"] == "override: we said so"
    assert kept.provenance.overrides[0].reason == "we said so"
    dropped = build(table(), STAGE, replicates=20, settings=override(task="alpha", action="drop")).suite
    assert "alpha" not in {item.task for item in dropped.tasks} or dropped.tasks[0].metric != "acc"
    moved = build(
        table(), STAGE, replicates=20, settings=override(task="alpha", action="cluster", like="beta")
    )
    cluster = {item.task: item.cluster for item in (*moved.suite.tasks, *moved.suite.held_out)}
    assert cluster["alpha"] == cluster["beta"]


@pytest.mark.usefixtures("classified")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "nosuch", "action": "keep"}, "no scores of a task of this name"),
        ({"task": "alpha", "shots": 5, "action": "keep"}, r"valid for this task are alpha \(acc, 0-shot\)"),
        ({"task": "alpha", "metric": "margin", "action": "keep"}, "cannot be kept"),
        ({"task": "flat", "action": "cluster", "like": "alpha"}, "flat is not in the suite"),
    ],
)
def test_an_override_that_fits_nothing_says_what_would(fields: dict, words: str) -> None:
    with pytest.raises(StagewiseError, match=words):
        build(table(), STAGE, replicates=20, settings=override(**fields))


def test_a_stage_without_data_or_without_tasks() -> None:
    with pytest.raises(StagewiseError, match="outside all data"):
        build(table(), "1e25..1e26", replicates=20)
    with pytest.raises(StagewiseError, match=r"no task qualifies.*noisy|no task qualifies.*undetermined"):
        build(table(tasks={"flat": (20, 0.0), "level": (20, 0.0)}), STAGE, replicates=20)
    with pytest.raises(UsageError, match="replicates: got 3"):
        build(table(), STAGE, replicates=3)


def test_provenance_names_source_rows_and_settings(built: Built) -> None:
    provenance = built.suite.provenance
    assert provenance.sources[0].source == "made" and provenance.scores.rows == len(table())
    assert provenance.scores.digest == table().digest
    assert provenance.settings["replicates"] == 20
    assert re.fullmatch(r"3\.\d+", provenance.versions["python"])


def test_one_split_per_benchmark() -> None:
    """Names from scaling/facts/tasks.csv: two splits of ARC-Easy, of which the test set has more items."""
    from scaling.scores import ScoreTable
    from tests.evalsuite.world import scores

    frame = scores(tasks={"arc_easy": (20.0, 0.6), "arc_easy_val": (20.0, 0.6), "beta": (20.1, 0.6)})
    frame.loc[frame["task"] == "arc_easy_val", "n_items"] = 570
    suite = build(ScoreTable.from_frame(frame), STAGE, replicates=20).suite
    assert {item.task for item in (*suite.tasks, *suite.held_out)} == {"arc_easy", "beta"}
    assert "one split per benchmark: arc_easy of 1000 items stays" in suite.dropped[0].reason


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(score=0.5),
        lambda frame: frame[frame["model"] == "m0"],
        lambda frame: frame.groupby("task").head(2),
        lambda frame: frame.assign(flops=np.nan),
    ],
    ids=["all equal", "one model", "two points", "no compute"],
)
def test_scores_that_show_nothing_are_one_error(change) -> None:
    from scaling.scores import ScoreTable
    from tests.evalsuite.world import scores

    with pytest.raises(StagewiseError):
        build(ScoreTable.from_frame(change(scores())), STAGE, replicates=20)
