"""Texts, tokenizer, batches: what is read, what is held out, what is refused."""

import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training import data
from training.data import (
    KINDS,
    MIXTURE,
    BatchPlan,
    held_out_windows,
    is_held_out,
    prepare,
    read_documents,
)
from training.errors import TrainingError
from training.tokenizer import END, encode, load_tokenizer, train_tokenizer

TEXT = "User: I want 12 apples.\nAssistant: Here are naïve 🥞 pancakes.\n"


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of small files, and a library of one file each."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for kind in ("dialogue", "math", "stories"):
        body = "".join(f"{kind} {number}\n{TEXT}{END}\n" for number in range(30))
        (folder / f"{kind}.train.txt").write_text(body, encoding="utf-8")
        (folder / f"{kind}.valid.txt.xz").write_bytes(lzma.compress(body.encode()))
    monkeypatch.setattr(data, "_library_files", lambda split: iter([f"def {split}():\n    1\n"]))
    return folder


def test_documents_are_cut_at_their_end_lines(texts: Path) -> None:
    documents = read_documents(texts, "math", "valid", 10_000)
    assert len(documents) == 30
    assert documents[3] == f"math 3\n{TEXT}".strip("\n")


def test_reading_stops_at_the_limit(texts: Path) -> None:
    documents = read_documents(texts, "math", "train", 100)
    assert sum(map(len, documents)) == 100


def test_library_files_are_split_whole_and_without_tests() -> None:
    names = [f"folder/module_{number}.py" for number in range(4000)]
    share = sum(map(is_held_out, names)) / len(names)
    assert share == pytest.approx(data.HELD_OUT_SHARE, abs=0.02)
    train, valid = (set(read_documents(Path(), "code", s, 10**9)) for s in ("train", "valid"))
    assert not train & valid
    assert any("class ArgumentParser" in text for text in train | valid)
    assert not any("class TestShlex" in text for text in train | valid)


@pytest.mark.parametrize(
    ("prepare_folder", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("gone")), "does not exist"),
        (lambda folder: (folder / "math.train.txt").unlink(), r"math.train.*add it"),
        (lambda folder: (folder / "math.train.txt").write_text(f"\n{END}\n"), "empty"),
        (lambda folder: (folder / "math.train.txt").write_bytes(b"\xff\xfe\xfa"), "cannot read"),
        (lambda folder: (folder / "math.train.x.txt.xz").write_bytes(b"no xz"), "cannot read"),
    ],
)
def test_missing_empty_and_damaged_texts_are_named(texts: Path, prepare_folder, message) -> None:
    prepare_folder(texts)
    with pytest.raises(TrainingError, match=message):
        read_documents(texts, "math", "train", 10_000)


def test_the_tokenizer_returns_every_text_and_splits_digits() -> None:
    tokenizer = train_tokenizer([TEXT * 20], 290)
    assert tokenizer.decode(tokenizer.encode(TEXT).ids) == TEXT
    assert tokenizer.encode("2026").tokens == ["2", "0", "2", "6"]
    assert tokenizer.encode(END).ids == [tokenizer.token_to_id(END)]


def test_too_little_text_for_the_vocabulary_is_named() -> None:
    with pytest.raises(TrainingError, match="lower --vocab-size"):
        train_tokenizer(["short"], 2048)


def test_documents_are_joined_by_the_end_token() -> None:
    tokenizer = train_tokenizer([TEXT * 20], 290)
    tokens = encode(tokenizer, ["one", "two"])
    assert tokenizer.decode(tokens.tolist(), skip_special_tokens=False) == f"one{END}two{END}"


def test_prepared_texts_are_taken_from_the_cache(texts: Path, tmp_path: Path) -> None:
    cache = tmp_path / "tokens"
    first = prepare(texts, cache, 280, 4000)
    for path in texts.iterdir():
        path.unlink()
    second = prepare(texts, cache, 280, 4000)
    for kind in KINDS:
        assert np.array_equal(first.train[kind].tokens, second.train[kind].tokens)


@pytest.mark.parametrize(("vocab_size", "max_bytes"), [(290, 4000), (280, 5000)])
def test_a_cache_of_other_texts_is_refused(texts, tmp_path, vocab_size, max_bytes) -> None:
    prepare(texts, tmp_path / "tokens", 280, 4000)
    with pytest.raises(TrainingError, match="remove"):
        prepare(texts, tmp_path / "tokens", vocab_size, max_bytes)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_missing_or_damaged_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TrainingError, match=r"tokenizer\.json"):
        load_tokenizer(path)


def test_targets_follow_their_tokens(random_corpus) -> None:
    corpora = {kind: random_corpus(1) for kind in KINDS}
    batch = BatchPlan(seed=1, step_tokens=128, short_len=16, long_len=64).batch(corpora, step=3)
    assert (batch.tokens_BT[:, 1:] == batch.targets_BT[:, :-1]).all()


def test_batches_are_pure_functions_of_seed_and_step(random_corpus) -> None:
    corpora = {kind: random_corpus(1) for kind in KINDS}
    plan = BatchPlan(seed=1, step_tokens=128, short_len=16, long_len=64)
    assert plan.batch(corpora, 3).tokens_BT.equal(plan.batch(corpora, 3).tokens_BT)
    assert not plan.batch(corpora, 3).tokens_BT.equal(plan.batch(corpora, 3, 1).tokens_BT)


def test_the_mixture_is_kept_in_tokens() -> None:
    plan = BatchPlan(seed=1, step_tokens=4096)
    tokens: Counter[str] = Counter()
    for step in range(2000):
        row_len = plan.row_len(step)
        for kind in plan.kinds(step, 0, 4096 // row_len):
            tokens[kind] += row_len
    for kind, share in MIXTURE.items():
        assert tokens[kind] / tokens.total() == pytest.approx(share, abs=0.02)


def test_long_rows_fall_on_every_phase_of_the_rotation() -> None:
    plan = BatchPlan(seed=1, step_tokens=4096)
    long_steps = [step for step in range(4000) if plan.row_len(step) == 1024]
    assert len(long_steps) / 4000 == pytest.approx(0.25, abs=0.03)
    for count in Counter(step % 4 for step in long_steps).values():
        assert count / len(long_steps) == pytest.approx(0.25, abs=0.05)


def test_many_rows_begin_with_their_document(random_corpus) -> None:
    corpora = {kind: random_corpus(1) for kind in KINDS}
    plan = BatchPlan(seed=1, step_tokens=1024, short_len=16, long_len=64)
    starts = {tuple(corpora["code"].tokens[s : s + 8]) for s in corpora["code"].starts}
    rows = [row for step in range(20) for row in plan.batch(corpora, step).tokens_BT.tolist()]
    assert sum(tuple(row[:8]) in starts for row in rows) > len(rows) / 6


def test_texts_shorter_than_a_row_are_refused(random_corpus) -> None:
    short = random_corpus(1, num_tokens=20)
    plan = BatchPlan(seed=1, step_tokens=128, short_len=64, long_len=64)
    with pytest.raises(TrainingError, match="add text"):
        plan.batch(dict.fromkeys(KINDS, short), 0)
    with pytest.raises(TrainingError, match="shorter than a row"):
        held_out_windows(short, 4, 32)


def test_held_out_windows_do_not_overlap_when_the_text_is_short(random_corpus) -> None:
    corpus = random_corpus(1, num_tokens=100)
    batches = held_out_windows(corpus, num_windows=50, row_len=16)
    assert sum(len(batch.tokens_BT) for batch in batches) == 5
