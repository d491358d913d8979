"""Costs and budgets of a selection. Oracles: the cost table, and the selection that went in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import economy
from evalsuite.candidates import candidates_of
from evalsuite.cost import cost_of
from evalsuite.economy import Budget, economise
from evalsuite.quality import assess
from evalsuite.select import Selection, select
from evalsuite.settings import Override, Settings
from evalsuite.thinning import FEWEST, STRENGTHS
from scaling.classes import classify
from scaling.errors import StagewiseError, UsageError
from scaling.item_sizes import ItemSize
from scaling.item_subsets import choose_items
from scaling.items import ItemScores
from scaling.scores import ScoreTable
from scaling.stage import Stage
from scaling.tasks import benchmark_of, task_info
from tests.evalsuite.world import recipe_scores, scores
from tests.scaling.test_item_windows import planted

STAGE = Stage(1e19, 1e21)
# Two subjects of one benchmark, by scaling/facts/tasks.csv, and four benchmarks of their own.
TASKS = {
    "mmlu_anatomy": (20.0, 0.6), "mmlu_astronomy": (20.1, 0.6), "beta": (19.9, 0.5), "gamma": (19.8, 0.5),
    "delta": (20.2, 0.6), "epsilon": (20.0, 0.5),
}  # fmt: skip
SIZES = {
    task: ItemSize(context=400.0 * (i + 1), answer=40, choices=4, items=1000, basis="measured")
    for i, task in enumerate(TASKS)
}


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch) -> None:
    """Quality takes most of the time and has tests of its own."""

    def refuse(*args, **options):
        raise StagewiseError("not asked for")

    monkeypatch.setattr(economy, "assess", refuse)


@pytest.fixture
def measured(monkeypatch) -> None:
    monkeypatch.setattr(economy, "assess", partial(assess, splits=2, draws=5, resamples=10))


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    frame = scores(tasks=TASKS)
    return ScoreTable.from_frame(frame[frame["metric"] == "acc"])


@pytest.fixture(scope="module")
def classified(table: ScoreTable):
    return classify(table, stage=STAGE, replicates=20)


def selected(table, classified, options: Settings | None = None, held_out: bool = False) -> Selection:
    candidates = candidates_of(table, classified, STAGE)
    return select(candidates, classified.curves, options or Settings(), held_out=held_out)


@pytest.fixture(scope="module")
def selection(table, classified) -> Selection:
    return selected(table, classified)


def of(selection: Selection, table: ScoreTable, budget: str | None, **options):
    options = {"objective": "decision-accuracy", "measured": SIZES} | options
    limit = None if budget is None else Budget.parse(budget)
    return economise(selection, table, STAGE, budget=limit, **options)


def kept(selection: Selection) -> dict:
    return {one.key.task: one for one in selection.decisions if one.verdict == "kept"}


@given(st.floats(0.01, 100.0), st.sampled_from(["", " "]))
def test_a_share_is_read_back(share: float, blank: str) -> None:
    """Property: whatever share is written is the share asked for, of any cost."""
    found = Budget.parse(f"{blank}{share!r}%{blank}")
    assert found.share == pytest.approx(share / 100) and found.of(5e6) == pytest.approx(share / 100 * 5e6)
    assert Budget.parse(str(found)).share == pytest.approx(found.share, rel=1e-5)


@given(st.floats(101.0, 1e29))
def test_tokens_are_read_back(tokens: float) -> None:
    found = Budget.parse(repr(tokens))
    assert found.share is None and found.of(1.0) == tokens
    assert Budget.parse(str(found)).tokens == pytest.approx(tokens, rel=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "0%",
        "-5%",
        "101%",
        "nan%",
        "inf%",
        "%",
        "",
        "much",
        "0",
        "0.5",
        "20",
        "-3",
        "nan",
        "inf",
        "1e31",
        "5e6%",
    ],
)
def test_what_is_no_budget_says_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"valid is a share of the full cost, as 20%, or tokens, as 5e6"):
        Budget.parse(text)


def test_costs_are_the_cost_tables_and_nothing_else_changes(selection, table) -> None:
    """Oracle: `cost_of`, task by task."""
    after, found = of(selection, table, None, objective="clusters")
    costs = {task: cost_of(one.key, task_info(task), 1000, SIZES) for task, one in kept(after).items()}
    assert found.full == found.cost == pytest.approx(sum(cost.tokens for cost in costs.values()))
    assert {task: one.cost for task, one in kept(after).items()} == costs
    assert found.basis == {"measured": len(TASKS), "facts": 0, "assumed": 0}
    assert found.quality is None and found.shrinkage is None and found.objective is None
    assert found.error == 0.0
    plain = [replace(one, asked=None, cost=None) for one in after.decisions]
    assert plain == list(selection.decisions) and after.criterion == selection.criterion
    unknown = of(selection, table, None, objective="clusters", measured=None)[1]
    assert unknown.basis["measured"] == 0 and sum(unknown.basis.values()) == len(TASKS)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("budget", ["100%", "50%", "250000"])
def test_a_budget_is_kept_and_what_it_drops_says_so(selection, table, budget: str, whole: bool) -> None:
    after, found = of(selection, table, budget, whole=whole)
    asked = Budget.parse(budget).of(found.full)
    assert found.cost <= asked * (1 + 1e-9)
    assert found.cost == pytest.approx(sum(one.cost.per_item * one.asked for one in kept(after).values()))
    before = kept(selection)
    lost = [one for one in after.decisions if one.verdict == "dropped" and one.key.task in before]
    assert len(lost) + len(kept(after)) == len(before)
    for one in lost:
        assert one.reason.startswith(f"over the budget of {Budget.parse(budget)}: adds least for its ")
        tokens = cost_of(one.key, task_info(one.key.task), 1000, SIZES).tokens
        assert f"{tokens:,} tokens" in one.reason and one.cluster is None and one.weight is None
    if whole:
        assert all(one.asked == 1000 for one in kept(after).values())
    if budget != "100%":
        assert found.shrinkage in STRENGTHS and found.cost < found.full
    assert [one.key for one in after.decisions] == [one.key for one in selection.decisions]


def test_weights_are_equal_for_benchmarks(selection, table) -> None:
    """Closed form: 1 / (benchmarks * parts scored)."""
    for budget in (None, "40%"):
        after, _ = of(selection, table, budget)
        found = kept(after)
        names = [benchmark_of(task) for task in found]
        assert sum(one.weight for one in found.values()) == pytest.approx(1.0)
        for task, one in found.items():
            parts = names.count(benchmark_of(task))
            assert one.weight == pytest.approx(1 / len(set(names)) / parts)
    assert benchmark_of("mmlu_anatomy") == benchmark_of("mmlu_astronomy")


def test_clusters_are_numbered_again_and_lose_their_held_out_task(selection, table) -> None:
    """Planted: six clusters of one task each, and a held-out task in the second; one task fits."""
    number = iter((3, 1, 2, 4, 5))
    aside = selection.decisions[-1]
    decisions = [replace(one, cluster=next(number)) for one in selection.decisions[:-1]]
    decisions.append(replace(aside, verdict="held-out", weight=None, cluster=2))
    after, _ = of(Selection(tuple(decisions), "made"), table, "8%", whole=True)
    (one,) = kept(after).values()
    assert one.cluster == 1 and one.weight == 1.0
    before = {item.key.task: item.cluster for item in decisions}
    last = after.decisions[-1]
    if before[one.key.task] == 2:
        assert last.verdict == "held-out" and last.cluster == 1
    else:
        assert last.verdict == "dropped" and last.cluster is None
        assert "held out of a cluster of which the budget of 8% leaves no task" in last.reason


def test_an_override_survives_any_budget(table, classified) -> None:
    """Planted: the dearest task must stay; it alone costs more than the budget."""
    keep = Override(task="epsilon", metric="acc", action="keep", reason="we said so")
    before = selected(table, classified, Settings(overrides=(keep,)))
    for budget in ("5%", "50%"):
        after, found = of(before, table, budget, forced={("epsilon", "acc")})
        assert kept(after)["epsilon"].asked == 1000
        if budget == "5%":
            assert list(kept(after)) == ["epsilon"] and found.cost > 0.05 * found.full
        else:
            assert len(kept(after)) > 1 and found.cost <= 0.5 * found.full


def test_a_budget_that_fits_nothing_says_what_would(selection, table) -> None:
    """Closed form: the cheapest item has 100 + 4 * 10 tokens; 50 items of it, or all 1,000."""
    assert FEWEST == 50
    with pytest.raises(StagewiseError, match=r"budget 6999: .*cheapest takes 7,000 \(at up to 50 items\)"):
        of(selection, table, "6999")
    with pytest.raises(StagewiseError, match=r"cheapest takes 140,000; give as much"):
        of(selection, table, "139999", whole=True)
    after, found = of(selection, table, "7000")
    assert found.cost == 7000 and list(kept(after)) == ["mmlu_anatomy"]
    assert found.error == pytest.approx(standard_error_of(kept(after)["mmlu_anatomy"], 50))


def standard_error_of(one, asked: int) -> float:
    """Closed form: a proportion's standard error over draws without replacement, chance-corrected."""
    level = float(one.candidate.curve.predict(1e20)[0])
    chance = task_info(one.key.task).chance or 0.0
    return np.sqrt(level * (1 - level) * (1 / asked - 1 / 1000)) / (1 - chance)


def test_a_standard_error_asks_no_more_than_it_needs(selection, table) -> None:
    after, found = of(selection, table, None, se=0.01)
    assert 0 < found.error <= 0.01
    assert found.cost < found.full and all(FEWEST <= one.asked <= 1000 for one in kept(after).values())
    assert of(selection, table, None, se=0.005)[1].cost > found.cost
    assert found.error > 0.0097  # and hardly more


def per_item(task: str, items: int, **options) -> ItemScores:
    """Losses of a benchmark whose items fall at middles over the stage."""
    return replace(planted(np.linspace(19, 21, items), noise=0.3, **options), task=task)


def test_per_item_results_name_the_items(selection, table) -> None:
    """Oracle: `choose_items` in the part of the stage that was measured, in order of the benchmark."""
    few = [replace(one, candidate=replace(one.candidate, items=160)) for one in selection.decisions]
    selection = replace(selection, decisions=tuple(few))
    asked = {task: one for task, one in kept(of(selection, table, "15%")[0]).items() if one.asked < 160}
    task = next(iter(asked))
    results = per_item(task, 160, seed=4)
    after, _ = of(selection, table, "15%", items=[per_item("nosuch", 7), results])
    one = kept(after)[task]
    low, high = max(1e19, results.flops.min()), min(1e21, results.flops.max())
    wanted = sorted(choose_items(results, low, high, one.asked).index)
    assert one.named == tuple(str(results.ids[i]) for i in wanted)
    assert len(one.named) == one.asked == asked[task].asked
    assert all(other.named is None for name, other in kept(after).items() if name != task)
    early = replace(results, flops=results.flops / 1e6)
    assert kept(of(selection, table, "15%", items=[early])[0])[task].named is None
    with pytest.raises(StagewiseError, match="results of 161 items, the scores are of 160"):
        of(selection, table, "15%", items=[per_item(task, 161)])


@pytest.mark.usefixtures("measured")
def test_quality_is_measured_where_it_can_be(selection, table) -> None:
    _, found = of(selection, table, "40%")
    assert found.quality is not None and found.unmeasured == "" and found.objective is not None
    assert found.objective.kind == "latent agreement" and found.quality.splits == 2
    three = Selection(selection.decisions[2:5], "three benchmarks")
    _, few = of(three, table, "60%")
    assert few.quality is None and "3 benchmark(s)" in few.unmeasured


@pytest.mark.usefixtures("measured")
def test_recipes_are_the_evidence_where_there_are_enough(selection, table) -> None:
    """Planted: ten recipes with runs in the stage and above it make 45 pairs."""
    frame, _ = recipe_scores(10, noise=dict.fromkeys(TASKS, 0.01))
    both = ScoreTable.from_frame(frame)
    _, found = of(selection, both, "40%")
    assert found.objective is not None and found.objective.kind == "decision accuracy"
    assert found.objective.pairs == 45
    assert found.quality is not None and found.quality.kind == "decision accuracy"


@pytest.mark.parametrize(("share", "whole"), [(12.5, False), (70.0, True)])
def test_the_same_call_gives_the_same_answer(selection, table, share: float, whole: bool) -> None:
    first = of(selection, table, f"{share}%", whole=whole)
    again = of(selection, table, f"{share}%", whole=whole)
    assert first[0] == again[0] and first[1].cost == again[1].cost <= share / 100 * first[1].full * (1 + 1e-6)


def test_redundant_tasks_go_first(table, classified) -> None:
    """Planted: tasks of one cluster rank alike, so the last of one stays while another has two."""
    before = selected(table, classified, Settings())
    clusters = {one.cluster for one in before.decisions if one.verdict == "kept"}
    after, _ = of(before, table, "60%")
    left = {one.key for one in after.decisions if one.verdict == "kept"}
    there = {one.cluster for one in before.decisions if one.verdict == "kept" and one.key in left}
    counts = [sum(one.cluster == c for one in before.decisions if one.key in left) for c in there]
    assert there == clusters or max(counts) == 1


def test_part_of_the_items_contradicts_whole_tasks(table, classified) -> None:
    """A standard error asks for part of the items."""
    with pytest.raises(UsageError, match="drop it or --whole"):
        of(selected(table, classified, Settings()), table, None, se=0.01, whole=True)
