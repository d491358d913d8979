"""Training data in bytes of text: an axis that models of different tokenizers share."""

from __future__ import annotations

from scaling.errors import StagewiseError
from scaling.models import find_model
from scaling.scores import ScoreTable


def in_text_bytes(table: ScoreTable) -> ScoreTable:
    """The table with training data counted in UTF-8 bytes of text instead of tokens.

    A token of a large vocabulary holds more text than one of a small vocabulary, so neither tokens nor
    6 N (tokens) compare models of different tokenizers. `tokens` become tokens x bytes per token, and
    `flops` are multiplied likewise: 6 N (bytes) for dense models. Bytes per token come from
    `scaling/facts/models.csv`; rows of models it does not know are left out and counted.

    Args:
        table: the scores.

    Raises:
        StagewiseError: the bytes per token of no model are known.

    Example:
        >>> in_text_bytes(table)      # doctest: +SKIP
    """
    frame = table.frame
    known: dict[str, float] = {}
    for name in frame["model"].unique():
        found = find_model(str(name))
        if found is not None and found.info.bytes_per_token:
            known[name] = found.info.bytes_per_token
    if not known:
        names = ", ".join(sorted(map(str, frame["model"].unique()))[:5])
        raise StagewiseError(
            f"bytes of text: the bytes per token of none of the models are known ({names}, ...); "
            "add them to scaling/facts/models.csv, or keep the axis in FLOPs"
        )
    kept = table.where(frame["model"].isin(known), "bytes per token unknown")
    frame = kept.frame.copy()
    factor = frame["model"].map(known).astype(float)
    frame["tokens"] *= factor
    frame["flops"] *= factor
    return ScoreTable(frame, kept.omissions)
