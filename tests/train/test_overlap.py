"""Overlap with benchmarks: sets of tuples of words, made the slow way, are the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.items import Item
from evalsuite.registry import Registry
from evalsuite.skills import skill_names
from evalsuite.tasks import Task
from scaling.errors import UsageError
from scaling.tasks import task_info
from train import overlap
from train.overlap import NGRAM, SHORTEST, Overlap, item_texts, words_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Document:
    """What `refuse` reads of a document."""

    text: str
    domain: str


def task(name: str, *texts: str, delimiter: str = " ") -> Task:
    """A task of free answers; the last word of each text is the answer."""
    items = []
    for i, text in enumerate(texts):
        context, _, answer = text.rpartition(" ")
        items.append(Item(str(i), context, (), -1, answer or "x"))
    return Task(name, tuple(items), task_info(name), delimiter=delimiter)


def naive_words(text: str) -> tuple[str, ...]:
    return tuple("".join(c if c.isalnum() else " " for c in text.lower()).split(" "))


def naive(tasks: list[Task], text: str) -> dict[str, int]:
    """Keys of each task in a text, by sets of tuples."""
    read = tuple(word for word in naive_words(text) if word)
    inside = {read[i : i + n] for n in range(SHORTEST, NGRAM + 1) for i in range(len(read) - n + 1)}
    found = {}
    for one in tasks:
        keys = set()
        for item in one.items:
            words = tuple(w for w in naive_words(f"{item.context}{one.delimiter}{item.answer}") if w)
            if len(words) >= NGRAM:
                keys |= {words[i : i + NGRAM] for i in range(len(words) - NGRAM + 1)}
            elif len(words) >= SHORTEST:
                keys.add(words)
        found[one.name] = len(keys & inside)
    return {name: count for name, count in found.items() if count}


word = st.sampled_from(["a", "B", "c", "É", "4"])  # few words: texts often share long runs of them
blank = st.sampled_from([" ", "\n", ", ", "_", " - ", "'"])


@st.composite
def texts(draw, most: int = 30) -> str:
    words = draw(st.lists(word, min_size=1, max_size=most))
    if draw(st.booleans()):  # runs that repeat
        words = [words[i % min(len(words), 3)] for i in range(len(words))]
    return "".join(part for one in words for part in (one, draw(blank)))


@settings(max_examples=300)
@given(data=st.data())
def test_the_same_keys_as_sets_of_tuples(data):
    questions = data.draw(st.lists(st.lists(texts(), min_size=1, max_size=4), min_size=1, max_size=3))
    tasks = [task(f"t{i}", *several) for i, several in enumerate(questions)]
    copied = [one for several in questions for one in several]
    text = " ".join(data.draw(st.lists(st.one_of(texts(60), st.sampled_from(copied)), max_size=4)))
    made = Overlap.of(tasks)
    piece = data.draw(st.sampled_from([1, 5, 40, 2**22]))
    with patch.object(overlap, "_PIECE", piece):
        assert made.hits(text) == naive(tasks, text)
    expected = naive(tasks, text)
    most = max(expected.values(), default=0)
    assert made.hit(text) == min((name for name, count in expected.items() if count == most), default=None)


@settings(max_examples=100)
@given(data=st.data())
def test_order_of_tasks_and_items_leaves_no_trace(data):
    questions = data.draw(st.lists(st.lists(texts(), min_size=1, max_size=4), min_size=1, max_size=3))
    tasks = [task(f"t{i}", *several) for i, several in enumerate(questions)]
    turned = [task(f"t{i}", *several[::-1]) for i, several in enumerate(questions)][::-1]
    one, other = Overlap.of(tasks), Overlap.of(turned)
    assert one.digest == other.digest
    assert one.to_frame().equals(other.to_frame())
    np.testing.assert_array_equal(one.hashes, other.hashes)


def test_words_are_runs_of_letters_and_digits():
    assert words_of("Don't  call MY_name(3.5), Él!\t") == ["don", "t", "call", "my", "name", "3", "5", "él"]
    assert words_of("_ -- ") == []


def spelled(letters: str) -> str:
    return " ".join(letters)


def test_thirteen_words_in_a_row_are_refused_and_twelve_are_not():
    made = Overlap.of([task("t", spelled(LETTERS))])
    assert made.hit(spelled(LETTERS[:13])) == "t"
    assert made.hit(f"before {spelled(LETTERS[13:])} after") == "t"
    assert made.hit(spelled(LETTERS[:12])) is None
    assert made.hit(spelled(LETTERS[:6]) + " and " + spelled(LETTERS[6:12])) is None
    assert made.hits(spelled(LETTERS)) == {"t": 14}
    assert made.hits(spelled(LETTERS) + ". " + spelled(LETTERS)) == {"t": 14}  # each key once


@pytest.mark.parametrize("words", range(1, 14))
def test_a_short_question_is_matched_whole_or_counted(words):
    question = spelled(LETTERS[:words])
    made = Overlap.of([task("t", question)]) if words > 1 else Overlap.of([task("t", "a")])
    if words < SHORTEST:
        # One word is context "" and answer "x": it has one word too.
        assert made.untestable == {"t": 1}
        assert made.hit(f"{question} and more and {question}") is None
    else:
        assert made.untestable == {"t": 0}
        assert made.hit(f"So: {question}, z") == "t"
        assert made.hit(spelled(LETTERS[: words - 1])) is None
        assert made.hit(spelled(LETTERS[1:words])) is None


def test_the_task_with_most_keys_in_a_text_is_told():
    few, many = spelled(LETTERS[:14]), spelled(LETTERS[::-1])
    made = Overlap.of([task("a", few), task("b", many), task("c", few)])
    assert made.hits(f"{few} {many}") == {"b": 14, "a": 2, "c": 2}
    assert made.hit(f"{few} {many}") == "b"
    assert made.hit(few) == "a"  # of equals the first by name


def test_right_answers_count_and_wrong_ones_do_not():
    choices = ("t u v w x", "z z z z z")
    item = Item("1", spelled("abcdefgh"), choices, 0, choices[0])
    made = Overlap.of([Task("t", (item,), task_info("t"))])
    assert made.hit(f"{item.context} {choices[0]}") == "t"
    assert made.hit(f"{item.context} {choices[1]}") is None


def test_the_delimiter_is_what_a_model_reads():
    """An empty one joins context and answer into one word."""
    made = Overlap.of([task("t", spelled(LETTERS[:14]), delimiter="")])
    assert made.hit(spelled(LETTERS[:12]) + " mn") == "t"
    assert made.hit(spelled(LETTERS[:14])) is None


def test_both_forms_of_partial_scoring_are_keys():
    choices = ("q r s t u v w x y", "z z z z z z z z z")
    item = Item(
        "1", "", choices, 0, choices[0],
        option_contexts=(spelled("abcdefgh"), spelled("zzzzzzzz")), continuation="i j",
    )  # fmt: skip
    made = Task("t", (item,), task_info("t"))
    assert item_texts(made, item) == (" " + choices[0], "a b c d e f g h i j")
    table = Overlap.of([made])
    assert table.hit(choices[0]) == table.hit("a b c d e f g h i j") == "t"
    assert table.hit("z z z z z z z z i j") is None
    assert table.untestable == {"t": 0}


def test_a_collision_drops_no_document():
    """With a number for every word that is the same, every 13 known words share the hash of the key."""
    question = spelled(LETTERS[:13])
    with patch.object(overlap, "_values", lambda words, salt: np.full(words + 1, 7, np.uint64)):
        made = Overlap.of([task("t", question)])
        turned = spelled(LETTERS[12::-1])
        words = next(made._pieces(turned))
        assert overlap._polynomial(made._values[words[None]].T) == made.hashes  # the collision is real
        assert made.hit(turned) is None
        assert made.hit(question) == "t"


def test_the_beginning_of_a_key_is_no_hit_where_hashes_of_two_lengths_agree():
    """A hash of the first two words only stands in for the real one."""
    with patch.object(overlap, "_polynomial", lambda columns: columns[0] * 31 + columns[1]):
        made = Overlap.of([task("long", spelled(LETTERS[:13])), task("short", spelled(LETTERS[13:21]))])
        assert made.hit(spelled(LETTERS[:8])) is None
        assert made.hits(spelled(LETTERS)) == {"long": 1, "short": 1}


def test_no_two_keys_share_a_hash():
    """The first hash function here confuses words in pairs; another is taken."""
    real, asked = overlap._values, []

    def poor(words, salt):
        asked.append(salt)
        return np.full(words + 1, 7, np.uint64) if salt < 2 else real(words, salt)

    tasks = [task("s", spelled(LETTERS[:13])), task("t", spelled(LETTERS[12::-1]))]
    with patch.object(overlap, "_values", poor):
        made = Overlap.of(tasks)
        assert asked == [0, 1, 2] and made.salt == 2
        assert made.hit(spelled(LETTERS[:13])) == "s"
        assert made.hit(spelled(LETTERS[12::-1])) == "t"


def test_refused_documents_are_counted_by_task_and_domain():
    made = Overlap.of([task("s", spelled(LETTERS)), task("t", spelled(LETTERS[::-1]))])
    documents = [
        Document(spelled(LETTERS) + " é", "prose"), Document(spelled(LETTERS), "prose"),
        Document(spelled(LETTERS), "code"), Document(spelled(LETTERS[::-1]), "code"), Document("no", "code"),
    ]  # fmt: skip
    assert [made.refuse(one) for one in documents] == ["s", "s", "s", "t", None]
    assert made.counts.to_dict("split")["data"] == [
        ["s", "code", 1, 51],
        ["s", "prose", 2, 54 + 51],
        ["t", "code", 1, 51],
    ]
    made.hit(documents[0].text)
    assert made.counts["documents"].sum() == 4  # asking is not refusing


def test_the_digest_follows_keys_and_names():
    made = [
        Overlap.of(tasks).digest
        for tasks in (
            [task("t", spelled(LETTERS))],
            [task("u", spelled(LETTERS))],
            [task("t", spelled(LETTERS[:25]))],
            [task("t", spelled(LETTERS[:12]), spelled(LETTERS[1:13]))],
            [task("t", spelled(LETTERS[:12])), task("u", spelled(LETTERS[1:13]))],
            [],
        )
    ]
    assert len(set(made)) == len(made)
    assert Overlap.of([task("t", spelled(LETTERS))]).digest == made[0]


@pytest.mark.parametrize("tasks", [[], [task("t", "too short")]])
def test_nothing_to_test_refuses_nothing(tasks):
    made = Overlap.of(tasks)
    assert made.hit(spelled(LETTERS)) is None
    assert made.hit("") is None
    assert list(made.counts.columns) == ["task", "domain", "documents", "bytes"] and made.counts.empty
    assert made.to_frame()["untestable"].tolist() == [1] * len(tasks)


def test_a_task_twice_is_an_error():
    with pytest.raises(UsageError, match=r"task t: given twice"):
        Overlap.of([task("t", "a b"), task("s", "a b"), task("t", "a b")])


def test_a_table_shows_itself():
    made = Overlap.of([task("t", spelled(LETTERS), "a b")])
    assert made.to_frame().to_dict("records") == [{"task": "t", "items": 2, "keys": 14, "untestable": 1}]
    assert "<table" in made._repr_html_()


def test_a_real_question_is_found_in_a_long_text():
    """Skills that the project generates: every question that can be tested is found, at whatever place."""
    registry = Registry()
    tasks = [registry.task(name) for name in skill_names()]
    made = Overlap.of(tasks)
    for one in tasks:
        texts = [text for item in one.items for text in item_texts(one, item)]
        long = [text for text in texts if len(words_of(text)) >= SHORTEST]
        short = sum(len(words_of(item_texts(one, item)[0])) < SHORTEST for item in one.items)
        assert made.untestable[one.name] == short
        for text in long[:20]:
            assert one.name in made.hits(f"Filler words stand here. {text.upper()} And there.")


def test_real_tasks_refuse_their_own_questions(shared):
    registry = Registry.open([shared / "tasks"])
    tasks = [registry.task(name) for name in registry.names()[:12]]
    made = Overlap.of(tasks)
    for one in tasks:
        for item in one.items[::25]:
            for text in item_texts(one, item):
                assert (one.name in made.hits(text)) == (len(words_of(text)) >= SHORTEST)
    texts = " ".join(text for one in tasks for item in one.items[::50] for text in item_texts(one, item))
    assert made.hits(texts) == naive(tasks, texts)
