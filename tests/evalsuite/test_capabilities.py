"""Series by capability: scales, links over thinned and missing tasks, windows that share nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.answers import Answers, change
from evalsuite.capabilities import Capability, capabilities, disjoint
from evalsuite.likelihoods import Likelihoods
from scaling.series import Key

Item = dict[str, float]


def rows(steps, tasks, **more) -> pd.DataFrame:
    """Rows of `Evaluations.series`; tasks: name -> (metric, weight, capability, score by step or None)."""
    made = []
    for step in steps:
        for name, (metric, weight, capability, score) in tasks.items():
            if (value := score(step)) is None:
                continue
            made.append(
                {
                    "step": step, "tokens": np.nan, "flops": 1e15 * step, "suite": "s", "cluster": 1,
                    "capability": capability, "task": name, "metric": metric, "shots": 0, "weight": weight,
                    "score": value, "stderr": 0.01, "n_items": 100, "first": step, "last": step,
                    "averaged": True,
                }
                | more
            )  # fmt: skip
    return pd.DataFrame(made).astype({"shots": "Int64"})


def source_of(items: dict[tuple[int, str], Item], bits: bool = False, chance: float = 0.0):
    """Answers by (step, task): value by name of the item."""

    def source(step: int, suite: str, key: Key) -> Answers | None:
        if (step, key.task) not in items:
            return None
        asked = sorted(items[step, key.task])
        values = np.array([items[step, key.task][name] for name in asked])
        return Answers(bits, np.array(asked), values, np.full(len(asked), chance), n_items=len(asked))

    return source


def only(found: list[Capability]) -> Capability:
    assert len(found) == 1
    return found[0]


def test_scales_are_those_of_the_headline():
    """Oracle: ln(8 / bpb) and (s - c) / (1 - c), by hand."""
    ll = [[-1.0, -2.0], [-3.0, -2.0], [-1.0, -4.0]]
    one = Likelihoods.of("t", 0, ["a", "b", "c"], [0, 0, 1], ll, np.full((3, 2), 2))
    bits = np.array([1.0, 3.0, 4.0]) / (2 * np.log(2))
    made, right = Answers.of(one, "bpb"), Answers.of(one, "acc")
    assert made is not None
    assert made.value == pytest.approx(np.log(8 / bits.mean()))
    assert right is not None
    assert right.value == pytest.approx((1 / 3 - 0.5) / 0.5)
    assert Answers.of(one, "margin") is None  # no scale
    loss = Answers.of(one, "gold_ce_loss")
    assert loss is not None
    assert loss.value == pytest.approx(np.log(8 / bits.mean()))  # by its bits over bytes


def test_a_change_is_of_the_items_of_both():
    """Oracle: paired differences by hand."""
    ids = np.array(["a", "b", "c", "d"])
    x = Answers(False, ids, np.array([0.0, 1.0, 0.0, 1.0]), np.full(4, 0.5))
    y = Answers(False, np.append(ids[1:], "e"), np.array([1.0, 1.0, 1.0, 0.0]), np.full(4, 0.5))
    made = change(x, y)
    assert made is not None
    assert (made.gain, made.items) == (pytest.approx(2 * 1 / 3), 3)
    each = np.array([0.0, 2.0, 0.0])
    assert made.variance == pytest.approx((((each - each.mean()) ** 2).sum() + 4) / 9)
    p, q = Answers(True, ids, np.array([1.0, 2.0, 3.0, 2.0]), np.zeros(4)), np.array([1.0, 1.0, 2.0, 2.0])
    bits = change(p, Answers(True, ids, q, np.zeros(4)))
    assert bits is not None
    assert bits.gain == pytest.approx(np.log(8 / q.mean()) - np.log(8 / 2.0))
    assert bits.variance == pytest.approx((p.values / 2 - q / q.mean()).var() / 4)
    assert change(x, Answers(False, np.array(["z"]), np.ones(1), np.zeros(1))) is None


def test_a_weighted_mean_over_the_tasks_of_a_capability():
    tasks = {
        "a": ("acc", 0.3, "maths", lambda step: 0.2 + step / 100),
        "b": ("acc", 0.1, "maths", lambda step: 0.6),
        "c": ("bpb", 0.6, None, lambda step: 2.0),
    }
    found = capabilities(rows([10, 20], tasks))
    assert [(one.name, one.kind) for one in found] == [("cluster 1", "bits"), ("maths", "proportions")]
    np.testing.assert_allclose(found[1].level, [0.75 * 0.3 + 0.25 * 0.6, 0.75 * 0.4 + 0.25 * 0.6])
    np.testing.assert_allclose(found[0].level, np.log(4.0))
    np.testing.assert_allclose(found[1].compute, [1e16, 2e16])


def test_fewer_items_are_no_jump_and_the_next_full_evaluation_stands_on_a_full_one():
    rng = np.random.default_rng(0)
    hard = {f"i{k:02d}": float(rng.uniform()) for k in range(40)}
    easy = dict(sorted(hard.items(), key=lambda one: -one[1])[:10])  # the thinned ones score higher
    gains = {10: 0.0, 20: 0.01, 30: 0.02, 40: 0.03}
    items = {
        (step, "a"): {name: value + gain for name, value in (easy if step == 30 else hard).items()}
        for step, gain in gains.items()
    }
    series = rows(gains, {"a": ("p_correct", 1.0, "x", lambda step: 0.5)})
    made = only(capabilities(series, source_of(items)))
    np.testing.assert_allclose(made.level - made.level[0], [0.0, 0.01, 0.02, 0.03], atol=1e-12)
    np.testing.assert_allclose(made.variance, [1.0, 1.0, 4.0, 1.0])
    assert made.raw[2] > made.raw[3]  # as it was asked


@pytest.mark.parametrize("with_items", [True, False])
def test_a_missing_task_is_no_jump(with_items):
    score = {"a": 0.9, "b": 0.3}
    items = {
        (step, name): {f"i{k}": value + step / 1000 for k in range(5)}
        for step in (10, 20, 30)
        for name, value in score.items()
        if (step, name) != (20, "a")
    }
    tasks = {
        name: ("p_correct", 0.5, "x", lambda step, name=name: items.get((step, name), {}).get("i0"))
        for name in score
    }
    made = only(capabilities(rows([10, 20, 30], tasks), source_of(items) if with_items else None))
    np.testing.assert_allclose(made.level, [0.61, 0.62, 0.63])
    assert made.raw[1] == pytest.approx(0.32)


def test_a_step_with_nothing_in_common_or_no_compute_is_left_out():
    tasks = {
        "a": ("acc", 0.5, "x", lambda step: 0.5 if step != 20 else None),
        "b": ("acc", 0.5, "x", lambda step: 0.1 if step == 20 else None),
        "odd": ("margin", 0.5, "y", lambda step: 1.0),
    }
    made = only(capabilities(rows([0, 10, 20, 30], tasks)))  # nothing on a scale: no series for y
    assert made.step.tolist() == [10, 30]
    assert capabilities(rows([10], tasks).iloc[:0]) == []


def test_compute_is_tokens_or_steps_where_flops_are_not_known():
    tasks = {"a": ("acc", 0.5, "x", lambda step: 0.5)}
    assert only(capabilities(rows([10], tasks, flops=np.nan, tokens=7.0))).compute.tolist() == [7.0]
    assert only(capabilities(rows([10], tasks, flops=np.nan))).compute.tolist() == [10.0]


def test_the_items_say_how_much_noise_there_is_at_least():
    items = {(step, "a"): {f"i{k}": float((k + step // 10) % 2) for k in range(8)} for step in (10, 20, 30)}
    made = only(capabilities(rows([10, 20, 30], {"a": ("acc", 1.0, "x", lambda s: 0.5)}), source_of(items)))
    assert made.floor[0] == 0.0
    assert made.floor[1] == pytest.approx(np.sqrt((8 + 1) / 64 / 2))  # each answer changed: d is 1 or -1


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 30)), max_size=12))
def test_chosen_windows_share_no_snapshot_and_none_that_fits_is_passed_over(parts):
    last = np.cumsum([step for step, _ in parts]).astype(int)
    first = [max(0, int(end) - width) for end, (_, width) in zip(last, parts, strict=True)]
    chosen = disjoint(first, [int(end) for end in last])
    newest = -1
    for a, b, used in zip(first, last, chosen, strict=True):
        assert used == (a > newest)
        newest = b if used else newest


def test_the_series_marks_the_evaluations_that_are_alone():
    series = rows(range(10, 60, 10), {"a": ("acc", 1.0, "x", lambda step: 0.5)})
    series["first"] = series["step"] - 15
    made = only(capabilities(series))
    assert made.alone.tolist() == disjoint(made.step - 15, made.step).tolist() == [True, False] * 2 + [True]
