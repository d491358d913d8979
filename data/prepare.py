"""Sources to a folder of tokens: read, sifted, split and encoded, once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.prepared import FORMAT, RECORD, SPLITS, Prepared
from data.shards import ShardWriter, Tokens
from data.sieve import Refuse, Sieve, Sifted
from data.sources import Source, read
from data.spool import spooled, spooling
from data.tokenizer import MIN_SIZE, Tokenizer, byte_tokenizer, train_tokenizer

SAMPLE = 20_000_000  # bytes of each domain that a tokenizer is trained on
_BATCH = 2_000_000  # bytes encoded at a time
_SPOOL = ".spool.zst"

Step = Callable[[int, int, str], None]


def prepare(
    sources: Source | str | Sequence[Source | str],
    out: str | os.PathLike[str],
    *,
    tokenizer: Tokenizer | str | os.PathLike[str] | None = None,
    size: int | None = None,
    sample: int = SAMPLE,
    held_out: float = 0.01,
    refuse: Refuse | None = None,
    seed: int = 0,
    step: Step | None = None,
) -> Prepared:
    """Write a folder of tokens: `data.json`, the tokenizer, and a folder for each split.

    Sources are read once, in their order. What is kept lies packed beside the result while the work lasts
    (disk: the packed text and the tokens; memory: some hundred bytes a document, and the largest document).
    The folder appears when all of it is written. The same text and settings give the same bytes.

    Args:
        sources: what to read; a path stands for `Source(path)`.
        out: the folder to make; it may be there, empty.
        tokenizer: one, or the folder or file of one, or "bytes": an id for each byte.
        size: instead, the ids of a byte-level BPE to train on a sample of the training split.
        sample: bytes of each domain in that sample. A larger domain gives the documents that its seed draws.
        held_out: share of documents for validation, see `data.sieve.Sieve`.
        refuse: what must not be trained on, see there.
        seed: of the split and the sample.
        step: called with bytes done, bytes in all (0 while that is unknown) and what is being done.

    Returns:
        The folder, opened.

    Raises:
        DataError: the folder holds something, or nothing is left to train on; what reading, sifting and
            encoding raise.

    Example:
        >>> prepare(["embedded", Source("notes", domain="notes")], "tokens", size=4096).card  # doctest: +SKIP
    """
    listed = [sources] if isinstance(sources, Source | str) else list(sources)
    read_from = [one if isinstance(one, Source) else Source(one) for one in listed]
    target = Path(out)
    given = _given(read_from, target, tokenizer, size, sample)
    sieve = Sieve(held_out=held_out, seed=seed, refuse=refuse)
    with _whole(target) as folder:
        spool = folder / _SPOOL
        told = _sift(read_from, sieve, spool, step)
        sifted = sieve.sifted()
        _check_left(sifted)
        trained_on = None
        if given is None:
            wanted = _sampled(sifted, sample)
            trained_on = _amounts(sifted, wanted)
            texts = _shown(spooled(spool, wanted), sifted.size[wanted], "training the tokenizer", step)
            given = train_tokenizer(texts, size or 0)
        given.save(folder)
        words = _encode(spool, sifted, given, folder, step)
        spool.unlink()
        record = {
            "format": FORMAT,
            "settings": {"held_out": held_out, "seed": seed, "size": size, "sample": sample},
            "tokenizer": {
                "size": given.size, "eos": given.eos, "digest": given.digest, "trained_on": trained_on,
            },
            "sources": told,
            "domains": _domains(sifted, folder, words),
        }  # fmt: skip
        record["digest"] = Prepared(folder, record).computed()
        with open(folder / RECORD, "w", encoding="utf-8", newline="\n") as handle:
            handle.write(json.dumps(record, ensure_ascii=False, indent=1, default=int) + "\n")
    return Prepared.read(target)


def _given(
    sources: list[Source],
    target: Path,
    tokenizer: Tokenizer | str | os.PathLike[str] | None,
    size: int | None,
    sample: int,
) -> Tokenizer | None:
    """The tokenizer in use, None where one is to be trained; refuses at once what would fail late."""
    if not sources:
        raise DataError("sources: got none; valid is at least one file, folder, hf:NAME, embedded or python")
    if (tokenizer is None) == (size is None):
        got = "neither" if size is None else "both"
        raise DataError(f"got {got} of tokenizer and size; give a tokenizer, or the size of one to train")
    if sample < 1 or (size is not None and size < MIN_SIZE):
        raise DataError(
            f"got size {size}, sample {sample}; valid is a size from {MIN_SIZE} and a sample from 1 byte"
        )
    if (target / RECORD).is_file():
        raise DataError(f"{target}: holds prepared data; read it (Prepared.read), or give another folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: is there already and not an empty folder; give another, or delete it")
    if tokenizer is None or isinstance(tokenizer, Tokenizer):
        return tokenizer
    return byte_tokenizer() if tokenizer == "bytes" else Tokenizer.read(tokenizer)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name when the body succeeds, and goes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield folder
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
        mask = os.umask(0)
        os.umask(mask)
        folder.chmod(0o777 & ~mask)  # mkdtemp makes private ones
        if target.is_dir():
            target.rmdir()
        os.rename(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sift(sources: list[Source], sieve: Sieve, spool: Path, step: Step | None) -> list[dict[str, Any]]:
    """Read everything, write what is kept to the spool; what each source gave."""
    told = []
    done, shown = 0, 0
    with spooling(spool) as put:
        for source in sources:
            problems: list[str] = []
            count, size = 0, 0

            def drop(problem: str, problems: list[str] = problems) -> None:
                problems.append(problem if not problems else "")

            for document in read(source, drop):
                count, size = count + 1, size + document.size
                if sieve.keep(document, held_out=source.held_out):
                    put(document.text)
                if step is not None and done + size - shown >= _BATCH:
                    shown = done + size
                    step(shown, 0, f"reading {source.path}")
            done += size
            files = source.files if isinstance(source.files, str) else list(source.files)
            told.append(
                {
                    **asdict(source), "files": files, "documents": count, "bytes": size,
                    "dropped": len(problems), "first_dropped": problems[0] if problems else None,
                }
            )  # fmt: skip
    return told


def _shown(texts: Iterable[str], sizes: NDArray[np.int64], what: str, step: Step | None) -> Iterator[str]:
    total, done, shown = int(sizes.sum()), 0, 0
    if step is not None:
        step(0, total, what)
    for text, size in zip(texts, sizes.tolist(), strict=True):
        yield text
        done += size
        if step is not None and (done - shown >= _BATCH or done == total):
            shown = done
            step(done, total, what)


def _check_left(sifted: Sifted) -> None:
    if not len(sifted.size):
        counts = sifted.counts.values()
        blank, refused = sum(one.blank for one in counts), sum(sum(one.refused.values()) for one in counts)
        raise DataError(
            f"nothing is left of {sum(one.read for one in counts):,} documents: {blank:,} are blank, "
            f"{refused:,} refused; valid is at least one with text. Check the field of the text, and `refuse`"
        )
    if sifted.held_out.all():
        raise DataError(
            f"all {len(sifted.size):,} documents are held out; valid is at least one to train on. "
            "Give a source without held_out"
        )


def _sampled(sifted: Sifted, most: int) -> NDArray[np.bool_]:
    """Which documents a tokenizer is trained on: of each domain about `most` bytes of training text."""
    wanted = ~sifted.held_out
    total = np.bincount(sifted.domain, sifted.size * wanted, minlength=len(sifted.domains))
    share = most / np.maximum(total, 1)
    sampled = wanted & (sifted.chance < share[sifted.domain])
    return sampled if sampled.any() else wanted & (np.cumsum(wanted) == 1)


def _amounts(sifted: Sifted, wanted: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """Domain -> documents and bytes of those wanted."""
    found = {}
    for i, name in enumerate(sifted.domains):
        mine = wanted & (sifted.domain == i)
        found[name] = {"documents": int(mine.sum()), "bytes": int(sifted.size[mine].sum())}
    return found


def _encode(
    spool: Path, sifted: Sifted, tokenizer: Tokenizer, folder: Path, step: Step | None
) -> NDArray[np.int64]:
    """Encode all texts into the shards of their domain and split; the words of each, [n]."""
    n = len(sifted.size)
    words = np.zeros(n, dtype=np.int64)
    for split in SPLITS:
        (folder / split).mkdir()
    with ExitStack() as stack:
        writers: dict[tuple[str, str], ShardWriter] = {}

        def write(first: int, texts: list[str]) -> None:
            for i, ids in enumerate(tokenizer.encode(texts), first):
                key = SPLITS[int(sifted.held_out[i])], sifted.domains[sifted.domain[i]]
                if key not in writers:
                    writer = ShardWriter(
                        folder / key[0], key[1], tokenizer.size, eos=tokenizer.eos, digest=tokenizer.digest
                    )
                    writers[key] = stack.enter_context(writer)
                writers[key].add(ids)

        texts: list[str] = []
        held = 0
        every = np.ones(n, dtype=bool)
        for i, text in enumerate(_shown(spooled(spool, every), sifted.size, "encoding", step)):
            words[i] = len(text.split())
            texts.append(text)
            held += int(sifted.size[i])
            if held >= _BATCH:
                write(i + 1 - len(texts), texts)
                texts, held = [], 0
        write(n - len(texts), texts)
    return words


def _domains(sifted: Sifted, folder: Path, words: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """What data.json says of each domain."""
    parts = {}
    for split, mine in zip(SPLITS, (~sifted.held_out, sifted.held_out), strict=True):
        parts[split] = _amounts(sifted, mine)
        for i, name in enumerate(sifted.domains):
            told = parts[split][name]
            told["words"] = int(words[mine & (sifted.domain == i)].sum())
            told["tokens"] = len(Tokens.open(folder / split, name)) if told["documents"] else 0
    return {
        name: {
            "blank": count.blank, "duplicates": count.duplicates,
            "refused": dict(sorted(count.refused.items())),
            **{split: parts[split][name] for split in SPLITS},
        }
        for name, count in sifted.counts.items()
    }  # fmt: skip
