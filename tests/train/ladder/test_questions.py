"""Items chosen for a ladder. Oracle: the binomial standard error, counted tokens, `Task.take`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.tokenizer import byte_tokenizer
from evalsuite.registry import Registry
from evalsuite.tasks import TaskFolder
from train.ladder.questions import choose, items_for

CONTEXT = 96


@given(st.floats(0.01, 0.4), st.integers(2, 20))
def test_as_many_items_as_the_standard_error_needs(stderr, choices):
    count, p = items_for(stderr, choices), 1 / choices
    assert (p * (1 - p) / count) ** 0.5 <= stderr * (1 + 1e-6)
    if count > 2:
        assert (p * (1 - p) / (count - 1)) ** 0.5 > stderr * (1 - 1e-6)


def test_free_answers_count_as_a_coin():
    assert items_for(0.1, 0) == items_for(0.1, 2) == 25


@pytest.fixture
def tasks(tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [
        {"id": f"i{i}", "context": "ab " * 5, "choices": ["x" * (200 if i % 3 == 0 else 4), "yes"], "gold": 1,
         "answer": "yes"}
        for i in range(60)
    ]  # fmt: skip
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = [{"task": "mine", "fewshot_prefix": "q a\n\n", "fewshot_shots": 1, "target_delimiter": " "}]
    (folder / "tasks.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def test_the_first_items_that_can_be_read(tasks, tmp_path):
    registry, tokenizer = Registry.open([tasks]), byte_tokenizer()
    found = choose(registry, ["mine", "skill_copy"], tokenizer, CONTEXT, 0.1, tmp_path / "asked")
    mine, copy = found.tasks
    there = registry.task("mine")
    readable = [item.id for item in there.ranked if len(item.choices[0]) < CONTEXT]
    asked = TaskFolder.open(tmp_path / "asked").task("mine")
    assert [item.id for item in asked.items] == readable[:25]
    assert (mine.items, mine.there, mine.shots) == (25, 60, 1) and mine.long > 0
    assert mine.tokens == 25 * (len("q a\n\n" + "ab " * 5) + len(" xxxx") + len(" yes"))
    assert asked.prompt(None) == "q a\n\n" and asked.delimiter == " "
    assert copy.items == items_for(0.1, 4) and copy.long == 0
    assert found == choose(registry, ["mine"], tokenizer, CONTEXT, 0.1, tmp_path / "asked")  # read again


def test_examples_that_would_fill_the_context_are_left_out(tasks, tmp_path):
    found = choose(Registry.open([tasks]), ["mine"], byte_tokenizer(), 16, 0.1, tmp_path / "asked")
    assert found.tasks[0].shots == 0
    assert TaskFolder.open(tmp_path / "asked").task("mine").prefix == ""


def test_a_task_of_which_nothing_can_be_read_is_not_asked(tasks, tmp_path):
    found = choose(
        Registry.open([tasks]), ["mine", "skill_copy"], byte_tokenizer(), 4, 0.1, tmp_path / "asked"
    )
    assert "mine" not in [one.task for one in found.tasks]
