"""The tokenizer of a run: taken from a model directory, or made from the run's texts.

Knows nothing of where texts come from, nor of rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from training.errors import TrainingError

END = "<|endoftext|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + '\\n' }}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""Turns as the dialogues of the corpus have them."""


def train_tokenizer(samples: Sequence[str], vocab_size: int, max_positions: int) -> Any:
    """A byte-level BPE over the samples; digits stand alone, so that sums can be learnt.

    Nothing is added to a prompt unasked.

    Raises:
        TrainingError: the samples do not yield so many tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(samples, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise TrainingError(
            f"the texts yield only {tokenizer.get_vocab_size()} of {vocab_size} tokens;"
            " add text or lower tokenizer.vocab_size"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=max_positions,
        chat_template=CHAT_TEMPLATE,
    )


def load_tokenizer(path: str) -> Any:
    """Read the tokenizer of a model directory.

    Raises:
        TrainingError: there is none, it is damaged, or it has no end token.
    """
    if Path(path).is_dir() and not list(Path(path).glob("tokenizer*")):
        raise TrainingError(f"{path} has no tokenizer; copy one there or set tokenizer.path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # transformers and tokenizers raise bare Exceptions here
        reason = str(error).strip().split("\n")[0]
        raise TrainingError(f"cannot load the tokenizer of {path}: {reason}") from error
    if tokenizer.eos_token_id is None:
        raise TrainingError(f"the tokenizer of {path} has no eos_token, which ends documents")
    return tokenizer


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without anything added."""
    ids: list[list[int]] = []
    for first in range(0, len(texts), 256):
        group = list(texts[first : first + 256])
        ids += tokenizer(group, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def joined(tokenizer: Any, texts: Sequence[str]) -> npt.NDArray[np.unsignedinteger]:
    """One array of ids; every document ends with the end token."""
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
    end = [tokenizer.eos_token_id]
    parts = [np.array(ids + end, dtype=dtype) for ids in encode(tokenizer, texts)]
    return np.concatenate(parts)
