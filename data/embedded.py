"""Text that every machine with Python has: sources, documentation, and arithmetic made from a seed.

Files are found by path and read, never imported, so what was imported before changes nothing. The text is
that of the Python that is installed: the same on one machine, not on all.
"""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
import warnings
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

from data.arithmetic import arithmetic
from data.documents import Document
from data.errors import DataError
from data.practice import practice

_TESTS = {"test", "tests", "idle_test"}
_PACKAGES = {"site-packages", "dist-packages"}
_TOPICS = ("pydoc_data", "topics.py")  # prose in the clothes of code
_LARGEST = 400_000  # bytes of a source file; what is larger is mostly a table that a program wrote
_SHORTEST = 40  # characters of a docstring worth reading
_SUMS = 1_500  # documents of arithmetic, some 2 MB
_EXERCISES = 16_000  # documents of practised skills, some 8 MB
_PRACTICE_SEED = -1


def embedded(part: str | None = None, seed: int = 0) -> dict[str, Callable[[], Iterator[Document]]]:
    """Three domains without a download: `code`, `prose` and `maths`.

    A module of the standard library gives either its code or its docstrings, by a hash of its name, so that
    no sentence stands in two domains; its tests and the installed packages are left out. Beside docstrings,
    `prose` has the topics of Python's help and its licence.

    A fourth, `skills`, is read only where it is named: exercises in the skills that are evaluated, in other
    words (`data.practice`).

    Args:
        part: one of the domains; the first three where None. seed: of the arithmetic.

    Returns:
        Domain -> what reads it from the start.

    Raises:
        DataError: no such part.

    Example:
        >>> next(embedded("maths")["maths"]()).origin
        'embedded:maths/0'
    """
    parts = {"code": _code, "prose": _prose, "maths": lambda: _maths(seed)}
    if part is None:
        return parts
    parts["skills"] = _skills
    if part not in parts:
        raise DataError(
            f"embedded:{part}: no such text; valid is embedded (all of it), "
            + ", ".join(f"embedded:{name}" for name in parts)
        )
    return {part: parts[part]}


def installed() -> Iterator[Path]:
    """Python sources of the standard library, then of the installed packages, each in the order of its path.

    Test folders and files above 400 kB are left out. A source that packages share comes as often as they do.

    Yields:
        Paths; `python_text` reads them.

    Raises:
        DataError: this Python has no sources.
    """
    library = _library()
    yield from _python_files(library)
    paths = sysconfig.get_paths()
    for root in dict.fromkeys(Path(paths[name]).resolve() for name in ("purelib", "platlib")):
        yield from _python_files(root)


def python_text(path: Path) -> str | None:
    """The text of a Python source, in the encoding that it declares; None where it is not what it says."""
    data = path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        text.encode()
    except (SyntaxError, UnicodeError, LookupError):
        return None
    return text.replace("\r\n", "\n")


def _library() -> Path:
    """The folder of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"]).resolve()
    if not any(root.glob("*.py")):
        raise DataError(
            f"{root}: the standard library of this Python has no sources there; "
            "use a Python with them, or give text of your own (a folder, JSONL files)"
        )
    return root


def _python_files(root: Path) -> Iterator[Path]:
    """Sources under a folder by their path, without tests, hidden folders and packages within."""
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        if not _PACKAGES & set(parts[:-1]) and is_text_of_interest(parts, path):
            found.append((parts, path))
    for _, path in sorted(found):
        yield path


def is_text_of_interest(parts: tuple[str, ...], path: Path) -> bool:
    """Whether a source is read: no test, nothing hidden, neither empty nor a table that a program wrote.

    Args:
        parts: of its path within the library or the package. path: of the file.
    """
    if any(name.startswith(".") for name in parts) or set(parts[:-1]) & _TESTS or parts == _TOPICS:
        return False
    return path.is_file() and 0 < path.stat().st_size <= _LARGEST


def _skills() -> Iterator[Document]:
    for index in range(_EXERCISES):
        yield Document(practice(_PRACTICE_SEED, index), "skills", f"embedded:skills/{index}")


def _tells(name: str) -> bool:
    """Whether a module gives its docstrings (else its code)."""
    return blake2b(name.encode(), digest_size=1).digest()[0] % 2 == 0


def _code() -> Iterator[Document]:
    root = _library()
    for path in _python_files(root):
        name = path.relative_to(root).as_posix()
        if not _tells(name) and (text := python_text(path)):
            yield Document(text, "code", f"embedded:code/{name}")


def _prose() -> Iterator[Document]:
    root = _library()
    for path in _python_files(root):
        name = path.relative_to(root).as_posix()
        if _tells(name) and (text := _docstrings(path)):
            yield Document(text, "prose", f"embedded:prose/{name}")
    topics = root.joinpath(*_TOPICS)
    if topics.is_file():
        for name, text in sorted(_constants(topics).items()):
            yield Document(text.strip() + "\n", "prose", f"embedded:prose/topics/{name}")
    for name in ("LICENSE.txt", "LICENSE"):
        licence = root / name
        if licence.is_file() and (text := python_text(licence)):
            yield Document(text, "prose", f"embedded:prose/{name}")
            break


def _maths(seed: int) -> Iterator[Document]:
    for index in range(_SUMS):
        yield Document(arithmetic(seed, index), "maths", f"embedded:maths/{index}")


def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a source; None where this Python does not take it."""
    text = python_text(path)
    if text is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in other people's strings
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            return None


def _docstrings(path: Path) -> str:
    """The docstrings of a module in their order, without the short ones."""
    tree = _parsed(path)
    if tree is None:
        return ""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, owners)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    texts = [ast.get_docstring(node) or "" for node in nodes]
    kept = [text for text in texts if len(text) >= _SHORTEST and _is_text(text)]
    return "\n\n".join([*kept, ""]) if kept else ""


def _is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: an escape in a docstring may be half a surrogate pair."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _constants(path: Path) -> dict[str, str]:
    """The texts of a file that is one dict of them."""
    tree = _parsed(path)
    found: dict[str, str] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    if isinstance(key.value, str) and isinstance(value.value, str):
                        found[key.value] = value.value
    return found
