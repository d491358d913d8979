"""Likelihoods: what is written is read back. Oracle: the arrays they were made of."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.likelihoods import Likelihoods
from scaling.errors import StagewiseError
from tests.evalsuite.test_measures import free, gold_only, made


def same(a: Likelihoods, b: Likelihoods) -> None:
    for one in fields(a):
        np.testing.assert_array_equal(getattr(a, one.name), getattr(b, one.name), err_msg=one.name)


kinds = st.sampled_from([lambda of: of, gold_only, free])


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(2, 6), kinds)
def test_a_frame_is_read_back(seed, n, c, kind):
    of = kind(made(seed, n, c))
    width = max(int(of.n_choices.max()), 1)
    back = Likelihoods.from_frame(of.to_frame(), of.task, of.shots)
    for one in fields(of):
        value = getattr(of, one.name)
        # Room for more choices than any item has is not kept.
        whole = value[:, :width] if isinstance(value, np.ndarray) and value.ndim == 2 else value
        np.testing.assert_array_equal(getattr(back, one.name), whole, err_msg=one.name)
        assert np.asarray(getattr(back, one.name)).dtype.kind == np.asarray(value).dtype.kind, one.name


@given(st.integers(0, 10**6), kinds)
def test_a_parquet_file_is_read_back(tmp_path_factory, seed, kind):
    of = kind(made(seed, 5))
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    of.to_frame().to_parquet(path)
    back = Likelihoods.from_frame(pd.read_parquet(path), of.task, of.shots)
    same(back, Likelihoods.from_frame(of.to_frame(), of.task, of.shots))


def test_what_it_says():
    of = Likelihoods.of(
        "t", None, ["a", "b"], [1, 0], [[-1, -2, np.nan], [-3, -4, -5]], [[1, 2, 0], [3, 4, 5]]
    )
    assert (of.n_items, of.n_choices.tolist()) == (2, [2, 3])
    assert of.answered.tolist() == [[True, True, False], [True] * 3] and of.chosen.tolist() == [True, True]
    assert of.gold_of(of.ll).tolist() == [-2, -3] and of.gold_of(of.bytes).tolist() == [2, 3]
    assert "<td>a</td>" in of._repr_html_()
    loose = Likelihoods.of("t", 0, ["a"], [0], [[-1.0]], [[3]], free=True)
    assert loose.n_choices.tolist() == [0] and loose.chosen.tolist() == [False]


def test_a_task_of_which_only_the_right_answers_were_scored_has_nothing_to_choose():
    of = gold_only(made(0))
    assert not of.chosen.any() and (of.answered.sum(axis=1) == 1).all()


def test_a_frame_that_lacks_columns():
    frame = made(0, 3).to_frame().drop(columns=["ll", "choice_bytes"])
    with pytest.raises(StagewiseError, match=r"items of t: missing column\(s\) ll, choice_bytes"):
        Likelihoods.from_frame(frame, "t", 0)


def test_lists_that_are_too_short():
    frame = made(0, 3).to_frame()
    frame.at[1, "bytes"] = frame["bytes"].iloc[1][:-1]
    k = int(frame["n_choices"].iloc[1])
    with pytest.raises(
        StagewiseError, match=rf"items of t, item 'i1', bytes: got {k - 1} value\(s\), valid is {k}"
    ):
        Likelihoods.from_frame(frame, "t", 0)


def test_no_items_at_all():
    none = made(0, 3).to_frame().iloc[:0]
    assert Likelihoods.from_frame(none, "t", 0).n_items == 0
