"""Text to token ids, by the rules of lm-eval, so that both score the same tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import StagewiseError, UsageError

Ids = NDArray[np.int32]
_CHUNK = 4096  # texts handed to the tokenizer at once


@dataclass(frozen=True)
class Encoder:
    """A tokenizer and how requests are put to it.

    - Blanks at the end of a context belong to the continuation.
    - Context and continuation are encoded together; what exceeds the tokens of the context alone is scored.
    - An empty context is one token: beginning of sequence, else end of sequence.

    Attributes:
        tokenizer: of `transformers`, of `tokenizers`, or any object with `encode(text) -> ids`.
        prefix_token: id that stands for an empty context; the tokenizer's own where absent.
        add_bos: whether special tokens are added to texts; as the tokenizer does by itself where None.

    Source:
        lm-eval 0.4, `api/model.py` (TemplateLM) and `models/huggingface.py` (HFLM.tok_encode).

    Example:
        >>> Encoder(tokenizer).pairs([("The sky is", " blue")])       # doctest: +SKIP
        [(array([ 464, 6766,  318], dtype=int32), array([4171], dtype=int32))]
    """

    tokenizer: Any
    prefix_token: int | None = None
    add_bos: bool | None = None
    _encode: Callable[[list[str], bool | None], list[Sequence[int]]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_encode", _encoding(self.tokenizer))
        if self.prefix_token is None:
            object.__setattr__(self, "prefix_token", _prefix_token(self.tokenizer))

    def encode(self, texts: Sequence[str], special: bool | None = None) -> list[Ids]:
        """Token ids of each text; `special` says whether special tokens are added (None: the default)."""
        special = self.add_bos if special is None else special
        found: list[Ids] = []
        for start in range(0, len(texts), _CHUNK):
            part = self._encode(list(texts[start : start + _CHUNK]), special)
            found += [np.asarray(ids, dtype=np.int32) for ids in part]
        return found

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """Context and continuation of each request as ids.

        Args:
            pairs: (context, continuation) texts.

        Returns:
            For each the ids before and the ids to score; the latter are none where the tokenizer leaves
            nothing for them (the caller knows what to call the item).
        """
        moved = [_moved(*pair) for pair in pairs]
        before = list(dict.fromkeys(context for context, _ in moved if context))
        ids_before = dict(zip(before, self.texts(before), strict=True))
        # A context that leaves no token is an empty one: the first token scored has to be told by something.
        moved = [pair if len(ids_before.get(pair[0], ())) else ("", pair[1]) for pair in moved]
        alone = sorted({continuation for context, continuation in moved if not context})
        whole = list(dict.fromkeys(context + continuation for context, continuation in moved if context))
        ids_alone = dict(zip(alone, self.encode(alone, special=False), strict=True))
        ids = dict(zip(whole, self.texts(whole), strict=True))
        found = []
        for context, continuation in moved:
            if context:
                start = ids_before[context]
                found.append((start, ids[context + continuation][len(start) :]))
                continue
            scored = ids_alone[continuation]
            if len(scored) and scored[0] == self.prefix_token:
                found.append((scored[:1], scored[1:]))
            else:
                found.append((np.array([self.prefix_token], dtype=np.int32), scored))
        return found

    def texts(self, texts: list[str]) -> list[Ids]:
        """As `encode`, but a text that begins with the token's own text gets no second one."""
        bos = _text_of(self.tokenizer, self.prefix_token)
        marked = [text for text in texts if bos and text.startswith(bos)]
        if not marked:
            return self.encode(texts)
        plain = iter(self.encode([text for text in texts if not text.startswith(bos)]))
        special = iter(self.encode(marked, special=False))
        return [next(special) if text.startswith(bos) else next(plain) for text in texts]


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """Blanks from the end of the context to the start of the continuation."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _encoding(tokenizer: Any) -> Callable[[list[str], bool | None], list[Sequence[int]]]:
    """How this kind of tokenizer encodes many texts."""
    if hasattr(tokenizer, "encode_batch"):  # tokenizers.Tokenizer

        def rust(texts: list[str], special: bool | None) -> list[Sequence[int]]:
            return [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=special is not False)]

        return rust
    if _transformers(tokenizer):

        def fast(texts: list[str], special: bool | None) -> list[Sequence[int]]:
            extra = {} if special is None else {"add_special_tokens": special}
            return tokenizer(texts, return_attention_mask=False, verbose=False, **extra)["input_ids"]

        return fast
    if hasattr(tokenizer, "encode"):
        return lambda texts, special: [tokenizer.encode(text) for text in texts]
    raise UsageError(
        f"tokenizer: got {type(tokenizer).__name__}, which has no `encode`; give one of transformers or "
        "tokenizers, or an object with encode(text) -> list of ids"
    )


def _prefix_token(tokenizer: Any) -> int:
    for name in ("bos_token_id", "eos_token_id"):
        if (token := getattr(tokenizer, name, None)) is not None:
            return int(token)
    for text in ("<|endoftext|>", "<bos>", "<s>", "</s>"):
        if hasattr(tokenizer, "token_to_id") and (token := tokenizer.token_to_id(text)) is not None:
            return int(token)
    raise StagewiseError(
        f"tokenizer {type(tokenizer).__name__}: has neither a beginning nor an end of sequence token; "
        "say which id stands before an answer without context: Encoder(tokenizer, prefix_token=ID)"
    )


def _text_of(tokenizer: Any, token: int | None) -> str:
    """The text of the first token, where the tokenizer may add it by itself."""
    return str(tokenizer.decode([token])) if _transformers(tokenizer) else ""


def _transformers(tokenizer: Any) -> bool:
    return callable(tokenizer) and hasattr(tokenizer, "bos_token_id")
