"""Embedded text: sizes that were promised, no sentence in two domains, the same whatever was imported."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import subprocess
import sys
import sysconfig
from itertools import islice
from pathlib import Path

import pytest

from data import embedded as module
from data.documents import Document
from data.embedded import embedded, installed, python_text
from data.errors import DataError


@pytest.fixture(scope="module")
def parts() -> dict[str, list[Document]]:
    return {name: list(part()) for name, part in embedded().items()}


@pytest.mark.parametrize("name, least", [("code", 2_000_000), ("prose", 1_000_000), ("maths", 1_000_000)])
def test_there_is_enough_of_each(parts, name: str, least: int):
    documents = parts[name]
    assert sum(one.size for one in documents) >= least
    assert {one.domain for one in documents} == {name}
    assert len(documents) > 100
    assert all(one.text.strip() for one in documents)


def test_modules_are_code_or_prose(parts):
    """A docstring that validates as prose must not be trained on as code."""
    code = {one.origin.partition("/")[2] for one in parts["code"]}
    prose = {one.origin.partition("/")[2] for one in parts["prose"]}
    assert not code & prose and len(code) > 100 and len(prose) > 100
    joined = "\n".join(one.text for one in parts["code"])
    topics = [one for one in parts["prose"] if "/topics/" in one.origin]
    assert topics and not any(one.text in joined for one in topics)


def test_no_tests_and_no_packages(parts):
    for one in parts["code"]:
        folders = one.origin.split("/")[:-1]
        assert not {"test", "tests", "idle_test", "site-packages"} & set(folders), one.origin


def test_code_is_what_the_files_say(parts):
    """Oracle: the compiler takes it, and the file reads the same."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for one in parts["code"][::25]:
        path = root / one.origin.removeprefix("embedded:code/")
        assert ast.dump(ast.parse(one.text)) == ast.dump(ast.parse(path.read_bytes()))


def test_docstrings_are_those_of_the_modules(parts):
    """Oracle: inspect, over modules that are imported here."""
    prose = {one.origin: one.text for one in parts["prose"]}
    tried = 0
    for name in ("argparse", "textwrap", "decimal", "statistics", "json", "calendar", "heapq", "difflib"):
        text = prose.get(f"embedded:prose/{name}.py") or prose.get(f"embedded:prose/{name}/__init__.py")
        told = inspect.getdoc(importlib.import_module(name)) or ""
        if text and len(told) > 100:
            assert told.strip() in text
            tried += 1
    assert tried


def test_another_process_reads_the_same(parts):
    """Other imports, another seed of Python's hashes, other warnings: the same texts in the same order."""
    code = (
        "import json, decimal, hashlib, xml.dom, pydoc_data.topics\n"
        "from data.embedded import embedded\n"
        "for name, part in sorted(embedded().items(), reverse=True):\n"
        "    told = b''.join(one.digest + one.origin.encode() for one in part())\n"
        "    print(name, hashlib.sha256(told).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=120, env={"PYTHONHASHSEED": "7"},
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        name, digest = line.split()
        mine = b"".join(one.digest + one.origin.encode() for one in parts[name])
        assert digest == hashlib.sha256(mine).hexdigest()
    assert len(done.stdout.splitlines()) == 3


def test_seeds_give_other_sums(parts):
    other = next(embedded("maths", seed=1)["maths"]())
    assert other.text != parts["maths"][0].text


def test_skills_are_read_only_where_they_are_named():
    assert list(embedded()) == ["code", "prose", "maths"]
    (skills,) = embedded("skills").values()
    first = list(islice(skills(), 20))
    assert [(one.domain, one.origin) for one in first[:2]] == [
        ("skills", "embedded:skills/0"), ("skills", "embedded:skills/1"),
    ]  # fmt: skip
    assert first == list(islice(skills(), 20))


def test_there_is_enough_of_skills():
    documents = list(embedded("skills")["skills"]())
    assert sum(one.size for one in documents) >= 6_000_000
    assert len({one.digest for one in documents}) == len(documents)


def test_an_unknown_part():
    with pytest.raises(
        DataError, match=r"embedded:sums: no such text; valid is .* embedded:maths, embedded:skills"
    ):
        embedded("sums")


@pytest.fixture
def python(tmp_path: Path, monkeypatch) -> Path:
    """A Python of a few files, library and packages."""
    library, packages = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    for name, text in {
        "b.py": b'"""What b is for: it is read as prose or code."""\n',
        "a.py": b"x = 1\r\n",
        "empty.py": b"",
        "long.py": b"#" * 500_000,
        "test/c.py": b"y = 1\n",
        "latin.py": "# coding: latin-1\n# é\n".encode("latin-1"),
        "wrong.py": b"# \xff\n",
        "pydoc_data/topics.py": b"topics = {'if': 'Use if to choose.\\n', 'pass': 'Does nothing.'}",
        "site-packages/z/m.py": b"z = 1\n",
        "site-packages/z/tests/t.py": b"t = 1\n",
        "site-packages/a.py": b"a = 1\n",
    }.items():
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    paths = {"stdlib": str(library), "purelib": str(packages), "platlib": str(packages)}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    return library


def test_installed_files_come_in_order(python: Path):
    names = [path.relative_to(python).as_posix() for path in installed()]
    assert names == ["a.py", "b.py", "latin.py", "wrong.py", "site-packages/a.py", "site-packages/z/m.py"]


def test_a_source_is_read_in_the_encoding_it_declares(python: Path):
    assert python_text(python / "latin.py") == "# coding: latin-1\n# é\n"
    assert python_text(python / "a.py") == "x = 1\n"
    assert python_text(python / "wrong.py") is None


def test_prose_of_a_small_python(python: Path, monkeypatch):
    monkeypatch.setattr(module, "_tells", lambda name: name == "b.py")
    texts = [one.text for one in embedded("prose")["prose"]()]
    assert texts == [
        "What b is for: it is read as prose or code.\n\n", "Use if to choose.\n", "Does nothing.\n",
    ]  # fmt: skip
    origins = [one.origin for one in embedded("code")["code"]()]
    assert origins == ["embedded:code/a.py", "embedded:code/latin.py"]


def test_docstrings_come_in_the_order_of_the_file(python: Path, monkeypatch):
    """Oracle: the lines they stand in. A walk over the tree would give the outer ones first."""
    monkeypatch.setattr(module, "_tells", lambda name: name == "b.py")
    told = [f"{i} is a docstring that is long enough to be read." for i in range(4)]
    (python / "b.py").write_text(
        f'"""{told[0]}"""\nclass A:\n    def f(self):\n        """{told[1]}"""\n'
        f'    async def g(self):\n        """{told[2]}"""\n    def h(self):\n        """Short."""\n'
        f'def k():\n    """{told[3]}"""\n'
    )
    first = next(embedded("prose")["prose"]())
    assert first.text == "\n\n".join([*told, ""])


def test_a_docstring_may_hold_what_is_no_text(python: Path, monkeypatch):
    monkeypatch.setattr(module, "_tells", lambda name: name == "b.py")
    (python / "b.py").write_text('"""Half of a pair, \\ud800, in some forty letters or more."""\n')
    assert not [one for one in embedded("prose")["prose"]() if one.origin.endswith("b.py")]


def test_a_python_without_sources(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match="has no sources there; use a Python with them"):
        list(embedded("code")["code"]())
