"""A document: a piece of text, the domain it belongs to, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from data.errors import DataError

_LONGEST = 60  # bytes of a domain's name: files are named by it, with % and two digits for some of them


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that is trained on as a whole.

    Attributes:
        text: its text, which UTF-8 can hold.
        domain: the name of its domain, printable, of 1 to 60 bytes.
        origin: where it comes from, for messages: "file:line", or a path.

    Raises:
        DataError: a domain that is no name, or a text with half a surrogate pair in it.

    Example:
        >>> Document("2 + 2 = 4", "maths", "sums.jsonl:1").size
        9
    """

    text: str
    domain: str
    origin: str

    def __post_init__(self) -> None:
        check_domain(self.domain, self.origin)
        if not self.text.isascii():
            try:
                self.text.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{self.origin}: half a surrogate pair ({error.object[error.start]!r}) at character "
                    f"{error.start:,}, which is no text; valid is what UTF-8 can hold. "
                    "Mend the document, or set drop_bad to leave such documents out"
                ) from error

    @property
    def digest(self) -> bytes:
        """blake2b of its UTF-8, 16 bytes: texts are equal when these are."""
        return blake2b(self.text.encode(), digest_size=16).digest()

    @property
    def size(self) -> int:
        """Its length in bytes of UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


def check_domain(domain: object, where: str) -> None:
    """Refuse what cannot name a domain.

    Raises:
        DataError: it is no text, empty, long, or cannot be printed.

    Example:
        >>> check_domain("web-docs", "config")
    """
    good = isinstance(domain, str) and domain.isprintable() and domain == domain.strip()
    if not good or not 0 < len(str(domain).encode()) <= _LONGEST:
        raise DataError(
            f"{where}: got domain {domain!r:.120}; valid is a printable name of 1 to {_LONGEST} bytes "
            "without blanks around it. Give the source a domain of its own"
        )
