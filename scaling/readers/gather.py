"""From the paths a user gives to single files: folders walked, archives unpacked safely."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow

from scaling.errors import StagewiseError
from scaling.readers.candidate import Candidate

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
MEMBER_LIMIT = 2 << 30
ARCHIVE_LIMIT = 32 << 30  # unpacked bytes of one archive: a bomb is stopped, real result sets are far below


def compression_of(path: str | os.PathLike[str]) -> str | None:
    """`gzip`, `zstd` or `bz2` by the first bytes of a file; None for anything else."""
    with open(path, "rb") as handle:
        start = handle.read(4)
    return next((name for magic, name in _COMPRESSIONS.items() if start.startswith(magic)), None)


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a tar archive, plain or compressed (by content)."""
    if compression_of(path) is None:
        with open(path, "rb") as handle:
            return handle.read(512)[257:262] == b"ustar"
    try:
        with _open_tar(path):
            return True
    except (tarfile.TarError, OSError, pyarrow.ArrowException):
        return False


@contextmanager
def _open_tar(path: str | os.PathLike[str]) -> Iterator[tarfile.TarFile]:
    with pyarrow.input_stream(os.fspath(path), compression=compression_of(path)) as stream:
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar:
            yield tar


def check_member(archive: str, member: tarfile.TarInfo) -> None:
    """Refuse an archive member that would land, or point, outside the archive's own folder.

    Raises:
        StagewiseError: names the archive, the member and where it points.
    """

    def refuse(what: str) -> None:
        raise StagewiseError(
            f"{archive}: member {member.name!r} {what}; nothing was read from this archive: "
            f"get it again from a source you trust"
        )

    def escapes(path: PurePosixPath) -> bool:
        depth = 0
        for part in path.parts:
            depth += {"..": -1, ".": 0}.get(part, 1)
            if depth < 0:
                return True
        return path.is_absolute()

    name = PurePosixPath(member.name.replace("\\", "/"))
    if escapes(name) or (len(member.name) > 1 and member.name[1] == ":"):
        refuse("points outside the archive")
    if member.issym() or member.islnk():
        link = PurePosixPath(member.linkname.replace("\\", "/"))
        target = name.parent / link if member.issym() and not link.is_absolute() else link
        if escapes(target):
            refuse(f"is a link out of the archive, to {member.linkname!r}")
    elif not (member.isfile() or member.isdir()):
        refuse("is neither a file, a folder nor a link")
    if member.size > MEMBER_LIMIT:
        refuse(f"has {member.size / 2**30:.1f} GiB, more than the {MEMBER_LIMIT / 2**30:.0f} GiB read here")


def members(path: str | os.PathLike[str]) -> Iterator[tuple[str, bytes]]:
    """The regular files of an archive as (name, content), in order; links and folders are passed over.

    Every member is checked first (a pass over the headers), so a bad archive yields nothing at all.

    Raises:
        StagewiseError: a member that points outside, or an archive cut short.
    """
    shown = os.fspath(path)
    try:
        with _open_tar(path) as tar:
            total = 0
            for member in tar:
                check_member(shown, member)
                total += member.size
                if total > ARCHIVE_LIMIT:
                    raise StagewiseError(
                        f"{shown}: unpacks to more than {ARCHIVE_LIMIT / 2**30:.0f} GiB; refused"
                    )
        with _open_tar(path) as tar:
            for member in tar:
                if member.isfile() and (content := tar.extractfile(member)) is not None:
                    yield member.name.removeprefix("./"), content.read()
    except (tarfile.TarError, OSError, EOFError, pyarrow.ArrowException) as error:
        raise StagewiseError(f"{shown}: broken or cut-short archive ({error}); copy it again") from error


def gather(paths: Iterable[str | os.PathLike[str]], scratch: Path) -> Iterator[tuple[Candidate, bool]]:
    """Every single file below `paths`, and whether the user named it himself.

    Files of an archive are written under `scratch` by number, never by their own names.

    Raises:
        StagewiseError: a path that does not exist, an unsafe or broken archive.
    """
    written = 0
    for given in paths:
        root = Path(given)
        if root.is_dir():
            found = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
            entries = [(path, path.relative_to(root).as_posix(), False) for path in sorted(found)]
        elif root.is_file():
            entries = [(root, root.name, True)]
        else:
            raise StagewiseError(f"{root}: no such file or folder; give result files, folders or archives")
        for path, inside, alone in entries:
            if not path.is_file():
                continue  # a dangling link, a socket
            if is_archive(path):
                for name, content in members(path):
                    unpacked = scratch / f"{written}"
                    written += 1
                    unpacked.write_bytes(content)
                    yield Candidate(unpacked, f"{path}:{name}", name), False
            else:
                yield Candidate(path, str(path), inside), alone
