"""The figure of a suite. Oracles: by hand, closed forms, and a simulation of the interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.comparison import paired
from evalsuite.headline import headline, headline_difference
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import per_item, summarise, take
from evalsuite.suite import Suite
from scaling.errors import StagewiseError, UsageError
from scaling.series import Key
from tests.evalsuite.test_measures import gold_only, made
from tests.evalsuite.test_suite import example

Results = dict[Key, Likelihoods]


def suite_of(
    *tasks: tuple[str, str, float], items: int | None = None, ids: tuple[str, ...] | None = None
) -> Suite:
    """A suite of (task, metric, weight)."""
    first = example().tasks[0]
    entries = [
        first.model_copy(
            update={"task": task, "metric": metric, "weight": w, "items": items, "item_ids": ids}
        )
        for task, metric, w in tasks
    ]
    return Suite.model_validate({**dict(example()), "tasks": tuple(entries)})


MIXED = (("a", "acc", 0.5), ("b", "p_correct", 0.2), ("c", "bpb", 0.2), ("d", "bpb_bytes", 0.1))


def results(suite: Suite, seed: int = 0, n: int = 80) -> Results:
    return {task.key: replace(made(seed + i, n), task=task.task) for i, task in enumerate(suite.tasks)}


def other(of: Results, seed: int = 50, scale: float = 1.0) -> Results:
    rng = np.random.default_rng(seed)
    return {key: replace(one, ll=one.ll + rng.normal(0, scale, one.ll.shape)) for key, one in of.items()}


def test_by_hand():
    """Oracle: the formulas of the docstring, from the summaries of the tasks."""
    suite = suite_of(*MIXED)
    of = results(suite)
    found = headline(suite, of)
    one = {key.task: summarise(of[key]) for key in of}
    c = {key.task: np.mean(1 / of[key].n_choices) for key in of}
    a, b = one["a"]["acc"], one["b"]["p_correct"]
    scale_a, scale_b = 1 - c["a"], 1 - c["b"]
    centred = [(a.score - c["a"]) / scale_a, (b.score - c["b"]) / scale_b]
    spread = [a.stderr / scale_a, b.stderr / scale_b]
    bits, error = zip(
        *[(one[t][m].score, one[t][m].stderr) for t, m in (("c", "bpb"), ("d", "bpb_bytes"))], strict=True
    )
    logs = np.log(8 / np.array(bits))
    value = 0.5 * centred[0] + 0.2 * centred[1] + 0.2 * logs[0] + 0.1 * logs[1]
    terms = 0.5 * spread[0], 0.2 * spread[1], 0.2 * error[0] / bits[0], 0.1 * error[1] / bits[1]
    stderr = np.sqrt(np.sum(np.square(terms)))
    assert (found.score.value, found.score.stderr) == pytest.approx((value, stderr))
    assert (found.score.low, found.score.high) == pytest.approx(
        (value - 1.959964 * stderr, value + 1.959964 * stderr)
    )
    assert found.proportions is not None and found.bits is not None
    assert found.proportions.value == pytest.approx((5 * centred[0] + 2 * centred[1]) / 7)
    assert found.proportions.stderr == pytest.approx(np.hypot(5 * spread[0], 2 * spread[1]) / 7)
    assert found.bits.value == pytest.approx((2 * bits[0] + bits[1]) / 3)
    assert found.bits.stderr == pytest.approx(np.hypot(2 * error[0], error[1]) / 3)
    assert found.bits.low < found.bits.value < found.bits.high
    assert (found.proportions.weight, found.bits.weight) == pytest.approx((0.7, 0.3))
    assert found.tasks["value"].tolist()[:2] == pytest.approx(centred)
    assert found.tasks["scale"].tolist() == ["(s - c) / (1 - c)"] * 2 + ["ln(8 / bpb)"] * 2


def test_the_parts_make_the_whole():
    found = headline(suite_of(*MIXED), results(suite_of(*MIXED)))
    assert found.proportions is not None and found.bits is not None
    logs = found.tasks.query("scale == 'ln(8 / bpb)'")
    whole = 0.7 * found.proportions.value + logs["weight"] @ logs["value"]
    assert found.score.value == pytest.approx(whole)
    frame = found.to_frame()
    assert frame["name"].tolist() == ["score", "proportions", "bits"] and frame["tasks"].tolist() == [4, 2, 2]
    assert "proportions" in found._repr_html_()


def test_a_suite_of_one_kind_has_no_other_part():
    suite = suite_of(("a", "acc", 0.5), ("b", "acc_norm", 0.5))
    found = headline(suite, results(suite))
    assert found.bits is None and found.proportions is not None
    assert found.to_frame()["name"].tolist() == ["score", "proportions"]
    assert found.score.value == found.proportions.value
    suite = suite_of(("a", "gold_ce_loss", 1.0))
    found = headline(suite, results(suite))
    # Oracle: log of the nats of all answers over those of a model that is uniform over bytes.
    of = next(iter(results(suite).values()))
    nats = -of.gold_of(of.ll).sum() / (8 * np.log(2) * of.gold_of(of.bytes).sum())
    assert found.proportions is None and found.score.value == pytest.approx(-np.log(nats))


def test_a_guesser_has_0_and_a_perfect_model_1():
    suite = suite_of(*MIXED)
    perfect, uniform = {}, {}
    for key, one in results(suite).items():
        right = np.arange(one.ll.shape[1]) == one.gold[:, None]
        perfect[key] = replace(one, ll=np.where(right, -0.0, one.ll - 1e3))
        uniform[key] = replace(one, ll=np.where(np.isnan(one.ll), np.nan, -one.bytes * np.log(256.0)))
    best = headline(suite, perfect)
    assert best.proportions is not None and best.proportions.value == pytest.approx(1)
    assert best.bits is not None and best.bits.value == 0 and np.isfinite(best.score.value)
    # Oracle: bits of a model that knows nothing; its p_correct and acc favour short answers, not right ones.
    found = headline(suite, uniform)
    assert found.bits is not None and found.bits.value == pytest.approx(8)
    assert found.tasks["value"].tolist()[2:] == pytest.approx([0, 0], abs=1e-9)
    rng = np.random.default_rng(0)
    blind = {key: replace(one, ll=rng.normal(-9, 1, one.ll.shape) + 0 * one.ll)
             for key, one in results(suite, n=4000).items()}  # fmt: skip
    guess = headline(suite, blind).proportions
    assert guess is not None and abs(guess.value) < 4 * guess.stderr


def test_the_interval_covers():
    """Oracle: 400 draws of the items of three tasks from a large pool whose headline is known; 95% of them,
    within 2.5 standard errors."""
    suite = suite_of(("a", "acc", 0.3), ("b", "p_correct", 0.3), ("c", "bpb_bytes", 0.4))
    pool = results(suite, n=20_000)
    truth = headline(suite, pool).score.value
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        drawn = {key: take(one, rng.integers(0, 20_000, 100)) for key, one in pool.items()}
        found = headline(suite, drawn).score
        hits += found.low <= truth <= found.high
    assert abs(hits / 400 - 0.95) < 2.5 * np.sqrt(0.95 * 0.05 / 400)


def test_the_difference_of_two_by_hand():
    """Oracle: the difference of the two headlines; errors of the tasks' paired differences, added up."""
    suite = suite_of(*MIXED)
    a = results(suite)
    b = other(a)
    found = headline_difference(suite, a, b)
    for name in ("score", "proportions", "bits"):
        two, one = getattr(headline(suite, b), name), getattr(headline(suite, a), name)
        assert getattr(found, name).value == pytest.approx(two.value - one.value), name
        assert getattr(found, name).stderr < np.hypot(two.stderr, one.stderr)
    keys = {key.task: key for key in a}
    errors = [paired(a[keys[t]], b[keys[t]], m).stderr for t, m, _ in MIXED]
    scale = [1 / (1 - np.mean(1 / a[keys[t]].n_choices)) for t in "ab"]
    terms = [w * s * e for (_, _, w), s, e in zip(MIXED[:2], scale, errors[:2], strict=True)]
    assert found.proportions is not None
    assert found.proportions.stderr * 0.7 == pytest.approx(np.sqrt(np.sum(np.square(terms))))
    back = headline_difference(suite, b, a)
    assert back.score.value == pytest.approx(-found.score.value) and back.score.p == pytest.approx(
        found.score.p
    )


def test_the_difference_of_a_model_and_itself():
    suite = suite_of(*MIXED)
    of = results(suite)
    mixed = {key: take(one, np.random.default_rng(0).permutation(one.n_items)) for key, one in of.items()}
    found = headline_difference(suite, of, mixed)
    assert (found.score.value, found.score.stderr, found.score.p) == (0, 0, 1)


@given(st.integers(0, 10**6))
def test_what_is_better_everywhere_is_better(seed):
    suite = suite_of(*MIXED)
    a = results(suite, seed, 15)
    b = {}
    for key, one in a.items():
        right = np.arange(one.ll.shape[1]) == one.gold[:, None]
        b[key] = replace(one, ll=np.where(right, one.ll / 2, one.ll))
    found = headline_difference(suite, a, b)
    assert found.score.value > 0 and found.bits is not None and found.bits.value < 0


def test_weights_that_nearly_sum_to_1_are_made_to():
    suite = suite_of(("a", "acc", 0.5), ("b", "acc", 0.5004))
    perfect = {key: replace(one, ll=np.where(np.arange(5) == one.gold[:, None], -0.0, one.ll))
               for key, one in results(suite).items()}  # fmt: skip
    assert headline(suite, perfect).score.value == pytest.approx(1)


# --- partial results -----------------------------------------------------------------------------


def test_a_partial_suite_has_no_headline():
    suite = suite_of(*MIXED, items=80)
    of = results(suite)
    a, b, c, d = of
    del of[a]
    of[b] = take(of[b], slice(0, 79))
    of[d] = take(of[d], slice(0, 10))
    with pytest.raises(StagewiseError) as caught:
        headline(suite, of)
    assert str(caught.value) == (
        "no headline: 3 of the suite's 4 tasks are not complete\n"
        "  a (acc, 0-shot): no results\n"
        "  b (p_correct, 0-shot): 79 of 80 items\n"
        "  d (bpb_bytes, 0-shot): 10 of 80 items\n"
        "run the suite on this model again; what is scored already is kept"
    )
    with pytest.raises(StagewiseError, match="3 of the suite's 4"):
        headline_difference(suite, results(suite), of)
    assert c in of


def test_results_of_another_number_of_shots_are_none():
    suite = suite_of(("a", "acc", 1.0))
    moved = {Key("a", "acc", 5): made(0)}
    with pytest.raises(StagewiseError, match=r"a \(acc, 0-shot\): no results"):
        headline(suite, moved)


def test_a_metric_that_was_not_scored_is_missing():
    suite = suite_of(("a", "acc", 0.5), ("c", "bpb", 0.5))
    of = {key: gold_only(one) for key, one in results(suite).items()}
    with pytest.raises(StagewiseError, match=r"1 of the suite's 2(.|\n)*a .*: acc defined on 0 of 80 items"):
        headline(suite, of)


def test_the_items_that_the_suite_names():
    ids = tuple(f"i{i}" for i in range(5, 25))
    suite = suite_of(("a", "acc", 1.0), ids=ids, items=20)
    of = results(suite)
    found = headline(suite, of)
    assert found.tasks["n_items"].tolist() == [20]
    part = take(next(iter(of.values())), slice(5, 25))
    assert found.score.value == pytest.approx(per_item(part, "acc_centred").mean())
    short = {key: take(one, slice(0, 23)) for key, one in of.items()}
    with pytest.raises(StagewiseError, match="without 2 of the 20 items it names: 'i23', 'i24'"):
        headline(suite, short)


def test_items_named_by_number_are_counted():
    suite = suite_of(("a", "acc", 1.0), ids=("0", "7", "9"), items=3)
    assert headline(suite, results(suite, n=3)).tasks["n_items"].tolist() == [3]
    with pytest.raises(StagewiseError, match="2 of 3 items"):
        headline(suite, results(suite, n=2))


def test_more_items_than_asked_for_all_count():
    suite = suite_of(("a", "acc", 1.0), items=50)
    assert headline(suite, results(suite)).tasks["n_items"].tolist() == [80]


def test_held_out_tasks_are_no_part():
    suite = example()
    assert [task.task for task in suite.held_out] == ["gamma"]
    of = {task.key: made(i, 100) for i, task in enumerate(suite.tasks)}
    assert "gamma" not in headline(suite, of).tasks["task"].tolist()


def test_metrics_without_a_scale_are_refused():
    suite = suite_of(("a", "brier", 0.5), ("b", "f1", 0.5))
    with pytest.raises(
        UsageError, match=r"metric brier, f1: not on the scale of a headline.* valid are acc, acc_norm"
    ):
        headline(suite, {})


def test_items_that_are_not_the_same_have_no_difference():
    suite = suite_of(("a", "acc", 1.0))
    a = results(suite)
    b = {key: replace(one, ids=np.array([f"j{i}" for i in range(80)])) for key, one in a.items()}
    with pytest.raises(StagewiseError, match="a: not the same: 0 in common"):
        headline_difference(suite, a, b)
