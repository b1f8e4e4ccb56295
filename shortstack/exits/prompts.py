"""Prompts whose texts the exits are looked at on: read as for a measurement, checked to fit."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from shortstack.bench.prompts import BenchPrompt, Encode, read_bench_prompts, tokenizer_of
from shortstack.errors import UsageError

# The prefill gives the first token; a round needs one more.
MIN_NEW_TOKENS = 2


def read_fitting_prompts(
    files: Sequence[Path],
    model_dir: Path,
    limit: int,
    *,
    max_context_len: int,
    vocab_size: int,
    max_len: int = 0,
) -> list[BenchPrompt]:
    """Read the first `limit` prompts of each file, of each its first `max_len` tokens (0: all).

    Raises:
        UsageError: a file cannot be used, or a prompt does not fit the model; names it.
    """
    prompts = read_bench_prompts(files, lazy_encode(model_dir), limit, max_len)
    for prompt in prompts:
        _check(prompt, max_context_len, vocab_size)
    return prompts


def lazy_encode(model_dir: Path) -> Encode:
    """Return the encoding of the model's tokenizer, which is read when the first text is met."""

    @cache
    def encoding() -> Encode:
        return tokenizer_of(model_dir)

    return lambda text: encoding()(text)


def _check(prompt: BenchPrompt, max_context_len: int, vocab_size: int) -> None:
    num_tokens = len(prompt.token_ids)
    if not num_tokens:
        raise UsageError(f"prompt {prompt.prompt_id} has no tokens: give it some text")
    if num_tokens + MIN_NEW_TOKENS > max_context_len:
        raise UsageError(
            f"prompt {prompt.prompt_id} has {num_tokens} tokens and the model's context"
            f" {max_context_len}: shorten the prompt to {max_context_len - MIN_NEW_TOKENS} or less"
        )
    if max(prompt.token_ids) >= vocab_size:
        raise UsageError(
            f"prompt {prompt.prompt_id} has token {max(prompt.token_ids)}, and the model's"
            f" vocabulary ends at {vocab_size - 1}: were its token_ids made for another model?"
        )
