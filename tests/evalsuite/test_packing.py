"""Packing: what every scored place sees is rebuilt from the plan alone and held against the requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.packing import _LOGITS, _MASK, MIN_PREFIX, Batch, Plan, pack
from evalsuite.requests import Requests
from tests.evalsuite.modules import questions


def made(items: list[list[tuple[list[int], list[int]]]], prefix: list[int]) -> Requests:
    """Requests from (context, answer) pairs per item, after ids that all begin with."""
    inputs, targets, owner = [], [], []
    for i, item in enumerate(items):
        for context, answer in item:
            whole = np.array([*prefix, *context, *answer], dtype=np.int32)
            inputs.append(whole[:-1])
            targets.append(np.array(answer, dtype=np.int32))
            owner.append(i)
    return Requests(inputs, targets, np.array(owner), np.zeros(len(owner), dtype=bool), 512)


ids = st.integers(0, 2)  # three ids: sequences often begin alike, continue each other, or are the same


@st.composite
def trees(draw) -> Requests:
    """Items whose answers share a context, or differ in it; with and without a common beginning."""
    prefix = draw(st.lists(ids, max_size=2 * MIN_PREFIX))
    items = []
    for _ in range(draw(st.integers(1, 5))):
        context = draw(st.lists(ids, min_size=1, max_size=6))
        answers = draw(st.lists(st.lists(ids, min_size=1, max_size=4), min_size=1, max_size=4))
        own = draw(st.booleans())
        items.append([(draw(st.lists(ids, min_size=1, max_size=4)) if own else context, a) for a in answers])
    return made(items, prefix)


options = st.fixed_dictionaries(
    {
        "budget": st.integers(1, 120),
        "vocabulary": st.sampled_from([1, _LOGITS // 3]),
        "branching": st.booleans(),
        "cached": st.booleans(),
        "row_tokens": st.sampled_from([0, 12, 64]),
    }
)


def seen_by(batch: Batch, place: int) -> tuple[int, np.ndarray]:
    """Row of a flat place, and the columns that it sees by the rule j <= i < end[j]."""
    row, i = divmod(place, batch.tokens.shape[1])
    j = np.arange(i + 1)
    return row, j[i < batch.end[row, : i + 1]]


def told(plan: Plan, batches: tuple[Batch, ...] | None = None) -> list[tuple[int, tuple, tuple, int]]:
    """Of every scored token: its request, the ids that are seen, their positions, and what is scored."""
    found = []
    for batch in plan.batches if batches is None else batches:
        for place, target, request in zip(batch.places[batch.pick], batch.target, batch.request, strict=True):
            row, columns = seen_by(batch, int(place))
            ids = (*plan.prefix.tolist(), *batch.tokens[row, columns].tolist())
            at = (*range(len(plan.prefix)), *batch.depth[row, columns].tolist())
            found.append((int(request), ids, at, int(target)))
    return found


def expected(requests: Requests) -> list[tuple[int, tuple, tuple, int]]:
    """The oracle: the same of the requests themselves, each read alone."""
    found = []
    for r, (read, scored) in enumerate(zip(requests.inputs, requests.targets, strict=True)):
        for m, target in enumerate(scored.tolist()):
            n = len(read) - len(scored) + m + 1
            found.append((r, tuple(read[:n].tolist()), tuple(range(n)), target))
    return found


@settings(max_examples=300)
@given(requests=trees(), how=options)
def test_every_scored_place_sees_its_own_request_and_nothing_else(requests, how):
    plan = pack(requests, **how)
    assert Counter(told(plan)) == Counter(expected(requests))
    assert plan.tokens == sum(map(len, requests.inputs))
    assert plan.read == len(plan.prefix) + sum(batch.tokens.size for batch in plan.batches)


@settings(max_examples=150)
@given(requests=trees(), how=options)
def test_the_tokens_of_a_request_stay_in_order_and_in_one_batch(requests, how):
    """What sums and the check against the plain run rely on."""
    homes: dict[int, int] = {}
    for number, batch in enumerate(pack(requests, **how).batches):
        for r in set(batch.request.tolist()):
            assert homes.setdefault(r, number) == number
            assert batch.target[batch.request == r].tolist() == requests.targets[r].tolist()
        assert (np.diff(batch.pick) >= 0).all() and (np.diff(batch.places) > 0).all()
        assert set(batch.pick.tolist()) == set(range(len(batch.places)))
    assert sorted(homes) == list(range(len(requests)))


@settings(max_examples=150)
@given(requests=trees(), how=options)
def test_limits_are_kept(requests, how):
    plan = pack(requests, **how)
    start = len(plan.prefix)
    assert start == 0 or (start >= MIN_PREFIX and how["cached"] and len(requests) > 1)
    for read, scored in zip(requests.inputs, requests.targets, strict=True):
        assert read[:start].tolist() == plan.prefix.tolist()
        assert start <= len(read) - len(scored)  # the last token of the beginning predicts nothing scored
    for batch in plan.batches:
        count, width = batch.tokens.shape
        assert ((batch.end > np.arange(width)) & (batch.end <= width)).all()
        if count == 1:
            assert width <= how["budget"] or len(set(batch.request.tolist())) == 1
            continue
        assert batch.size <= how["budget"]
        assert batch.size * (width + start) <= _MASK
        assert len(batch.places) * how["vocabulary"] <= _LOGITS
    widths = [batch.tokens.shape[1] for batch in plan.batches]
    assert widths == sorted(widths, reverse=True)


@settings(max_examples=150)
@given(requests=trees(), how=options)
def test_halves_score_the_same_tokens_in_the_same_order(requests, how):
    plan = pack(requests, **how)
    for batch in plan.batches:
        if len(batch.tokens) > 1:
            first, second = batch.halves()
            assert len(first.tokens) + len(second.tokens) == len(batch.tokens)
            assert told(plan, (first, second)) == told(plan, (batch,))


@settings(max_examples=60)
@given(requests=trees(), how=options)
def test_the_same_requests_give_the_same_plan(requests, how):
    one, other = pack(requests, **how), pack(replace(requests, plans={}), **how)
    assert len(one.batches) == len(other.batches)
    for a, b in zip(one.batches, other.batches, strict=True):
        for name in Batch.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=150)
@given(requests=trees(), cached=st.booleans())
def test_nothing_is_read_twice_in_a_row(requests, cached):
    """Oracle: the nodes of each item's trie of ids."""
    plan = pack(requests, budget=10**6, cached=cached)
    real = {
        (number, row, int(column))
        for number, batch in enumerate(plan.batches)
        for place in batch.places.tolist()
        for row, columns in [seen_by(batch, place)]
        for column in columns
    }
    start = len(plan.prefix)
    nodes = {
        (owner, tuple(read[:n].tolist()))
        for owner, read in zip(requests.owner.tolist(), requests.inputs, strict=True)
        for n in range(start + 1, len(read) + 1)
    }
    assert len(real) == len(nodes)


@settings(max_examples=150)
@given(requests=trees(), budget=st.integers(1, 120), cached=st.booleans())
def test_without_a_mask_a_place_sees_all_before_it(requests, budget, cached):
    plan = pack(requests, budget=budget, branching=False, cached=cached)
    for batch in plan.batches:
        assert not batch.branched
        for place in batch.places.tolist():
            _, columns = seen_by(batch, place)
            assert len(columns) == place % batch.tokens.shape[1] + 1


def test_a_batch_says_whether_it_needs_a_mask():
    chain = made([[([1], [2]), ([1], [2, 0]), ([1], [2, 0, 1])]], [])
    assert [batch.branched for batch in pack(chain, budget=64).batches] == [False]
    tree = made([[([1], [2, 2]), ([1], [0, 2])]], [])
    assert [batch.branched for batch in pack(tree, budget=64).batches] == [True]


def test_a_tree_by_hand():
    # 1 -> (0 -> (2), 2): answers 0 2 x, 0 2 y and 2 z after context 1. Oracle: drawn by hand.
    requests = made([[([1], [0, 2, 1]), ([1], [0, 2, 2]), ([1], [2, 0])]], [])
    (batch,) = pack(requests, budget=64).batches
    assert batch.tokens.tolist() == [[1, 0, 2, 2]]
    assert batch.depth.tolist() == [[0, 1, 2, 1]]
    assert batch.end.tolist() == [[4, 3, 3, 4]]
    assert batch.places.tolist() == [0, 1, 2, 3]
    order = list(
        zip(batch.places[batch.pick].tolist(), batch.request.tolist(), batch.target.tolist(), strict=True)
    )
    assert order == [(0, 0, 0), (0, 1, 0), (0, 2, 2), (1, 0, 2), (1, 1, 2), (2, 0, 1), (2, 1, 2), (3, 2, 0)]


def test_items_share_a_row_only_while_it_is_short_enough():
    requests = questions(0, items=30, shared=40, context=(3, 6))
    apart, joined = (pack(requests, budget=4096, row_tokens=n) for n in (0, 256))
    assert max(batch.tokens.shape[1] for batch in joined.batches) <= 256
    assert joined.read < 0.6 * apart.read  # forty of about sixty tokens are read once a row, not once an item
    # A row that is too long by itself stays what it is.
    alone = pack(requests, budget=4096, row_tokens=1)
    assert alone.read == apart.read


def test_a_common_beginning_is_read_once():
    requests = questions(0, items=30, shared=40, context=(3, 6))
    plan = pack(requests, budget=4096, cached=True)
    assert len(plan.prefix) == 40
    assert plan.read < 0.5 * pack(requests, budget=4096).read
    lone = replace(
        requests, inputs=requests.inputs[:1], targets=requests.targets[:1], owner=requests.owner[:1]
    )
    assert not len(pack(lone, budget=4096, cached=True).prefix)


@pytest.mark.parametrize("shared", [MIN_PREFIX - 1, MIN_PREFIX])
def test_a_short_beginning_is_not_worth_a_cache(shared):
    requests = made([[([0], [i])] for i in range(3)] + [[([1], [0])]], [2] * shared)
    assert len(pack(requests, budget=64, cached=True).prefix) == (shared if shared >= MIN_PREFIX else 0)


def test_large_ids_sort_as_numbers():
    """Ids beyond one byte and beyond 2^24 keep a beginning before what continues it."""
    big = [255, 256, 65_535, 65_536, 2**24 + 1, 2**31 - 1]
    requests = made([[([a], [b, a]) for a in big for b in big]], [])
    assert Counter(told(pack(requests, budget=4096))) == Counter(expected(requests))
    (row,) = pack(requests, budget=4096).batches
    assert row.tokens.size == len(big) + len(big) ** 2  # no node twice
