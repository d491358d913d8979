"""Python sources of named distributions that are installed: real code without a download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from data.documents import Document
from data.embedded import is_text_of_interest, python_text
from data.errors import DataError


def packages(names: Sequence[str], domain: str = "code") -> Iterator[Document]:
    """The sources of distributions, in the order given and by path; found by their records, never imported.

    Tests, hidden folders and files above 400 kB are left out, as everywhere where Python is read.

    Args:
        names: of distributions, such as scikit-learn. domain: of the documents.

    Raises:
        DataError: one is not installed, or holds no source.

    Example:
        >>> next(packages(["numpy"])).origin                                  # doctest: +SKIP
        'installed:numpy-2.4.6/numpy/__config__.py'
    """
    # All before the first is read: who named a wrong one hears of it at once.
    for name, found in [(name, _distribution(name)) for name in names]:
        any_ = False
        paths = [one for one in found.files or () if one.suffix == ".py" and ".." not in one.parts]
        for path in sorted(paths, key=lambda one: one.parts):
            file = Path(str(found.locate_file(path)))
            if is_text_of_interest(path.parts, file) and (text := python_text(file)):
                any_ = True
                yield Document(text, domain, f"installed:{name}-{found.version}/{path.as_posix()}")
        if not any_:
            raise DataError(f"installed:{name}: holds no Python source; name another distribution")


def _distribution(name: str) -> Distribution:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError) as error:
        raise DataError(
            f"installed:{name}: is not installed here; install it, or name others that are"
        ) from error
