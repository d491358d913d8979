"""The plumbing: items follow from (name, seed, number) alone, and a small space ends in a clear error."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.skills.generator import Question, Skill, pick, source, square
from scaling.errors import UsageError


def toss(rng: random.Random) -> Question:
    """One of twelve questions."""
    number = rng.randrange(12)
    right, wrong = ("odd", "even") if number % 2 else ("even", "odd")
    return Question(f"{number} is", right, (wrong,))


SMALL = Skill("skill_small", "math", "odd or even", toss, choices=2, prefix_shots=2, n_items=5)


def test_facts_by_hand():
    assert (SMALL.kind, SMALL.chance) == ("mc", 0.5)
    free = Skill("skill_free", "math", "", toss, choices=0)
    assert (free.kind, free.chance) == ("free", 0.0)
    with pytest.raises(FrozenInstanceError):
        SMALL.name = "other"


def test_the_prefix_is_its_examples_as_text():
    one, other = SMALL.examples
    assert SMALL.prefix == f"{one.context} {one.answer}\n{other.context} {other.answer}\n"
    assert one.answer != other.answer


def test_a_small_space_is_used_up_and_then_refused():
    """Oracle: twelve questions less the two of the prefix."""
    items = SMALL.items(0, 10).items
    assert len({item.context for item in items}) == 10
    assert not {item.context for item in items} & {one.context for one in SMALL.examples}
    with pytest.raises(UsageError, match=r"skill_small: n_items: got 11, but seed 0 gave 10 .* ask for 10"):
        SMALL.items(0, 11)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "9"])
def test_impossible_counts_are_refused(count):
    with pytest.raises(UsageError, match=r"n_items: got .* valid is a whole number of 1 or more"):
        SMALL.items(0, count)


@pytest.mark.parametrize("seed", [-1, 0.5, None, False])
def test_seeds_of_training_text_are_refused(seed):
    with pytest.raises(UsageError, match=r"seed: got .* valid is a whole number of 0 or more"):
        SMALL.items(seed)


@given(seed=st.integers(0, 2**70), fewer=st.integers(1, 10))
def test_fewer_items_are_the_first_of_more(seed, fewer):
    assert SMALL.items(seed, 10).items[:fewer] == SMALL.items(seed, fewer).items


def test_a_draw_leaves_no_trace_in_the_next_or_in_the_chance_of_others():
    random.seed(5)
    before = random.getstate()
    first = SMALL.items(3)
    assert random.getstate() == before
    assert SMALL.items(3) == first


def test_the_source_is_pinned():
    """Oracle: the formula, a SHA-256 of name, seed and number as the seed of Python's generator."""
    expected = random.Random(int(hashlib.sha256(b"skill_copy:0:7").hexdigest(), 16)).random()
    assert source("skill_copy", 0, 7).random() == expected
    assert len({source("a", seed, n).random() for seed in (0, 1, "prefix") for n in range(20)}) == 60


def test_an_item_by_hand():
    tasks = SMALL.items(4, 2)
    item = tasks.items[1]
    assert item.id == "skill_small/0001" and item.family == "math" and item.source == "generated, seed 4"
    assert item.choices[item.gold] == item.answer
    assert tasks.to_frame()["id"].tolist() == ["skill_small/0000", "skill_small/0001"]
    assert "skill_small/0001" in tasks._repr_html_()


def test_the_digest_sees_prefix_and_items():
    other = Skill("skill_small", "math", "odd or even", toss, choices=2, prefix_shots=1, n_items=5)
    digests = {SMALL.items(0).digest, SMALL.items(1).digest, SMALL.items(0, 4).digest, other.items(0).digest}
    assert len(digests) == 4


@given(
    seed=st.integers(0, 10**6), low=st.integers(0, 300), steps=st.sampled_from([(1, 2), (1, 10), (10, 100)])
)
def test_a_square_is_two_steps_wide_within_its_bounds_and_of_one_length(seed, low, steps):
    small, large = steps
    four = square(random.Random(seed), low, low + 400, small, large)
    assert [one - four[0] for one in four] == [0, small, large, small + large]
    assert low <= four[0] and four[3] <= low + 400
    assert len({len(str(one)) for one in four}) == 1


def test_each_option_is_picked_as_often():
    """Oracle: a chi-square of three degrees of freedom stays under its 0.9999 quantile, 21.1."""
    rng = random.Random(0)
    found = Counter(pick(rng, "abcd")[0] for _ in range(4000))
    assert sum((found[one] - 1000) ** 2 / 1000 for one in "abcd") < 21.1
    answer, wrong = pick(rng, "abcd")
    assert sorted((answer, *wrong)) == list("abcd")
