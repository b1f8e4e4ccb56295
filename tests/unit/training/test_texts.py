"""Texts and tokenizers: what is read, what is kept, what is refused and how it is named."""

import json
import lzma
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from tests.training_runs import ROW_LEN, config_of, continued_values, run_values, sources
from training.config import RunConfig
from training.corpus import HELD_OUT_SHARE, is_held_out, read_documents
from training.errors import TrainingError
from training.layerskip import set_up
from training.rows import IGNORED, TaskRows, TextRows
from training.sections import Source
from training.texts import Texts, read_texts, tokenizer_of
from training.tokenizer import END, encode, joined, load_tokenizer, train_tokenizer

TEXT = "User: I want 12 apples.\nAssistant: Here are naïve 🥞 pancakes.\n"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer([TEXT * 20], 290, 64)


def words_of(**changes: Any) -> Source:
    return Source(**(sources(tasks=0)[0] | changes))


def tasks_of() -> Source:
    return Source(**sources()[1])


def read(config: RunConfig, data: Path, out: Path) -> Texts:
    tokenizer = tokenizer_of(config, data, out, 64)
    return read_texts(config, data, tokenizer, out / "tokens")


def test_documents_are_cut_at_their_end_lines_and_the_last_need_not_be_closed(data: Path) -> None:
    (data / "words.train.txt").write_text(f"\none\n\ntwo\n{END}\n{END}\nthree", encoding="utf-8")
    documents = read_documents(words_of(), data, "train")
    assert [document.text for document in documents] == ["one\n\ntwo", "three"]


def test_packed_files_are_unpacked(data: Path) -> None:
    plain = read_documents(words_of(), data, "train")
    packed = lzma.compress((data / "words.train.txt").read_bytes())
    (data / "words.train.txt.xz").write_bytes(packed)
    (data / "words.train.txt").unlink()
    found = read_documents(words_of(), data, "train")
    assert [document.text for document in found] == [document.text for document in plain]


def test_reading_stops_at_the_limit(data: Path) -> None:
    documents = read_documents(words_of(max_mb=1e-4), data, "train")
    assert sum(len(document.text) for document in documents) == 100


def test_lines_of_json_hold_text_or_a_prompt_with_its_completion(data: Path) -> None:
    path = data / "tasks.train.jsonl"
    path.write_text('{"text": "plain"}\n\n{"prompt": "a", "completion": "b", "more": 1}\n')
    first, second = read_documents(tasks_of(), data, "train")
    assert (first.text, first.prompt) == ("plain", None)
    assert (second.text, second.prompt, second.place) == ("b", "a", f"{path}:3")


def test_the_standard_library_is_split_whole_and_without_tests() -> None:
    source = Source(name="code", share=1, format="python-library")
    train, valid = ({d.place for d in read_documents(source, None, s)} for s in ("train", "valid"))
    assert not train & valid
    assert "argparse.py" in train | valid
    folders = {folder for place in train | valid for folder in Path(place).parts[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages"}
    share = len(valid) / len(train | valid)
    assert share == pytest.approx(HELD_OUT_SHARE, abs=0.03)
    assert {place for place in train | valid if is_held_out(place)} == valid
    assert (Path(sysconfig.get_path("stdlib")) / min(train)).exists()


def no_folder(data: Path) -> None:
    data.rename(data.with_name("gone"))


def no_file(data: Path) -> None:
    (data / "words.train.txt").unlink()


def empty(data: Path) -> None:
    (data / "words.train.txt").write_text(f"\n{END}\n")


def other_encoding(data: Path) -> None:
    (data / "words.train.txt").write_bytes(b"\xff\xfe\xfa")


def no_xz(data: Path) -> None:
    (data / "words.train.txt.xz").write_bytes(b"no xz at all")


def cut_xz(data: Path) -> None:
    packed = lzma.compress((data / "words.train.txt").read_bytes())
    (data / "words.train.txt.xz").write_bytes(packed[:-40])


def a_folder(data: Path) -> None:
    (data / "words.train.d").mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_folder, "data directory .*data does not exist; name one with --data"),
        (no_file, r"source words: no file in .*data matches \['words.train\*'\]"),
        (empty, "source words: its train files are empty; add text"),
        (other_encoding, r"cannot read .*words\.train\.txt: .*; fetch the file again"),
        (no_xz, r"cannot read .*words\.train\.txt\.xz: .*; fetch the file again"),
        (cut_xz, r"cannot read .*words\.train\.txt\.xz: .*; fetch the file again"),
        (a_folder, r"cannot read .*words\.train\.d"),
    ],
)
def test_missing_empty_and_damaged_texts_are_named(
    data: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(data)
    with pytest.raises(TrainingError, match=message):
        read_documents(words_of(), data, "train")


def test_without_a_data_directory_the_flag_is_named() -> None:
    with pytest.raises(TrainingError, match=r"source words needs a data directory: give --data"):
        read_documents(words_of(), None, "train")


@pytest.mark.parametrize("pattern", ["", "/somewhere/*.txt"])
def test_patterns_that_lie_outside_the_data_directory_are_refused(data: Path, pattern: str) -> None:
    with pytest.raises(TrainingError, match=r"source words: \["):
        read_documents(words_of(train=[pattern]), data, "train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is no JSON object"),
        ("[1]", "needs `text`, or `prompt` and `completion`"),
        ("7", "needs `text`"),
        ('{"prompt": "a"}', "needs `text`"),
        ('{"prompt": "a", "completion": ""}', "needs `text`"),
        ('{"prompt": "a", "completion": 3}', "needs `text`"),
        ('{"text": null}', "needs `text`"),
    ],
)
def test_faulty_lines_of_json_are_named_by_file_and_number(
    data: Path, line: str, message: str
) -> None:
    path = data / "tasks.train.jsonl"
    path.write_text(f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(TrainingError, match=rf"tasks\.train\.jsonl:3 {message}"):
        read_documents(tasks_of(), data, "train")


def test_texts_and_tasks_of_one_source_are_refused(data: Path, out: Path) -> None:
    (data / "tasks.train.jsonl").write_text(
        '{"text": "fine"}\n{"prompt": "a", "completion": "b"}\n'
    )
    with pytest.raises(TrainingError, match=r"source tasks mixes lines .* make it two sources"):
        read(config_of(run_values()), data, out)


def test_an_example_too_long_for_a_row_is_named_by_its_place(data: Path, out: Path) -> None:
    long = json.dumps({"prompt": "a", "completion": "?" * 2 * ROW_LEN})
    (data / "tasks.valid.jsonl").write_text(f'{{"prompt": "a", "completion": "b"}}\n{long}\n')
    message = rf"tasks\.valid\.jsonl:2: \d+ tokens do not fit a row of {ROW_LEN}; shorten"
    with pytest.raises(TrainingError, match=message):
        read(config_of(run_values()), data, out)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_text_shorter_than_a_row_is_named_and_may_be_mended(
    data: Path, out: Path, split: str
) -> None:
    path, config = data / f"words.{split}.txt", config_of(run_values())
    whole = path.read_text()
    read(config, data, out)  # the tokenizer needs the whole text
    path.write_text("short")
    with pytest.raises(TrainingError, match=rf"source words \({split}\): \d+ tokens make no row"):
        read(config, data, out)
    path.write_text(whole)
    assert read(config, data, out).valid["words"].spread(1, ROW_LEN)


def test_texts_too_short_for_long_rows_are_refused_before_the_run_begins(
    data: Path, out: Path
) -> None:
    values = run_values(data={"long_row_len": 50_000, "long_share": 0.01})
    with pytest.raises(TrainingError, match=r"source words \(train\): .* no row of 50000"):
        read(config_of(values), data, out)


def test_rows_hold_the_texts_and_learn_the_completions_with_their_end(
    data: Path, out: Path
) -> None:
    texts = read(config_of(run_values()), data, out)
    tokenizer = load_tokenizer(str(out / "tokenizer"))
    words, tasks = texts.train["words"], texts.train["tasks"]
    assert isinstance(words, TextRows)
    assert isinstance(tasks, TaskRows)
    decoded = tokenizer.decode(words.corpus.tokens.tolist(), skip_special_tokens=False)
    assert decoded.startswith("After one comes one, and 0 is")
    assert decoded.count(END) == 60
    row = tasks.spread(2, ROW_LEN)[1]
    learnt = row["labels"][row["labels"] != IGNORED]
    assert tokenizer.decode(learnt, skip_special_tokens=False) == f" {'ab' * 5}{END}"


def test_encoded_texts_are_kept_until_a_file_changes(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(run_values(data={"sources": sources(tasks=0)}))
    first = read(config, data, out)
    with monkeypatch.context() as patched:
        patched.setattr("training.texts.read_documents", None)
        again = read(config, data, out)
    for split in ("train", "valid"):
        kept, found = (getattr(texts, split)["words"].corpus for texts in (first, again))
        assert np.array_equal(kept.tokens, found.tokens)
    (data / "words.train.txt").write_text(TEXT * 9)
    os.utime(data / "words.train.txt", ns=(1, 1))
    assert len(read(config, data, out).train["words"].corpus.tokens) != len(
        first.train["words"].corpus.tokens
    )
    assert not list((out / "tokens").glob("*.partial*"))


def test_the_tokenizer_returns_every_text_and_splits_digits(tokenizer: Any) -> None:
    (ids,) = encode(tokenizer, [TEXT])
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
    assert encode(tokenizer, [END]) == [[tokenizer.eos_token_id]]


def test_the_tokenizer_of_a_model_directory_has_its_chat_template(
    tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    turns = [{"role": "user", "content": "Where are the pancakes?"}]
    text = loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "User: Where are the pancakes?\nAssistant:"


def test_documents_are_joined_by_the_end_token(tokenizer: Any) -> None:
    tokens = joined(tokenizer, ["one", "two"])
    assert tokenizer.decode(tokens.tolist(), skip_special_tokens=False) == f"one{END}two{END}"


def test_too_little_text_for_the_vocabulary_is_named() -> None:
    with pytest.raises(TrainingError, match=r"yield only \d+ of 2048 tokens; add text or lower"):
        train_tokenizer(["short"], 2048, 64)


def test_a_kept_tokenizer_of_another_size_is_refused(data: Path, out: Path) -> None:
    read(config_of(run_values()), data, out)
    with pytest.raises(TrainingError, match=r"tokenizer has 300 tokens, .* asks for 290; remove"):
        read(config_of(run_values(tokenizer={"vocab_size": 290})), data, out)


def test_a_directory_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no tokenizer; copy one there or set tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_damaged_tokenizer_is_named(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TrainingError, match="cannot load the tokenizer of") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    values = json.loads(path.read_text())
    del values["eos_token"], values["bos_token"]
    path.write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="has no eos_token, which ends documents"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused(
    data: Path, out: Path, base: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    samples = [TEXT * 20, "These are the words of quite another tale, told twice. " * 2]
    train_tokenizer(samples, 310, 64).save_pretrained(other)
    values = continued_values(base) | {"tokenizer": {"path": str(other)}}
    with pytest.raises(TrainingError, match=r"tokenizer has 310 tokens, the model only 300; set"):
        set_up(config_of(values), data, out)
