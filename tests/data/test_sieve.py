"""The sieve: its rules are stated again over whole sets, and the split is held against permutations."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document
from data.errors import DataError
from data.sieve import Sieve, Sifted

Seen = tuple[Document, bool]

documents = st.builds(
    lambda text, domain, held: (Document(text, domain, "here"), held),
    st.text("abc \n", max_size=3),  # few letters: equal texts and blank ones are common
    st.sampled_from(["code", "maths", "prose"]),
    st.sampled_from([False, False, False, True]),
)


def refuses(document: Document) -> str | None:
    return "task" if document.text.startswith("c") else None


def sift(seen: list[Seen], **options) -> tuple[Sifted, list[str]]:
    """What is sifted, and the texts kept in their order."""
    sieve = Sieve(**options)
    kept = [one.text for one, held in seen if sieve.keep(one, held_out=held)]
    assert len(sieve) == len(kept)
    return sieve.sifted(), kept


def placed(sifted: Sifted, kept: list[str]) -> dict[str, tuple[str, bool]]:
    """Text -> its domain, and whether it validates."""
    rows = zip(kept, sifted.domain.tolist(), sifted.held_out.tolist(), strict=True)
    return {text: (sifted.domains[i], held) for text, i, held in rows}


@given(
    st.lists(documents, max_size=40), st.randoms(use_true_random=False), st.sampled_from([0, 0.01, 0.3, 0.9])
)
def test_the_split_is_a_partition_that_does_not_hang_on_order(seen: list[Seen], random, share: float):
    """Oracle: the same documents in another order; and the set of texts that may be kept."""
    options = {"held_out": share, "seed": 5, "refuse": refuses}
    sifted, kept = sift(seen, **options)
    shuffled = list(seen)
    random.shuffle(shuffled)
    other, other_kept = sift(shuffled, **options)
    assert placed(sifted, kept) == placed(other, other_kept)
    assert sifted.to_frame().equals(other.to_frame())
    # No text twice, so none on both sides; and every text that has to be there is.
    assert len(kept) == len(set(kept))
    assert set(kept) == {one.text for one, _ in seen if one.text.strip() and not one.text.startswith("c")}


@given(st.lists(documents, max_size=40), st.sampled_from([0.01, 0.3, 0.9]))
def test_every_domain_trains_and_validates_where_it_can(seen: list[Seen], share: float):
    sifted, kept = sift(seen, held_out=share)
    by_source = {one.text for one, held in seen if held}
    whole = {one.domain for one, held in seen if held and one.text.strip()}
    where = placed(sifted, kept)
    assert all(where[text][1] for text in by_source & set(where))
    for domain in sifted.domains:
        mine = {text: held for text, (name, held) in where.items() if name == domain}
        if domain in whole:
            assert {text for text, held in mine.items() if held} == by_source & set(mine)
            continue
        free = [held for text, held in mine.items() if text not in by_source]
        assert len(free) < 2 or (any(free) and not all(free))
        assert len(free) != 1 or not free[0]


@given(st.lists(documents, max_size=40))
def test_counts_account_for_every_document(seen: list[Seen]):
    """Oracle: Counter over the documents."""
    sifted, _ = sift(seen, held_out=0.3, refuse=refuses)
    read = Counter(one.domain for one, _ in seen)
    for name, count in sifted.counts.items():
        mine = [one.text for one, _ in seen if one.domain == name]
        assert count.read == read[name]
        assert count.blank == sum(not text.strip() for text in mine)
        assert dict(count.refused) == ({"task": n} if (n := sum(t.startswith("c") for t in mine)) else {})
        assert count.blank + count.duplicates + sum(count.refused.values()) + count.kept == count.read
        assert count.duplicates >= 0
    table = sifted.to_frame()
    assert len(table) == len(read)
    if len(table):
        assert table["kept"].sum() == len(sifted.size) and table["held_out"].sum() == sifted.held_out.sum()


def many(n: int, domain: str = "prose") -> list[Seen]:
    return [(Document(f"{domain} text {i}", domain, "here"), False) for i in range(n)]


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_the_share_is_kept(share: float):
    """Oracle: the binomial standard deviation, four of them."""
    n = 20_000
    sifted, _ = sift(many(n), held_out=share)
    assert abs(sifted.held_out.mean() - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_seeds_hold_out_other_documents():
    first, second = (sift(many(4_000), held_out=0.5, seed=seed)[0].held_out for seed in (0, 1))
    assert 0.45 < (first == second).mean() < 0.55


def test_a_document_stays_where_it_is_when_others_come():
    """What is added to a corpus must not move a document from one side to the other."""
    few = placed(*sift(many(500), held_out=0.1))
    all_of_them = placed(*sift(many(2_000), held_out=0.1))
    assert few.items() <= all_of_them.items()


def test_samples_are_drawn_apart_from_the_split():
    """Oracle: mean and spread of a uniform draw, among what trains where half of it is held out."""
    sifted, _ = sift(many(20_000), held_out=0.5)
    chance = sifted.chance[~sifted.held_out]
    assert abs(chance.mean() - 0.5) < 0.02 and abs(chance.std() - 12**-0.5) < 0.02
    assert 0 <= chance.min() < 0.01 and 0.99 < chance.max() < 1


def test_held_out_text_found_elsewhere_is_not_trained_on():
    """The trainer's own copy comes first, and in a domain that sorts first; it still validates."""
    seen = [(Document("same", "a", "x"), False), *many(50, "a"), (Document("same", "b", "y"), True)]
    for order in (seen, seen[::-1]):
        where = placed(*sift(order, held_out=0.1))
        assert where["same"] == ("b", True)
        assert sum(held for name, held in where.values() if name == "b") == 1
        assert any(held for name, held in where.values() if name == "a")


def test_a_domain_with_validation_of_its_own_gives_no_more():
    seen = [*many(2_000), (Document("held", "prose", "x"), True)]
    sifted, _ = sift(seen, held_out=0.2)
    assert sifted.held_out.sum() == 1


def test_no_share_holds_out_nothing():
    assert not sift(many(100), held_out=0)[0].held_out.any()


def test_refusal_is_asked_once_of_each_text():
    asked = []
    seen = [(Document(text, "prose", "x"), False) for text in ("a", "b", "a", "b", " ")]

    def refuse(document: Document) -> str | None:
        asked.append(document.text)
        return "arc" if document.text == "a" else None

    sifted, kept = sift(seen, refuse=refuse)
    assert asked == ["a", "b"] and kept == ["b"]
    assert sifted.counts["prose"].refused == {"arc": 2} and sifted.counts["prose"].duplicates == 1
    assert "refused" in sifted._repr_html_()


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan"), "0.1", None, True])
def test_a_share_is_a_share(share: object):
    with pytest.raises(DataError, match=r"held_out: got .*; valid is a share"):
        Sieve(held_out=share)  # type: ignore[arg-type]


def test_nothing_sifted_is_an_empty_table():
    sifted = Sieve().sifted()
    assert sifted.domains == () and not len(sifted.size) and sifted.to_frame().empty
