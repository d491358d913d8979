"""Folders written whole or not at all: killed at every call that changes the disk, every bit flipped."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite import durable
from evalsuite.durable import MANIFEST, Broken, Manifest, read_manifest, verify, write_folder
from scaling.errors import StagewiseError, UsageError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = {"a.bin": b"first file", "b.bin": bytes(range(256)), "empty": b""}
# Whatever a folder is written by goes through one of these; each is a moment at which a machine may stop.
CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "open", "close")
# Repeats `act` in processes of its own, each killed before or after its n-th call, until one gets to its end.
KILLER = """
import json, os, signal, sys
from pathlib import Path
folder = Path(sys.argv[1])
CALLS = json.loads(sys.argv[2])
{script}
def child(n, late):
    done = 0
    def guarded(real):
        def call(*args, **kwargs):
            nonlocal done
            done += 1
            if done == n and not late:
                os.kill(os.getpid(), signal.SIGKILL)
            mine = done
            try:
                return real(*args, **kwargs)
            finally:
                if mine == n and late:
                    os.kill(os.getpid(), signal.SIGKILL)
        return call
    for name in CALLS:
        setattr(os, name, guarded(getattr(os, name)))
    try:
        act(n)
    finally:
        os._exit(0 if sys.exc_info()[0] is None else 3)
for late in (False, True):
    n, code = 0, None
    while code != 0:
        n += 1
        prepare(n, late)
        pid = os.fork()
        if not pid:
            child(n, late)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL), code
        print(json.dumps([code, look(n, late)]), flush=True)
"""


def killed(folder: Path, script: str) -> list:
    """What `look` saw after each kill, and at the end after none; `script` defines prepare, act and look."""
    run = [sys.executable, "-c", KILLER.replace("{script}", script), str(folder), json.dumps(CALLS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def writers(content: dict[str, bytes]) -> dict[str, durable.Writer]:
    return {name: lambda path, data=data: path.write_bytes(data) for name, data in content.items()}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A whole folder that a test may break."""
    write_folder(tmp_path / "one", writers(CONTENT), {"step": 3})
    return tmp_path / "one"


def test_what_was_written_is_there(tmp_path):
    """Oracle: the bytes, and hashlib over them."""
    told = write_folder(tmp_path / "new/parents/one", writers(CONTENT), {"step": 3, "of": ["x", None]})
    at = tmp_path / "new/parents/one"
    assert {path.name: path.read_bytes() for path in at.iterdir() if path.name != MANIFEST} == CONTENT
    assert verify(at) == read_manifest(at) == told
    assert told.metadata == {"step": 3, "of": ["x", None]}
    assert told.size == sum(map(len, CONTENT.values()))
    for name, data in CONTENT.items():
        assert told.files[name].sha256 == hashlib.sha256(data).hexdigest()
        assert told.files[name].size == len(data)
    assert [path.name for path in at.parent.iterdir()] == ["one"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name, content in (("one", CONTENT), ("two", dict(reversed(CONTENT.items())))):
        write_folder(tmp_path / name, writers(content), {"step": 3})
    one, two = ((tmp_path / name / MANIFEST).read_bytes() for name in ("one", "two"))
    assert one == two


def test_files_are_as_readable_as_others(tmp_path):
    def private(path: Path) -> None:
        path.touch(mode=0o600)

    before = os.umask(0o022)
    try:
        write_folder(tmp_path / "one", {"a": private})
    finally:
        os.umask(before)
    assert (tmp_path / "one/a").stat().st_mode & 0o777 == 0o644


def test_the_order_of_what_reaches_the_disk(tmp_path, monkeypatch):
    """Oracle: the protocol. Each file, then the manifest, the folder, its name, the folder above."""
    (tmp_path / "here").mkdir()
    target, done = tmp_path / "here/one", []

    def fsync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        names = {(path.stat().st_dev, path.stat().st_ino): path for path in tmp_path.rglob("*")}
        done.append(f"sync {names[found.st_dev, found.st_ino].relative_to(tmp_path)}")

    def rename(old, new) -> None:
        done.append(f"rename {Path(old).name} {Path(new).name}")
        real(old, new)

    real = os.rename
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    write_folder(target, writers(CONTENT))
    files = [f"sync here/one.tmp/{name}" for name in (*CONTENT, MANIFEST)]
    assert done == [*files, "sync here/one.tmp", "rename one.tmp one", "sync here"]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def later(path: Path) -> None:
    """As a later version would write it: its digest is that of the rest."""
    body = json.loads(path.read_bytes()) | {"format": 2, "new": "field"}
    body.pop("digest")
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**body, "digest": digest}))


BROKEN = {
    "missing": (lambda f: (f / "a.bin").unlink(), r"a\.bin: missing"),
    "cut": (lambda f: cut(f / "b.bin"), r"b\.bin: truncated: 255 bytes, written were 256"),
    "longer": (lambda f: (f / "empty").write_bytes(b"!"), r"empty: longer than written: 1 bytes"),
    "flipped": (lambda f: flip(f / "b.bin", 1001), r"b\.bin: its bytes changed"),
    "folder": (lambda f: to_folder(f / "a.bin"), r"a\.bin: is no file"),
    "extra": (lambda f: (f / "c.bin").touch(), r"c\.bin: not one of its files"),
    "extra folder": (lambda f: (f / "sub").mkdir(), r"sub: not one of its files"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), r"manifest\.json: missing"),
    "cut manifest": (lambda f: cut(f / MANIFEST), r"manifest\.json: broken"),
    "empty manifest": (lambda f: (f / MANIFEST).write_text(""), r"manifest\.json: broken"),
    "not text": (lambda f: (f / MANIFEST).write_bytes(b"\xff" * 50), r"manifest\.json: broken"),
    "other JSON": (lambda f: (f / MANIFEST).write_text("[1]"), r"manifest\.json: broken"),
    "deep JSON": (lambda f: (f / MANIFEST).write_text("[" * 10**5), r"manifest\.json: broken"),
    "manifest a folder": (lambda f: to_folder(f / MANIFEST), r"manifest\.json: cannot be read"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named(folder, case):
    change, message = BROKEN[case]
    change(folder)
    with pytest.raises(Broken, match=message) as caught:
        verify(folder)
    assert str(folder) in str(caught.value)


def test_a_later_version_is_not_taken_for_broken(folder):
    later(folder / MANIFEST)
    with pytest.raises(StagewiseError, match=r"format 2 of a later version.*update") as caught:
        verify(folder)
    assert not isinstance(caught.value, Broken)
    with pytest.raises(StagewiseError, match="later version"):  # nor is it replaced
        write_folder(folder, writers(CONTENT), replace=True)
    assert json.loads((folder / MANIFEST).read_bytes())["format"] == 2


def test_no_such_folder(tmp_path):
    with pytest.raises(Broken, match="no such folder"):
        verify(tmp_path / "none")


def test_every_flipped_bit_is_found(tmp_path):
    folder = tmp_path / "one"
    write_folder(folder, writers({"a.bin": b"some bytes"}), {"step": 3})
    for name in ("a.bin", MANIFEST):
        path = folder / name
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            flip(path, bit)
            with pytest.raises(Broken, match=name):
                verify(folder)
            flip(path, bit)
    verify(folder)


def test_every_cut_is_found(folder):
    for name in (*CONTENT, MANIFEST):
        whole = (folder / name).read_bytes()
        for n in range(len(whole)):
            (folder / name).write_bytes(whole[:n])
            with pytest.raises(Broken, match=name):
                verify(folder, digests=False)  # a size tells
        (folder / name).write_bytes(whole)
    verify(folder)


def test_a_quick_look_does_not_read_bytes(folder):
    flip(folder / "b.bin", 0)
    verify(folder, digests=False)
    with pytest.raises(Broken):
        verify(folder)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(metadata=st.dictionaries(st.text(), json_like, max_size=3))
def test_metadata_comes_back(metadata, tmp_path_factory):
    at = tmp_path_factory.mktemp("any") / "one"
    write_folder(at, writers(CONTENT), metadata)
    assert verify(at).metadata == metadata


# --- killed -------------------------------------------------------------------------------------------

WRITE = """
import shutil
from evalsuite.durable import verify, write_folder
from scaling.errors import StagewiseError
def state(name):
    try:
        return verify(name).metadata["n"]
    except StagewiseError as error:
        return None if not name.exists() else str(error)
def writing(path):
    with open(path, "wb") as out:
        out.write(b"first half")
        out.flush()
        os.close(os.open(path, os.O_RDONLY))  # a moment at which half of it is there
        out.write(b"second half")
def act(n):
    write_folder(folder / "two", {"a": writing, "b": writing}, {"n": "new"}, replace=REPLACE)
def look(n, late):
    seen = [state(folder / "one"), state(folder / "two")]
    act(n) if seen[1] != "new" else None
    return [*seen, state(folder / "two"), sorted(os.listdir(folder))]
def prepare(n, late):
    shutil.rmtree(folder)
    for name in ("one", "two")[: 1 + STANDS]:
        write_folder(folder / name, {"a": writing, "c": writing}, {"n": "old"})
    if BREAK:
        (folder / "two/a").write_bytes(b"")
"""


@pytest.mark.parametrize("before", ["none", "whole", "broken"])
def test_a_kill_at_any_moment_leaves_all_or_nothing(tmp_path, before):
    setting = f"STANDS, BREAK, REPLACE = {before != 'none'}, {before == 'broken'}, {before == 'whole'}\n"
    seen = killed(tmp_path, setting + WRITE)
    assert len(seen) >= 38  # 18 calls or more, a kill before and one after each
    states = [two for code, (_, two, _, _) in seen if code]
    assert all(one == "old" for _, (one, _, _, _) in seen)
    old = {"none": None, "whole": "old", "broken": f"{tmp_path}/two: a: truncated: 0 bytes, written were 21"}
    assert set(states) <= {old[before], None, "new"}
    assert {old[before], "new"} <= set(states)  # kills on either side of the rename were seen
    # None where one stood: only between the two renames, one moment before and one after each of them.
    assert before == "none" or states.count(None) <= 6
    for _, (_, _, again, names) in seen:
        assert again == "new"
        assert set(names) <= {"one", "two", "two.old.tmp"}


def test_a_folder_moved_aside_by_a_killed_writer_comes_back(folder):
    """The only copy is not thrown away for one that may not come."""
    os.rename(folder, folder.with_name("one.old.tmp"))

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StagewiseError, match="No space left"):
        write_folder(folder, {"a": full}, replace=True)
    assert verify(folder).metadata == {"step": 3}


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / "one.tmp/sub").mkdir(parents=True)
    (tmp_path / "one.tmp/sub/half").write_bytes(b"x")
    write_folder(tmp_path / "one", writers(CONTENT))
    assert verify(tmp_path / "one")
    assert os.listdir(tmp_path) == ["one"]


# --- failures -----------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_nothing_is_lost(folder):
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    two = folder.with_name("two")
    with pytest.raises(StagewiseError) as caught:
        write_folder(two, {"a": writers(CONTENT)["a.bin"], "b": full}, needed=123_456)
    message = str(caught.value)
    assert "No space left on device" in message and "123,456 are needed" in message
    assert "bytes are free there" in message and "stands" in message and str(two) in message
    assert isinstance(caught.value.__cause__, OSError)
    assert os.listdir(folder.parent) == ["one"]
    assert verify(folder).metadata == {"step": 3}


@pytest.mark.parametrize("before", ["none", "whole", "broken"])
@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
def test_any_call_may_fail(tmp_path, monkeypatch, call, before):
    """At every failure the folder is what it was, or the new one; nothing half written is left."""
    real = getattr(os, call)
    failures, n, ended = 0, 0, False
    while not ended:
        n += 1
        at = tmp_path / f"{call}{n}" / "one"
        if before != "none":
            write_folder(at, writers(CONTENT), {"n": "old"})
            if before == "broken":
                cut(at / "b.bin")
        left = n

        def failing(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                write_folder(at, writers({"new": b"1"}), {"n": "new"}, replace=before == "whole")
                ended = True
            except StagewiseError as error:
                assert "Input/output error" in str(error)
                failures += 1
        assert not at.with_name("one.tmp").exists()
        if before == "whole" or ended:
            assert verify(at).metadata["n"] in (("new",) if ended else ("old", "new"))
        elif before == "broken":
            assert (at / MANIFEST).exists()
        elif at.exists():
            verify(at)
    assert failures >= 1


def test_an_interrupt_stays_one(tmp_path):
    def stop(path: Path) -> None:
        path.touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "one", {"a": stop})
    assert not os.listdir(tmp_path)


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(StagewiseError, match=r"one\.tmp: a: what should write it wrote no file"):
        write_folder(tmp_path / "one", {"a": lambda path: None})
    assert not os.listdir(tmp_path)


# --- what stands in the way ---------------------------------------------------------------------------


def test_a_whole_folder_is_refused_unless_asked(folder):
    with pytest.raises(StagewiseError, match="is there already, and whole"):
        write_folder(folder, writers({"new": b"1"}))
    assert verify(folder).metadata == {"step": 3}
    write_folder(folder, writers({"new": b"1"}), replace=True)
    assert set(verify(folder).files) == {"new"}
    assert os.listdir(folder.parent) == ["one"]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_replaced(folder, case):
    BROKEN[case][0](folder)
    write_folder(folder, writers(CONTENT), {"step": 4})
    assert verify(folder).metadata == {"step": 4}
    assert os.listdir(folder.parent) == ["one"]


@pytest.mark.parametrize("manifest", [None, "{}", '{"format": 1, "suite": null}', "not JSON"])
def test_a_folder_of_somebody_else_is_not(tmp_path, manifest):
    mine = tmp_path / "one"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    if manifest is not None:
        (mine / MANIFEST).write_text(manifest)
    with pytest.raises(StagewiseError, match=r"holds thesis\.tex and no whole manifest\.json"):
        write_folder(mine, writers(CONTENT), replace=True)
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_a_file_is_in_the_way(tmp_path):
    (tmp_path / "one").write_text("")
    with pytest.raises(StagewiseError, match="is a file"):
        write_folder(tmp_path / "one", writers(CONTENT))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", MANIFEST, "a\0"])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(UsageError, match="valid is a plain file name"):
        write_folder(tmp_path / "one", {name: lambda path: path.write_bytes(b"")})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": object()}, {1: "a"}, {"a": (1, 2)}])
def test_metadata_that_would_not_come_back(tmp_path, metadata):
    with pytest.raises(UsageError, match="metadata"):
        write_folder(tmp_path / "one", writers(CONTENT), metadata)
    assert not os.listdir(tmp_path)


def test_it_needs_no_torch():
    code = "import evalsuite.durable, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_a_manifest_knows_its_bytes(folder):
    told = read_manifest(folder)
    assert Manifest(told.files, told.metadata).encode() == (folder / MANIFEST).read_bytes()
