"""Decisions of small runs: planted skills come back, no target holds a part of its suite."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.agreement import decision_accuracy
from scaling.decisions import decide, task_means
from scaling.errors import StagewiseError, UsageError
from scaling.readers import read_scores
from scaling.recipes import recipes_of
from scaling.scores import ScoreTable
from scaling.series import Key
from scaling.tasks import benchmark_of
from tests.scaling.synthetic import facts

SMALL, LARGE = 1e19, 1e21


def world(
    noise: dict[str, float], *, recipes: int = 9, target_noise: float = 0.0, metrics=("acc",), seed: int = 0
) -> ScoreTable:
    """Recipes of one skill each, seen by every task at two scales through noise (in units of the skill)."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=recipes)
    rows = []
    for flops, params in ((SMALL, 1e8), (LARGE, 1e9)):
        for task, sd in noise.items():
            seen = skill + rng.normal(size=recipes) * (sd if flops == SMALL else target_noise)
            for metric in metrics:
                score = 0.5 + 0.02 * seen if metric == "acc" else np.exp(-0.1 * seen)
                rows += [
                    {
                        "source": "s", "family": f"recipe{i:02d}", "model": f"r{i}-{flops:g}", "flops": flops,
                        "params": params, "tokens": flops / params / 6, "task": task, "metric": metric,
                        "shots": 0, "score": score[i],
                    }
                    for i in range(recipes)
                ]  # fmt: skip
    return ScoreTable.from_frame(pd.DataFrame(rows))


def ask(table: ScoreTable, **options):
    given = {"small": SMALL, "target": LARGE, "facts": facts(), "resamples": 200} | options
    return decide(table, **given)


def suite_of(*tasks: str, metric: str = "acc") -> dict[Key, float]:
    return {Key(task, metric, 0): 1.0 for task in tasks}


def test_a_sharp_task_decides_and_a_blind_one_does_not() -> None:
    """Planted: task a sees the skill exactly, task b noise of ten times its spread."""
    found = ask(world({"a": 0.0, "b": 10.0, "c": 0.1}))
    rows = found.to_frame().set_index("task")
    assert rows.loc["a", ["itself", "rest"]].tolist() == [1.0, 1.0]
    assert rows.loc["b", "rest"] < 0.8
    assert (rows["pairs"] == 36).all() and rows["claim"].all()
    assert "36 pairs of 9 recipes, 0 refused" in str(found)


def test_a_row_is_what_decision_accuracy_says() -> None:
    """Oracle: decision_accuracy of the series, against the same task and against the mean of the others."""
    table = world({"a": 0.5, "b": 1.0, "c": 2.0}, target_noise=0.5)
    rows = ask(table).to_frame().set_index("task")
    small, large = (recipes_of(table, flops, facts=facts()) for flops in (SMALL, LARGE))
    key = {task: Key(task, "acc", 0) for task in "abc"}
    for task, others in (("a", "bc"), ("b", "ac"), ("c", "ab")):
        one = decision_accuracy(small.mean([key[task]]), large.mean([key[task]]), resamples=200)
        assert rows.loc[task, ["itself", "itself_low", "itself_high"]].tolist() == pytest.approx(
            [one.share, one.low, one.high]
        )
        rest = decision_accuracy(small.mean([key[task]]), large.mean([key[o] for o in others]), resamples=200)
        names = ["rest", "rest_low", "rest_high", "kendall", "pearson", "pairs", "ties", "recipes"]
        assert rows.loc[task, names].tolist() == pytest.approx(
            [rest.share, rest.low, rest.high, rest.kendall, rest.pearson, rest.pairs, rest.ties, rest.recipes]
        )


def test_bits_may_decide_for_accuracy() -> None:
    """Planted: lower bits and higher accuracy go together, so the order is right though the sign differs."""
    found = ask(world({"a": 0.0, "b": 0.0}, metrics=("acc", "bpb")), metric_target="acc")
    rows = found.to_frame()
    bits = rows[rows["metric"] == "bpb"]
    assert bits["itself"].tolist() == [1.0, 1.0] and bits["rest"].tolist() == [1.0, 1.0]
    assert (bits["pearson"] > 0.99).all()


def test_the_rest_holds_no_task_of_the_same_benchmark() -> None:
    """Planted: two splits of one benchmark agree, the third task is their reverse."""
    assert benchmark_of("arc_easy") == benchmark_of("arc_easy_val") != benchmark_of("piqa")
    assert benchmark_of("mmlu_anatomy") == benchmark_of("mmlu_cloze") == "MMLU"
    table = world({"arc_easy": 0.0, "arc_easy_val": 0.0, "piqa": 0.0})
    frame = table.frame.copy()
    turn = (frame["task"] == "piqa") & (frame["flops"] == LARGE)
    frame.loc[turn, "score"] = 1.0 - frame.loc[turn, "score"]
    rows = ask(ScoreTable.from_frame(frame)).to_frame().set_index("task")
    assert rows.loc["arc_easy", "rest"] == 0.0 and rows.loc["arc_easy_val", "rest"] == 0.0
    assert rows.loc["arc_easy", "itself"] == 1.0


def test_a_target_that_holds_a_part_of_the_suite_is_refused() -> None:
    table = world({"arc_easy": 0.0, "arc_easy_val": 0.0, "piqa": 0.0})
    suite = suite_of("arc_easy")
    with pytest.raises(UsageError, match="'arc_easy' is of a benchmark of the suite"):
        ask(table, suite=suite, target_tasks=["arc_easy", "piqa"])
    with pytest.raises(UsageError, match="'arc_easy_val' is of a benchmark"):
        ask(table, suite=suite, target_tasks=["arc_easy_val"])
    with pytest.raises(UsageError, match="'nowhere' is not scored"):
        ask(table, suite=suite, target_tasks=["nowhere"])
    with pytest.raises(StagewiseError, match="no task of another benchmark"):
        ask(table, suite=suite_of("arc_easy", "piqa"))
    assert ask(table, suite=suite, target_tasks=["piqa"]).suite.share == 1.0


def test_a_suite_stands_beside_all_tasks_and_random_ones() -> None:
    """Planted: the suite's tasks are sharp; of the rest most are blind, so random tasks do worse."""
    noise = {"sharp1": 0.1, "sharp2": 0.1} | {f"blind{i}": 8.0 for i in range(6)}
    found = ask(world(noise, recipes=12), suite=suite_of("sharp1", "sharp2"))
    rows = found.to_frame().set_index("kind")
    assert found.suite.claim and found.suite.share > 0.9
    assert rows.loc["suite", "rest"] == found.suite.share
    assert rows.loc["random", "rest"] < rows.loc["suite", "rest"] - 0.1
    assert rows.loc["random", "note"] == "100 draws of 2 task(s)"
    assert rows.loc["all", "note"] == "holds the target's tasks"
    apart = ask(world(noise, recipes=12), suite=suite_of("sharp1"), target_tasks=["blind0", "blind1"])
    assert apart.to_frame().set_index("kind").loc["all", "note"] == ""


def test_weights_choose_which_task_speaks() -> None:
    """Planted: all weight on the sharp task makes the suite's share that task's own."""
    table = world({"a": 0.1, "b": 9.0, "c": 0.1})
    both = ask(table, suite={Key("a", "acc", 0): 1.0, Key("b", "acc", 0): 0.0})
    alone = ask(table, suite=suite_of("a"), target_tasks=["c"])
    assert both.suite.share == alone.suite.share


def test_refused_pairs_are_counted() -> None:
    """Planted: one recipe of nine is four times as large at the target: its 8 pairs are refused."""
    frame = world({"a": 0.0, "b": 0.0}).frame.copy()
    big = (frame["family"] == "recipe03") & (frame["flops"] == LARGE)
    frame.loc[big, "params"] *= 4
    found = ask(ScoreTable.from_frame(frame), suite=suite_of("a"))
    assert found.suite.refused == 8 and found.suite.pairs == 28
    assert "no claim: 28 pairs" in str(found)
    assert [(one.what, one.count) for one in found.omissions] == [
        ("pair refused: unlike params on the target side", 8)
    ]
    assert len(ask(ScoreTable.from_frame(frame), match=None).pairs) == 36


def test_no_pair_at_all_is_said_and_not_an_error() -> None:
    frame = world({"a": 0.0, "b": 0.0}, recipes=3).frame.copy()
    times = frame["family"].map({"recipe00": 1.0, "recipe01": 4.0, "recipe02": 16.0})
    frame["params"] *= times.astype(float).where(frame["flops"] == LARGE, 1.0)
    found = ask(ScoreTable.from_frame(frame), suite=suite_of("a"))
    assert "0 pairs of 0 recipes" in str(found) and not found.suite.claim
    assert found.to_frame()["rest"].isna().all()


def test_a_task_that_few_were_scored_on_is_no_part_of_a_target() -> None:
    """Closed form: 5 of 9 recipes is below the 90% that a task needs."""
    frame = world({"a": 0.0, "b": 0.0, "c": 0.0}).frame
    drop = (
        (frame["task"] == "c")
        & (frame["flops"] == LARGE)
        & frame["family"].isin([f"recipe0{i}" for i in range(4)])
    )
    table = ScoreTable.from_frame(frame[~drop])
    tasks, means = task_means(recipes_of(table, LARGE, facts=facts()), metrics=["acc"])
    assert tasks == ["a", "b"] and means.shape == (9, 2)
    assert (ask(table).to_frame()["pairs"] == 36).all()


def test_the_same_seed_gives_the_same_frame() -> None:
    table = world({"a": 0.5, "b": 1.0, "c": 2.0}, target_noise=0.5)
    one, two = (ask(table, suite=suite_of("a"), seed=3).to_frame() for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(ask(table, suite=suite_of("a"), seed=4).to_frame())


def test_real_corpora_are_too_few_for_a_claim(shared) -> None:
    """Real input: three corpora make three pairs, whatever the tasks."""
    table = read_scores([shared / "sources" / "openlm_scaling.tar.zst"], drop_bad=True)
    found = decide(table, small=2e19, target=5.7e21, reach=1.2, resamples=50)
    assert len(found.pairs) == 3 and not found.to_frame()["claim"].any()
    assert found.to_frame()["itself"].dropna().between(0, 1).all()
