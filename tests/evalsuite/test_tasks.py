"""Tasks: how they are read, named, cut down and told apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.encoding import Encoder
from evalsuite.items import Item
from evalsuite.requests import TaskRequests
from evalsuite.tasks import Task, TaskFolder, read_task
from scaling.errors import StagewiseError, UsageError
from scaling.tasks import TaskInfo, task_info
from tests.evalsuite.modules import Bytes


def line(name: str, **changes) -> str:
    fields = {"id": name, "context": "Is it?", "choices": ["yes", "no"], "gold": 0, "answer": "yes"} | changes
    return json.dumps(fields) + "\n"


def folder_of(path, settings: list | None = None, **files: str):
    for name, text in files.items():
        (path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    if settings is not None:
        (path / "tasks.json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def made(count: int = 100, **changes) -> Task:
    items = tuple(Item(f"q/{i}", f"{i}", ("a", "b"), i % 2, "ab"[i % 2]) for i in range(count))
    return Task("made", items, TaskInfo("made"), **changes)


# --- folders --------------------------------------------------------------------------------------


def test_what_a_folder_says_of_a_task(tmp_path):
    entry = {
        "task": "mine", "target_delimiter": "", "fewshot_prefix": "Q: a\n\nQ: b\n\n", "chance": 0.5,
        "family": "logic", "licence": "CC0", "note": "by hand", "base_longest": 0.41, "ngram_3": 0.3,
        "items": 2,
    }  # fmt: skip
    task = TaskFolder.open(folder_of(tmp_path, [entry], mine=line("a") + line("b"))).task("mine")
    assert (task.name, task.delimiter, task.prefix, task.prefix_shots) == ("mine", "", "Q: a\n\nQ: b\n\n", 2)
    assert task.shots == (0, 2) and task.origin == "mine.jsonl" and task.licence == "CC0"
    assert dict(task.baselines) == {"base_longest": 0.41, "ngram_3": 0.3}
    assert (task.info.chance, task.info.n_choices, task.info.n_items) == (0.5, 2, 2)
    assert (task.info.capability, task.info.note, task.unsafe) == ("logic", "by hand", "")
    assert task == read_task(tmp_path / "mine.jsonl")


def test_what_a_folder_does_not_say(tmp_path):
    task = TaskFolder.open(folder_of(tmp_path, mine=line("a", family="words"))).task("mine")
    assert (task.delimiter, task.prefix, task.shots, task.licence) == (" ", "", (0,), "")
    assert task.info.capability == "words" and task.info.n_choices == 2 and not task.baselines


def test_the_number_of_solved_examples_can_be_stated(tmp_path):
    entry = {"task": "mine", "fewshot_prefix": "Q: a\n\ntwo paragraphs\n\n", "fewshot_shots": 1}
    assert TaskFolder.open(folder_of(tmp_path, [entry], mine=line("a"))).task("mine").shots == (0, 1)


def test_names_are_ours_where_the_facts_know_them(tmp_path):
    folder = TaskFolder.open(folder_of(tmp_path, piqa=line("a"), social_iqa=line("a"), other=line("a")))
    assert set(folder.files) == {"piqa", "siqa", "other"}
    assert folder.task("siqa").info.name == "siqa" and folder.task("siqa").origin == "social_iqa.jsonl"
    assert read_task(tmp_path / "social_iqa.jsonl").name == "siqa"
    with pytest.raises(UsageError, match=r"task 'nowhere': not in .*; it holds other, piqa, siqa"):
        folder.task("nowhere")


def test_settings_are_found_under_the_name_of_the_file(tmp_path):
    entry = {"task": "social_iqa", "target_delimiter": "|"}
    folder = TaskFolder.open(folder_of(tmp_path, [entry], social_iqa=line("a")))
    assert folder.task("siqa").delimiter == "|"


def test_two_files_of_one_meaning_keep_their_own_names(tmp_path):
    folder = TaskFolder.open(folder_of(tmp_path, siqa=line("a"), social_iqa=line("b")))
    assert set(folder.files) == {"siqa", "social_iqa"}


def test_a_broken_file_does_not_stop_another_task(tmp_path):
    folder = TaskFolder.open(folder_of(tmp_path, good=line("a"), bad=line("a") + "{\n", empty=""))
    assert len(folder.task("good").items) == 1
    assert read_task(tmp_path / "good.jsonl").name == "good"
    with pytest.raises(StagewiseError, match=r"bad\.jsonl:2: not JSON"):
        folder.task("bad")
    with pytest.raises(StagewiseError, match=r"2 problem\(s\)(.|\n)*bad\.jsonl:2(.|\n)*empty\.jsonl"):
        folder.all()


def test_a_path_that_leads_nowhere(tmp_path):
    with pytest.raises(StagewiseError, match="no such folder"):
        TaskFolder.open(tmp_path / "nowhere")
    with pytest.raises(StagewiseError, match=r"no \*\.jsonl file"):
        TaskFolder.open(tmp_path)
    with pytest.raises(StagewiseError, match="no such file"):
        read_task(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "got dict"),
        ([3], "entry 1"),
        ([{"task": "a"}, {"task": 3}], "entry 2"),
        ([{"task": "a", "unsafe": True}], "entry 1: unsafe: got True"),
        ([{"task": "a", "chance": "half"}], "entry 1: chance: got 'half'"),
        ([{"task": "a", "fewshot_shots": None}], "entry 1: fewshot_shots: got None"),
        ([{"task": "a", "fewshot_shots": 2.5}], "entry 1: fewshot_shots: got 2.5"),
        ([{"task": "a", "fewshot_shots": -1}], "entry 1: fewshot_shots: got -1"),
        ([{"task": "a", "chance": True}], "entry 1: chance: got True"),
        ([{"task": "a", "chance": 1.5}], "entry 1: chance: got 1.5"),
        (
            [{"task": "a", "target_delimiter": "x"}, {"task": "a", "target_delimiter": "y"}],
            "entry 2(.|\n)*'a'",
        ),
    ],
)
def test_broken_settings_are_refused(tmp_path, settings, said):
    with pytest.raises(StagewiseError, match=said):
        TaskFolder.open(folder_of(tmp_path, settings, a=line("a")))


def test_a_file_alone_is_a_task(tmp_path):
    """A name that is no *.jsonl: no settings stand for it."""
    folder_of(tmp_path, other=line("a"))
    (tmp_path / "mine.txt").write_text(line("b"), encoding="utf-8")
    assert read_task(tmp_path / "mine.txt").items[0].id == "b"
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "mine.txt").write_text(line("b"), encoding="utf-8")
    assert read_task(alone / "mine.txt").name == "mine"


# --- facts ----------------------------------------------------------------------------------------


def test_chance_is_the_mean_of_one_over_choices():
    """Oracle: by hand, (1/2 + 1/4 + 0) / 3: a free answer is never guessed."""
    items = (
        Item("a", "", ("x", "y"), 0, "x"), Item("b", "", ("x", "y", "z", "w"), 0, "x"),
        Item("c", "", (), -1, "x"),
    )  # fmt: skip
    task = Task("t", items, TaskInfo("t"))
    assert task.chance == pytest.approx(0.25) and not task.free
    free = replace(task, items=items[2:])
    assert free.chance == 0 and free.free


def test_a_prompt_has_the_examples_there_are():
    task = made(prefix="one\n\ntwo\n\n", prefix_shots=2)
    assert task.prompt(None) == task.prompt(2) == task.prefix and task.prompt(0) == ""
    for shots in (1, 5, -1):
        with pytest.raises(
            StagewiseError, match=f"task made: {shots} solved examples asked for, valid is 0 or 2"
        ):
            task.prompt(shots)
    assert made().prompt(None) == made().prompt(0) == ""
    with pytest.raises(StagewiseError, match=r"valid is 0$"):
        made().prompt(5)


def test_the_digest_is_of_what_a_model_is_asked():
    task = made()
    assert task.digest == made().digest and len(task.digest) == 64
    same = replace(
        task, name="other", licence="x", origin="y", unsafe="z", baselines={"a": 1.0}, prefix_shots=0
    )
    assert same.digest == task.digest
    items = list(task.items)
    for other in (
        replace(task, delimiter=""), replace(task, prefix="a"), replace(task, items=task.items[:-1]),
        replace(task, items=(replace(items[0], context="?"), *items[1:])),
        replace(task, items=(*items[1:], items[0])),
    ):  # fmt: skip
        assert other.digest != task.digest


def test_a_task_in_a_table():
    frame = made(3).to_frame()
    assert frame["id"].tolist() == ["q/0", "q/1", "q/2"] and "q/2" in made(3)._repr_html_()


def test_what_is_unsafe_is_not_scored(tmp_path):
    entry = {"task": "code", "unsafe": "its answers would have to be run"}
    task = TaskFolder.open(folder_of(tmp_path, [entry], code=line("a"))).task("code")
    with pytest.raises(StagewiseError, match="task code: not scored: its answers would have to be run"):
        TaskRequests.build(task, 0, Encoder(Bytes()), 100)


# --- some of the items ----------------------------------------------------------------------------


@given(st.integers(1, 98))
def test_fewer_items_are_the_first_of_more(count):
    task = made()
    chosen = task.take(count).items
    assert len(chosen) == count and chosen == task.take(count + 1).items[:count]
    # Oracle: the order by sha256 of the id.
    ranked = sorted(task.items, key=lambda item: hashlib.sha256(item.id.encode()).hexdigest())
    assert list(chosen) == ranked[:count]


def test_the_order_of_the_file_does_not_matter():
    task = made()
    turned = replace(task, items=task.items[::-1])
    assert turned.take(50).items == task.take(50).items


def test_all_the_items_are_the_task_itself():
    task = made()
    assert task.take() is task and task.take(100) is task


@pytest.mark.parametrize("count", [0, -1, 101])
def test_more_items_than_there_are(count):
    with pytest.raises(StagewiseError, match=f"task made: {count:,} items asked for, 100 at hand"):
        made().take(count)


def test_items_by_name_stand_in_the_order_of_the_names():
    task = made()
    assert [item.id for item in task.take(ids=["q/7", "q/3"]).items] == ["q/7", "q/3"]
    assert [item.id for item in task.take(ids=["7", "q/3"]).items] == ["q/7", "q/3"]  # by number
    assert [item.id for item in task.take(ids=iter(["q/7"])).items] == ["q/7"]


def test_a_name_wins_over_a_number():
    items = tuple(Item(name, "", ("a", "b"), 0, "a") for name in ("1", "0", "x"))
    task = Task("t", items, TaskInfo("t"))
    assert [item.id for item in task.take(ids=["0", "1", "2"]).items] == ["0", "1", "x"]


def test_items_that_are_not_there():
    with pytest.raises(StagewiseError, match=r"task made: has no item 'x' \(2 missing\).*like 'q/0'"):
        made().take(ids=["q/1", "x", "y"])
    with pytest.raises(StagewiseError, match="made"):
        made().take(ids=[])


def test_an_item_is_not_taken_twice():
    """A doubled item would weigh twice in every mean; by name and by number it is the same one."""
    for ids in (["q/1", "q/1"], ["q/1", "1"]):
        with pytest.raises(StagewiseError, match="q/1"):
            made().take(ids=ids)


# --- the real ones --------------------------------------------------------------------------------


def test_every_task_at_hand(shared):
    """Oracle: what tasks.json states of each."""
    folder = TaskFolder.open(shared / "tasks")
    stated = {entry["task"]: entry for entry in json.loads((shared / "tasks" / "tasks.json").read_text())}
    tasks = folder.all()
    assert len(tasks) == len(stated)
    for name, task in tasks.items():
        entry = stated[task.origin.removesuffix(".jsonl")]
        assert (task.name, len(task.items)) == (name, entry["items"])
        if entry.get("chance") is not None and not task.free:
            assert task.chance == pytest.approx(entry["chance"], abs=0.02), name
        assert task.info == replace(
            task_info(name), chance=task.info.chance, n_choices=task.info.n_choices, n_items=len(task.items),
            capability=task.info.capability, note=task.info.note,
        )  # fmt: skip
        assert task.take(min(50, len(task.items))).items[0] in task.items
