"""Tasks made of held-out text: which of four continuations is the right one, and how surprising it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data.prepared import Prepared
from data.shards import Tokens
from data.tokenizer import Tokenizer
from scaling.errors import StagewiseError
from scaling.files import replacing

CHOICES = 4
PREFIX = "continue_"


def write_continuations(
    prepared: Prepared, folder: Path, items: int, *, context: int = 48, answer: int = 24
) -> None:
    """Write a task for each domain of held-out text, named `continue_DOMAIN`, its capability the domain.

    An item is a passage within a document, cut in two; the wrong continuations are those of other items.

    Args:
        prepared: text. folder: of the tasks. items: of each. context, answer: tokens of the two parts.

    Raises:
        StagewiseError: a domain with too little held-out text.

    Example:
        >>> write_continuations(Prepared.read("tokens"), Path("tasks"), 64)               # doctest: +SKIP
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, about = prepared.tokenizer, []
    for domain, tokens in sorted(prepared.tokens("validation").items()):
        found = _passages(tokens, tokenizer, items, context, answer)
        if len(found) < max(items, CHOICES):
            raise StagewiseError(
                f"held-out text of {domain}: {len(found)} passages of {context + answer} tokens, {items} are "
                "wanted; raise data.held_out or give fewer items (--most)"
            )
        name = f"{PREFIX}{domain}"
        about.append({"task": name, "target_delimiter": "", "family": domain, "chance": 1 / CHOICES})
        with replacing(folder / f"{name}.jsonl") as part, open(part, "w", encoding="utf-8") as out:
            for i, (before, _) in enumerate(found):
                gold = i % CHOICES
                choices = [found[(i + shift) % len(found)][1] for shift in range(CHOICES)]
                choices = choices[-gold:] + choices[:-gold] if gold else choices
                item: dict[str, Any] = {"id": f"{domain}-{i}", "context": before, "choices": choices}
                item |= {"gold": gold, "answer": choices[gold], "family": domain, "source": "held-out text"}
                out.write(json.dumps(item, ensure_ascii=False) + "\n")
    with replacing(folder / "tasks.json") as part:
        part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _passages(
    tokens: Tokens, tokenizer: Tokenizer, count: int, context: int, answer: int
) -> list[tuple[str, str]]:
    """Passages with different continuations, spread over the text; none goes over the end of a document."""
    size = context + answer
    if len(tokens) < size:
        return []
    found: dict[str, str] = {}
    # More places than are wanted: those at the end of a document or within a character are passed over.
    for start in np.linspace(0, len(tokens) - size, 8 * count).astype(int):
        ids = tokens.read(int(start), size).tolist()
        if tokenizer.eos in ids:
            continue
        before, after = tokenizer.decode(ids[:context]), tokenizer.decode(ids[context:])
        if "\ufffd" not in before + after and after.strip() and before.strip():
            found.setdefault(after, before)
    chosen = np.linspace(0, max(0, len(found) - 1), min(count, len(found))).astype(int)
    pairs = [(before, after) for after, before in found.items()]
    return [pairs[i] for i in chosen]
