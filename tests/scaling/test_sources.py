"""Known result sets: digests checked, fetches resumed or refused, nothing half written."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import pytest

import scaling.sources as sources
from scaling.errors import StagewiseError, UsageError
from scaling.sources import Source, SourceFile, fetch, known_file, list_sources

CONTENT = {"LICENSE": b"free", "data/a b.csv": b"x,y\n1,2\n", "data/deep/c.json": b"{}"}


@pytest.fixture
def toy(monkeypatch) -> Source:
    source = Source("toy", "a toy", "someone/toy", "c0ffee", "MIT", ("data/",), "toy_archive", "none")
    listed = tuple(SourceFile(p, len(b), hashlib.sha256(b).hexdigest()) for p, b in CONTENT.items())
    known = dict(sources._files()) | {"toy": listed}
    monkeypatch.setattr(sources, "_files", lambda: known)
    return source


def _mirror(folder: Path, content=CONTENT) -> Path:
    for path, body in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _archive(path: Path, mode="w:gz", prefix="") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, body in CONTENT.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def test_the_list_is_complete():
    for source in list_sources():
        assert source.files, source.name
        assert source.size == sum(file.size for file in source.files)
        assert source.licence and source.repository.count("/") == 1
        assert all(len(file.sha256) == 64 for file in source.files)
    assert {s.name for s in list_sources()} >= {"pythia", "olmo_ladder", "openlm_scaling", "gemstones"}


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="pythia"):
        fetch("pythias")


def test_from_folder(toy, tmp_path):
    seen = []
    done = fetch(
        "toy",
        source=toy,
        source_dir=_mirror(tmp_path / "mirror"),
        into=tmp_path / "out",
        progress=lambda *a: seen.append(a),
    )
    assert _tree(tmp_path / "out") == CONTENT
    assert (done.new, done.present) == (3, 0)
    assert [a[:2] for a in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("prefix", ["", "toy-main/", "./"])
def test_from_archive_and_from_a_folder_that_holds_it(toy, tmp_path, prefix):
    place = tmp_path / "archives"
    place.mkdir()
    archive = _archive(place / "toy_archive.tar.gz", prefix=prefix)
    fetch("toy", source=toy, source_dir=archive, into=tmp_path / "one")
    fetch("toy", source=toy, source_dir=place, into=tmp_path / "two")
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two") == CONTENT


def test_wrong_digest_is_refused_and_the_old_file_stays(toy, tmp_path):
    mirror = _mirror(tmp_path / "mirror", CONTENT | {"data/a b.csv": b"x,y\n1,3\n"})
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "data/a b.csv").write_bytes(b"mine")
    with pytest.raises(StagewiseError, match="wrong digest"):
        fetch("toy", source=toy, source_dir=mirror, into=out)
    assert (out / "data/a b.csv").read_bytes() == b"mine"
    assert not [p for p in out.rglob(".*") if p.is_file()]


def test_present_files_are_not_read_again_and_a_fetch_resumes(toy, tmp_path):
    out = tmp_path / "out"
    partial = _mirror(tmp_path / "partial", {"LICENSE": b"free"})
    with pytest.raises(StagewiseError, match="2 of 3"):
        fetch("toy", source=toy, source_dir=partial, into=out)
    assert _tree(out) == {"LICENSE": b"free"}
    done = fetch("toy", source=toy, source_dir=_mirror(tmp_path / "whole"), into=out)
    assert (done.new, done.present) == (2, 1)
    done = fetch("toy", source=toy, source_dir=tmp_path / "nothing here", into=out)
    assert (done.new, done.present) == (0, 3)


def test_an_empty_place_is_refused(toy, tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "absent"):
        with pytest.raises(StagewiseError, match="toy"):
            fetch("toy", source=toy, source_dir=tmp_path / place, into=tmp_path / "out")


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "served"
    _mirror(root / "someone/toy/c0ffee")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", root
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_download(toy, tmp_path, server):
    url, root = server
    fetch("toy", source=toy, base_url=url, into=tmp_path / "out")
    assert _tree(tmp_path / "out") == CONTENT
    (root / "someone/toy/c0ffee/LICENSE").write_bytes(b"not free, and much longer than expected")
    with pytest.raises(StagewiseError, match="wrong digest"):
        fetch("toy", source=toy, base_url=url, into=tmp_path / "other")
    (root / "someone/toy/c0ffee/LICENSE").unlink()
    with pytest.raises(StagewiseError, match=r"404.*--from DIR"):
        fetch("toy", source=toy, base_url=url, into=tmp_path / "third")


def test_a_set_without_an_address_says_so(tmp_path):
    with pytest.raises(StagewiseError, match="--from DIR"):
        fetch("lmeval_hist", into=tmp_path, base_url="http://127.0.0.1:9")


def test_known_file_tells_copies_apart_by_their_place(monkeypatch):
    places = {"d": [("one", "evals/opt/x.json"), ("two", "results/opt/opt-1/x.json")]}
    monkeypatch.setattr(sources, "_by_digest", lambda: places)
    assert known_file("d", "results/opt/opt-1/x.json")[0] == "two"
    assert known_file("d", "some/evals/opt/x.json")[0] == "one"
    assert known_file("e", "x") is None


@pytest.mark.parametrize("name", ["olmo_ladder", "obsscaling"])
def test_fetch_from_the_real_archives(shared, tmp_path, name):
    done = fetch(name, source_dir=shared / "sources", into=tmp_path)
    assert done.new == len(done.source.files)
