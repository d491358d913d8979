"""Findings as lines of a suite. Oracles: what went in, and recipes whose order was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evalsuite.candidates import Candidate
from evalsuite.economy import Budget, Economy
from evalsuite.findings import BudgetLine
from evalsuite.quality import Quality, assess
from evalsuite.record import budget_line, decision_line, quality_line, stability_line
from evalsuite.select import Decision, Selection
from evalsuite.stability import Stability
from evalsuite.suite import Suite
from scaling.scores import ScoreTable
from scaling.series import Key
from scaling.stage import Stage
from tests.evalsuite.test_suite import example
from tests.evalsuite.world import TASKS, offer, one_factor, recipe_scores, scores

STAGE = Stage(1e19, 1e21)


@pytest.fixture(scope="module")
def quality() -> Quality:
    return assess(one_factor(np.full(6, 0.5), rows=60, groups=12), offer([100] * 6, 10.0), 0.5,
                  splits=2, draws=5, resamples=20)  # fmt: skip


def economy(**options) -> Economy:
    basis = {"measured": 1, "facts": 2, "assumed": 0}
    given = {
        "objective": None, "budget": Budget.parse("20%"), "full": 1000.4, "cost": 199.6, "error": 0.012345,
        "basis": basis, "quality": None, "unmeasured": "", "shrinkage": 0.6,
    }  # fmt: skip
    return Economy(**given | options)


def test_what_a_suite_costs() -> None:
    assert budget_line(economy(), "decision-accuracy") == BudgetLine(
        objective="decision-accuracy", budget="20%", tokens=200, full=1000, error=0.0123, measured=1, facts=2,
        assumed=0, shrinkage=0.6,
    )  # fmt: skip
    free = budget_line(economy(budget=None, cost=0.2, shrinkage=None), "clusters")
    assert free.budget is None and free.tokens == 1 and free.shrinkage is None


def test_quality_is_what_was_measured(quality: Quality) -> None:
    """Oracle: the rows of `Quality`, to three digits."""
    line = quality_line(economy(quality=quality, objective=one_factor(np.ones(2))), "decision-accuracy")
    assert line is not None and line.note == "" and line.measure == "latent agreement"
    assert [one.choice for one in line.choices] == list(quality.rows["choice"])
    for one, row in zip(line.choices, quality.rows.to_dict("records"), strict=True):
        for name in ("agreement", "low", "high", "tasks", "cost"):
            assert getattr(one, name) == pytest.approx(row[name], rel=5e-3, abs=1e-12)
            assert getattr(one, name) == float(f"{getattr(one, name):.3g}")
    assert line.against_all == pytest.approx(quality.difference, rel=5e-3)
    assert line.above == pytest.approx(quality.above, rel=5e-3)
    assert (line.splits, line.groups) == (2, 12)
    suite = Suite.model_validate({**dict(example()), "quality": line})
    assert Suite.parse(suite.text("x")) == suite


def test_no_quality_of_clusters_and_a_reason_where_it_is_not_measured() -> None:
    assert quality_line(economy(), "clusters") is None
    line = quality_line(economy(unmeasured="two runs"), "decision-accuracy")
    assert line is not None and line.choices == () and line.note == "two runs" and line.above is None


def selection(*tasks: str) -> Selection:
    """A suite that scores these tasks, all of one weight."""
    return Selection(
        tuple(
            Decision(Candidate(Key(task, "acc", 0), None, None, 0.9, 1.0, 1.0, 1000, task), "kept", "made", 1,
                     1 / len(tasks))
            for task in tasks
        ), "made",
    )  # fmt: skip


def test_recipes_that_order_alike_at_both_scales() -> None:
    """Planted: without noise small runs order all 45 pairs of 10 recipes as large ones."""
    frame, _ = recipe_scores(10)
    line = decision_line(selection("alpha", "beta"), ScoreTable.from_frame(frame), STAGE, 0)
    assert (line.share, line.all_tasks, line.random, line.pairs, line.recipes) == (1.0, 1.0, 1.0, 45, 10)
    assert line.claim and line.note == "" and line.low is not None and line.low < 1.0 and line.high == 1.0


def test_noise_in_the_suite_costs_it_decisions() -> None:
    """Planted: the suite's one task is all noise at the small scale, the others are exact."""
    frame, _ = recipe_scores(12, noise={task: 0.12 if task == "flat" else 0.0 for task in TASKS})
    line = decision_line(selection("flat"), ScoreTable.from_frame(frame), STAGE, 0)
    assert line.share is not None and line.share < 0.75
    assert line.random is not None and line.random > line.share


def test_few_pairs_are_an_interval_without_a_claim() -> None:
    """Closed form: five recipes make ten pairs."""
    frame, _ = recipe_scores(5)
    line = decision_line(selection("alpha"), ScoreTable.from_frame(frame), STAGE, 0)
    assert line.pairs == 10 and line.share == 1.0 and not line.claim
    assert line.note == "no claim: 30 pairs needed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame[frame["flops"] < 1e21], "no final checkpoint with known compute between"),
        (lambda frame: frame.assign(params=frame["params"] * 3.0 ** frame["family"].str[1:].astype(int)),
         "no pair of recipes can be compared: 6 unlike params on the small side"),
        (lambda frame: frame[frame["task"] == "alpha"], "no task of another benchmark is scored"),
    ],
    ids=["no larger runs", "no like pair", "nothing outside"],
)  # fmt: skip
def test_what_cannot_be_compared_says_why(change, said: str) -> None:
    frame, _ = recipe_scores(4)
    line = decision_line(selection("alpha"), ScoreTable.from_frame(change(frame)), STAGE, 0)
    assert line.share is None and line.pairs == 0 and said in line.note and "\n" not in line.note


def test_a_stage_of_models_without_recipes_above_it() -> None:
    table = ScoreTable.from_frame(scores())
    line = decision_line(selection("alpha"), table, STAGE, 0)
    assert line.share is None and line.note


def families(**rows: tuple) -> Stability:
    columns = ["family", "runs", "tasks", "changed", "joined", "left", "note"]
    frame = pd.DataFrame([(name, 3, 5, *row) for name, row in rows.items()], columns=columns)
    return Stability(frame, {Key("t", "acc", 0): 0.5, Key("u", "acc", 0): 0.0, Key("v", "acc", 0): 0.0})


def test_stability_counts_moves_and_leaves_out_what_could_not_be_left_out() -> None:
    """By hand: (0.2 + 0.4) / 2 of the classes, (1 + 3) / 2 of the places; on a tie the first by name."""
    line = stability_line(
        families(a=(0.2, "", "one", ""), b=(0.4, "two, three", "four", ""), c=(np.nan, "", "", "alone"))
    )
    assert (line.families, line.changed, line.worst, line.worst_changed) == (2, 0.3, "b", 0.4)
    assert (line.places, line.unstable) == (2.0, 0.333) and line.note == "1 families could not be left out"
    tied = stability_line(families(b=(0.1, "", "", ""), a=(0.1, "", "", "")))
    assert tied.worst == "a" and tied.note == "" and tied.places == 0.0
