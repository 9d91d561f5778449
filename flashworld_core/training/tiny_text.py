"""The embedded model's text side: a word-level tokenizer and a small UMT5, both of the full model's classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import FlashWorldError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, UMT5Config

# T5's own special tokens at T5's own ids.
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"


def build_tiny_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with a fixed vocabulary; nothing is trained or downloaded.

    Text is brought to NFKC and lower case and split at white space and around punctuation; words outside the
    vocabulary become ``<unk>``; every sequence ends with ``</s>``. Save it with
    ``tokenizer.backend_tokenizer.save(path)`` or ``tokenizer.save_pretrained(folder)``.

    Args:
        words: words or whole sentences; each is split like a prompt. Their order does not matter. Put the prompt
            prefix ("[Static]") among them.

    Returns:
        A transformers tokenizer with ids 0 ``<pad>``, 1 ``</s>``, 2 ``<unk>``, then the words in sorted order.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    vocabulary = {word for text in words for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))} - {
        PAD,
        EOS,
        UNK,
    }
    if not vocabulary:
        raise FlashWorldError("build_tiny_tokenizer: no words given.")
    ids = {word: i for i, word in enumerate([PAD, EOS, UNK, *sorted(vocabulary)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, ids[EOS])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNK)


def tiny_umt5_config(
    vocab_size: int, *, d_model: int = 64, layers: int = 2, heads: int = 4, d_ff: int = 128
) -> UMT5Config:
    """Sizes of a small UMT5 encoder; no dropout.

    Args:
        vocab_size: ``len(tokenizer)``.
        d_model: width of the text embedding (the transformer's ``text_dim``).
        layers: number of blocks.
        heads: attention heads; must divide ``d_model``.
        d_ff: width of the gated feed-forward layers.
    """
    from transformers import UMT5Config

    if d_model % heads:
        raise FlashWorldError(f"tiny_umt5_config: d_model {d_model} must be a multiple of heads {heads}.")
    return UMT5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        d_kv=d_model // heads,
        d_ff=d_ff,
        num_layers=layers,
        num_heads=heads,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
