"""One text for tokenizers of all sizes: read, sifted and split once, then put into the tokens of each."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DataError
from data.prepare import prepare
from data.prepared import RECORD, Prepared
from data.sieve import Refuse
from data.sources import Source
from scaling.errors import UsageError
from scaling.files import replacing
from train.vocabulary import BYTES, Vocabulary, label_of

_TEXT = {"train": "train.jsonl", "validation": "validation.jsonl"}

Progress = Callable[[int, int, str], None]


def read_once(
    place: Path, sources: Source | str | Sequence[Source | str], held_out: float, held_out_bytes: int,
    refuse: Refuse | None, progress: Progress | None,
) -> None:  # fmt: skip
    """Write the text that all tokenizers share, sifted and split; what is there already is kept.

    It becomes a folder of bytes as tokens, and a file of rows for each split.

    Args:
        place: the folder. sources, held_out, refuse: as for `data.prepare.prepare`.
        held_out_bytes: of each domain at most.

    Raises:
        UsageError: a folder of another text. DataError: no text, or none held out.
    """
    listed = [sources] if isinstance(sources, Source | str) else list(sources)
    told = {
        "sources": [asdict(one if isinstance(one, Source) else Source(one)) for one in listed],
        "held_out": held_out, "held_out_bytes": held_out_bytes, "refuse": refuse is not None,
    }  # fmt: skip
    told = json.loads(json.dumps(told))
    record = place / "text.json"
    if record.is_file():
        known = json.loads(record.read_text(encoding="utf-8"))
        if other := [name for name in told if told[name] != known.get(name)]:
            raise UsageError(
                f"{place}: holds a text with other settings: {', '.join(other)}; give another folder"
            )
        return
    # Bytes as tokens lose nothing, and their folder is written whole or not at all.
    whole = place / "text"
    done = (whole / RECORD).is_file()
    prepared = Prepared.read(whole) if done else prepare(
        listed, whole, tokenizer=BYTES, held_out=held_out, refuse=refuse, step=labelled(progress, "text")
    )  # fmt: skip
    if not prepared.tokens("validation"):
        raise DataError(
            f"no text is held out (held_out is {held_out}); give a share above 0 and two documents of a "
            "domain, or a source with held_out"
        )
    for split, name in _TEXT.items():
        with replacing(place / name) as part, open(part, "w", encoding="utf-8", newline="\n") as handle:
            for domain, text in _texts(prepared, split, held_out_bytes):
                handle.write(json.dumps({"domain": domain, "text": text}) + "\n")
    with replacing(record) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _texts(prepared: Prepared, split: Any, held_out_bytes: int) -> Iterator[tuple[str, str]]:
    """Domain and text of each document; of held-out ones up to a number of bytes of each domain."""
    for domain, tokens in prepared.tokens(split).items():
        left = held_out_bytes if split == "validation" else len(tokens)
        ends = [*tokens.starts[1:].tolist(), len(tokens)]
        for start, end in zip(tokens.starts.tolist(), ends, strict=True):
            content = tokens.read(start, end - 1 - start).astype(np.uint8).tobytes()[:left]
            left -= len(content)
            # Cut within a letter, the letter goes.
            if text := content.decode(errors="ignore"):
                yield domain, text


def encoded(place: Path, vocabulary: Vocabulary, sample: int, progress: Progress | None) -> Prepared:
    """The text that is there, in tokens of one vocabulary; its tokenizer is trained where it is not bytes."""
    name = label_of(vocabulary)
    out = place / "tokens" / (f"{vocabulary}-{sample}" if isinstance(vocabulary, int) else BYTES)
    if (out / RECORD).is_file():
        return Prepared.read(out)
    read = [Source(str(place / one), held_out=split == "validation") for split, one in _TEXT.items()]
    with warnings.catch_warnings():
        # A vocabulary that is not filled is told by its size, see `Tradeoff.notes`.
        warnings.filterwarnings("ignore", message="vocabulary: asked for", category=RuntimeWarning)
        return prepare(
            read, out, tokenizer=BYTES if vocabulary == BYTES else None,
            size=vocabulary if isinstance(vocabulary, int) else None, sample=sample, held_out=0.0,
            step=labelled(progress, f"vocabulary {name}"),
        )  # fmt: skip


def train_bytes_per_token(prepared: Prepared) -> float:
    """Of training text. Ends of documents are tokens here: a run reads them too."""
    parts = [one["train"] for one in prepared.record["domains"].values()]
    return sum(one["bytes"] for one in parts) / sum(one["tokens"] for one in parts)


def held_out_costs(parts: Sequence[Mapping[str, int]], training: float) -> dict[str, float]:
    """Bytes and words per token of some held-out text, and FLOPs per byte."""
    plain = sum(one["tokens"] - one["documents"] for one in parts)
    size = sum(one["bytes"] for one in parts) / plain
    words = sum(one["words"] for one in parts) / plain
    return {"bytes_per_token": size, "words_per_token": words, "flops_per_byte": training / size}


def labelled(progress: Progress | None, name: str) -> Progress | None:
    """The same progress, told under a name."""
    if progress is None:
        return None
    return lambda done, total, text: progress(done, total, f"{name}: {text}")
