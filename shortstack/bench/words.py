"""A tokenizer of made-up words for synthetic models.

Every token that such a model generates is one word (`▁ba`, `▁kilo`, …), so ids -> text -> ids is
the identity; any other text is spelt in bytes, so every prompt can be encoded. Knows nothing of
models. The files load with `tokenizers.Tokenizer.from_file` and with `AutoTokenizer`.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
SPECIALS = (UNK, BOS, EOS)
UNK_ID, BOS_ID, EOS_ID = range(3)
SPACE = "▁"
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"

CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def first_word_id(vocab_size: int) -> int:
    """Return the first id that is a word; below it are specials, bytes and the space.

    Raises:
        ValueError: the vocabulary has no room for words.
    """
    first = len(SPECIALS) + 256 + 1
    if vocab_size < first + 2:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for words behind {first} ids")
    return first


def vocabulary(vocab_size: int) -> list[str]:
    """Return the token of every id: specials, 256 bytes, the space, then words."""
    num_words = vocab_size - first_word_id(vocab_size)
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    words = [SPACE + word for word in itertools.islice(_words(), num_words)]
    return [*SPECIALS, *byte_tokens, SPACE, *words]


def _words() -> Iterator[str]:
    syllables = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]
    for num_syllables in itertools.count(1):
        for parts in itertools.product(syllables, repeat=num_syllables):
            yield "".join(parts)


def write_tokenizer(folder: Path, vocab_size: int, max_context_len: int) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    scores = [(token, -1.0) for token in vocabulary(vocab_size)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=UNK_ID, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNK,
        "bos_token": BOS,
        "eos_token": EOS,
        "model_max_length": max_context_len,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
