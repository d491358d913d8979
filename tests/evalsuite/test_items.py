"""Items: what is written is read back, and what is broken is told by file and line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.items import SHOWN, Item, read_items
from scaling.errors import StagewiseError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scored = texts.filter(lambda text: bool(text.strip(" ")))


@st.composite
def items(draw) -> Item:
    choices = tuple(draw(st.just([]) | st.lists(scored, min_size=2, max_size=5)))
    gold = draw(st.integers(0, len(choices) - 1)) if choices else -1
    parts = {}
    if choices and draw(st.booleans()):
        parts = {"option_contexts": tuple(draw(texts) for _ in choices), "continuation": draw(scored)}
    name = draw(texts.filter(lambda text: text and "\0" not in text))
    answer = choices[gold] if choices else draw(scored)
    return Item(name, draw(texts), choices, gold, answer, draw(texts), draw(texts), draw(texts), **parts)


def line(**changes) -> str:
    """A line of a file; None leaves a field out."""
    fields = {
        "id": "a/1",
        "context": "Is it?",
        "choices": ["yes", "no"],
        "gold": 0,
        "answer": "yes",
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


@given(st.lists(items(), min_size=1, max_size=6, unique_by=lambda item: item.id), st.booleans())
def test_what_is_written_is_read_back(tmp_path_factory, given_items, ascii_only):
    path = tmp_path_factory.mktemp("items") / "t.jsonl"
    lines = [json.dumps(item.record(), ensure_ascii=ascii_only) for item in given_items]
    path.write_bytes("".join(f"{one}\n" for one in lines).encode())
    assert read_items(path) == tuple(given_items)


@given(items())
def test_a_record_is_an_item_again(item):
    assert Item.of(item.record()) == item


def test_fields_it_does_not_know_and_empty_lines_are_left_out(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(f"\n{line(note=1, family='f')}\n  \n{line(id='a/2')}", encoding="utf-8")
    one, two = read_items(path)
    assert (one.id, one.family, two.id, two.family) == ("a/1", "f", "a/2", "")


BROKEN = {
    "not JSON": ("{", "not JSON .*; valid is one object per line"),
    "nested too deep": ("[" * 100_000, "not JSON"),
    "a list": ("[1]", "got list, valid is an object with id, context, choices, gold, answer"),
    "missing": (line(context=..., gold=...), r"missing field\(s\) context, gold"),
    "id": (line(id=3), "field id: got 3, valid is text"),
    "no id": (line(id=""), "field id: got '', valid is a text that names the item"),
    "context": (line(context=None), "field context: got None, valid is text"),
    "answer": (line(answer=["yes"]), r"field answer: got \['yes'\], valid is text"),
    "family": (line(family=1), "field family: got 1, valid is text"),
    "group": (line(group=["x"]), r"field group: got \['x'\], valid is text"),
    "choices": (line(choices="yes"), "field choices: got 'yes', valid is a list of texts"),
    "choice": (line(choices=["yes", 1]), "field choices: got .*, valid is a list of texts"),
    "gold": (line(gold=2), "field gold: got 2, valid is 0 to 1, the index of the right choice"),
    "gold below": (line(gold=-1), "field gold: got -1, valid is 0 to 1"),
    "gold as truth": (line(gold=True), "field gold: got True"),
    "gold as text": (line(gold="0"), "field gold: got '0'"),
    "another answer": (line(answer="no"), "field answer: got 'no', valid is the right choice, 'yes'"),
    "one choice": (line(choices=["yes"]), "field choices: got 1, valid is two or more, or none"),
    "empty choice": (
        line(choices=["yes", ""]),
        "no answer to score: choice 1 is ''; valid is text of one byte",
    ),
    "blank choice": (line(choices=["yes", "  "]), "no answer to score: choice 1 is '  '"),
    "empty answer": (line(choices=[], gold=-1, answer=""), "no answer to score: answer is ''"),
    "contexts": (line(option_contexts="x"), "field option_contexts: got 'x', valid is a list of texts"),
    "a context": (line(option_contexts=["x", 1]), "field option_contexts: got .*, valid is a list of texts"),
    "too few": (
        line(option_contexts=["x"], continuation="y"),
        "field option_contexts: got 1, valid is one",
    ),
    "continuation": (
        line(option_contexts=["x", "y"], continuation=1),
        "field continuation: got 1, valid is text",
    ),
    "no continuation": (line(option_contexts=["x", "y"]), "field continuation: got None"),
    "blank continuation": (line(option_contexts=["x", "y"], continuation=" "), "no answer to score"),
    "half a surrogate": (line(context="\ud83d"), r"half a surrogate pair at '\\ud83d', .* valid is UTF-8"),
    "half a surrogate in the choices": (line(choices=["yes", "\ude00"]), "half a surrogate pair"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_told(tmp_path, text, said):
    path = tmp_path / "t.jsonl"
    path.write_text(f"{line(id='fine')}\n{text}\n", encoding="utf-8")
    with pytest.raises(StagewiseError, match=rf"t\.jsonl: 1 problem\(s\)\n  t\.jsonl:2.*: {said}") as caught:
        read_items(path)
    assert str(caught.value).endswith("correct the lines, or take the files out of the folder")


def test_an_item_that_cannot_be_is_refused_too():
    with pytest.raises(StagewiseError, match="item 'a': field gold: got 5, valid is 0 to 1"):
        Item("a", "", ("x", "y"), 5, "y")
    with pytest.raises(StagewiseError, match="item 'a': no answer to score"):
        Item("a", "", (), -1, "")


def test_an_id_that_stands_twice(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join([line(), line(id="b"), line()]), encoding="utf-8")
    with pytest.raises(StagewiseError, match=r"t\.jsonl:3: id 'a/1' stands in line 1 already"):
        read_items(path)


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n \n", encoding="utf-8")
    (tmp_path / "bytes.jsonl").write_bytes(line().encode() + b"\n\xff\n")
    for name, said in (
        ("empty", "empty file; a task has at least one item"),
        ("bytes", "not UTF-8 text .invalid start byte at byte"),
        ("nowhere", "cannot be read .No such file"),
    ):
        with pytest.raises(StagewiseError, match=rf"{name}\.jsonl: {said}"):
            read_items(tmp_path / f"{name}.jsonl")


def test_all_problems_are_told_at_once_or_collected(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("{\n" * (SHOWN + 5), encoding="utf-8")
    with pytest.raises(StagewiseError, match=r"25 problem\(s\)(.|\n)*t\.jsonl:20(.|\n)*and 5 more"):
        read_items(path)
    problems: list[str] = []
    assert read_items(path, problems) == () and len(problems) == SHOWN + 5


def test_line_ends_of_unicode_inside_texts(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(line(context="a\u2028b\x85c").encode().decode("unicode_escape"), encoding="utf-8")
    assert read_items(path)[0].context == "a\u2028b\x85c"


def test_real_items(shared):
    """Oracle: the number of items that tasks.json states, and the lines as they stand."""
    stated = json.loads((shared / "tasks" / "tasks.json").read_text(encoding="utf-8"))
    for entry in stated:
        path = shared / "tasks" / f"{entry['task']}.jsonl"
        found = read_items(path)
        assert len(found) == entry["items"]
        first = json.loads(path.read_text(encoding="utf-8").split("\n", 1)[0])
        assert all(found[0].record().get(name, value) == value for name, value in first.items()), entry[
            "task"
        ]
