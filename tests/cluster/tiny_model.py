"""A tiny random Llama with a byte-level tokenizer, written as a Hugging Face directory.

Its words mean nothing; its early exits agree with the last layer some of the time, since the late
layers are damped, so drafts are both kept and refused. It never ends a text by itself.
"""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tokenizer_builder import write_model_directory

NUM_LAYERS = 4
MAX_CONTEXT_LEN = 1024
DAMPING = 0.35


def write_tiny_model(directory: Path, seed: int = 7) -> Path:
    """Write the model; return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = write_model_directory(directory, MAX_CONTEXT_LEN)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_CONTEXT_LEN,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for layer in model.model.layers[NUM_LAYERS // 2 :]:
            layer.self_attn.o_proj.weight *= DAMPING
            layer.mlp.down_proj.weight *= DAMPING
    model.save_pretrained(directory)
    return directory
