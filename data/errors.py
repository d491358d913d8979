"""The errors that text for training can meet."""

from __future__ import annotations


class DataError(ValueError):
    """Something is wrong with the text, its sources or the settings for it.

    The message says what, where (file, line, domain), what was got, what is valid, and what to do next.

    Example:
        >>> str(DataError("notes.jsonl:3: no field 'text'; name the field that holds the text"))
        "notes.jsonl:3: no field 'text'; name the field that holds the text"
    """
