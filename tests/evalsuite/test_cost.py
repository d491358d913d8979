"""Cost of a task: closed forms, what wins over what, the items at hand, and files that are broken."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.cost import BYTES_PER_TOKEN, Cost, cost_of, measure_items
from scaling.errors import StagewiseError, UsageError
from scaling.facts.tables import rows
from scaling.item_sizes import ItemSize
from scaling.series import Key
from scaling.tasks import TaskInfo, known_tasks, task_info

TEXT = TaskInfo("t", format="choice_text", n_choices=4, n_items=100)
# 100 tokens of context, 10 of each of four answers.
SIZE = {"t": ItemSize(context=400, answer=40, choices=4, items=50, basis="measured")}


@pytest.mark.parametrize(
    ("metric", "shots", "per_item"),
    [
        ("acc", 0, 100 + 4 * 10),
        ("acc", None, 100 + 4 * 10),
        ("acc_norm", 5, 5 * (100 + 10) + 100 + 4 * 10),
        ("margin", 5, 5 * (100 + 10) + 100 + 4 * 10),
        ("bpb", 0, 100 + 10),
        ("bpb", 5, 6 * (100 + 10)),
        ("gold_ce_loss", 1, 2 * (100 + 10)),
    ],
)
def test_a_packed_row_by_hand(metric, shots, per_item):
    # Oracle: the formula of `cost_of`, by hand.
    cost = cost_of(Key("t", metric, shots), TEXT, 30, SIZE)
    assert cost == Cost(per_item=per_item, items=30, basis="measured")
    assert cost.tokens == 30 * per_item


def test_a_choice_is_a_token_at_least():
    short = {"t": ItemSize(context=40, answer=3, choices=2, items=10, basis="measured")}
    assert cost_of(Key("t", "acc", 0), TEXT, None, short).per_item == 10 + 2


def test_a_letter_is_one_token_and_the_options_stand_in_the_context():
    # Oracle: by hand from the row of the facts table, whose answers are texts.
    row = next(row for row in rows("item_sizes.csv") if row["task"] == "mmlu_mc")
    context = float(row["context_bytes"]) / BYTES_PER_TOKEN
    cost = cost_of(Key("mmlu_mc", "acc", 5), task_info("mmlu_mc"))
    assert cost.per_item == pytest.approx(5 * (context + 1) + context + 4)
    assert (cost.items, cost.basis) == (14042, "facts")


def test_free_answers_cost_one_answer():
    free = {"t": ItemSize(context=400, answer=200, choices=1, items=10, basis="measured")}
    info = TaskInfo("t", format="generation")
    for metric in ("exact_match", "bpb"):
        assert cost_of(Key("t", metric, 2), info, None, free).per_item == 3 * (100 + 50)


def test_solved_examples_that_come_with_the_items_count_where_shots_are_unknown():
    size = {"t": ItemSize(context=400, answer=40, choices=4, items=50, basis="measured", prefix=1000)}
    assert cost_of(Key("t", "acc", None), TEXT, None, size).per_item == 250 + 140
    assert cost_of(Key("t", "acc", 0), TEXT, None, size).per_item == 140
    assert cost_of(Key("t", "acc", 1), TEXT, None, size).per_item == 110 + 140


def test_items_are_those_asked_for_then_those_at_hand_then_those_of_the_facts():
    key = Key("copa", "acc", 0)
    here = {"copa": ItemSize(context=40, answer=30, choices=2, items=7, basis="measured")}
    assert cost_of(key, task_info("copa"), 3, here).items == 3
    assert cost_of(key, task_info("copa"), None, here).items == 7
    assert cost_of(key, task_info("copa")).items == task_info("copa").n_items


def test_what_is_assumed_says_so():
    unknown = TaskInfo("never_heard_of_it", format="choice_text")
    assert cost_of(Key(unknown.name, "acc", 0), unknown, 10).basis == "assumed"
    known = task_info("piqa")
    assert cost_of(Key("piqa", "acc", 0), known).basis == "facts"
    # A measured size with an unknown number of items is still a guess.
    size = {"t": ItemSize(context=400, answer=40, choices=4, items=None, basis="measured")}
    assert cost_of(Key("t", "acc", 0), TaskInfo("t"), None, size).basis == "assumed"
    assert cost_of(Key("t", "acc", 0), TaskInfo("t"), 9, size).basis == "measured"


def test_every_known_task_has_a_cost():
    for task in known_tasks():
        for metric, shots in (("acc", 0), ("acc", 5), ("bpb", None)):
            cost = cost_of(Key(task, metric, shots), task_info(task))
            assert math.isfinite(cost.per_item) and cost.per_item >= 1, (task, metric)
            assert cost.items >= 1 and cost.tokens >= cost.items, (task, metric)
            assert not (cost.basis == "assumed" and "choice" in (task_info(task).format or "")), task


@given(
    context=st.floats(0, 1e5),
    answer=st.floats(0.1, 1e4),
    choices=st.integers(1, 20),
    shots=st.integers(0, 30),
    items=st.integers(1, 10**6),
)
def test_more_of_anything_never_costs_less(context, answer, choices, shots, items):
    def tokens(context=context, answer=answer, choices=choices, shots=shots, items=items, metric="acc"):
        size = {"t": ItemSize(context, answer, choices, items, "measured")}
        cost = cost_of(Key("t", metric, shots), TEXT, None, size)
        return cost.per_item * cost.items  # not rounded yet

    here = tokens()
    assert tokens(context=context + 100) >= here and tokens(answer=answer + 10) >= here
    assert tokens(shots=shots + 1) > here
    assert tokens(choices=choices + 1) > here and tokens(items=items + 1) > here
    assert tokens(metric="bpb") <= here


def test_words_and_tables():
    cost = Cost(per_item=12.4, items=1000, basis="assumed")
    assert cost.words == "12,400 tokens per model: 1,000 items of 12 (assumed)"
    assert cost.to_frame().to_dict("records") == [
        {"tokens": 12400, "per_item": 12.4, "items": 1000, "basis": "assumed"}
    ]
    assert "12400" in cost._repr_html_()


@pytest.mark.parametrize(("shots", "items"), [(0, 0), (0, -3), (-1, 10)])
def test_impossible_numbers_are_refused(shots, items):
    with pytest.raises(UsageError, match="valid is"):
        cost_of(Key("t", "acc", shots), TEXT, items)


# --- the items at hand --------------------------------------------------------------------------


def item(**changes) -> str:
    fields = {
        "id": "a/1",
        "context": "Is it?",
        "choices": ["yes", "no"],
        "gold": 0,
        "answer": "yes",
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}, ensure_ascii=False)


def folder_of(path, **files: str):
    for name, text in files.items():
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return path


def test_means_by_hand(tmp_path):
    # Oracle: bytes counted by hand; an umlaut is two, and each answer has a blank before it.
    lines = (
        item(context="ab")
        + "\n\n"
        + item(id="a/2", context="äöü", choices=["x", "yy", "zzz"], gold=2, answer="zzz")
        + "\n"
    )
    size = measure_items(folder_of(tmp_path, mine=lines))["mine"]
    assert size == ItemSize(
        context=(2 + 6) / 2,
        answer=(4 + 3 + 2 + 3 + 4) / 5,
        choices=5 / 2,
        items=2,
        basis="measured",
        reference="mine.jsonl, 2 items",
    )


def test_a_free_answer_is_the_right_one(tmp_path):
    folder = folder_of(tmp_path, free=item(choices=[], gold=-1, answer="forty two"))
    assert measure_items(folder)["free"].answer == 10
    assert measure_items(folder)["free"].choices == 1


def test_settings_beside_the_items(tmp_path):
    folder = folder_of(tmp_path, code=item(), other=item())
    entry = {"task": "code", "target_delimiter": "", "fewshot_prefix": "Q: ä\n\n", "chance": 0.5}
    (folder / "tasks.json").write_text(json.dumps([entry]), encoding="utf-8")
    found = measure_items(folder)
    assert (found["code"].answer, found["code"].prefix) == (2.5, 7)
    assert (found["other"].answer, found["other"].prefix) == (3.5, 0)


def test_a_task_is_called_as_its_file_or_as_the_facts_say(tmp_path):
    folder = folder_of(tmp_path, piqa=item(), social_iqa=item(), Piqa=item(), commonsense_qa=item())
    # lm-eval's commonsense_qa is another test than ours of that name: the same name wins.
    assert set(measure_items(folder)) == {"piqa", "siqa", "Piqa", "commonsense_qa"}
    folder_of(tmp_path, siqa=item(context="longer than that"))
    found = measure_items(folder)
    assert found["siqa"].context > found["social_iqa"].context


BROKEN = {
    "not JSON": ('{"id": 1', "not JSON"),
    "a list": ("[1]", "got list"),
    "no context": (item(context=...), r"missing field\(s\) context"),
    "no choices, no gold": (item(choices=..., gold=...), r"missing field\(s\) choices, gold"),
    "a number for text": (item(answer=3), "field answer: got 3"),
    "choices in a text": (item(choices="yes, no"), "field choices"),
    "gold outside": (item(gold=2), "valid is 0 to 1"),
    "gold as truth": (item(gold=True), "field gold: got True"),
    "nothing to score": (item(choices=[], answer=""), "no answer to score"),
}


@pytest.mark.parametrize(("line", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_told_by_file_and_line(tmp_path, line, said):
    folder = folder_of(tmp_path, good=item(), bad=f"{item()}\n{line}\n{item(id='a/2')}\n")
    with pytest.raises(StagewiseError, match=rf"bad\.jsonl:2.*: .*{said}"):
        measure_items(folder)


def test_all_that_is_broken_is_told_at_once(tmp_path):
    folder = folder_of(tmp_path, a="{\n" * 30, b="", c=item(gold=9))
    (folder / "d.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(StagewiseError, match=r"33 problem\(s\)(.|\n)*a.jsonl:20(.|\n)*and 13 more") as caught:
        measure_items(folder)
    assert "a.jsonl:21" not in str(caught.value)
    (folder / "a.jsonl").unlink()
    with pytest.raises(StagewiseError) as caught:
        measure_items(folder)
    for said in ("b.jsonl: empty file", "c.jsonl:1 (item 'a/1'): field gold", "d.jsonl: not UTF-8"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("{}", "got dict"),
        ("[{}]", "entry 1"),
        ('[{"task": "t"}, {"task": "u", "target_delimiter": null}]', "entry 2: target_delimiter: got None"),
    ],
)
def test_broken_settings_are_refused(tmp_path, text, said):
    (folder_of(tmp_path, t=item()) / "tasks.json").write_text(text, encoding="utf-8")
    with pytest.raises(StagewiseError, match=said):
        measure_items(tmp_path)


def test_a_folder_without_tasks_is_refused(tmp_path):
    with pytest.raises(StagewiseError, match="no such folder"):
        measure_items(tmp_path / "nowhere")
    with pytest.raises(StagewiseError, match=r"no \*\.jsonl file"):
        measure_items(tmp_path)


def test_the_facts_are_the_means_of_the_items_they_name(shared):
    """Oracle: the items themselves, where a row of the facts table was measured and bears the task's name."""
    found = measure_items(shared / "tasks")
    measured = {row["task"].rstrip("*") for row in rows("item_sizes.csv") if row["basis"] == "measured"}
    both = sorted(measured & set(found))
    assert len(both) >= 15
    for task in both:
        key = Key(task, "acc", 5)
        said, real = cost_of(key, task_info(task)), cost_of(key, task_info(task), None, found)
        assert (said.basis, real.basis) == ("facts", "measured")
        assert said.per_item == pytest.approx(real.per_item, rel=0.02), task


def test_every_task_at_hand_can_be_told(shared):
    """Oracle: the number of lines of each file, and the mean context that `tasks.json` states."""
    found = measure_items(shared / "tasks")
    stated = json.loads((shared / "tasks" / "tasks.json").read_text(encoding="utf-8"))
    renamed = {"social_iqa": "siqa"}
    assert len(found) == len(stated)
    for entry in stated:
        size = found[renamed.get(entry["task"], entry["task"])]
        assert size.items == entry["items"], entry["task"]
        # Stated in whole characters of the items that were found, measured in bytes of those that were kept.
        assert size.context == pytest.approx(entry["context_chars_mean"], rel=0.03, abs=2), entry["task"]
