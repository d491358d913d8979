"""A tiny model and tokenizer of `transformers`, made on the spot: real code paths, nothing to download."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
VOCABULARY = 384  # 256 bytes, the end of text, and merges

# What the merges are learned from: written by hand, so that common words are one token and rare ones several.
TEXT = [
    "The cat sat on the mat and looked at the red ball near the door.",
    "A farmer who owns three horses and two dogs walks to the market in the morning.",
    "Question: What is the colour of the sky on a clear day? Answer: blue",
    "Question: Which of these is the largest number? Answer: ninety nine",
    "She put the keys in the drawer because the drawer was open, and the bag was not.",
    "1 + 1 = 2. 12 + 30 = 42. 7 times 6 is 42, and 100 minus 58 is 42 as well.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, i))",
    "In winter the lake freezes and the birds fly south; in spring they come back again.",
    "Copy: apple pear plum -> apple pear plum. Reverse: apple pear plum -> plum pear apple.",
    "( [ { } ] ) is balanced, ( [ ) ] is not balanced. The name of the river is long.",
]


@lru_cache(maxsize=1)
def _trained() -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator(TEXT, trainer)
    return bpe.to_str()


def tiny_tokenizer() -> Any:
    """Byte-level BPE of at most 384 ids (`len` says how many); beginning and end of sequence are one token,
    which it does not add by itself."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()), bos_token=END, eos_token=END,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def tiny_llama(
    seed: int = 0,
    vocab: int = VOCABULARY,
    d: int = 64,
    layers: int = 2,
    *,
    heads: int = 2,
    length: int = 512,
    dtype: torch.dtype = torch.float32,
) -> LlamaForCausalLM:
    """A Llama of random weights, wide enough that its logits differ clearly; in evaluation mode.

    The random state is left as it was.
    """
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=d, intermediate_size=2 * d, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=length,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(5.0)
    return model.to(dtype).eval()  # type: ignore[arg-type]
