"""Batches. Oracle: every batch of a run drawn in turn and counted; the tokens themselves name their place."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.batches import Batches
from data.errors import DataError
from data.mixture import Mixture, Phases
from data.shards import ShardWriter, Tokens
from data.turns import Turns


class Row:
    """Tokens of a domain that say where they stand: the token at place p is p."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return self.tokens

    def read(self, start: int, length: int) -> np.ndarray:
        assert 0 <= start and start + length <= self.tokens
        return np.arange(start, start + length)


def made(tokens: dict[str, int], mixture: dict, steps: int = 100, **more) -> Batches:
    phases = Mixture.parse(mixture).resolve(steps)
    rows = {name: Row(count) for name, count in tokens.items()}
    return Batches(rows, phases, **{"rows": 6, "length": 9, "stride": 8, "seed": 1, **more})  # type: ignore[arg-type]


SIZES = {"a": 9, "b": 50, "c": 211, "d": 3000}
MIXTURE = {"a": 0.05, "b": "0.5 until 30%, then 0.1", "c": "0 until 20%, then 2 until 60%, then 0", "d": 1}


def same(one, other) -> None:
    for name in ("ids", "domains", "epochs", "starts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


# --- turns ----------------------------------------------------------------------------------------

weights = st.lists(st.integers(0, 100) | st.floats(0, 1), min_size=1, max_size=9).filter(
    lambda ws: sum(ws) > 1e-6
)


@given(weights=weights)
def test_turns_count_as_dealing_every_row_does(weights):
    """Oracle: rows dealt one by one."""
    turns = Turns(weights)
    seen = [0] * len(weights)
    for n in range(200):
        assert turns.counts(n) == seen
        domain, ordinal = turns.turn(n)
        assert ordinal == seen[domain] and weights[domain] > 0
        seen[domain] += 1


@given(weights=weights, n=st.integers(0, 10**12), many=st.integers(1, 60))
def test_turns_far_into_a_run(weights, n, many):
    """Oracle: counts before and after, and each ordinal the one after the last."""
    turns = Turns(weights)
    seen = turns.counts(n)
    assert sum(seen) == n
    for row in range(n, n + many):
        domain, ordinal = turns.turn(row)
        assert ordinal == seen[domain]
        seen[domain] += 1
    assert turns.counts(n + many) == seen


@settings(max_examples=200)
@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=9), n=st.integers(0, 10**9))
def test_shares_are_those_of_the_weights(weights, n):
    """Oracle: exact shares."""
    counts = Turns(weights).counts(n)
    off = [abs(count - Fraction(w, sum(weights)) * n) for count, w in zip(counts, weights, strict=True)]
    assert max(off) < 1.5


def test_shares_over_a_long_run_are_within_a_row():
    mixture = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    turns = Turns(mixture)  # type: ignore[arg-type]
    worst = max(np.abs(turns.counts(n) - mixture * n).max() for n in range(0, 10**6, 97))
    assert worst < 1


# --- order ----------------------------------------------------------------------------------------


def drawn(batches: Batches, steps: int) -> dict[int, list[tuple[int, int]]]:
    """Of every domain the (epoch, start) of its rows in order."""
    found = defaultdict(list)
    for step in range(steps):
        batch = batches.batch(step)
        for domain, epoch, start, ids in zip(
            batch.domains, batch.epochs, batch.starts, batch.ids, strict=True
        ):
            assert ids.tolist() == list(range(start, start + batches.length))
            found[int(domain)].append((int(epoch), int(start)))
    return found


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(9, 300), min_size=1, max_size=3), length=st.integers(1, 9),
    stride=st.integers(1, 9), rows=st.integers(1, 7), seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_an_epoch_visits_every_window_once(sizes, length, stride, rows, seed):
    assume(stride <= length)
    names = "xyz"[: len(sizes)]
    sized = dict(zip(names, sizes, strict=True))
    batches = made(sized, dict.fromkeys(names, 1), rows=rows, length=length, stride=stride, seed=seed)
    for domain, visits in drawn(batches, 40).items():
        windows, size = batches.windows[domain], sizes[domain]
        assert [epoch for epoch, _ in visits] == [i // windows for i in range(len(visits))]
        for epoch in range(len(visits) // windows):
            starts = sorted(start for number, start in visits if number == epoch)
            offset = starts[0]
            assert starts == [offset + k * stride for k in range(windows)]
            assert 0 <= offset < stride
            # What is left out at both ends is less than two strides: the text is walked through.
            assert size - length - (windows - 1) * stride < max(2 * stride - 1, 1)


def test_epochs_differ_in_order_and_in_where_they_cut():
    visits = drawn(made({"b": 400}, {"b": 1}), 100)[0]
    orders = {epoch: [start for number, start in visits if number == epoch] for epoch in range(8)}
    assert len({min(order) for order in orders.values()}) > 3
    assert len({tuple(np.argsort(order).tolist()) for order in orders.values()}) == 8


def test_the_order_is_a_fair_shuffle():
    """Oracle: chi squared over which of five windows is first; one in a thousand fair ones exceeds 18.5."""
    batches = made({"a": 49}, {"a": 1})
    assert batches.windows == [5]
    first = Counter(int(batches._made(0, epoch).order[0]) for epoch in range(2000))
    assert sum((first[k] - 400) ** 2 / 400 for k in range(5)) < 18.5
    offsets = Counter(batches._made(0, epoch).offset for epoch in range(2000))
    assert sum((offsets[k] - 250) ** 2 / 250 for k in range(8)) < 24.3 and set(offsets) == set(range(8))


@given(steps=st.lists(st.integers(0, 150), min_size=1, max_size=12))
def test_a_batch_is_the_same_whatever_was_asked_before(steps):
    batches = made(SIZES, MIXTURE)
    for step in steps:
        same(batches.batch(step), made(SIZES, MIXTURE).batch(step))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_together_read_the_rows_of_one(ranks):
    batches = made(SIZES, MIXTURE)
    for step in range(0, 100, 7):
        whole = batches.batch(step)
        share = 6 // ranks
        parts = [
            made(SIZES, MIXTURE).batch(step, slice(rank * share, (rank + 1) * share)) for rank in range(ranks)
        ]
        for name in ("ids", "domains", "epochs", "starts"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, name))
        strided = batches.batch(step, slice(ranks - 1, None, ranks))
        np.testing.assert_array_equal(strided.ids, whole.ids[ranks - 1 :: ranks])


def test_a_change_of_the_mixture_changes_nothing_before_it():
    plain = {"b": 1, "d": 2}
    changed = {"b": "1 until step 40, then 0", "d": "2 until step 40, then 1", "c": "0 until step 40, then 5"}
    one, other = made(SIZES, plain), made(SIZES, changed)
    name = np.array(one.domains), np.array(other.domains)
    for step in range(40):
        a, b = one.batch(step), other.batch(step)
        np.testing.assert_array_equal(a.ids, b.ids)
        assert name[0][a.domains].tolist() == name[1][b.domains].tolist()
    assert any((one.batch(step).ids != other.batch(step).ids).any() for step in range(40, 45))


def test_a_domain_goes_on_where_it_was_when_it_comes_back():
    """Oracle: with nothing but that domain, the same rows in the same order."""
    pauses = made(
        SIZES, {"d": "1 until 20%, then 0 until 50%, then 1", "b": "0 until 20%, then 1 until 50%, then 0"}
    )
    alone = made(SIZES, {"d": 1})
    there = drawn(pauses, 100)[pauses.domains.index("d")]
    assert there == drawn(alone, 70)[0] and len(there) == 70 * 6


def test_seeds_and_domains_have_orders_of_their_own():
    one, other = (made({"a": 999, "b": 999}, {"a": 1, "b": 1}, seed=seed) for seed in (0, 1))
    orders = {
        tuple(batches._made(domain, epoch).order.tolist())
        for batches, domain, epoch in product((one, other), (0, 1), (0, 1))
    }
    assert len(orders) == 8


def test_an_order_known_by_its_bytes():
    """What a resumed run relies on from one version to the next."""
    batches = made({"prose": 100}, {"prose": 1}, seed=7)
    epoch = batches._made(0, 3)
    assert (epoch.offset, epoch.order.tolist()) == KNOWN


KNOWN = (3, [1, 7, 9, 3, 8, 5, 4, 10, 6, 2, 0])


@pytest.mark.parametrize("steps", [1, 25, 100, 130])
def test_repetitions_are_those_of_drawing_every_batch(steps):
    batches = made(SIZES, MIXTURE)
    frame = batches.repetitions(steps)
    counts: Counter[tuple[int, str]] = Counter()
    for step in range(steps):
        number = batches.phases.phase(step)
        counts.update((number, batches.domains[i]) for i in batches.batch(step).domains.tolist())
    total: Counter[str] = Counter()
    for i, row in enumerate(frame.itertuples()):
        number, domain = divmod(i, len(batches.domains))
        assert row.domain == batches.domains[domain]
        assert row.rows == counts[number, row.domain]
        assert row.drawn == row.rows * 8 and row.tokens == SIZES[row.domain]
        total[row.domain] += row.rows
        assert row.epochs_by_end * row.windows == pytest.approx(total[row.domain])
        assert row.epochs * row.windows == pytest.approx(row.rows)
    assert frame["rows"].sum() == steps * 6
    assert frame["steps"][0] == f"0..{min(steps, 20) - 1}"


def test_at_most_two_epochs_of_a_domain_are_kept():
    batches = made(SIZES, {"a": 1, "b": 1})
    for step in range(60):
        batches.batch(step)
        assert all(len(kept) <= 2 for kept in batches._kept)


def test_a_far_step_costs_what_the_first_does(monkeypatch):
    """No work grows with the step: as many walks down the tree, and one epoch made for each domain."""
    calls = Counter()
    turn, epoch = Turns.turn, Batches._made
    monkeypatch.setattr(Turns, "turn", lambda self, n: (calls.update(["turn"]), turn(self, n))[1])
    monkeypatch.setattr(Batches, "_made", lambda self, d, n: (calls.update(["made"]), epoch(self, d, n))[1])
    made(SIZES, {"c": 1, "d": 1}, steps=10**9).batch(10**9 - 1)
    assert calls["turn"] == 6 and calls["made"] <= 4


def test_on_files(tmp_path):
    """Oracle: the ids that were written."""
    ids = np.random.default_rng(0).integers(0, 256, 500)
    with ShardWriter(tmp_path, "prose", 257, shard=64) as writer:
        writer.add(ids)
    tokens = Tokens.open(tmp_path, "prose", 257)
    phases = Phases(("prose",), (0,), ((1.0,),), 10)
    batches = Batches({"prose": tokens, "unused": tokens}, phases, rows=4, length=33, stride=32, seed=0)
    batch = batches.batch(3)
    whole = [*ids.tolist(), 256]
    for row, start in zip(batch.ids.tolist(), batch.starts, strict=True):
        assert row == whole[start : start + 33]
    assert batch.ids.dtype == np.int64 and batch.ids.shape == (4, 33)


# --- bad input ------------------------------------------------------------------------------------


def test_a_domain_shorter_than_a_row():
    with pytest.raises(DataError, match=r"domain 'a': has weight 0.5 and 8 tokens, a row takes 9; add text"):
        made({"a": 8, "b": 50}, {"a": 1, "b": 1})
    made({"a": 8, "b": 50}, {"a": 0, "b": 1}).batch(0)


def test_an_unknown_domain():
    with pytest.raises(DataError, match=r"unknown domain 'pros'; .*'code', 'prose'; did you mean 'prose'"):
        made({"prose": 50, "code": 50}, {"pros": 1})


@pytest.mark.parametrize(
    "more",
    [
        {"rows": 0}, {"rows": 1.5}, {"length": 0}, {"stride": 0}, {"stride": 10}, {"seed": -1},
        {"seed": 2**64}, {"seed": None}, {"rows": True},
    ],
)  # fmt: skip
def test_numbers_out_of_range(more):
    (name,) = more
    with pytest.raises(DataError, match=f"{name}: got .*valid is a whole number"):
        made(SIZES, MIXTURE, **more)


def test_a_negative_step():
    with pytest.raises(DataError, match="step: got -1"):
        made(SIZES, MIXTURE).batch(-1)
