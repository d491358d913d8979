"""A text of two domains, and its trade-off: some tenths of a second for each vocabulary."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.sieve import Sieve
from data.sources import Source, read
from train.tradeoff import Tradeoff, tradeoff
from train.vocabulary import BYTES

WORDS = {
    "code": "def return import class yield while lambda pass self none é 日本".split(),
    "prose": "the a sea old house wind slowly walked remembered evening".split(),
}
SHAPE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "head_width": 8, "hidden": 32}
SETTINGS = {
    **{f"model.{name}": value for name, value in SHAPE.items()},
    "device.threads": 1, "device.device": "cpu",
}  # fmt: skip
SMALL: dict[str, Any] = {
    "preset": "0.1m", "context": 16, "rows": 4, "settings": SETTINGS, "held_out": 0.1, "flops": 4e7,
}  # fmt: skip
ASKED = (BYTES, 300, 350)
SEEDS = (0, 1)


def written(path: Path, seed: int = 0, documents: int = 120) -> Source:
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as handle:
        for i in range(documents):
            domain = ("code", "prose")[i % 3 == 0]
            text = " ".join(draw.choices(WORDS[domain], k=draw.randint(5, 40)))
            handle.write(json.dumps({"text": text, "domain": domain}) + "\n")
    return Source(str(path))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Source, Path, Tradeoff]:
    """A text, the folder of its trade-off, and that."""
    base = tmp_path_factory.mktemp("tradeoff")
    source = written(base / "text.jsonl")
    return source, base / "kept", tradeoff(source, ASKED, seeds=SEEDS, folder=base / "kept", **SMALL)


def held_out(source: Source) -> dict[str, list[str]]:
    """Domain -> held-out texts, as a sieve has them."""
    sieve = Sieve(held_out=0.1)
    kept = [one for one in read(source) if sieve.keep(one)]
    found: dict[str, list[str]] = {}
    for document, out in zip(kept, sieve.sifted().held_out, strict=True):
        if out:
            found.setdefault(document.domain, []).append(document.text)
    return found


def timeless(one: Tradeoff) -> list[pd.DataFrame]:
    tables = one.vocabularies, one.domains, one.runs
    return [table.drop(columns="seconds", errors="ignore") for table in tables]


def assert_same(one: Tradeoff, other: Tradeoff) -> None:
    for a, b in zip(timeless(one), timeless(other), strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
