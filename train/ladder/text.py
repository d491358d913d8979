"""The text of a ladder: a corpus, code that is installed, and practised skills."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from data.errors import DataError
from data.prepare import prepare
from data.prepared import RECORD, Prepared
from data.sources import Source
from evalsuite.registry import Registry
from train.overlap import Overlap

_ROWS = (".jsonl", ".jsonl.zst", ".jsonl.gz")
_HELD_OUT = ".val"  # before the ending of a file that is not trained on
# What the base install brings, so that it is there wherever the project runs.
_INSTALLED = "installed:numpy,pandas,scipy,scikit-learn,statsmodels,matplotlib"
_SHARE = 0.02  # held out of what has no file of its own for that

Progress = Callable[[int, int, str], None]


def sources(corpus: str | os.PathLike[str] | None, most: int | None) -> tuple[Source, ...]:
    """Where a ladder reads.

    Args:
        corpus: a folder with `DOMAIN.jsonl` (or .zst, .gz), and `DOMAIN.val.jsonl` of held-out text, where
            there is some; the text that comes with Python where absent. most: bytes of a domain.

    Raises:
        DataError: no such folder, no text in it, or two files of one domain.
    """
    if corpus is None:
        parts = ("code", "maths", "prose", "skills")
        return tuple(Source(f"embedded:{one}", most=most) for one in parts)
    folder = Path(corpus)
    files: dict[str, Path] = {}
    for end in _ROWS:
        for one in sorted(folder.glob(f"*{end}")):
            name = one.name.removesuffix(end)
            if (other := files.setdefault(name, one)) is not one:
                raise DataError(
                    f"{corpus}: {other.name} and {one.name} are both of {name}; leave one of them"
                )
    trained = sorted(name for name in files if not name.endswith(_HELD_OUT))
    if not trained:
        raise DataError(f"{corpus}: holds no DOMAIN.jsonl, .jsonl.zst or .jsonl.gz; give a folder of text")
    found = [Source(str(files[name]), domain=name, most=most) for name in trained]
    found += [
        Source(str(files[name + _HELD_OUT]), domain=name, held_out=True)
        for name in trained
        if name + _HELD_OUT in files
    ]
    if "code" not in trained:
        found.append(Source(_INSTALLED, domain="code", most=most))
    if "skills" not in trained:
        found.append(Source("embedded:skills", most=most))
    return tuple(found)


def text(
    folder: Path,
    listed: tuple[Source, ...],
    vocabulary: int,
    registry: Registry,
    progress: Progress | None = None,
) -> Prepared:
    """Tokens of a ladder, made once: what shares 13 words in a row with any item of any task is left out.

    Args:
        folder: of the tokens. listed: where to read. vocabulary: ids of the tokenizer.
        registry: all tasks that there are, asked or not. progress: told of the work.

    Raises:
        DataError, StagewiseError: text or tasks that cannot be read.
    """
    if (folder / RECORD).is_file():
        return Prepared.read(folder)
    overlap = Overlap.of(registry.task(name) for name in registry.names())
    return prepare(
        list(listed), folder, size=vocabulary, held_out=_SHARE, refuse=overlap.refuse, step=progress
    )
