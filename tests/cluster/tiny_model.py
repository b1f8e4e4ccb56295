"""A tiny random Llama with a byte-level tokenizer and a context long enough for faults to hit."""

from pathlib import Path

from tests.model_builder import write_model
from tests.tokenizer_builder import write_model_directory

MAX_CONTEXT_LEN = 1024


def write_tiny_model(directory: Path) -> Path:
    """Write the model; return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = write_model_directory(directory, MAX_CONTEXT_LEN)
    return write_model(
        directory,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=MAX_CONTEXT_LEN,
    )
