"""A model of four layers and texts of random tokens, small enough to train in a moment."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models

from training.data import KINDS, BatchPlan, Corpus, TokenSets, corpus_of
from training.model import ModelShape
from training.recipe import Recipe
from training.tokenizer import END
from training.train import Settings

TINY = ModelShape(
    vocab_size=96, num_layers=4, hidden_size=32, ffn_size=48, num_heads=4, num_kv_heads=2,
    head_size=8, max_positions=64,
)  # fmt: skip


def make_corpus(seed: int, num_tokens: int = 3000) -> Corpus:
    """Tokens with some order in them (each follows from the last), documents of about 40."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, 4, num_tokens)
    tokens = (1 + np.cumsum(steps) % (TINY.vocab_size - 1)).astype(np.uint16)
    tokens[generator.random(num_tokens) < 0.025] = 0
    return corpus_of(tokens, end_id=0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is faster on one thread, and much faster on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def shape() -> ModelShape:
    """The shape of the small model."""
    return TINY


@pytest.fixture
def random_corpus() -> Callable[..., Corpus]:
    """Makes a corpus out of a seed."""
    return make_corpus


@pytest.fixture
def tiny() -> SimpleNamespace:
    """The settings and tokens of a small run of 40 steps."""
    plan = BatchPlan(seed=3, step_tokens=128, short_len=16, long_len=64)
    recipe = Recipe(TINY.num_layers, p_max=0.3, rotation=2)
    settings = Settings(40, recipe, plan, TINY, peak_learning_rate=3e-3, num_warmup=4)
    corpora = {kind: make_corpus(seed) for seed, kind in enumerate(KINDS)}
    tokenizer = Tokenizer(models.BPE({END: 0}, []))
    tokens = TokenSets(tokenizer, corpora, corpora)
    return SimpleNamespace(settings=settings, tokens=tokens)
