"""Guesses by the surface. Oracles: by hand, and what the publisher of real items states."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.items import Item, read_items
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import take
from evalsuite.surface import GUESSES, above_surface, surface
from scaling.errors import StagewiseError, UsageError


def item(name: str, choices: str, gold: int) -> Item:
    texts = tuple(choices.split())
    return Item(name, "?", texts, gold, texts[gold])


ITEMS = (
    item("a", "a bbb ccc", 1),
    item("b", "ee bbb a", 1),
    item("c", "x bbb", 0),
    item("d", "øø bbb nnn", 2),
)


def test_by_hand():
    # Oracle: lengths counted by hand; ø is one character; the first of equals is taken.
    found = surface(ITEMS)
    assert found.hits.astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert (found.longest, found.shortest, found.best_position, found.majority) == (0.5, 0.25, 0.5, 0.5)
    assert (found.best, found.best_guess, found.n_items) == (0.5, "longest", 4)
    assert found.to_frame().to_dict("list") == {
        "guess": list(GUESSES), "acc": [0.5, 0.25, 0.5, 0.5], "n_items": [4] * 4,
        "best": [True, False, False, False],
    }  # fmt: skip
    assert "longest" in found._repr_html_()


def test_free_answers_are_left_out():
    loose = Item("free", "?", (), -1, "bbb")
    assert surface((*ITEMS, loose)).ids.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(StagewiseError, match="no item has choices"):
        surface([loose])


def test_as_the_publisher_states_them(shared):
    """Oracle: base_* of tasks.json: characters, first of equals, position and answer over all items."""
    stated = json.loads((shared / "tasks" / "tasks.json").read_text(encoding="utf-8"))
    checked = 0
    for entry in stated:
        if entry["kind"] != "mc":
            continue
        found = surface(read_items(shared / "tasks" / f"{entry['task']}.jsonl"))
        theirs = [
            entry[f"base_{name}"] for name in ("longest", "shortest", "best_position", "majority_string")
        ]
        assert found.hits.mean(axis=1) == pytest.approx(theirs, abs=5.001e-4), entry["task"]
        checked += 1
    assert checked > 60


@given(st.lists(st.tuples(st.integers(2, 5), st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=20))
def test_bounds(rows):
    items = [item(f"i{i}", " ".join("x" * (k + j * step) for j in range(k)), gold % k)
             for i, (k, gold, step) in enumerate(rows)]  # fmt: skip
    found = surface(items)
    # Each choice is longer than the one before, so these are the last and the first.
    assert found.longest == np.mean([one.gold == len(one.choices) - 1 for one in items])
    assert found.shortest == np.mean([one.gold == 0 for one in items])
    assert found.best_position >= 1 / 5 and found.majority >= 1 / len(items)
    assert found.best == max(found.longest, found.shortest, found.best_position, found.majority)


# --- above it ------------------------------------------------------------------------------------


def world(right: np.ndarray, seed: int = 0) -> tuple[Likelihoods, tuple[Item, ...]]:
    """Items whose longest choice is right in 60%, and a model that is right where `right` says."""
    rng = np.random.default_rng(seed)
    n = len(right)
    long = rng.permutation(np.arange(n) < 0.6 * n)
    gold = rng.permutation(np.arange(n) % 2)
    rows = [
        Item(
            f"i{i}", "?", (texts := ("aa", f"b{i}cc")[:: 1 if (g == 1) == bool(k) else -1]), int(g), texts[g]
        )
        for i, (g, k) in enumerate(zip(gold, long, strict=True))
    ]
    ll = np.where(np.arange(2) == np.where(right, gold, 1 - gold)[:, None], -1.0, -2.0)
    return Likelihoods.of("t", 0, [one.id for one in rows], gold, ll, np.full((n, 2), 3)), tuple(rows)


def test_above_by_hand():
    # Oracle: mean and sd / sqrt(n) of right - hit, item by item.
    right = np.random.default_rng(1).random(400) < 0.8
    of, items = world(right)
    found = above_surface(of, surface(items))
    hits = surface(items).hits[0]
    apart = right.astype(float) - hits
    assert found.guess == "longest" and found.against.a == pytest.approx(0.6)
    assert found.against.difference == pytest.approx(apart.mean())
    assert found.against.stderr == pytest.approx(apart.std(ddof=1) / 20)
    assert found.above
    frame = found.to_frame()
    assert frame["above"].tolist() == [True] and frame["score"].tolist() == [right.mean()]
    assert "longest" in found._repr_html_()


def test_what_the_surface_gives_away_is_not_above():
    _, items = world(np.zeros(400, dtype=bool))
    of, items = world(surface(items).hits[0])
    found = above_surface(of, surface(items))
    assert found.against.difference == 0 and not found.above
    # Far above chance, and yet no better than length.
    assert found.against.b == 0.6


def test_below_is_not_above():
    of, items = world(np.zeros(50, dtype=bool))
    assert not above_surface(of, surface(items)).above


def test_a_few_items_show_nothing():
    # All of twelve right, eight by length: 2.3 standard errors, and yet an exact test at 1/8.
    of, items = world(np.ones(12, dtype=bool))
    found = above_surface(of, surface(items))
    assert found.against.a == pytest.approx(8 / 12) and found.against.p == pytest.approx(0.125)
    assert found.against.difference > 2 * found.against.stderr and not found.above


def test_only_the_items_that_were_scored_count():
    right = np.random.default_rng(2).random(200) < 0.9
    of, items = world(right)
    part = take(of, np.arange(0, 200, 2)[::-1])
    found = above_surface(part, surface(items))
    assert found.against.n_items == 100
    assert found.against.b == right[::2].mean()
    assert found.against.a == surface(items[::2]).best


def test_what_is_refused():
    of, items = world(np.ones(40, dtype=bool))
    with pytest.raises(StagewiseError, match="3 of 40 scored are not among those of the surface: 'i37'"):
        above_surface(of, surface(items[:37]))
    with pytest.raises(UsageError, match="got 'bpb', valid is an accuracy: acc, acc_norm, acc_bytes"):
        above_surface(of, surface(items), "bpb")
    loose = replace(of, n_choices=np.zeros(40, dtype=np.int64))
    with pytest.raises(StagewiseError, match="acc_norm of t: not defined, answers are free"):
        above_surface(loose, surface(items), "acc_norm")
