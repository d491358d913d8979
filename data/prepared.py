"""A folder of tokens: what `prepare` wrote, and what training reads."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from data.errors import DataError
from data.shards import Tokens
from data.tokenizer import FILE, Tokenizer

Split = Literal["train", "validation"]

FORMAT = 1
RECORD = "data.json"
SPLITS: tuple[Split, Split] = ("train", "validation")
_AGAIN = "prepare the data again"


@dataclass(frozen=True)
class Prepared:
    """A folder of tokens that `prepare` wrote.

    Attributes:
        folder: where it is. record: content of its data.json.

    Example:
        >>> Prepared.read("tokens").tokens("train")["prose"].read(0, 8)     # doctest: +SKIP
    """

    folder: Path
    record: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Prepared:
        """Open a folder.

        Raises:
            DataError: none, not finished, of another version, or not what was written.
        """
        path = Path(folder) / RECORD
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise DataError(
                f"{folder}: holds no {RECORD}; valid is a folder that prepare() wrote to its end. {_AGAIN}"
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({str(error)[:120]}); {_AGAIN}") from error
        version = record.get("format") if isinstance(record, dict) else None
        if version != FORMAT:
            raise DataError(f"{path}: format {version!r}, this version reads {FORMAT}; {_AGAIN}")
        prepared = cls(Path(folder), record)
        if prepared.tokenizer.digest != record["tokenizer"]["digest"]:
            raise DataError(f"{Path(folder) / FILE}: not the tokenizer the data was encoded with; {_AGAIN}")
        if prepared.computed() != record["digest"]:
            raise DataError(f"{path}: its digest is not that of the files beside it; {_AGAIN}")
        return prepared

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the data."""
        return Tokenizer.read(self.folder)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of all domains, in order; some may have validation text alone, or none."""
        return tuple(self.record["domains"])

    @property
    def digest(self) -> str:
        """SHA-256 of tokenizer and tokens: equal where a run on them would be."""
        return self.record["digest"]

    def tokens(self, split: Split) -> dict[str, Tokens]:
        """Domain -> its tokens, for the domains that have any in a split.

        Raises:
            DataError: no such split, or files that are not as their index says.
        """
        if split not in SPLITS:
            raise DataError(f"split: got {split!r}; valid is {' or '.join(map(repr, SPLITS))}")
        tokenizer = self.tokenizer
        return {
            name: Tokens.open(self.folder / split, name, tokenizer.size, tokenizer.digest)
            for name, told in self.record["domains"].items()
            if told[split]["documents"]
        }

    @property
    def card(self) -> pd.DataFrame:
        """One row a domain: what is trained on, what was left out, what validates.

        `tokens` counts one end of document each; bytes and words (parted by white space) per token do not.
        """
        rows = []
        for name, told in self.record["domains"].items():
            train, validation = told["train"], told["validation"]
            plain = train["tokens"] - train["documents"]
            rows.append(
                {
                    "domain": name,
                    "documents": train["documents"],
                    "bytes": train["bytes"],
                    "tokens": train["tokens"],
                    "bytes_per_token": train["bytes"] / plain if plain else np.nan,
                    "words_per_token": train["words"] / plain if plain else np.nan,
                    "blank": told["blank"],
                    "duplicates": told["duplicates"],
                    "refused": sum(told["refused"].values()),
                    "validation_documents": validation["documents"],
                    "validation_bytes": validation["bytes"],
                    "validation_tokens": validation["tokens"],
                }
            )
        return pd.DataFrame(rows)

    @property
    def sources(self) -> pd.DataFrame:
        """One row a source: its settings, documents and bytes read, and documents dropped as unreadable."""
        return pd.DataFrame(self.record["sources"])

    def computed(self) -> str:
        """The digest, from the tokenizer and the indices that are in the folder."""
        tokens = {split: {name: one.digest for name, one in self.tokens(split).items()} for split in SPLITS}
        told = json.dumps([self.tokenizer.digest, tokens], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def to_frame(self) -> pd.DataFrame:
        """The card."""
        return self.card

    def _repr_html_(self) -> str:
        return self.card.to_html(index=False)
