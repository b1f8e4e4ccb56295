"""`shortstack draft-vocab`: reading a corpus, counting, choosing, writing, and what is refused."""

import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.model.config import read_config
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.draft_vocab import AUTO, FILE_NAME
from shortstack.commands.draft_vocab import sizes_beside, weight_sizes
from shortstack.commands.info import describe
from shortstack.draft_vocab.corpus import PIECE_CHARS, read_corpus, require_corpus
from shortstack.draft_vocab.counting import TokenCounts
from shortstack.draft_vocab.prediction import WeightSizes
from shortstack.draft_vocab.tokenizer import CountingTokenizer
from shortstack.errors import UsageError
from tests.model_builder import EOS_ID, write_model
from tests.tokenizer_builder import END, write_model_directory
from tests.unit.cli.test_arguments import run_cli

TEXT = "Once upon a time there was a little girl.\nShe liked to play in the sun.\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a byte-level tokenizer, and a corpus beside it."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    folder.mkdir()
    tokenizer = write_model_directory(folder)
    write_model(folder, num_layers=2, vocab_size=tokenizer.get_vocab_size())
    (folder.parent / "corpus.txt").write_text(TEXT * 20)
    (folder.parent / "empty.txt").write_text("")
    return folder


# --- counting and choosing ------------------------------------------------------------------------


def test_the_most_frequent_are_kept_and_the_special_ones_whatever_came() -> None:
    counts = TokenCounts(10, {0, 9})
    counts.add([5, 5, 5, 3, 3, 7])
    assert counts.most_frequent(4) == (0, 3, 5, 9)
    assert counts.coverage((0, 3, 5, 9)) == pytest.approx(5 / 6)
    assert counts.num_tokens == 6


def test_equal_counts_and_unseen_tokens_go_by_the_lowest_id() -> None:
    counts = TokenCounts(8, {7})
    counts.add([6, 4])
    assert counts.most_frequent(2) == (4, 7)
    assert counts.most_frequent(5) == (0, 1, 4, 6, 7)
    assert counts.most_frequent(8) == tuple(range(8))


@given(
    tokens=st.lists(st.integers(0, 29), min_size=1, max_size=200),
    special_ids=st.sets(st.integers(0, 29), max_size=5),
    size=st.integers(5, 30),
)
def test_no_choice_of_its_size_covers_more(
    tokens: list[int], special_ids: set[int], size: int
) -> None:
    counts = TokenCounts(30, special_ids)
    counts.add(tokens)
    chosen = counts.most_frequent(size)
    assert len(chosen) == size and list(chosen) == sorted(set(chosen))
    assert special_ids <= set(chosen)
    kept = [tokens.count(token) for token in chosen if token not in special_ids]
    left = [tokens.count(token) for token in range(30) if token not in chosen]
    assert not kept or not left or min(kept) >= max(left)
    assert counts.coverage(chosen) == sum(token in chosen for token in tokens) / len(tokens)


@pytest.mark.parametrize("size", [2, 11])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ValueError):
        TokenCounts(10, {0, 1, 2}).most_frequent(size)


def test_nothing_counted_and_foreign_ids_are_told() -> None:
    counts = TokenCounts(10, {0})
    with pytest.raises(UsageError, match="holds no text"):
        counts.require_sound()
    counts.add([3, 10])
    with pytest.raises(UsageError, match="id 10, the model has 10"):
        counts.require_sound()


# --- the corpus -----------------------------------------------------------------------------------


def texts_of(*paths: Path) -> list[str]:
    return [text for batch in read_corpus(paths) for text in batch.texts]


@pytest.mark.parametrize("is_packed", [False, True])
def test_plain_files_are_read_whole_whatever_their_lines(tmp_path: Path, is_packed: bool) -> None:
    text = "Straße 🙂\r\n" * PIECE_CHARS + "x" * 3 * PIECE_CHARS + "\nno end"
    path = tmp_path / ("a.txt.xz" if is_packed else "a.txt")
    path.write_bytes(lzma.compress(text.encode()) if is_packed else text.encode())
    assert "".join(texts_of(path)) == text
    assert [batch.num_bytes_read for batch in read_corpus([path])][-1] == path.stat().st_size


@pytest.mark.parametrize("is_packed", [False, True])
def test_json_lines_give_their_texts(tmp_path: Path, is_packed: bool) -> None:
    lines = '{"text": "a", "id": 1}\n\n{"prompt": "b\\nc"}\n{"text": "d", "prompt": "e"}\n'
    path = tmp_path / ("a.jsonl.xz" if is_packed else "a.jsonl")
    path.write_bytes(lzma.compress(lines.encode()) if is_packed else lines.encode())
    assert texts_of(path) == ["a", "b\nc", "d", "e"]


def test_progress_runs_over_all_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        path.write_text(TEXT)
    size = require_corpus(paths)
    assert size == 2 * len(TEXT)
    assert [batch.num_bytes_read for batch in read_corpus(paths)] == [len(TEXT), size]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.txt.xz", b"no xz", "no sound xz"),
        ("a.txt.xz", lzma.compress(b"cut" * 99)[:-9], "no sound xz"),
        ("a.jsonl", b'{"text": "fine"}\n{', "line 2: not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: must be an object"),
        ("a.jsonl", b'{"token_ids": [1]}\n', "line 1: must be an object"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: must be an object"),
    ],
)
def test_what_cannot_be_read_is_named(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=words) as raised:
        texts_of(tmp_path / name)
    assert name in str(raised.value)


def test_the_tokenizer_counts_text_alone(tiny: Path) -> None:
    tokenizer = CountingTokenizer(tiny)
    [ids] = tokenizer.encode(["Once upon a time"])
    assert ids and not tokenizer.special_ids & set(ids)
    assert len(tokenizer.special_ids) == 1, END


# --- the prediction -------------------------------------------------------------------------------


def test_bytes_and_ratios_are_those_of_the_weights(tiny: Path) -> None:
    sizes = WeightSizes(8, 1000, 10, 500, 2)
    assert sizes.head_bytes(50) == 1000
    assert sizes.draft_step_bytes(50) == 2 * 1000 * 2 + 1000
    assert sizes.head_to_layer(500) == 5.0
    measured = weight_sizes(read_config(tiny))
    # Four heads and two KV heads of 16, hidden 64, FFN 96.
    assert measured.num_layer_params == 64 * (64 + 32 + 32 + 64) + 3 * 64 * 96


@pytest.mark.parametrize(
    ("shape", "whole", "part"),
    [
        # Llama 3.2 1B and Llama 3 8B, a quarter of the layers, 32k of 128k tokens.
        (WeightSizes(16, 60_817_408, 2048, 128_256, 2), 1.21, 1.46),
        (WeightSizes(32, 218_103_808, 4096, 128_256, 2), 1.36, 1.46),
    ],
)
def test_predictions_agree_with_the_published_closed_form(
    shape: WeightSizes, whole: float, part: float
) -> None:
    assert shape.predicted_speedup(shape.vocab_size, 1.0) == pytest.approx(whole, abs=0.01)
    assert shape.predicted_speedup(32_000, 1.0) == pytest.approx(part, abs=0.01)
    assert shape.predicted_speedup(32_000, 0.5) < shape.predicted_speedup(32_000, 1.0)


def test_sizes_beside_the_chosen_one_hold_the_special_tokens_and_end_with_all() -> None:
    assert sizes_beside(100, 10, 1000) == [25, 50, 100, 200, 400, 1000]
    assert sizes_beside(100, 30, 150) == [50, 100, 150]


# --- the command ----------------------------------------------------------------------------------

RunCommand = Callable[[str], None]


@pytest.fixture
def run_command(tiny: Path) -> RunCommand:
    """Runs the command with `{}` standing for the folder of model and corpus."""
    from shortstack.cli import app

    def run(arguments: str) -> None:
        words = [word.replace("{}", str(tiny.parent)) for word in arguments.split()]
        with pytest.raises(SystemExit) as ended:
            app(args=["draft-vocab", *words], prog_name="shortstack")
        assert ended.value.code == 0

    return run


def test_the_file_lies_beside_the_model_and_is_found_there(
    tiny: Path, run_command: RunCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command("--model {}/model --corpus {}/corpus.txt {}/empty.txt --size 60")
    out = capsys.readouterr().out
    assert "60 of " in out and "coverage" in out and str(tiny / FILE_NAME) in out
    assert "gains little" in out or "->" in out
    found = read_config(tiny).find_draft_vocab(AUTO)
    (tiny / FILE_NAME).unlink()
    assert found is not None
    assert len(found.token_ids) == 60 and EOS_ID in found.token_ids
    assert found.corpus == ("corpus.txt", "empty.txt")
    tokenizer = CountingTokenizer(tiny)
    ids = [token for text in tokenizer.encode([TEXT * 20]) for token in text]
    covered = sum(token in found.token_ids for token in ids) / len(ids)
    assert found.coverage == pytest.approx(covered, abs=1e-6)
    assert tokenizer.special_ids <= set(found.token_ids)


def test_another_folder_is_told_how_to_use(
    run_command: RunCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(f"--model {{}}/model --corpus {{}}/corpus.txt --size 60 --out {tmp_path}")
    assert f"--draft-vocab {tmp_path / FILE_NAME}" in capsys.readouterr().out
    assert json.loads((tmp_path / FILE_NAME).read_text())["corpus"] == ["corpus.txt"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("--model {}/model --size 60", 2, "--corpus"),
        ("--model {}/model --corpus {}/corpus.txt", 2, "--size"),
        ("--model {}/model --corpus {}/none.txt --size 60", 2, "none.txt is no file"),
        ("--model {}/model --corpus {} --size 60", 2, "is no file"),
        ("--model {}/model --corpus {}/empty.txt --size 60", 2, "holds no text"),
        ("--model {}/model --corpus {}/corpus.txt --size 1", 2, "--size"),
        ("--model {}/model --corpus {}/corpus.txt --size 2", 2, "special tokens; use 3"),
        ("--model {}/model --corpus {}/corpus.txt --size 9999", 2, "keeps all"),
        ("--model {}/none --corpus {}/corpus.txt --size 60", 2, "does not exist"),
        ("--model {}/bare --corpus {}/corpus.txt --size 60", 2, "no tokenizer.json"),
        ("--model {}/broken --corpus {}/corpus.txt --size 60", 2, "tokenizer.json cannot be read"),
        ("--model {}/model --corpus {}/corpus.txt --size 60 --out {}/none", 2, "make it first"),
        ("--model {}/model --corpus {}/corpus.txt --size 60 --dtype int3", 1, "dtype 'int3'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    arguments: str, status: int, words: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("bare", None), ("broken", "{")):
        folder = tiny.parent / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text("")
        if content is not None:
            (folder / "tokenizer.json").write_text(content)
    given_words = [word.replace("{}", str(tiny.parent)) for word in arguments.split()]
    found_status, errors = run_cli(["draft-vocab", *given_words], capsys)
    assert (found_status, words in errors) == (status, True), errors
    assert "Traceback" not in errors
    assert not (tiny / FILE_NAME).exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_counted(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    words = f"--model {tiny} --corpus {tiny.parent}/corpus.txt --size 60".split()
    status, errors = run_cli(["draft-vocab", *words], capsys)
    assert (status, "name another folder with --out" in errors) == (2, True), errors


# --- what others show of it -----------------------------------------------------------------------


def test_info_shows_a_draft_vocabulary_where_there_is_one() -> None:
    info = pb.GetVerifyInfoResponse(model=pb.ModelInfo(vocab_size=1000))
    assert "draft vocabulary" not in describe(info)
    info.draft_vocab.CopyFrom(pb.DraftVocabInfo(num_tokens=250, coverage=0.9712))
    assert describe(info)["draft vocabulary"] == "250 of 1000 tokens, coverage 0.971"
