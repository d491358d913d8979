"""Folders that are there whole or not at all, and that know whether they still are what was written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import StagewiseError, UsageError

MANIFEST = "manifest.json"
FORMAT = 1
PART, ASIDE = ".tmp", ".old.tmp"  # ends of the names of a folder in the making, and of one that is replaced

Writer = Callable[[Path], object]


class Broken(StagewiseError):
    """A folder is not what was written: a file is missing, cut off, changed, or one too many."""


@dataclass(frozen=True)
class Entry:
    """One file of a folder: its size in bytes, and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder holds.

    Attributes:
        files: every file but the manifest itself, by name. metadata: what its writer says of it.
    """

    files: Mapping[str, Entry]
    metadata: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def encode(self) -> bytes:
        """The bytes of manifest.json: these and no others are a whole manifest."""
        body = {
            "format": FORMAT,
            "files": {name: {"size": e.size, "sha256": e.sha256} for name, e in sorted(self.files.items())},
            "metadata": dict(self.metadata),
        }
        text = json.dumps({**body, "digest": _digest(body)}, indent=1, allow_nan=False)
        return f"{text}\n".encode()


def write_folder(
    folder: str | os.PathLike[str],
    files: Mapping[str, Writer],
    metadata: Mapping[str, Any] | None = None,
    *,
    needed: int | None = None,
    replace: bool = False,
) -> Manifest:
    """Write a folder so that it is there whole or not at all, whenever the machine stops.

    All is written into `NAME.tmp`, each file flushed to the disk; the manifest comes last; then the folder
    gets its name. What a killed writer left in `NAME.tmp` is removed first. A folder of that name that is
    broken is replaced: it is moved aside before the new one takes its place. A kill in between leaves no
    folder of that name, never a mixture of both; the next call puts the old one back before all else.

    Args:
        folder: where. Missing parents are made.
        files: what writes each file, by its name: called with the path to write to.
        metadata: small, as JSON has it; kept in the manifest.
        needed: bytes that all files will take, for the message when the disk is full.
        replace: whether a folder that `write_folder` wrote and that is whole is replaced too.

    Returns:
        What was written.

    Raises:
        UsageError: a name that is no plain file name, metadata that JSON does not have.
        StagewiseError: there is such a folder, or something failed while writing; nothing half written is
            left, and what was there before stands.

    Example:
        >>> write_folder("step-1", {"a.txt": lambda path: path.write_text("a")})   # doctest: +SKIP
    """
    target = Path(os.path.abspath(folder))
    metadata = dict(metadata or {})
    _check_call(target, files, metadata)
    part, aside = target.with_name(target.name + PART), target.with_name(target.name + ASIDE)
    _restore(aside, target)
    present = os.path.lexists(target)
    if present:
        _check_replaceable(target, files, replace)
    try:
        _make(target.parent)
        remove(part)
        remove(aside)
        os.mkdir(part)
        manifest = Manifest({name: _written(part / name, write) for name, write in files.items()}, metadata)
        _written(part / MANIFEST, lambda path: path.write_bytes(manifest.encode()))
        sync_folder(part)
        if present:
            os.rename(target, aside)
        os.rename(part, target)
        sync_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            remove(part)
        with suppress(OSError):
            _restore(aside, target)
        if not isinstance(error, Exception) or isinstance(error, StagewiseError):
            raise
        raise StagewiseError(_failed(target, error, needed)) from error
    with suppress(OSError):  # the new folder stands; the next writer of it takes this away
        remove(aside)
    return manifest


def verify(folder: str | os.PathLike[str], *, digests: bool = True) -> Manifest:
    """Check that a folder is what `write_folder` wrote.

    Args:
        folder: to check.
        digests: whether the bytes of every file are read; without it names and sizes are compared.

    Returns:
        What it holds.

    Raises:
        Broken: the first thing that is wrong, and in which file.
        StagewiseError: it was written by a later version.

    Example:
        >>> verify("runs/a/step-000001000").size             # doctest: +SKIP
        48211020
    """
    path = Path(folder)
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        _check_file(path, name, entry)
    if extra := sorted({one.name for one in os.scandir(path)} - set(manifest.files) - {MANIFEST}):
        raise Broken(f"{path}: {extra[0]}: not one of its files ({len(extra)} too many); take it out")
    for name, entry in manifest.files.items() if digests else ():
        try:
            found = _sha256(path / name)
        except OSError as error:
            raise Broken(f"{path}: {name}: cannot be read ({error.strerror})") from error
        if found != entry.sha256:
            raise Broken(
                f"{path}: {name}: its bytes changed since they were written (SHA-256 {found[:12]}..., "
                f"written was {entry.sha256[:12]}...)"
            )
    return manifest


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a folder, without a look at the files that it names.

    Raises:
        Broken: there is none, or it is not what was written. StagewiseError: it is of a later version.
    """
    path = Path(folder) / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        what = f"{MANIFEST}: missing" if path.parent.is_dir() else "no such folder"
        raise Broken(f"{folder}: {what}; it was not written to its end, or not by Stagewise") from error
    except OSError as error:
        raise Broken(f"{folder}: {MANIFEST}: cannot be read ({error.strerror})") from error
    try:
        body = json.loads(data)
        digest = body.pop("digest")
        whole = digest == _digest(body)
        form = body["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Broken(f"{folder}: {MANIFEST}: broken ({type(error).__name__}: {error})") from error
    # A later version is believed only where its digest holds: else a flipped bit could pass for one.
    if whole and type(form) is int and form > FORMAT:
        raise StagewiseError(
            f"{folder}: {MANIFEST}: format {form} of a later version; this one reads format {FORMAT}: "
            "update Stagewise"
        )
    with suppress(KeyError, TypeError, AttributeError, ValueError):
        files = {name: Entry(**entry) for name, entry in body["files"].items()}
        manifest = Manifest(files, body["metadata"])
        if whole and manifest.encode() == data:
            return manifest
    raise Broken(f"{folder}: {MANIFEST}: broken (not the bytes that were written)")


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder and all it holds; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_call(target: Path, names: Iterable[str], metadata: Mapping[str, Any]) -> None:
    for name in names:
        if name in ("", ".", "..", MANIFEST) or name != os.path.basename(name) or "\0" in name:
            raise UsageError(f"{target}: file {name!r}: valid is a plain file name other than {MANIFEST}")
    try:
        kept = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{target}: metadata: {error}; valid is what JSON has") from error
    if kept != metadata:
        raise UsageError(f"{target}: metadata {metadata!r:.200}: would be read back as {kept!r:.200}")


def _check_replaceable(target: Path, names: Iterable[str], replace: bool) -> None:
    """Refuse to replace a folder that is whole, or that somebody else made."""
    if not target.is_dir():
        raise StagewiseError(f"{target}: is a file, not a folder; give another name")
    try:
        verify(target)
    except Broken:
        try:
            read_manifest(target)
        except Broken:
            # Without a manifest that reads, its files have to tell that it is one of ours.
            foreign = sorted({one.name for one in os.scandir(target)} - set(names) - {MANIFEST})
            if foreign:
                raise StagewiseError(
                    f"{target}: holds {foreign[0]} and no whole {MANIFEST}, so it is not replaced; "
                    "move it away"
                ) from None
        return
    if not replace:
        raise StagewiseError(f"{target}: is there already, and whole; give another name, or delete it")


def _restore(aside: Path, target: Path) -> None:
    """Give a folder its name back that was moved aside for one that never came."""
    if os.path.lexists(aside) and not os.path.lexists(target):
        os.rename(aside, target)


def _check_file(folder: Path, name: str, entry: Entry) -> None:
    try:
        found = os.stat(folder / name)
    except FileNotFoundError as error:
        raise Broken(f"{folder}: {name}: missing") from error
    except OSError as error:
        raise Broken(f"{folder}: {name}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise Broken(f"{folder}: {name}: is no file")
    if found.st_size != entry.size:
        what = "truncated" if found.st_size < entry.size else "longer than written"
        raise Broken(f"{folder}: {name}: {what}: {found.st_size:,} bytes, written were {entry.size:,}")


def _written(path: Path, write: Writer) -> Entry:
    """Have one file written, and bring it to the disk."""
    write(path)
    if not path.is_file():
        raise StagewiseError(f"{path.parent}: {path.name}: what should write it wrote no file")
    # Some writers make private files; these are as readable as any file the user writes.
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
    return Entry(path.stat().st_size, _sha256(path))


def _make(folder: Path) -> None:
    """Make a folder and its parents, each durable."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its digest; the same rule in every format."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _failed(target: Path, error: Exception, needed: int | None) -> str:
    place = target.parent
    while not place.exists():
        place = place.parent
    try:
        free = f"{shutil.disk_usage(place).free:,} bytes are free there"
    except OSError:
        free = "how many bytes are free there is not known"
    room = f"{free}, {needed:,} are needed" if needed is not None else free
    return (
        f"{target}: could not be written: {type(error).__name__}: {error} ({room}); what was written before "
        "it stands, the half of it is removed: make room or give another folder, and go on from there"
    )
