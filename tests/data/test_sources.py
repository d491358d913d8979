"""Sources: what was written is read again, from every kind of file; what is wrong is said with its place."""

from __future__ import annotations

import gzip
import json
import os
import sysconfig
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import lines as line_module
from data.documents import Document
from data.errors import DataError
from data.lines import lines, suffix
from data.sources import Source, read

ENDINGS = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".ndjson", ".zst", ".JSON"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def write(path: Path, content: bytes) -> Path:
    """A file, packed by its name."""
    import pyarrow

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pyarrow.Codec("zstd").compress(content, asbytes=True)
    path.write_bytes(content)
    return path


def rows(*objects: object) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in objects)


def texts(source: Source) -> list[str]:
    return [one.text for one in read(source)]


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of seven bytes: lines and letters are cut everywhere."""
    monkeypatch.setattr(line_module, "_CHUNK", 7)


same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("ending", ENDINGS)
@same_folder
@given(st.lists(st.tuples(TEXT, st.booleans()), min_size=1, max_size=8))
def test_any_text_comes_back(tmp_path: Path, small_pieces, ending: str, wanted: list[tuple[str, bool]]):
    """Oracle: what was written, escaped or not, with any of Unicode's line ends in it."""
    content = b"".join(
        json.dumps({"text": text, "domain": "prose"}, ensure_ascii=escape).encode() + b"\n"
        for text, escape in wanted
    )
    path = write(tmp_path / f"x{ending}", content)
    found = list(read(Source(str(path))))
    assert [one.text for one in found] == [text for text, _ in wanted]
    assert [one.origin for one in found] == [f"{path}:{i}" for i in range(1, len(wanted) + 1)]


@pytest.mark.parametrize("ending", [".txt", ".md.gz", ".py.zst", ""])
@same_folder
@given(TEXT)
def test_a_text_file_is_one_document(tmp_path: Path, small_pieces, ending: str, text: str):
    path = write(tmp_path / f"name{ending}", text.encode())
    wanted = text.removeprefix("\ufeff")
    assert list(read(Source(str(path), domain="prose"))) == [Document(wanted, "prose", str(path))]


@same_folder
@given(st.binary(max_size=60).map(lambda data: data.replace(b"a", b"\n")), st.integers(1, 9))
def test_lines_are_those_of_the_file(tmp_path: Path, data: bytes, chunk: int):
    """Oracle: bytes.split, and the place of each line in the file."""
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_module, "_CHUNK", chunk)
        found = list(lines(path))
    wanted = data.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    assert [line for _, _, line in found] == wanted
    assert [number for number, _, _ in found] == list(range(1, len(wanted) + 1))
    assert all(data[start : start + len(line)] == line for _, start, line in found)


def test_what_is_inside_an_archive():
    assert [suffix(Path(name)) for name in ("a.json.gz", "b.TXT.ZST", "c.zst", "d", "e.tar.gz.md")] == [
        ".json", ".txt", "", "", ".md",
    ]  # fmt: skip


def test_blank_lines_and_windows_ends_are_no_rows(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b"}')
    found = list(read(Source(str(path), domain="prose")))
    assert [(one.text, one.origin) for one in found] == [("a", f"{path}:1"), ("b", f"{path}:4")]


def test_fields_and_domains(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", rows({"body": "a", "kind": "code"}, {"body": "b", "kind": "web/docs"}))
    named = list(read(Source(str(path), text="body", domain_field="kind")))
    assert [(one.text, one.domain) for one in named] == [("a", "code"), ("b", "web/docs")]
    assert {one.domain for one in read(Source(str(path), text="body", domain="all"))} == {"all"}


def test_most_takes_whole_documents(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", rows(*({"text": "éé"} for _ in range(10))))
    assert [len(texts(Source(str(path), "prose", most=most))) for most in (1, 4, 5, 8, 999)] == [
        1,
        1,
        2,
        2,
        10,
    ]


# --- folders ----------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in ("b.txt", "a/z.txt", "a.txt", ".git/c.txt", "a/.hidden"):
        write(tmp_path / "texts" / name, name.encode())
    for name in ("b.val.jsonl.zst", "b.jsonl.zst", "deep/a.jsonl.gz"):
        write(tmp_path / "rows" / name, rows({"text": name, "domain": "prose"}))
    write(tmp_path / "rows" / "report.json", b'{"documents": 3}')
    write(tmp_path / "rows" / "README.md", b"What this is.")
    return tmp_path


def test_a_folder_of_texts(corpus: Path):
    folder = str(corpus / "texts")
    assert texts(Source(folder, "prose")) == ["a/z.txt", "a.txt", "b.txt"]
    assert texts(Source(folder, "prose", files="*.txt")) == ["a/z.txt", "a.txt", "b.txt"]
    assert texts(Source(folder, "prose", files="**/a*")) == ["a/z.txt", "a.txt"]
    assert texts(Source(folder, "prose", files=("*.txt", "!a/*"))) == ["a.txt", "b.txt"]
    assert texts(Source(folder, "prose", files="!b*")) == ["a/z.txt", "a.txt"]


def test_a_folder_with_rows_is_read_for_them_alone(corpus: Path):
    folder = str(corpus / "rows")
    assert texts(Source(folder)) == ["b.jsonl.zst", "b.val.jsonl.zst", "deep/a.jsonl.gz"]
    assert texts(Source(folder, files=("*.jsonl*", "!*.val.*"))) == ["b.jsonl.zst", "deep/a.jsonl.gz"]
    assert texts(Source(folder, "notes", files="*.md")) == ["What this is."]


def test_order_does_not_hang_on_the_file_system(corpus: Path, monkeypatch):
    wanted = texts(Source(str(corpus / "texts"), "prose"))
    real = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(real(self, pattern))))
    assert texts(Source(str(corpus / "texts"), "prose")) == wanted


# --- what is wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, message",
    [
        (dict(path="missing.jsonl"), r"missing\.jsonl: no such file or folder; valid is"),
        (dict(path="texts", domain="prose", files="*.xyz"), r"texts: no file matches '\*\.xyz'"),
        (dict(path="embedded:sums"), "embedded:sums: no such text"),
    ],
)
def test_what_is_not_there_is_said_at_once(corpus: Path, monkeypatch, source: dict, message: str):
    monkeypatch.chdir(corpus)
    with pytest.raises(DataError, match=message):
        read(Source(**source))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"x\.jsonl: holds no document; valid is at least one"),
        (b"\n\n", r"x\.jsonl: holds no document"),
        (b'{"text": "a"}\n["b"]\n', r"x\.jsonl:2: got list; valid is an object"),
        (b'{"text": "a"}\n\nnull\n', r"x\.jsonl:3: got NoneType; valid is an object"),
        (
            b'{"body": "a", "id": 3}\n',
            r"x\.jsonl:1: no field 'text'; .*fields are 'body', 'id': name the one",
        ),
        (b'{"text": 7}\n', r"x\.jsonl:1: 7 in field 'text'; valid is a text"),
        (b'{"text": "a"}\n{"text": \n', r"x\.jsonl:2: not JSON"),
        (b"[" * 100_000, r"x\.jsonl:1: not JSON"),
        (b'{"text": "a"}\n{"text": "b\xff"}\n', r"x\.jsonl:2: not UTF-8 .* at byte 25 of the text"),
        (b'{"text": "a\\ud800"}\n', r"x\.jsonl:1: half a surrogate pair .* at character 1"),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_bad_rows_are_said_with_their_place(tmp_path: Path, content: bytes, message: str, packed: str):
    path = write(tmp_path / f"x.jsonl{packed}", content)
    if content == b"" and packed:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=message.replace(r"jsonl", rf"jsonl{packed}", 1)):
        list(read(Source(str(path), "prose")))


def test_bad_rows_can_be_dropped(tmp_path: Path):
    content = rows({"text": "a"}) + b'{"text": "\xff"}\n[]\n' + rows({"text": "b"})
    path = write(tmp_path / "x.jsonl", content)
    problems: list[str] = []
    source = Source(str(path), "prose", drop_bad=True)
    assert [one.text for one in read(source, problems.append)] == ["a", "b"]
    assert [one.split(": ")[0] for one in problems] == [f"{path}:2", f"{path}:3"]
    assert texts(source) == ["a", "b"]
    write(path, b"[]\n")
    with pytest.raises(DataError, match="holds no document that can be read"):
        texts(source)


def test_a_text_that_is_not_utf_8(tmp_path: Path):
    path = write(tmp_path / "t" / "x.txt", b"one\ntwo\nth\xe9\n")
    with pytest.raises(DataError, match=r"x\.txt:3: not UTF-8 .* at byte 10 of the text"):
        texts(Source(str(path), "prose"))
    write(tmp_path / "t" / "y.txt", b"fine")
    problems: list[str] = []
    source = Source(str(tmp_path / "t"), "prose", drop_bad=True)
    assert [one.text for one in read(source, problems.append)] == ["fine"] and len(problems) == 1


def test_a_source_without_a_domain(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", rows({"text": "a"}))
    with pytest.raises(DataError, match=r"x\.jsonl:1: no field 'domain', and the source names no domain"):
        texts(Source(str(path)))
    write(path, rows({"text": "a", "domain": " "}))
    with pytest.raises(DataError, match=r"x\.jsonl:1: got domain ' '; valid is a printable name"):
        texts(Source(str(path)))
    with pytest.raises(DataError, match=r"x\.txt: a text file names no domain; give the source one"):
        texts(Source(str(write(tmp_path / "x.txt", b"a"))))


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".txt.gz", ".txt.zst"])
@pytest.mark.parametrize("drop_bad", [False, True])
def test_an_archive_cut_anywhere_is_broken(tmp_path: Path, ending: str, drop_bad: bool):
    noise = os.urandom(50).hex()
    path = write(tmp_path / f"x{ending}", rows(*({"text": f"{i} {noise}"} for i in range(50))))
    whole = path.read_bytes()
    for cut in (3, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"broken or cut short .*Fetch or write it again"):
            texts(Source(str(path), "prose", drop_bad=drop_bad))
    path.write_bytes(b"this was never packed")
    with pytest.raises(DataError, match="broken or cut short"):
        texts(Source(str(path), "prose"))


def test_a_file_without_line_ends_is_no_jsonl(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(line_module, "_LONGEST", 1_000)
    monkeypatch.setattr(line_module, "_CHUNK", 100)
    path = write(tmp_path / "x.jsonl", b"{}\n" + b"x" * 5_000)
    with pytest.raises(DataError, match=r"x\.jsonl:2: a line of more than 1,000 bytes"):
        list(lines(path))


def test_settings_of_a_source_are_checked():
    for wrong in (dict(path=""), dict(path="x", most=0), dict(path="x", domain="")):
        with pytest.raises(DataError, match="valid is"):
            Source(**wrong)  # type: ignore[arg-type]


def test_files_are_read_in_pieces(tmp_path: Path):
    """Oracle: tracemalloc, over a file of 30 MB in 1 kB rows."""
    path = write(tmp_path / "x.jsonl", rows({"text": "word " * 200}) * 30_000)
    tracemalloc.start()
    assert sum(one.size for one in read(Source(str(path), "prose"))) == 30_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


# --- what the machine has ---------------------------------------------------------------------------


def test_embedded_is_three_domains():
    found = list(read(Source("embedded", most=1)))
    assert [one.domain for one in found] == ["code", "prose", "maths"]
    (one,) = read(Source("embedded:maths", domain="sums", most=1))
    assert one.domain == "sums"


def test_skills_are_a_source_of_their_own():
    (one,) = read(Source("embedded:skills", most=1))
    assert (one.domain, one.origin) == ("skills", "embedded:skills/0")
    assert next(read(Source("embedded:skills", domain="drill"))).domain == "drill"


def test_python_reads_what_is_installed(tmp_path: Path, monkeypatch):
    for name in ("lib/a.py", "packages/b.py"):
        write(tmp_path / name, f"# {name}\n".encode())
    write(tmp_path / "lib" / "bad.py", b"# \xff\n")
    paths = {"stdlib": tmp_path / "lib", "purelib": tmp_path / "packages", "platlib": tmp_path / "packages"}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    found = list(read(Source("python")))
    assert [(one.text, one.domain) for one in found] == [
        ("# lib/a.py\n", "code"),
        ("# packages/b.py\n", "code"),
    ]
    assert next(read(Source("python", domain="py"))).domain == "py"


# --- data sets --------------------------------------------------------------------------------------


def test_a_data_set_from_a_folder(tmp_path: Path):
    pytest.importorskip("datasets")
    write(tmp_path / "set" / "train.jsonl", rows({"text": "a", "domain": "x"}, {"text": "b", "domain": "y"}))
    write(tmp_path / "set" / "test.jsonl", rows({"text": "c", "domain": "x"}))
    name = f"hf:{tmp_path / 'set'}"
    found = list(read(Source(name)))
    assert [(one.text, one.domain, one.origin) for one in found] == [
        ("a", "x", f"{name}:1"), ("b", "y", f"{name}:2"),
    ]  # fmt: skip
    assert texts(Source(name, split="test", domain="z")) == ["c"]
    with pytest.raises(DataError, match=r"cannot be loaded .*valid is hf:NAME .* with the split 'nope'"):
        read(Source(name, split="nope"))
    with pytest.raises(DataError, match="no field 'body'"):
        texts(Source(name, text="body"))


def test_a_data_set_is_asked_for_by_name_and_config(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(name, config, *, split, streaming):
        asked.append((name, config, split, streaming))
        return iter([{"text": "a"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert (
        texts(Source("hf:who/what", "prose")) == texts(Source("hf:who/what:en", "prose", split="x")) == ["a"]
    )
    assert asked == [("who/what", None, "train", True), ("who/what", "en", "x", True)]


def test_an_unknown_data_set(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load(*_, **__):
        raise ConnectionError("Couldn't reach 'who/nothing' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"hf:who/nothing: cannot be loaded \(ConnectionError: .*on the Hub"):
        read(Source("hf:who/nothing", "prose"))
    with pytest.raises(DataError, match=r"hf:\./no/such: cannot be loaded"):
        monkeypatch.undo()
        read(Source("hf:./no/such", "prose"))


def test_a_stream_that_breaks_off(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def stream():
        yield {"text": "a"}
        raise TimeoutError("no answer")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: stream())
    with pytest.raises(DataError, match=r"hf:x:2: reading broke off \(TimeoutError: no answer\)"):
        texts(Source("hf:x", "prose", drop_bad=True))


# --- real inputs ------------------------------------------------------------------------------------


def test_the_shared_corpus(shared: Path):
    """Oracle: documents and bytes that its report counted."""
    corpus = shared / "corpus"
    if not corpus.is_dir():
        pytest.skip("no corpus among the real inputs")
    report = json.loads((corpus / "report.json").read_text())["domains"]
    for name in ("children", "textbook"):
        found = list(read(Source(str(corpus / f"{name}.jsonl.zst"))))
        assert {one.domain for one in found} == {name}
        told = report[name]["train"]
        assert (len(found), sum(one.size for one in found)) == (told["docs"], told["bytes"])
