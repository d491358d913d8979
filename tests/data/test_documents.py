"""Documents: the digest against hashlib, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document, check_domain
from data.errors import DataError
from data.shards import ShardWriter, Tokens


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_digest_and_size_are_of_the_utf_8(text: str):
    """Oracle: hashlib and len over the encoded text."""
    document = Document(text, "prose", "here")
    assert document.digest == hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
    assert document.size == len(text.encode("utf-8"))


def test_digest_is_of_the_text_alone():
    assert Document("a", "prose", "x:1").digest == Document("a", "code", "y:2").digest
    assert Document("a", "prose", "x:1").digest != Document("a ", "prose", "x:1").digest


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(DataError, match=r"notes:7: half a surrogate pair .* at character 2"):
        Document("ab\udc80c", "prose", "notes:7")


@pytest.mark.parametrize("domain", ["", " ", " prose", "a\nb", "x" * 61, "é" * 31, None, 3, "\ud800"])
def test_a_domain_is_a_printable_name(domain: object):
    with pytest.raises(DataError, match=r"^here: got domain .*; valid is a printable name"):
        check_domain(domain, "here")


@pytest.mark.parametrize("domain", ["prose", "web/docs", "Stack Exchange", "é" * 30, "..", "x" * 60])
def test_names_that_files_can_bear(tmp_path: Path, domain: str):
    """Oracle: tokens of the domain are written into the folder, and found again."""
    check_domain(domain, "here")
    with ShardWriter(tmp_path / "train", domain, 257) as writer:
        writer.add(np.arange(3))
    assert len(Tokens.open(tmp_path / "train", domain)) == 4
    assert [one.name for one in tmp_path.iterdir()] == ["train"]


def test_documents_do_not_change():
    document = Document("a", "prose", "here")
    with pytest.raises(AttributeError):
        document.text = "b"  # type: ignore[misc]
