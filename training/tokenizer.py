"""The tokenizer of a run: made from its texts, kept in a model directory.

Knows nothing of where texts come from, nor of batches.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from training.errors import TrainingError

END = "<|endoftext|>"

TokenArray = npt.NDArray[np.uint16]


def train_tokenizer(samples: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE over the samples; digits stand alone, so that sums can be learnt."""
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
            " add text or lower --vocab-size"
        )
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[str]) -> TokenArray:
    """One array of ids; every document ends with the end token."""
    end_id = end_id_of(tokenizer)
    parts = []
    for first in range(0, len(documents), 256):
        for encoding in tokenizer.encode_batch(documents[first : first + 256]):
            parts.append(np.array([*encoding.ids, end_id], dtype=np.uint16))
    return np.concatenate(parts)


def load_tokenizer(path: Path) -> Tokenizer:
    """Read tokenizer.json.

    Raises:
        TrainingError: there is none, or it is not a tokenizer.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise TrainingError(f"{path} is no tokenizer: {error}") from error


def end_id_of(tokenizer: Tokenizer) -> int:
    """Id of the token that ends a document.

    Raises:
        TrainingError: the tokenizer has none, so it is not one of ours.
    """
    end_id: int | None = tokenizer.token_to_id(END)
    if end_id is None:
        raise TrainingError(f"the tokenizer has no token {END}; use a model of training.train")
    return end_id


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """Contents of tokenizer.json and tokenizer_config.json, by name.

    The chat template writes the turns as the dialogues of the corpus have them. Nothing is added
    to a prompt unasked.
    """
    template = (
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ 'Assistant: ' + message['content'] + '\\n' }}"
        "{% else %}{{ message['content'] + '\\n' }}{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    )
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": END,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": template,
    }
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }
