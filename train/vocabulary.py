"""Sizes of vocabularies, as they are told."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from data.tokenizer import MIN_SIZE
from scaling.errors import UsageError

BYTES = "bytes"

Vocabulary = int | str


def parse_vocabulary(text: str) -> tuple[Vocabulary, ...]:
    """Sizes of vocabularies from one text; k is 1024, as the field has it (32k is 32,768).

    Args:
        text: numbers with or without a k, and "bytes" (an id for each byte), with commas between.

    Raises:
        UsageError: anything else, a size below 257, the same size twice.

    Example:
        >>> parse_vocabulary("512,2k,8k,32k,bytes")
        (512, 2048, 8192, 32768, 'bytes')
    """
    found: list[Vocabulary] = []
    for part in text.split(","):
        name = part.strip().lower()
        match = re.fullmatch(r"([0-9]{1,9})(k?)", name)
        if match is None and name != BYTES:
            raise UsageError(
                f"vocabulary: got {part.strip()!r} in {text!r}; valid are whole numbers, with k for 1024, "
                "and bytes, with commas between: 512,2k,8k,32k,bytes"
            )
        found.append(BYTES if match is None else int(match[1]) * (1024 if match[2] else 1))
    return check_vocabularies(found)


def label_of(vocabulary: Vocabulary) -> str:
    """A vocabulary as it is told: 2048 is 2k.

    Example:
        >>> label_of(32768), label_of(1000), label_of("bytes")
        ('32k', '1000', 'bytes')
    """
    if isinstance(vocabulary, str):
        return vocabulary
    return f"{vocabulary // 1024}k" if vocabulary % 1024 == 0 else str(vocabulary)


def check_vocabularies(vocabularies: Sequence[Vocabulary]) -> tuple[Vocabulary, ...]:
    """The same, as plain numbers and "bytes".

    Raises:
        UsageError: none, something else than a size or "bytes", a size below 257, the same one twice.
    """
    found: list[Vocabulary] = []
    for one in vocabularies:
        whole = isinstance(one, int | np.integer) and not isinstance(one, bool) and one >= MIN_SIZE
        if not whole and one != BYTES:
            raise UsageError(
                f"vocabulary: got {one!r}; valid is a whole number from {MIN_SIZE} (256 bytes and the end of "
                'a document), or "bytes"'
            )
        if one in found:
            raise UsageError(f"vocabulary: {label_of(one)} is told twice; tell each once")
        found.append(int(one) if whole else BYTES)
    if not found:
        raise UsageError("vocabulary: got none; valid is at least one, such as 512,2k,8k,32k")
    return tuple(found)
