"""Sources of installed distributions: small ones made here, found by their records, in their order."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from data.documents import Document
from data.errors import DataError
from data.packages import packages
from data.sources import Source, read


@pytest.fixture
def site(tmp_path: Path, monkeypatch) -> Path:
    """A folder of packages: `one-thing` 1.2 with sources of all kinds, `other` 3, and `bare` without any."""
    files = {
        "one_thing/z.py": b"z = 1\r\n",
        "one_thing/__init__.py": b"raise RuntimeError('imported')\n",
        "one_thing/sub/a.py": b"a = '\xc3\xa9'\n",
        "one_thing/latin.py": "# coding: latin-1\n# é\n".encode("latin-1"),
        "one_thing/wrong.py": b"# \xff\n",
        "one_thing/empty.py": b"",
        "one_thing/long.py": b"#" * 400_001,
        "one_thing/tests/t.py": b"t = 1\n",
        "one_thing/sub/test/t.py": b"t = 1\n",
        "one_thing/.hidden/h.py": b"h = 1\n",
        "one_thing/data.txt": b"no source",
        "one_thing-1.2.dist-info/METADATA": b"Metadata-Version: 2.1\nName: one-thing\nVersion: 1.2\n",
        "other.py": b"o = 1\n",
        "other-3.dist-info/METADATA": b"Metadata-Version: 2.1\nName: other\nVersion: 3\n",
        "bare-0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: bare\nVersion: 0\n",
        "stray.py": b"s = 1\n",
    }
    owners = {"one_thing": "one_thing-1.2", "other": "other-3", "bare": "bare-0"}
    records: dict[str, list[str]] = {owner: [] for owner in owners.values()}
    for name, text in files.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        top = name.partition("/")[0].partition("-")[0].removesuffix(".py")
        if top in owners:
            records[owners[top]].append(name)
    records["one_thing-1.2"] += ["one_thing/gone.py", "../../bin/run.py"]
    for owner, names in records.items():
        with open(tmp_path / "site" / f"{owner}.dist-info" / "RECORD", "w", newline="") as handle:
            csv.writer(handle).writerows([name, "", ""] for name in reversed(names))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_sources_come_by_path_with_their_origin(site: Path):
    """Oracle: the files written above, less tests, hidden, empty, large, unreadable and lost ones."""
    assert list(packages(["one-thing"])) == [
        Document("raise RuntimeError('imported')\n", "code", "installed:one-thing-1.2/one_thing/__init__.py"),
        Document("# coding: latin-1\n# é\n", "code", "installed:one-thing-1.2/one_thing/latin.py"),
        Document("a = 'é'\n", "code", "installed:one-thing-1.2/one_thing/sub/a.py"),
        Document("z = 1\n", "code", "installed:one-thing-1.2/one_thing/z.py"),
    ]


def test_nothing_is_imported(site: Path):
    before = set(sys.modules)
    list(packages(["one-thing", "other"]))
    assert not {"one_thing", "other"} & (set(sys.modules) - before)


def test_distributions_come_in_the_order_given(site: Path):
    found = [one.origin.split("/")[0] for one in read(Source("installed:other, one-thing"))]
    assert found == ["installed:other-3"] + ["installed:one-thing-1.2"] * 4


def test_a_domain_and_a_limit(site: Path):
    assert {one.domain for one in read(Source("installed:other", domain="py"))} == {"py"}
    assert len(list(read(Source("installed:one-thing,other", most=40)))) == 2


@pytest.mark.parametrize(
    "path, message",
    [
        ("installed:no-such-thing", r"installed:no-such-thing: is not installed here; install it, or name"),
        ("installed:other,no-such-thing", r"installed:no-such-thing: is not installed here"),
        ("installed:other,", r"is not installed here"),
        ("installed:bare", r"installed:bare: holds no Python source; name another distribution"),
    ],
)
def test_what_is_not_there_is_named(site: Path, path: str, message: str):
    with pytest.raises(DataError, match=message):
        list(read(Source(path)))


def test_a_wrong_name_is_told_before_anything_is_read(site: Path):
    with pytest.raises(DataError, match="installed:no-such-thing"):
        next(packages(["other", "no-such-thing"]))


def test_a_real_distribution_is_read_the_same_twice():
    """Oracle: numpy's own folder."""
    import numpy

    root = Path(numpy.__file__).parent.parent
    found = list(packages(["numpy"]))
    names = [one.origin.removeprefix(f"installed:numpy-{numpy.__version__}/") for one in found]
    assert len(names) > 100 and names == sorted(names, key=lambda name: name.split("/"))
    assert found == list(packages(["numpy"]))
    for name, one in list(zip(names, found, strict=True))[::40]:
        assert one.text == (root / name).read_text(encoding="utf-8")
