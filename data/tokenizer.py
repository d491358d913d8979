"""Text to token ids and back, losing nothing: byte-level BPE, trained here or read, and plain bytes."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError

END = "<|endoftext|>"
FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
MIN_SIZE = 257  # every byte and the end of a document
_CHUNK = 1024  # texts handed to the library at once
_REMEDY = "give a byte-level BPE with a special token <|endoftext|>, or train one (train_tokenizer)"

Ids = NDArray[np.int32]


class Tokenizer:
    """A byte-level tokenizer of the `tokenizers` library in which no text gives the end-of-document id.

    `<|endoftext|>` written out in a text is split like any other text: the library is told so, and so is
    `transformers` by the saved settings (`split_special_tokens`). The ids of a text therefore stand for
    exactly its UTF-8 bytes.

    It has the attributes that evaluation asks of one of `transformers` or `tokenizers` (`encode_batch`,
    `eos_token_id`, ...), so `evalsuite.encoding.Encoder` takes it as it is.

    Attributes:
        text: content of its tokenizer.json.
        size: ids it has, the end of a document among them.
        eos: id of `<|endoftext|>`: ends a document, and so begins the next one.
        bytes: UTF-8 bytes that each id stands for, int32 [size]; 0 for the special ones.
        digest: SHA-256 of tokenizer.json.

    Raises:
        DataError: the content is no tokenizer, or one that may lose or change text.

    Example:
        >>> byte_tokenizer().encode(["hi"])[0].tolist()
        [104, 105]
    """

    def __init__(self, text: str, where: str = FILE) -> None:
        from tokenizers import Tokenizer as Library

        try:
            library = Library.from_str(text)
            told = json.loads(library.to_str())  # with what an older file leaves out
        except Exception as error:  # the library raises bare Exception
            raise DataError(f"{where}: not a tokenizer ({str(error)[:120]}); {_REMEDY}") from error
        if problem := _problem(told):
            raise DataError(f"{where}: {problem}; {_REMEDY}")
        library.no_truncation()
        library.no_padding()
        library.encode_special_tokens = True  # "as text", in the words of the library
        self.text, self.backend_tokenizer = text, library
        self.digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        added = {one["id"]: one for one in told["added_tokens"]}
        self.eos = next(i for i, one in added.items() if one["content"] == END)
        self.eos_token_id = self.bos_token_id = self.eos
        vocabulary = told["model"]["vocab"]
        self.size = 1 + max(*vocabulary.values(), *added)
        self.bytes = np.zeros(self.size, dtype=np.int32)
        for token, i in vocabulary.items():
            self.bytes[i] = len(token)  # the alphabet has one letter for each byte
        for i, one in added.items():
            self.bytes[i] = 0 if one["special"] else len(one["content"].encode())
        self.bytes.setflags(write=False)
        plain = [vocabulary.get(letter) for letter in _letters()] == list(range(256))
        self._plain = plain and not told["model"]["merges"] and len(added) == 1

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """The tokenizer of a folder that holds a tokenizer.json, or of such a file.

        Raises:
            DataError: no such file, or no byte-level tokenizer.
        """
        file = Path(path)
        file = file / FILE if file.is_dir() else file
        try:
            text = file.read_bytes().decode("utf-8")
        except OSError as error:
            why = f"cannot be read ({error.strerror}); give a folder with a {FILE}"
            raise DataError(f"{file}: {why}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 text (byte {error.start}); give a {FILE}") from error
        return cls(text, str(file))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json and the settings by which `transformers.AutoTokenizer` loads the same."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END,
            "eos_token": END,
            "clean_up_tokenization_spaces": False,
            "split_special_tokens": True,
        }
        for name, text in ((FILE, self.text), (CONFIG, json.dumps(settings, indent=2) + "\n")):
            (folder / name).write_bytes(text.encode("utf-8"))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, int32; no end of document is added.

        Raises:
            DataError: a text is none, or holds half of a surrogate pair, which UTF-8 cannot.
        """
        if isinstance(texts, str):
            raise DataError("texts: got one str; give a list of texts")
        found: list[Ids] = []
        for start in range(0, len(texts), _CHUNK):
            part = list(texts[start : start + _CHUNK])
            try:
                if self._plain:
                    found += [np.frombuffer(one.encode(), np.uint8).astype(np.int32) for one in part]
                    continue
                made = self.backend_tokenizer.encode_batch_fast(part, add_special_tokens=False)
            except (UnicodeEncodeError, TypeError, AttributeError):
                for i, one in enumerate(part, start):
                    _checked(one, f"text {i}")
                raise
            found += [np.array(one.ids, dtype=np.int32) for one in made]
        return found

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of ids; ids cut within a letter give U+FFFD there.

        Raises:
            DataError: an id that the tokenizer does not have.
        """
        array = np.asarray(ids, dtype=np.int64).reshape(-1)
        outside = np.flatnonzero((array < 0) | (array >= self.size))
        if len(outside):
            place = int(outside[0])
            raise DataError(f"ids: got {array[place]} at place {place}, valid is 0..{self.size - 1}")
        return self.backend_tokenizer.decode(array.tolist(), skip_special_tokens=False)

    def encode_batch(self, texts: list[str], add_special_tokens: bool = False) -> list[Any]:
        """As the library's: objects with `ids`. Nothing is ever added."""
        return self.backend_tokenizer.encode_batch(texts, add_special_tokens=False)

    def __repr__(self) -> str:
        return f"Tokenizer(size={self.size}, eos={self.eos}, digest={self.digest[:12]!r})"

    def __reduce__(self):
        return type(self), (self.text,)  # the library's own pickle forgets how special tokens are read


def byte_tokenizer() -> Tokenizer:
    """One id per byte, equal to it, and 256 for the end of a document.

    Example:
        >>> byte_tokenizer().eos
        256
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    library = Library(models.BPE(vocab={letter: i for i, letter in enumerate(_letters())}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    library.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return _ended(library)


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Byte-level BPE: words by the rule of GPT-2, each digit a token of its own.

    Pairs seen once are not merged, so text may support fewer ids than are asked for; a warning then says how
    many there are. The same texts, in any order, give the same file.

    Args:
        texts: what the merges are learned from; read once, not kept.
        size: ids wanted, the 256 bytes and the end of a document among them.

    Returns:
        The tokenizer; its `size` is the real one.

    Raises:
        DataError: a size below 257, no text, or a text that is none.

    Source:
        Sennrich et al. 2016 (BPE); Radford et al. 2019 (bytes, and the rule for words).

    Example:
        >>> train_tokenizer(["low lower lowest"] * 2, 260).size
        260
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < MIN_SIZE:
        raise DataError(f"size: got {size!r}, valid is a whole number from {MIN_SIZE} (256 bytes and {END})")
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=int(size) - 1, min_frequency=2, special_tokens=[], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    read = _Counted(texts)
    library.train_from_iterator(read, trainer)
    if not read.letters:
        raise DataError(f"texts: got {read.texts} without a letter; a tokenizer is trained on text")
    made = _ended(library)
    if made.size < size:
        warnings.warn(
            f"vocabulary: asked for {size:,} ids, {read.letters:,} letters of text support {made.size:,}; "
            "give more text, or ask for fewer",
            RuntimeWarning,
            stacklevel=2,
        )
    return made


class _Counted:
    """Texts, each looked at on its way to the library."""

    def __init__(self, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise DataError("texts: got one str; give texts")
        self._texts = texts
        self.texts = self.letters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            _checked(text, f"text {self.texts}")
            self.texts += 1
            self.letters += len(text)
            yield text


def _checked(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise DataError(f"{where}: got {type(text).__name__}, valid is str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: letter {error.start} is U+{ord(text[error.start]):04X}, half of a surrogate pair, "
            "which UTF-8 cannot hold; replace it: text.encode('utf-8', 'replace').decode()"
        ) from error


def _ended(library: Any) -> Tokenizer:
    """With the end of a document as the last id."""
    from tokenizers import AddedToken, processors

    # Adds nothing; `transformers` puts it in where it is absent, and the two would then seem to differ.
    library.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    library.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return Tokenizer(library.to_str())


def _letters() -> list[str]:
    """The letter by which byte-level BPE writes each byte: itself where it is printable, else one from
    U+0100 on."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]


def _problem(told: dict[str, Any]) -> str:
    """Why ids of this tokenizer may not stand for exactly the bytes of a text; "" where they do."""
    model, added = told["model"], told["added_tokens"]
    steps = told.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    if model.get("type") != "BPE" or not any(one.get("type") == "ByteLevel" for one in steps):
        return "not a byte-level BPE"
    if missing := [letter for letter in _letters() if letter not in model["vocab"]]:
        return f"has no token for {len(missing)} of the 256 bytes"
    if (told.get("decoder") or {}).get("type") != "ByteLevel":
        return "its decoder is not byte-level"
    if told.get("normalizer"):
        return f"its normaliser ({told['normalizer'].get('type')}) changes text"
    if any(one.get("add_prefix_space") for one in steps):
        return "it puts a blank before a text"
    if model.get("dropout"):
        return "it cuts a text differently each time (dropout)"
    if any(one["lstrip"] or one["rstrip"] for one in added if not one["special"]):
        return "an added token takes the blanks around it"
    if not any(one["content"] == END and one["special"] for one in added):
        return f"has no special token {END}"
    return ""
