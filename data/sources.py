"""Where text is read from: files, folders, Hugging Face data sets, and what the machine has."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from data.documents import Document, check_domain
from data.embedded import embedded, installed, python_text
from data.errors import DataError
from data.lines import PACKED, decoded, lines, pieces, suffix
from data.packages import packages

_ROWS = (".jsonl", ".ndjson", ".json")

Told = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Text to read, and how.

    Attributes:
        path: one of
            a JSONL file (`.jsonl`, `.ndjson`, `.json`: one object a line; as it is, or with `.gz` or `.zst`);
            a text file, which is one document (`.gz` and `.zst` too);
            a folder: its JSONL files where it has any (`.json` alone is none), else all its files as texts;
            `hf:NAME` or `hf:NAME:CONFIG`: a data set of the `datasets` library (also a folder it can load),
            streamed;
            `embedded` or `embedded:PART`: see `data.embedded`;
            `installed:NAME,NAME`: the Python sources of these distributions, see `data.packages`;
            `python`: the Python sources of the standard library and of the installed packages. The prose of
            `embedded` is in its docstrings: don't hold that out beside it.
        domain: of all its documents; where None, a row says it (`domain_field`), `embedded` has its own, and
            `python` is `code`.
        text, domain_field: fields (columns) of a row.
        files: which files of a folder: a pattern of `fnmatch` over the path within the folder (`*` crosses
            `/`; a leading `**/` also stands for no folder), or several; one that begins with `!` leaves out.
        split: of a data set.
        most: bytes of text to take (of each domain of `embedded`); the document that reaches it is whole.
        held_out: whether all of it is validation. Nothing else of its domain is then held out.
        drop_bad: whether a document that cannot be read is left out and counted, instead of ending the
            reading. A broken archive always ends it.

    Example:
        >>> Source("corpus", files=("*.jsonl.zst", "!*.val.*"))         # doctest: +SKIP
    """

    path: str
    domain: str | None = None
    text: str = "text"
    domain_field: str = "domain"
    files: str | Sequence[str] = "**/*"
    split: str = "train"
    most: int | None = None
    held_out: bool = False
    drop_bad: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))
        if not self.path:
            raise DataError("a source has no path; valid is a file, a folder, hf:NAME, embedded or python")
        if self.domain is not None:
            check_domain(self.domain, f"source {self.path}")
        if self.most is not None and self.most < 1:
            raise DataError(f"source {self.path}: most: got {self.most}; valid is 1 byte or more, or None")


def read(source: Source, dropped: Told | None = None) -> Iterator[Document]:
    """The documents of a source, one after the other; blank ones too.

    Files are read in the order of their paths, in pieces: memory holds one line of a JSONL file, or one text.

    Args:
        source: what to read.
        dropped: called with what is wrong with each document that `drop_bad` leaves out.

    Returns:
        An iterator over documents.

    Raises:
        DataError: there is no such file, folder or data set (at once); no document in it, one that cannot be
            read, a broken archive (when the reading comes there).

    Example:
        >>> [document.text for document in read(Source("notes.jsonl", domain="prose"))]  # doctest: +SKIP
        ['First note.', 'Second note.']
    """
    bad = _Bad(source.drop_bad, dropped)
    kind, _, rest = source.path.partition(":")
    if kind == "hf" and rest:
        return _capped(source, [_data_set(source, rest, bad)])
    if kind == "embedded":
        parts = embedded(rest or None).values()
        return _capped(source, [_renamed(part(), source.domain) for part in parts])
    if kind == "installed" and rest:
        return _capped(source, [packages([one.strip() for one in rest.split(",")], source.domain or "code")])
    if source.path == "python":
        return _capped(source, [_python(source)])
    return _capped(source, [_files(source, _paths(source), bad)])


class _Bad:
    """What becomes of a document that cannot be read."""

    def __init__(self, drop: bool, told: Told | None) -> None:
        self.drop, self.told = drop, told

    def __call__(self, error: DataError) -> None:
        if not self.drop:
            raise error
        if self.told is not None:
            self.told(str(error))


def _capped(source: Source, parts: Iterable[Iterator[Document]]) -> Iterator[Document]:
    """Documents up to `most` bytes a part; no document at all is an error."""
    found = False
    for part in parts:
        taken = 0
        for document in part:
            found = True
            yield document
            taken += document.size
            if source.most is not None and taken >= source.most:
                break
    if not found:
        raise DataError(
            f"{source.path}: holds no document{' that can be read' if source.drop_bad else ''}; "
            "valid is at least one. Check the path and the pattern of files"
        )


def _renamed(documents: Iterator[Document], domain: str | None) -> Iterator[Document]:
    for document in documents:
        yield document if domain is None else Document(document.text, domain, document.origin)


def _python(source: Source) -> Iterator[Document]:
    for path in installed():
        # Nobody can be asked to mend these.
        if text := python_text(path):
            yield Document(text, source.domain or "code", str(path))


# --- files ------------------------------------------------------------------------------------------


def _paths(source: Source) -> list[Path]:
    """The files of a source, in the order of their paths."""
    root = Path(source.path)
    if not root.exists():
        raise DataError(
            f"{root}: no such file or folder; valid is a JSONL or text file, a folder of them, "
            "hf:NAME[:CONFIG], embedded[:PART] or python"
        )
    if not root.is_dir():
        return [root]
    patterns = [source.files] if isinstance(source.files, str) else list(source.files)
    found = []
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") for part in parts) and _matches("/".join(parts), patterns):
            if path.is_file():
                found.append((parts, path))
    paths = [path for _, path in sorted(found)]
    if not paths:
        raise DataError(
            f"{root}: no file matches {', '.join(map(repr, patterns))}; valid is a folder with at least one. "
            "Check the folder, and `files`"
        )
    rows = [path for path in paths if suffix(path) in _ROWS and not path.name.lower().endswith(".json")]
    return rows or paths


def _matches(name: str, patterns: Sequence[str]) -> bool:
    def one(pattern: str) -> bool:
        return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.removeprefix("**/"))

    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    left_out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return any(map(one, wanted or ["*"])) and not any(map(one, left_out))


def _files(source: Source, paths: list[Path], bad: _Bad) -> Iterator[Document]:
    for path in paths:
        inside = suffix(path)
        # Of an archive without a name for what is inside, rows are the rule.
        if inside in _ROWS or (not inside and path.suffix.lower() in PACKED):
            yield from _rows(source, path, bad)
        else:
            yield from _text(source, path, bad)


def _text(source: Source, path: Path, bad: _Bad) -> Iterator[Document]:
    if source.domain is None:
        raise DataError(f"{path}: a text file names no domain; give the source one (domain='prose')")
    data = b"".join(pieces(path))
    try:
        document = Document(decoded(data, path).removeprefix("\ufeff"), source.domain, str(path))
    except DataError as error:
        bad(error)
    else:
        yield document


def _rows(source: Source, path: Path, bad: _Bad) -> Iterator[Document]:
    for number, start, line in lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = decoded(line, path, number, start)
            document = _document(source, _object(row.removeprefix("\ufeff"), where), where)
        except DataError as error:
            bad(error)
        else:
            yield document


def _object(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON ({error}); valid is one object a line, like "
            '{"text": "...", "domain": "prose"}. Mend the line, or set drop_bad to leave such rows out'
        ) from error


def _document(source: Source, row: Any, where: str) -> Document:
    """A row as a document."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: got {type(row).__name__}; valid is an object with the text of a document")
    text = row.get(source.text)
    if not isinstance(text, str):
        got = f"{text!r:.60} in field" if source.text in row else "no field"
        names = ", ".join(map(repr, sorted(map(str, row))[:12])) or "none"
        raise DataError(
            f"{where}: {got} {source.text!r}; valid is a text. The fields are {names}: name the one with the "
            "text (text=...)"
        )
    domain = source.domain
    if domain is None:
        if source.domain_field not in row:
            raise DataError(
                f"{where}: no field {source.domain_field!r}, and the source names no domain; give it one "
                "(domain='prose'), or name the field that says it (domain_field=...)"
            )
        domain = row[source.domain_field]
    return Document(text, domain, where)


# --- data sets --------------------------------------------------------------------------------------


def _data_set(source: Source, rest: str, bad: _Bad) -> Iterator[Document]:
    """The rows of a data set of the `datasets` library."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{source.path}: needs the library `datasets`; pip install datasets") from error
    name, _, config = (rest, "", "") if Path(rest).exists() else rest.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split=source.split, streaming=True)
    except Exception as error:  # the library's own, the Hub's, and those of every format it reads
        raise DataError(
            f"{source.path}: cannot be loaded ({type(error).__name__}: {str(error)[:200]}); valid is hf:NAME "
            f"or hf:NAME:CONFIG with the split {source.split!r}, on the Hub (online) or a local folder"
        ) from error
    return _streamed(source, rows, bad)


def _streamed(source: Source, rows: Iterable[Any], bad: _Bad) -> Iterator[Document]:
    stream = iter(rows)
    number = 0
    while True:
        number += 1
        where = f"{source.path}:{number}"
        try:
            row = next(stream, None)
        except Exception as error:
            raise DataError(
                f"{where}: reading broke off ({type(error).__name__}: {str(error)[:200]})"
            ) from error
        if row is None:
            return
        try:
            document = _document(source, row, where)
        except DataError as error:
            bad(error)
        else:
            yield document
