"""Small real tokenizers, built in code: byte-level, and two kinds with leading-space handling."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

END = "<|endoftext|>"
CORPUS = [
    "Once upon a time there was a little girl. She liked to play in the sun.",
    "The numbers are 1 2 3, the cat's whiskers, and the end.\n\nA new line begins.",
    "Straße, naïve café, 你好世界, привет мир, 🙂 🙃 and ünïcödé.",
] * 4
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_level_tokenizer(vocab_size: int = 420) -> Tokenizer:
    """Return a tokenizer of the GPT-2 kind: every byte has an id, spaces belong to words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def prepend_tokenizer(vocab_size: int = 200) -> Tokenizer:
    """Return a tokenizer of the Llama-2 kind: a space before the text, bytes as a way out."""
    tokenizer = _with_byte_fallback(vocab_size)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def metaspace_tokenizer(vocab_size: int = 200) -> Tokenizer:
    """Return a tokenizer whose decoder drops the space of whatever id comes first."""
    tokenizer = _with_byte_fallback(vocab_size)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _with_byte_fallback(vocab_size: int) -> Tokenizer:
    """Return a BPE model with ids for <unk>, <s>, </s>, all bytes and some frequent pieces."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    ascii_lines = [line.encode("ascii", "ignore").decode() for line in CORPUS]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False)
    plain.train_from_iterator(ascii_lines, trainer)
    trained = json.loads(plain.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    merges = [(left, right) for left, right in trained["merges"]]
    vocabulary = {token: id_ for id_, token in enumerate(tokens)}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def write_model_directory(directory: Path, max_context_len: int = 64) -> Tokenizer:
    """Write what the gateway reads of a model, with the byte-level tokenizer; return that."""
    tokenizer = byte_level_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": max_context_len}
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer_config = {"eos_token": END, "bos_token": END, "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return tokenizer
