"""All generated tasks: their facts, their items, and what baselines score that never read the question."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from evalsuite.items import Item
from evalsuite.skills import skill, skill_names
from evalsuite.skills.catalogue import SKILLS
from scaling.errors import UsageError
from tests.evalsuite.skills.oracle import FAR, drawn

NAMES = skill_names()
CHOSEN = [name for name in NAMES if SKILLS[name].kind == "mc"]
CAPABILITIES = {
    "code", "commonsense", "language", "math", "reading_comprehension", "science_qa", "symbolic",
    "world_knowledge",
}  # fmt: skip
SEEDS = (0, 1, FAR)
# First 16 digits of the digest of seed 0. A change here makes old and new scores incomparable: a task whose
# items must change gets a new name.
GOLDEN = {
    "skill_add_1_digit": "28f9bb95e681e990",
    "skill_add_2_digits": "d7ee04f63d6ebab4",
    "skill_add_3_digits": "cb0a5aa54137dbdb",
    "skill_agreement": "949f5766f9421f4c",
    "skill_agreement_attractor": "ab274df754d2b6c5",
    "skill_alphabet": "015819b53b8a148f",
    "skill_animal_class": "fbb34a6220fda15f",
    "skill_boolean": "066b9dbdb1f0cc57",
    "skill_bracket_next": "fc9c18b5b992c30f",
    "skill_brackets": "2ba2cf99a9007163",
    "skill_capitals": "3323c943fda77852",
    "skill_code_assign": "15984164ee8bdd66",
    "skill_code_close": "906da945527542e2",
    "skill_code_index": "6457b7d4f348c95b",
    "skill_code_length": "89a07f5105778cb4",
    "skill_code_update": "58503b8cc8b839b5",
    "skill_copy": "01d7bd9ac8c8ec71",
    "skill_count": "e3a94ff8fb99104e",
    "skill_first_letter": "16c6d0c127eb8b32",
    "skill_induction": "70bc4d0def0fb268",
    "skill_larger": "58ecb7adbe964e1d",
    "skill_last_letter": "0e182999899f7351",
    "skill_multiply": "f3c55483216d28b7",
    "skill_next_number": "bd70a1ab39432473",
    "skill_noun_number": "4fc830608733e9bf",
    "skill_nth_letter": "f58ec37a1ac1337d",
    "skill_plural": "541216b6105c40a7",
    "skill_recall": "5b1c9431751a496e",
    "skill_reverse": "8e41a53ef0a860f3",
    "skill_sort_numbers": "7f5ccc49b9138f29",
    "skill_subtract": "874e8416535d7edf",
    "skill_thing_size": "dc5a5012cf6cae7e",
    "skill_transitive": "2ac14dc3e677175c",
    "skill_weekday": "5bc140bf2f0f2b23",
    "skill_word_problem": "df5be830bcfeea60",
    "skill_world_moves": "168f42bc41dbb9ad",
    "skill_world_one_hop": "d11206a385d52972",
    "skill_world_two_hops": "73c7353784d6a228",
}  # fmt: skip


def test_there_are_tasks_of_every_capability():
    assert len(NAMES) >= 16
    assert {one.capability for one in SKILLS.values()} == CAPABILITIES
    assert all(name.startswith("skill_") and name == one.name for name, one in SKILLS.items())


@pytest.mark.parametrize("name", NAMES)
def test_items_of_seed_0_never_change(name):
    """Oracle: the digest of the day the task was made."""
    assert skill(name).digest.startswith(GOLDEN[name])


def test_another_process_draws_the_same_items():
    """Hash randomisation and what was drawn before play no part."""
    code = (
        "from evalsuite.skills import skill, skill_names\n"
        "for name in reversed(skill_names()): print(name, skill(name, 1).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        name: drawn(name, 1).digest for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_facts_hold_for_the_items(name):
    facts, items = SKILLS[name], drawn(name).items
    assert 250 <= len(items) <= 500 and len(items) == facts.n_items
    assert [item.id for item in items] == [f"{name}/{number:04d}" for number in range(len(items))]
    assert {item.family for item in items} == {facts.capability}
    assert max(len(item.context) for item in items) <= 200
    assert len(facts.examples) == facts.prefix_shots and facts.prefix.endswith("\n") == bool(facts.examples)
    if facts.kind == "free":
        assert facts.chance == 0.0 and all(item.choices == () and item.gold == -1 for item in items)
        return
    each = [1 / len(item.choices) for item in items]
    assert facts.chance == pytest.approx(sum(each) / len(each))
    assert all(len(set(item.choices)) == len(item.choices) for item in items)


@pytest.mark.parametrize("name", NAMES)
def test_items_are_all_different_and_none_is_a_solved_example(name):
    """By context alone, which asks more than by context and answer."""
    contexts = [item.context for item in drawn(name).items]
    assert len(set(contexts)) == len(contexts)
    assert not set(contexts) & {one.context for one in SKILLS[name].examples}


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ(name):
    zero, one, far = ([item.context for item in drawn(name, seed).items] for seed in SEEDS)
    assert zero != one and zero != far and one != far


@pytest.mark.parametrize("name", NAMES)
def test_no_text_leaves_the_answer_hanging_in_blanks(name):
    """A context that ends in a blank, or an answer that starts with one, is cut into tokens unlike text."""
    for item in drawn(name).items:
        assert (
            item.context.isascii()
            and not item.context.endswith(" ")
            and item.context == item.context.lstrip()
        )
        assert all(text == text.strip() for text in (item.answer, *item.choices))


def test_unknown_names_are_refused_with_near_ones():
    with pytest.raises(UsageError, match="got 'skill_revers'; near are skill_reverse"):
        skill("skill_revers")
    with pytest.raises(UsageError, match="got 'qqq'; valid are skill_add_1_digit, "):
        skill("qqq")


def test_more_items_than_there_are_is_refused():
    with pytest.raises(UsageError, match=r"skill_weekday: n_items: got 500, but seed 0 gave \d+ different"):
        skill("skill_weekday", n_items=500)


# --- baselines that never read the question -----------------------------------------------------

Score = Callable[[Item, int], float]


def accuracy(items: list[Item], score: Score) -> float:
    """Share of items whose gold choice has the highest score; ties count by their share."""
    right = 0.0
    for item in items:
        scores = [score(item, at) for at in range(len(item.choices))]
        best = max(scores)
        right += (scores[item.gold] == best) / scores.count(best)
    return right / len(items)


def rank_of(item: Item, at: int) -> int:
    """Place of a choice among the choices in order of size, or of the alphabet."""
    numeric = all(choice.isdigit() for choice in item.choices)
    order = sorted(item.choices, key=lambda choice: (int(choice) if numeric else 0, choice))
    return order.index(item.choices[at])


def pooled(name: str) -> list[Item]:
    return [item for seed in SEEDS for item in drawn(name, seed).items]


def assert_chance(name: str, found: dict[str, float], n: int) -> None:
    chance = SKILLS[name].chance
    bound = 4 * (chance * (1 - chance) / n) ** 0.5
    assert n >= 500 and bound < 0.08
    assert not {what: rate for what, rate in found.items() if abs(rate - chance) >= bound}, (chance, bound)


@pytest.mark.parametrize("name", CHOSEN)
def test_length_position_and_rank_score_chance(name):
    """Oracle: chance, within 4 standard errors."""
    items = pooled(name)
    places = range(SKILLS[name].choices)
    found = {
        "longest": accuracy(items, lambda item, at: len(item.choices[at])),
        "shortest": accuracy(items, lambda item, at: -len(item.choices[at])),
        **{f"position {k}": accuracy(items, lambda item, at, k=k: at == k) for k in places},
        **{f"rank {k}": accuracy(items, lambda item, at, k=k: rank_of(item, at) == k) for k in places},
    }
    assert_chance(name, found, len(items))


@pytest.mark.parametrize("name", CHOSEN)
def test_the_most_frequent_answer_scores_chance(name):
    """Answers are counted in the other seeds: in one alone, a rare answer would give itself away."""
    right, n = 0.0, 0
    for seed in SEEDS:
        count = Counter(item.answer for other in SEEDS if other != seed for item in drawn(name, other).items)
        items = list(drawn(name, seed).items)
        right += len(items) * accuracy(items, lambda item, at, count=count: count[item.choices[at]])
        n += len(items)
    assert_chance(name, {"most frequent": right / n}, n)


MENTIONED = (  # every choice stands in the context, and where it stands is not the question
    "skill_alphabet", "skill_code_assign", "skill_code_index", "skill_induction", "skill_larger",
    "skill_recall", "skill_thing_size", "skill_transitive", "skill_world_moves", "skill_world_one_hop",
    "skill_world_two_hops",
)  # fmt: skip


@pytest.mark.parametrize("name", MENTIONED)
def test_what_the_context_names_first_last_or_most_scores_chance(name):
    """Oracle: chance, within 4 standard errors."""
    items = pooled(name)
    assert all(choice in item.context for item in items for choice in item.choices)
    found = {
        "first": accuracy(items, lambda item, at: -item.context.index(item.choices[at])),
        "last": accuracy(items, lambda item, at: item.context.rindex(item.choices[at])),
        "most": accuracy(items, lambda item, at: item.context.count(item.choices[at])),
    }
    assert_chance(name, found, len(items))
