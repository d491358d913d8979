"""Suites and lists of tasks as programmes. Oracle: the suite file; sets of item ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.programme import programmes, settled
from evalsuite.registry import Registry
from evalsuite.task_list import TaskList
from scaling.errors import StagewiseError, UsageError

REGISTRY = Registry()


def listed(**more) -> TaskList:
    return TaskList.of(["skill_copy", "skill_add_*"], REGISTRY, **more)


def test_a_list():
    (one,) = programmes(listed(items=50), REGISTRY)
    assert [(x.wanted.task, x.capability, x.wanted.items) for x in one.parts] == [
        ("skill_copy", "symbolic", 50), ("skill_add_1_digit", "math", 50), ("skill_add_2_digits", "math", 50),
        ("skill_add_3_digits", "math", 50),
    ]  # fmt: skip
    assert sum(x.weight for x in one.parts) == pytest.approx(1)
    assert one.told()["high"] is None


def test_what_cannot_be_watched():
    for wrong, words in [
        ([], "none given"), ([3], "got int"), ([listed(), listed()], "two are named"), ("no.yaml", "no.yaml"),
    ]:  # fmt: skip
        with pytest.raises((UsageError, StagewiseError), match=words):
            programmes(wrong, REGISTRY)
    with pytest.raises(UsageError, match="not among"):
        TaskList.of(["skill_nothing"], REGISTRY)
    with pytest.raises(UsageError, match="none named"):
        TaskList.of([], REGISTRY)


TASKS = {name: REGISTRY.task(name) for name in ("skill_copy", "skill_add_1_digit")}
LISTED = programmes(listed(), REGISTRY)


@given(share=st.sampled_from([1.0, 0.5, 0.25, 0.125, 0.01]), least=st.integers(1, 60))
def test_smaller_shares_are_parts_of_larger_ones(share, least):
    one = settled(LISTED[0], {"skill_copy": 400, "skill_add_1_digit": 250})
    asked = {}
    for size in (1.0, share):
        for wanted in one.wanted(size, least)[:2]:
            items = TASKS[wanted.task].take(wanted.items, wanted.item_ids).items
            asked[wanted.task, size] = {item.id for item in items}
    for task, size in (("skill_copy", 400), ("skill_add_1_digit", 250)):
        assert asked[task, share] <= asked[task, 1.0]
        assert len(asked[task, share]) == (size if share == 1 else min(size, max(least, round(share * size))))
    assert one.wanted(0.5)[2].items is None  # of unknown size: whole


def test_named_items_are_thinned_by_their_hash():
    (one,) = programmes(listed(), REGISTRY)
    ids = tuple(item.id for item in REGISTRY.task("skill_copy").items[:100])
    part = one.parts[0]
    object.__setattr__(part, "wanted", part.wanted.model_copy(update={"item_ids": ids}))
    half, quarter = (one.wanted(share, 1)[0].item_ids for share in (0.5, 0.25))
    assert half is not None and quarter is not None
    assert len(half) == 50 and set(quarter) < set(half) < set(ids)
    assert list(half) == [name for name in ids if name in set(half)]
