"""Known public result sets: where they are, what each file's digest is, and how to get one."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from scaling.embedded import LADDER
from scaling.errors import StagewiseError, UsageError
from scaling.facts.tables import rows
from scaling.files import replacing

BASE_URL = "https://raw.githubusercontent.com"
_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file of a result set: its path in the repository, its size in bytes, its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A public result set.

    Attributes:
        name: as in `scaling fetch NAME`.
        title: what it is.
        repository: owner/name on GitHub.
        commit: the commit its files are taken from.
        licence: of the result files.
        paths: folders or files of the repository that are taken.
        archive: what a local archive of it is called, without the suffix.
        reference: the paper or page.

    Example:
        >>> [source.name for source in list_sources()][:2]
        ['pythia', 'olmo_ladder']
    """

    name: str
    title: str
    repository: str
    commit: str
    licence: str
    paths: tuple[str, ...]
    archive: str
    reference: str

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Every file with its size and digest."""
        return _files().get(self.name, ())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did.

    Attributes:
        source: the result set.
        folder: where its files are.
        new: files written now.
        present: files that were already there and right.
    """

    source: Source
    folder: Path
    new: int
    present: int

    def __str__(self) -> str:
        return (
            f"{self.source.name}: {self.new} file(s) written, {self.present} already there, in {self.folder}"
        )


@cache
def _sources() -> dict[str, Source]:
    import yaml

    text = (files("scaling") / "facts" / "sources.yaml").read_text(encoding="utf-8")
    return {
        name: Source(
            name=name,
            title=entry["title"],
            repository=entry["repository"],
            commit=entry["commit"],
            licence=entry["licence"],
            paths=tuple(entry["paths"]),
            archive=entry["archive"],
            reference=entry["reference"],
        )
        for name, entry in yaml.safe_load(text).items()
    }


@cache
def _files() -> dict[str, tuple[SourceFile, ...]]:
    grouped: dict[str, list[SourceFile]] = {}
    for row in rows("source_files.csv.gz"):
        grouped.setdefault(row["source"], []).append(SourceFile(row["path"], int(row["size"]), row["sha256"]))
    return {name: tuple(found) for name, found in grouped.items()}


@cache
def _by_digest() -> dict[str, list[tuple[str, str]]]:
    known: dict[str, list[tuple[str, str]]] = {}
    for name, found in _files().items():
        for file in found:
            known.setdefault(file.sha256, []).append((name, file.path))
    return known


def known_file(sha256: str, path: str) -> tuple[str, str] | None:
    """Which known result set holds a file of this digest, and under which path there.

    Where several hold the same bytes, the one whose path ends most like `path` is meant.
    """

    def alike(place: tuple[str, str]) -> int:
        ours, theirs = path.split("/")[::-1], place[1].split("/")[::-1]
        return next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )

    places = _by_digest().get(sha256)
    return max(places, key=alike) if places else None


def list_sources() -> tuple[Source, ...]:
    """All known result sets, as `scaling/facts/sources.yaml` lists them."""
    return tuple(_sources().values())


def fetch(
    name: str,
    *,
    source_dir: str | os.PathLike[str] | None = None,
    into: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    base_url: str = BASE_URL,
    source: Source | None = None,
    timeout: float = 60.0,
) -> Fetched:
    """Get one known result set, each file checked against its digest.

    A file that is already there and right is left alone, so an interrupted fetch resumes; one whose
    content differs from the digest is refused and nothing is written in its place.

    Args:
        name: of a known result set.
        source_dir: take the files from here: a folder laid out as the repository, an archive of it, or
            a folder that holds such an archive. None downloads.
        into: folder to write below; the repository's paths are kept. Default `sources/<name>`.
        progress: called as `progress(done, total, path)` after each file.
        base_url: what `<repository>/<commit>/<path>` is appended to.
        source: a result set that is not in the list (name is then only a label).
        timeout: seconds without an answer before a download is given up.

    Raises:
        UsageError: no such result set.
        StagewiseError: a missing file, a wrong digest, a failed download; says which.

    Example:
        >>> fetch("olmo_ladder", source_dir="mirror/")      # doctest: +SKIP
    """
    source = source or _sources().get(name)
    if source is None and name == LADDER:
        raise UsageError(f"{LADDER} comes with the package: write {LADDER} where a command takes scores")
    if source is None:
        raise UsageError(f"no known result set {name!r}; known are {', '.join(_sources())}")
    folder = Path(into) if into is not None else Path("sources") / source.name
    wanted = {file.path: file for file in source.files}
    missing = {path: file for path, file in wanted.items() if not _is_right(folder / path, file)}
    done = present = len(wanted) - len(missing)
    if missing:
        if source_dir is not None:
            contents = _local(source, Path(source_dir), missing)
        else:
            contents = _remote(source, missing, base_url, timeout)
        for path, content in contents:
            file = missing.pop(path)
            _check(source, file, content)
            with replacing(folder / path) as part:
                part.write_bytes(content)
            done += 1
            if progress is not None:
                progress(done, len(wanted), path)
    if missing:
        first = next(iter(missing))
        raise StagewiseError(
            f"{source.name}: {len(missing)} of {len(wanted)} file(s) not found in {source_dir}, "
            f"such as {first}; those found are in {folder}: fetch the rest from a complete mirror"
        )
    return Fetched(source, folder, len(wanted) - present, present)


def _is_right(path: Path, file: SourceFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == file.sha256


def _check(source: Source, file: SourceFile, content: bytes) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != file.sha256:
        raise StagewiseError(
            f"{source.name}: {file.path} has the wrong digest: got {got}, expected {file.sha256} "
            f"({len(content):,} bytes, expected {file.size:,}); it was not written: the mirror holds another "
            f"version or a damaged copy"
        )


def _local(source: Source, place: Path, wanted: dict[str, SourceFile]) -> Iterator[tuple[str, bytes]]:
    from scaling.readers.gather import is_archive, members

    if place.is_dir():
        for root in (place, place / source.archive, place / source.name):
            if any((root / path).is_file() for path in wanted):
                for path in list(wanted):
                    if (root / path).is_file():
                        yield path, (root / path).read_bytes()
                return
        archives = [place / (source.archive + suffix) for suffix in _ARCHIVE_SUFFIXES]
        archive = next((path for path in archives if path.is_file()), None)
        if archive is None:
            raise StagewiseError(
                f"{place}: neither the files of {source.name} (such as {next(iter(wanted))}) nor an archive "
                f"{source.archive}.tar.zst; give a folder laid out as {source.repository}, or its archive"
            )
    elif place.is_file() and is_archive(place):
        archive = place
    else:
        raise StagewiseError(
            f"{place}: no such folder or archive; give a local mirror of {source.repository}"
        )
    open_paths = set(wanted)
    for name, content in members(archive):
        # An archive may hold the repository's tree itself or inside one folder.
        for path in (name, name.partition("/")[2]):
            if path in open_paths:
                open_paths.discard(path)
                yield path, content
                break


def _remote(
    source: Source, wanted: dict[str, SourceFile], base_url: str, timeout: float
) -> Iterator[tuple[str, bytes]]:
    if not source.commit.isalnum():
        raise StagewiseError(
            f"{source.name}: known only as {source.commit!r}, relative to another commit, so it has no "
            f"address to download from; check it out from {source.repository} and give it with --from DIR"
        )
    for path, file in list(wanted.items()):
        url = f"{base_url.rstrip('/')}/{source.repository}/{source.commit}/{urllib.parse.quote(path)}"
        try:
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                # One byte more than expected is enough to see that it is another file.
                content = answer.read(file.size + 1)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise StagewiseError(
                f"{source.name}: could not download {url} ({error}); what was fetched stays, run it again to "
                f"resume, or take the files from a local mirror with --from DIR"
            ) from error
        yield path, content
