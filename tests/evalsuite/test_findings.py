"""What was found out about a suite, in its file: written and read back, rounded, absent where not asked."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalsuite.difference import diff
from evalsuite.display import findings
from evalsuite.findings import BudgetLine, Choice, DecisionLine, QualityLine, StabilityLine
from evalsuite.suite import Dropped, Suite, edited
from scaling.errors import StagewiseError
from tests.evalsuite.test_suite import example

shares = st.floats(0, 1)
agreements = st.floats(-1, 1)
counts = st.integers(0, 10**9)
text = st.text(min_size=1, max_size=12)
words = text.filter(lambda one: one.strip())
budgets = st.builds(
    BudgetLine, objective=st.sampled_from(["clusters", "decision-accuracy"]), budget=st.none() | text,
    tokens=st.integers(1, 10**12), full=st.integers(1, 10**12), error=st.floats(0, 1e6), measured=counts,
    facts=counts, assumed=counts, shrinkage=st.none() | shares,
)  # fmt: skip
choices = st.builds(
    Choice, choice=text, agreement=agreements, low=agreements, high=agreements, tasks=st.floats(0, 1e4),
    cost=shares,
)  # fmt: skip
qualities = st.builds(
    QualityLine, measure=text, choices=st.lists(choices, max_size=4).map(tuple),
    against_all=st.none() | st.tuples(agreements, agreements, agreements), above=st.none() | shares,
    random_mean_high=st.none() | agreements, splits=counts, groups=counts, note=st.text(max_size=12),
)  # fmt: skip
decisions = st.builds(
    DecisionLine, share=st.none() | shares, low=st.none() | shares, high=st.none() | shares,
    all_tasks=st.none() | shares, random=st.none() | shares, pairs=counts, recipes=counts, refused=counts,
    claim=st.booleans(), note=st.text(max_size=12),
)  # fmt: skip
stabilities = st.builds(
    StabilityLine, families=counts, changed=st.none() | shares, worst=st.none() | words,
    worst_changed=st.none() | shares, unstable=st.none() | shares, places=st.none() | st.floats(0, 1e4),
    note=st.text(max_size=12),
)  # fmt: skip


@st.composite
def suites(draw) -> Suite:
    suite = example()
    part = {
        "items": 60, "of": 100, "cost": draw(st.integers(1, 10**9)),
        "basis": draw(st.sampled_from(["measured", "facts", "assumed"])),
        "item_ids": draw(st.none() | st.lists(text, max_size=5).map(tuple)),
    }  # fmt: skip
    alpha, beta = suite.tasks
    fields = {
        "tasks": (alpha.model_validate({**dict(alpha), **part}), beta), "budget": draw(st.none() | budgets),
        "quality": draw(st.none() | qualities), "decisions": draw(st.none() | decisions),
        "stability": draw(st.none() | stabilities),
    }  # fmt: skip
    return Suite.model_validate({**dict(suite), **fields})


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(suites())
def test_what_is_written_is_read_back(suite: Suite) -> None:
    """Property: the file holds all of it, in one form; plain PyYAML reads the same."""
    written = suite.text("evalsuite build --scores x --budget 20%")
    found = Suite.parse(written)
    assert found == suite
    assert found.text("evalsuite build --scores x --budget 20%") == written
    assert edited(written) is None
    plain = yaml.safe_load(written)
    for name in ("budget", "quality", "decisions", "stability"):
        assert (name in plain) == (getattr(suite, name) is not None)
    assert plain["tasks"][0]["cost"] == suite.tasks[0].cost
    assert not {"of", "cost", "basis", "item_ids"} & set(plain["tasks"][1])


def filled() -> Suite:
    """The suite of test_suite.py with every line, and items named."""
    choice = {"choice": "suite", "agreement": 0.61234, "low": 0.5, "high": 0.7, "tasks": 4.0, "cost": 0.2}
    alpha, beta = example().tasks
    alpha = alpha.model_copy(update={"items": 2, "of": 100, "cost": 500, "basis": "facts",
                                     "item_ids": ("17", "q 3: true")})  # fmt: skip
    return Suite.model_validate({
        **dict(example()), "tasks": (alpha, beta),
        "budget": BudgetLine(objective="decision-accuracy", budget="20%", tokens=2000, full=10_000,
                             error=0.0123456, measured=0, facts=1, assumed=1, shrinkage=0.6),
        "quality": QualityLine(measure="latent agreement", choices=(Choice(**choice),),
                               against_all=(-0.0123456, -0.1, 0.05), above=0.876543, random_mean_high=0.55555,
                               splits=10, groups=24, note=""),
        "decisions": DecisionLine(share=0.7, low=0.6, high=0.8, all_tasks=0.72, random=None, pairs=45,
                                  recipes=10, refused=3, claim=True, note=""),
        "stability": StabilityLine(families=12, changed=0.0333333, worst="f 3", worst_changed=0.25,
                                   unstable=0.4, places=1.23456, note=""),
    })  # fmt: skip


def test_numbers_are_rounded_as_they_enter() -> None:
    """By hand: three significant digits, which is more than any interval here warrants."""
    suite = filled()
    assert suite.quality and suite.budget and suite.stability
    assert suite.quality.against_all == (-0.0123, -0.1, 0.05)
    assert (suite.quality.above, suite.quality.random_mean_high) == (0.877, 0.556)
    assert suite.quality.choices[0].agreement == 0.612
    assert suite.budget.error == 0.0123
    assert (suite.stability.changed, suite.stability.places) == (0.0333, 1.23)


def test_each_line_is_one_line_and_items_are_named_on_one() -> None:
    lines = filled().text("x").splitlines()
    assert sum(line.startswith("budget: {") for line in lines) == 1
    assert "    item_ids: ['17', 'q 3: true']" in lines
    assert sum(line.lstrip().startswith("- {choice: suite,") for line in lines) == 1
    frame = filled().to_frame()
    assert frame.loc[0, "item_ids"] == ("17", "q 3: true") and frame.loc[0, "of"] == 100


def test_a_suite_without_these_lines_is_read_as_before() -> None:
    """Oracle: the file as it was written before there were budgets."""
    written = example().text("x")
    for name in ("budget", "quality", "decisions", "stability", "item_ids", "basis", "    of"):
        assert f"{name}:" not in written
    found = Suite.parse(written)
    assert found.budget is found.quality is found.decisions is found.stability is None
    assert all(task.of is None and task.cost is None and task.item_ids is None for task in found.tasks)
    assert findings(found) == ["stability: not measured (build with --leave-families-out)"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("tokens: 2000", "tokens: 0", r"budget\.tokens: got 0"),
        ("objective: decision-accuracy", "objective: luck", r"budget\.objective: got \"luck\""),
        ("agreement: 0.612", "agreement: 1.2", r"quality\.choices\[0\]\.agreement: got 1\.2"),
        ("pairs: 45", "pairs: -1", r"decisions\.pairs: got -1"),
        ("worst_changed: 0.25", "worst_change: 0.25", r"stability\.worst_change: no such field"),
        ("basis: facts", "basis: guess", r"tasks\[0\]\.basis: got \"guess\""),
    ],
)
def test_a_line_broken_by_hand_is_one_error_with_its_field(old: str, new: str, problem: str) -> None:
    written = filled().text("x")
    assert old in written
    with pytest.raises(StagewiseError, match=problem):
        Suite.parse(written.replace(old, new, 1))


def test_findings_in_words() -> None:
    """By hand, from the figures of `filled`."""
    cost, quality, decided, stability = findings(filled())
    assert cost.startswith(
        "cost: 2,000 tokens per model, 20% of 10,000 (budget 20%); item sizes 1 from facts, "
    )
    assert "standard error of the score against all items 0.012" in cost
    assert "suite 0.61 [0.50, 0.70] at 20% of the cost" in quality and "-0.012 [-0.100, +0.050]" in quality
    assert "above 88% of the equally costly random suites" in quality
    assert decided == (
        "decision accuracy, stage against larger runs: 0.70 [0.60, 0.80] of 45 pairs of 10 recipes "
        "(3 refused); all tasks 0.72"
    )
    assert "without one of 12 families 3.3% of the classes change on average, 25.0% without f 3" in stability


def test_figures_taken_out_by_hand_are_left_out() -> None:
    """Planted: nulls where the format allows them; no figure is made up and nothing breaks."""
    suite = filled()
    assert suite.quality and suite.decisions and suite.stability
    gaps = {"above": None, "against_all": None}
    found = Suite.model_validate({
        **dict(suite), "quality": suite.quality.model_copy(update=gaps),
        "decisions": suite.decisions.model_copy(update={"low": None, "note": "edited"}),
        "stability": suite.stability.model_copy(update={"places": None}),
    })  # fmt: skip
    _, quality, decided, stability = findings(found)
    assert "random" not in quality and "less all tasks" not in quality
    assert decided == "decision accuracy: not measured: edited"
    assert stability.startswith("stability: no family can be left out")


def with_items(**fields) -> Suite:
    alpha, beta = filled().tasks
    return Suite.model_validate({**dict(filled()), "tasks": (alpha.model_copy(update=fields), beta)})


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"items": 2}, {"items": 50}, "the budget is spent otherwise"),
        ({"items": 100, "of": None}, {"items": 90, "of": None}, "the scores are of another number"),
        ({"item_ids": ("17",)}, {"item_ids": ("18",)}, "other items are named"),
        ({"item_ids": ("17",)}, {"item_ids": None}, "other items are named"),
    ],
)
def test_a_move_of_items_says_because_of_what(before: dict, after: dict, why: str) -> None:
    (move,) = diff(with_items(**before), with_items(**after)).moves
    assert (move.task, move.what, move.because) == ("alpha", "items", why)


def test_weights_of_a_budgeted_suite_move_with_its_benchmarks() -> None:
    """By hand: of two benchmarks the budget leaves one."""
    whole = filled()
    gone, stays = whole.tasks
    lost = Dropped(task=gone.task, metric="acc", shots=0, reason="over the budget", evidence=gone.evidence)
    fields = {"tasks": (stays.model_copy(update={"weight": 1.0}),), "dropped": (lost,)}
    moves = {move.task: move for move in diff(whole, Suite.model_validate({**dict(whole), **fields})).moves}
    assert moves["beta"].because == "benchmarks scored 2 -> 1"
    assert moves["alpha"].what == "removed" and moves["alpha"].because == "over the budget"


def test_what_was_not_measured_says_why() -> None:
    none = dict.fromkeys(("share", "low", "high", "all_tasks", "random"))
    suite = Suite.model_validate({
        **dict(example()),
        "quality": QualityLine(measure="x", choices=(), against_all=None, above=None, random_mean_high=None,
                               splits=0, groups=0, note="two runs"),
        "decisions": DecisionLine(**none, pairs=0, recipes=0, refused=0, claim=False, note="no recipes"),
        "stability": StabilityLine(families=0, changed=None, worst=None, worst_changed=None, unstable=None,
                                   places=None, note="one family"),
    })  # fmt: skip
    assert findings(suite) == [
        "quality: not measured: two runs", "decision accuracy: not measured: no recipes",
        "stability: no family can be left out: one family",
    ]  # fmt: skip
