"""Requests of a task: what is read, what is scored, what is cut, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.encoding import Encoder
from evalsuite.items import Item
from evalsuite.requests import Requests, TaskRequests, scored_bytes
from evalsuite.tasks import Task
from scaling.errors import StagewiseError
from scaling.tasks import TaskInfo
from tests.evalsuite.modules import Bytes

ENCODER = Encoder(Bytes())
ITEMS = (
    Item("a", "one plus one is", ("two", "three"), 0, "two", group="g"),
    Item("b", "", ("x", "yé", "z"), 2, "z"),
)
TASK = Task("sums", ITEMS, TaskInfo("sums"), prefix="1 + 1 = 2\n\n", prefix_shots=1)
FREE = Task("free", (Item("f", "The sky is", (), -1, "blue"),), TaskInfo("free"))
PARTS = Task(
    "parts",
    (
        Item(
            "p", "", ("Ann", "Bob"), 1, "Bob", option_contexts=("Ann ran so", "Bob ran so"),
            continuation="he won",
        ),
    ),
    TaskInfo("parts"),
)  # fmt: skip


def text(requests: Requests, i: int) -> tuple[bytes, bytes]:
    """What the model reads before the first scored token, and what is scored."""
    read, scored = requests.inputs[i], requests.targets[i]
    whole = [*read.tolist(), int(scored[-1])]
    assert whole[-len(scored) :] == scored.tolist()  # the last inputs are the scored ones, shifted by one
    return bytes(x for x in whole[: -len(scored)] if x < 256), bytes(scored.tolist())


def test_items_become_requests():
    asked = TaskRequests.build(TASK, 0, ENCODER, 100)
    assert [text(asked.requests, i) for i in range(5)] == [
        (b"one plus one is", b" two"), (b"one plus one is", b" three"),
        (b"", b" x"), (b"", " yé".encode()), (b"", b" z"),
    ]  # fmt: skip
    assert asked.requests.owner.tolist() == [0, 0, 1, 1, 1] and asked.column.tolist() == [0, 1, 0, 1, 2]
    assert asked.requests.inputs[2].tolist() == [256, ord(" ")]
    assert not asked.requests.truncated.any() and asked.requests.largest_token == 256


def test_sizes_of_answers():
    blank = TaskRequests.build(TASK, 0, ENCODER, 100).blank
    assert (blank.task, blank.shots, blank.ids.tolist()) == ("sums", 0, ["a", "b"])
    assert blank.groups.tolist() == ["g", ""] and blank.gold.tolist() == [0, 2]
    assert blank.n_choices.tolist() == [2, 3]
    assert blank.tokens.tolist() == [[4, 6, 0], [2, 4, 2]]
    assert blank.bytes.tolist() == [[3, 5, 0], [1, 3, 1]]  # without the one leading blank
    assert (
        blank.chars.tolist() == [[3, 5, 0], [1, 2, 1]] and blank.choice_bytes.tolist() == blank.bytes.tolist()
    )
    assert np.isnan(blank.ll).all() and blank.answered.tolist() == [[True, True, False], [True] * 3]


def test_solved_examples_come_first():
    for shots in (None, 1):
        asked = TaskRequests.build(TASK, shots, ENCODER, 100)
        assert text(asked.requests, 0) == (b"1 + 1 = 2\n\none plus one is", b" two")
        # Blanks at the end of a context belong to what is scored.
        assert text(asked.requests, 2) == (b"1 + 1 = 2", b"\n\n x")
        assert asked.blank.shots == 1
    with pytest.raises(StagewiseError, match="task sums: 3 solved examples asked for, valid is 0 or 1"):
        TaskRequests.build(TASK, 3, ENCODER, 100)
    assert TaskRequests.build(FREE, None, ENCODER, 100).blank.shots == 0


def test_a_free_answer_is_one_request():
    asked = TaskRequests.build(FREE, 0, ENCODER, 100)
    assert [text(asked.requests, i) for i in range(len(asked.requests))] == [(b"The sky is", b" blue")]
    assert asked.blank.gold.tolist() == [0] and asked.blank.n_choices.tolist() == [0]
    assert asked.blank.bytes.tolist() == [[4]]


def test_choices_that_differ_in_their_context():
    asked = TaskRequests.build(PARTS, 0, ENCODER, 100)
    assert [text(asked.requests, i) for i in (0, 1)] == [
        (b"Ann ran so", b" he won"),
        (b"Bob ran so", b" he won"),
    ]
    # The text that is scored is the same: there is nothing to normalise by.
    assert asked.blank.bytes.tolist() == [[6, 6]] and asked.blank.chars.tolist() == [[6, 6]]


def test_the_right_answer_alone():
    asked = TaskRequests.build(TASK, 0, ENCODER, 100, gold_only=True)
    assert [text(asked.requests, i)[1] for i in range(2)] == [b" two", b" z"]
    assert asked.blank.answered.tolist() == [[True, False, False], [False, False, True]]
    assert asked.blank.n_choices.tolist() == [2, 3] and not asked.blank.chosen.any()
    parts = TaskRequests.build(PARTS, 0, ENCODER, 100, gold_only=True)
    assert text(parts.requests, 0)[0] == b"Bob ran so" and len(parts.requests) == 1


def test_a_task_that_must_not_be_scored():
    with pytest.raises(StagewiseError, match="task free: not scored: its answers are run"):
        TaskRequests.build(replace(FREE, unsafe="its answers are run"), 0, ENCODER, 100)


@given(st.integers(1, 30), st.integers(1, 12), st.integers(4, 20))
def test_what_is_too_long_loses_its_first_tokens(context, answer, max_length):
    """Oracle: lm-eval's expression, (context + continuation)[-(max_length + 1):][:-1]."""
    before, scored = "c" * (context - 1) + "d", "abcdefghijklmno"[:answer]
    if answer > max_length:
        return
    built = Requests.build([(before, scored)], ENCODER, max_length)
    whole = list((before + scored).encode())
    assert built.inputs[0].tolist() == whole[-(max_length + 1) :][:-1]
    assert built.targets[0].tolist() == list(scored.encode())
    assert built.truncated.tolist() == [len(whole) > max_length + 1]


def test_truncation_is_told_by_item():
    asked = TaskRequests.build(TASK, 0, ENCODER, 18)
    assert asked.blank.truncated.tolist() == [True, False]  # 15 + 6 tokens are more than 18 + 1
    assert asked.requests.truncated.tolist() == [False, True, False, False, False]


def test_an_answer_that_no_request_can_be_made_of():
    with pytest.raises(
        StagewiseError, match=r"task sums, item 'a': the answer ' three' is 6 tokens, valid is 1 to 5"
    ):
        TaskRequests.build(TASK, 0, ENCODER, 5)

    class Dull(Bytes):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("é", "").replace("y", "").replace(" ", ""))

    with pytest.raises(StagewiseError, match="task sums, item 'b': the answer ' yé' is no token"):
        TaskRequests.build(TASK, 0, Encoder(Dull()), 100)
    with pytest.raises(StagewiseError, match="request 0: the answer"):
        Requests.build([("a", "bcd")], ENCODER, 2)


def test_every_request_reads_as_much_as_it_scores():
    """A context that leaves no token must not make the first answer token unpredicted."""

    class Drops(Bytes):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.replace("\u200b", ""))

    built = Requests.build([("\u200b", "yes"), ("", "yes"), ("a", "yes")], Encoder(Drops()), 100)
    for read, scored in zip(built.inputs, built.targets, strict=True):
        assert len(read) >= len(scored)


def test_bytes_without_one_blank():
    assert scored_bytes(" blue") == 4 and scored_bytes("  blue") == 5 and scored_bytes("é") == 2
    assert scored_bytes("\nblue") == 5


def test_plans_are_kept_out_of_comparisons():
    one = TaskRequests.build(FREE, 0, ENCODER, 100).requests
    assert one.plans == {} and one.plans is not TaskRequests.build(FREE, 0, ENCODER, 100).requests.plans
