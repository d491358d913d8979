"""Sizes of items: every known task has one, the table holds together, and unknown tasks get a median."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from statistics import median

import pytest

from scaling.facts.tables import rows
from scaling.item_sizes import item_size, typical_items
from scaling.tasks import TaskInfo, known_tasks, task_info


def test_every_row_holds_together():
    for row in rows("item_sizes.csv"):
        assert row["basis"] in ("measured", "estimate", "assumed"), row
        assert row["reference"], row
        context, answer = float(row["context_bytes"]), float(row["answer_bytes"])
        assert context >= 0 and answer > 0 and math.isfinite(context + answer), row
        assert not row["choices"] or float(row["choices"]) >= 1, row
        assert not row["items"] or int(row["items"]) >= 1, row


def test_every_row_is_used():
    """A row that an earlier one hides, or that fits no task, says nothing."""
    patterns = [row["task"] for row in rows("item_sizes.csv")]
    first = {next(p for p in patterns if fnmatchcase(name, p)) for name in known_tasks()}
    assert [pattern for pattern in patterns if pattern not in first] == []


def test_every_known_task_has_a_size_of_its_own_and_items():
    for name in known_tasks():
        size = item_size(task_info(name))
        assert size.items is not None and size.items > 0, name
        assert size.choices >= 1 and math.isfinite(size.context + size.answer), name
        assert not size.reference.startswith("median"), name


def test_what_benchmarks_say_of_a_task_wins_over_the_sizes():
    assert item_size(task_info("piqa")).choices == task_info("piqa").n_choices == 2
    assert item_size(task_info("piqa")).items == task_info("piqa").n_items == 1838
    assert item_size(task_info("piqa_1k")).items == 1000


def test_the_first_row_that_fits_holds():
    # commonsense_qa_mc fits the later pattern of its text form as well.
    assert item_size(task_info("commonsense_qa_mc")).context > item_size(task_info("commonsense_qa")).context
    assert item_size(task_info("xnli_th")).answer > item_size(task_info("xnli_en")).answer


def test_a_task_of_like_name_is_another_task():
    assert item_size(task_info("piqa_hard")).basis == "assumed"
    assert item_size(task_info("PIQA")).basis == "assumed"


@pytest.mark.parametrize("format", ["choice_text", "yes_no", "minimal_pair", "generation"])
def test_an_unknown_task_gets_the_median_of_its_format(format):
    # Oracle: the median over the tasks of that format, one by one.
    same = [
        item_size(task_info(name)) for name in known_tasks() if task_info(name).format == format
    ]  # fmt: skip
    size = item_size(TaskInfo("never_heard_of_it", format=format))
    assert size.basis == "assumed" and format in size.reference and str(len(same)) in size.reference
    assert size.context == median(one.context for one in same)
    assert size.answer == median(one.answer for one in same)
    assert typical_items(format) == round(median(one.items for one in same))


def test_an_unknown_format_gets_the_median_of_all():
    every = [item_size(task_info(name)) for name in known_tasks()]
    for format in (None, "telepathy"):
        size = item_size(TaskInfo("never_heard_of_it", format=format, n_choices=7))
        assert size.context == median(one.context for one in every)
        assert size.choices == 7 and size.items is None
        assert size.reference == f"median over {len(every)} tasks"
