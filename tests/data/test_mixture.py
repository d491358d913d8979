"""Mixtures. Oracle: weights read off by hand, step by step, with exact fractions."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.mixture import Mixture, Phases


def weights_at(phases: Phases, step: int) -> dict[str, float]:
    return dict(zip(phases.domains, phases.weights[phases.phase(step)], strict=True))


def test_the_example_of_the_design():
    phases = Mixture.parse({"code": "0.3 until 40%, then 0", "prose": 0.7}).resolve(1000)
    assert (phases.domains, phases.starts, phases.steps) == (("code", "prose"), (0, 400), 1000)
    assert weights_at(phases, 399) == {"code": 0.3, "prose": 0.7}
    assert weights_at(phases, 400) == weights_at(phases, 10**9) == {"code": 0.0, "prose": 1.0}


percents = st.lists(st.integers(1, 1000), max_size=3, unique=True).map(sorted)
domain = st.tuples(percents, st.lists(st.integers(1, 9), min_size=4, max_size=4))


@given(told=st.dictionaries(st.sampled_from("abcd"), domain, min_size=1), steps=st.integers(1, 300))
def test_every_step_has_the_weights_of_its_share_of_the_run(told, steps):
    """Oracle: step / steps against each change point, in fractions."""
    texts = {
        name: ", then ".join(
            [f"{w} until {tenth / 10}%" for w, tenth in zip(ws, tenths, strict=False)]
            + [str(ws[len(tenths)])]
        )
        for name, (tenths, ws) in told.items()
    }
    phases = Mixture.parse(texts).resolve(steps)
    for step in range(steps):
        share = Fraction(step, steps)
        raw = {
            name: ws[sum(Fraction(tenth, 1000) <= share for tenth in tenths)]
            for name, (tenths, ws) in told.items()
        }
        expected = {name: weight / sum(raw.values()) for name, weight in raw.items()}
        assert weights_at(phases, step) == pytest.approx(expected, abs=1e-15)
    assert list(phases.starts) == sorted(set(phases.starts)) and phases.starts[-1] < steps


def test_changes_at_steps_and_several_of_them():
    told = {"a": "1 until step 10, then 3 until step 20, then 0", "b": "1 until 50%, then 2", "c": 1}
    phases = Mixture.parse(told).resolve(100)
    assert phases.starts == (0, 10, 20, 50)
    assert weights_at(phases, 9) == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert weights_at(phases, 10) == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    assert weights_at(phases, 99) == pytest.approx({"a": 0, "b": 2 / 3, "c": 1 / 3})
    # A shorter run does not come so far.
    assert Mixture.parse(told).resolve(15).starts == (0, 8, 10)


def test_the_order_and_the_scale_of_what_is_given_do_not_matter():
    one = Mixture.parse({"b": "3 until 10%, then 1", "a": 7}).resolve(50)
    other = Mixture.parse({"a": 0.7, "b": "0.3 until 10 %,  then .1"}).resolve(50)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-15)
    assert (one.domains, one.starts) == (other.domains, other.starts)


@given(
    weights=st.lists(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), min_size=1, max_size=4).filter(
        lambda rows: all(sum(row) > 0 for row in rows)
    )
)
def test_json_and_back_is_the_same_to_the_last_bit(weights):
    starts = tuple(range(0, 7 * len(weights), 7))
    phases = Phases(("a", "b", "c"), starts, tuple(map(tuple, weights)), 100)
    np.testing.assert_allclose(np.sum(phases.weights, axis=1), 1, rtol=1e-12)
    assert Phases.from_json(json.loads(json.dumps(phases.to_json()))) == phases


def test_a_mixture_is_written_as_it_is_read():
    told = {
        "a": "0.3 until 40%, then 0.1 until 62.5%, then 0.0",
        "b": 0.7,
        "c": "1.0 until step 1000, then 2.0",
    }
    mixture = Mixture.parse(told)
    assert mixture.to_json() == told
    assert Mixture.parse(mixture.to_json()) == mixture


def test_phases_as_a_table():
    frame = Mixture.parse({"code": "0.3 until 40%, then 0", "prose": 0.7}).resolve(1000).to_frame()
    assert frame.index.tolist() == ["steps 0..399", "steps 400..999"]
    assert frame["prose"].tolist() == [0.7, 1.0]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "much", "0.3 until", "0.3 until 40%", "0.3, then 0", "0.3 until 40, then 0",
        "until 40%, then 0", "0.3 until 40% then 0", "0.3 until x%, then 0", "0.3 until 40%, then",
        "0.3 until 40%, then 0 until 50%",
        "0.3 until -4%, then 0", "0.3 until nan%, then 0", "0.3 until 1/2%, then 0", "0.3 0.4", "40%",
    ],
)  # fmt: skip
def test_text_of_another_form(text):
    with pytest.raises(DataError, match=r"domain 'code': cannot read .*valid is .*0\.3 until 40%"):
        Mixture.parse({"code": text, "prose": 1})


@pytest.mark.parametrize(
    "weight", [-0.1, float("nan"), float("inf"), "-1", "nan", "inf until 40%, then 0", None, True, [1]]
)
def test_weights_that_are_none(weight):
    with pytest.raises(DataError, match=r"domain 'code': got weight .*valid is a number from 0"):
        Mixture.parse({"code": weight, "prose": 1})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 until 101%, then 0", r"got 101% .*valid is above 0% and up to 100%"),
        ("1 until 0%, then 0", r"got 0% "),
        ("1 until 50%, then 2 until 50%, then 0", "have to ascend, got 50% before 50%"),
        ("1 until 50%, then 2 until 40%, then 0", "have to ascend, got 50% before 40%"),
        ("1 until step 9, then 2 until step 8, then 0", "have to ascend, got step 9 before step 8"),
        ("1 until step 0, then 2", "got step '0'"),
        ("1 until step 1.5, then 2", "got step '1.5'"),
        ("1 until step ten, then 2", "got step 'ten'"),
    ],
)
def test_change_points_that_are_none(text, told):
    with pytest.raises(DataError, match=told):
        Mixture.parse({"code": text, "prose": 1})


def test_percent_and_steps_that_cross():
    mixture = Mixture.parse({"code": "1 until 50%, then 2 until step 60, then 0", "prose": 1})
    assert mixture.resolve(100).starts == (0, 50, 60)
    with pytest.raises(
        DataError, match=r"'code': change points have to ascend; in 1000 steps 50% is step 500"
    ):
        mixture.resolve(1000)


def test_all_weights_zero_in_a_phase():
    mixture = Mixture.parse({"code": "1 until 40%, then 0", "prose": "0 until 60%, then 1"})
    with pytest.raises(DataError, match=r"steps 40\.\.59: the weights of all domains add up to 0"):
        mixture.resolve(100)


@pytest.mark.parametrize("told", [{}, [], "code", {"": 1}, {3: 1}, None])
def test_no_mixture(told):
    with pytest.raises(DataError, match="mixture: got"):
        Mixture.parse(told)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_no_steps(steps):
    with pytest.raises(DataError, match="steps: got"):
        Mixture.parse({"a": 1}).resolve(steps)


def test_an_unknown_domain():
    phases = Mixture.parse({"cod": 1, "prose": 0}).resolve(10)
    with pytest.raises(
        DataError, match=r"unknown domain 'cod'; the data has 'code', 'prose'; did you mean 'code'\?"
    ):
        phases.check(["prose", "code"])
    with pytest.raises(DataError, match="unknown domain 'cod'; the data has none; name one of these"):
        phases.check([])
    phases.check(["prose", "cod", "maths"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"starts": [0, 0]}, "ascending ones from 0"),
        ({"starts": [1, 5]}, "ascending ones from 0"),
        ({"starts": [0]}, "one a phase"),
        ({"domains": ["b", "a"]}, "sorted names"),
        ({"weights": [[1], [1, 2]]}, "each with a weight"),
        ({"weights": [[1, -1], [1, 2]]}, "got weight -1"),
        ({"weights": 3}, "valid is what `Phases.to_json` gives"),
        ({"steps": "x"}, "valid is what `Phases.to_json` gives"),
    ],
)
def test_phases_that_are_none(change, told):
    good = {"domains": ["a", "b"], "starts": [0, 5], "weights": [[0.5, 0.5], [1.0, 0.0]], "steps": 10}
    assert Phases.from_json(good).to_json() == good
    with pytest.raises(DataError, match=told):
        Phases.from_json(good | change)


def test_changes_in_steps_are_the_same_run():
    """Oracle: the phases of what was told in percent; of changes that fall on one step the last holds."""
    told = {
        "code": "0.3 until 1%, then 0.2 until 2%, then 0.1",
        "prose": "0.5 until 40%, then 1",
        "maths": 0.2,
    }
    mixture = Mixture.parse(told)
    for steps in (3, 61, 1000):
        fixed = mixture.in_steps(steps)
        assert fixed.resolve(steps) == mixture.resolve(steps)
        assert "%" not in str(fixed.to_json()) and Mixture.parse(fixed.to_json()) == fixed
