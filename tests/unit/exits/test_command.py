"""`shortstack exits` as it is typed, on tiny models: files, verdicts, and bad input in one line."""

import json
from pathlib import Path

import pytest

from shortstack.cli import app
from tests.model_builder import MAX_CONTEXT_LEN, NUM_LAYERS, VOCAB_SIZE, write_model

QUICK = "--max-new-tokens 12 --max-draft-len 2 --thresholds 0,0.5 --cost-runs 1 --num-threads 1"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and files of prompts, good and bad."""
    folder = tmp_path_factory.mktemp("exits")
    write_model(folder / "model")
    write_model(folder / "shallow", num_layers=1)
    write_prompts(folder / "a.jsonl", {"id": "a", "kind": "odd", "token_ids": [5, 7, 9]})
    write_prompts(folder / "b.jsonl", {"id": "b", "kind": "even", "token_ids": [6, 8]})
    write_prompts(folder / "text.jsonl", {"prompt": "hello"})
    write_prompts(folder / "long.jsonl", {"id": "l", "token_ids": [5] * (MAX_CONTEXT_LEN - 1)})
    write_prompts(folder / "foreign.jsonl", {"id": "f", "token_ids": [5, VOCAB_SIZE]})
    write_prompts(folder / "bad.jsonl", {"question": "x"})
    (folder / "empty.jsonl").write_text("")
    (folder / "plain.txt").write_text("")
    return folder


def write_prompts(file: Path, *lines: object) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def run_cli(
    arguments: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Run a command line; return its exit status and what it wrote."""
    words = [word.replace("{}", str(files)) for word in arguments.split()]
    status = 0
    try:
        app(args=["exits", *words], prog_name="shortstack")
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        status = ended.code
    written = capsys.readouterr()
    return status, written.out, written.err


def test_tables_json_and_picture_are_made(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    outputs = f"--json {tmp_path}/new/out.json --plot {tmp_path}/out.png"
    status, out, err = run_cli(
        f"--model {{}}/model --prompts {{}}/a.jsonl --prompts {{}}/b.jsonl {QUICK} {outputs}",
        files,
        capsys,
    )
    assert status == 0, err
    for words in ("Agreement with the last layer", "odd", "even", "worth speculating with"):
        assert words in out
    values = json.loads((tmp_path / "new" / "out.json").read_text())
    assert set(values["by_kind"]) == {"odd", "even"}
    assert set(values["overall"]["agreement"]) == {"1", "2", "3"}
    assert len(values["overall"]["grid"]) == (NUM_LAYERS - 1) * 2 * 2
    assert values["near_ties"] == 0
    assert values["overall"]["tokens"] == 22
    assert values["conditions"]["stop_thresholds"] == [0.0, 0.5]
    assert values["conditions"]["num_draftable"] == VOCAB_SIZE
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_hand_over_that_takes_longest_makes_speculation_not_worth_it(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run_cli(
        f"--model {{}}/model --prompts {{}}/a.jsonl {QUICK} --handover-ms 1000"
        f" --json {tmp_path}/out.json",
        files,
        capsys,
    )
    assert status == 0, err
    assert "not worth speculating with" in out
    values = json.loads((tmp_path / "out.json").read_text())
    assert values["is_worth_it"] is False
    assert values["costs"]["hand_over_ms"] == 1000


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("", 2, "--prompts"),
        ("--model {}/missing --prompts {}/a.jsonl", 2, "does not exist"),
        ("--model {}/shallow --prompts {}/a.jsonl", 2, "has 1 layer"),
        ("--model {}/model --prompts {}/missing.jsonl", 2, "cannot read"),
        ("--model {}/model --prompts {}/empty.jsonl", 2, "holds no prompt"),
        ("--model {}/model --prompts {}/bad.jsonl", 2, "bad.jsonl, line 1"),
        ("--model {}/model --prompts {}/a.jsonl --prompts {}/a.jsonl", 2, "occurs twice"),
        ("--model {}/model --prompts {}/text.jsonl", 2, "give prompts as token_ids"),
        ("--model {}/model --prompts {}/long.jsonl", 2, "shorten the prompt to 126"),
        ("--model {}/model --prompts {}/foreign.jsonl", 2, "vocabulary ends at 98"),
        ("--model {}/model --prompts {}/a.jsonl --max-tokens 1", 2, "--max-tokens"),
        ("--model {}/model --prompts {}/a.jsonl --max-draft-len 0", 2, "--max-draft-len"),
        ("--model {}/model --prompts {}/a.jsonl --threads -1", 2, "--threads"),
        ("--model {}/model --prompts {}/a.jsonl --thresholds 0,warm", 2, "--thresholds"),
        ("--model {}/model --prompts {}/a.jsonl --thresholds 2", 2, "must lie in [0, 1]"),
        ("--model {}/model --prompts {}/a.jsonl --hand-over-ms -1", 2, "--hand-over-ms"),
        ("--model {}/model --prompts {}/a.jsonl --dtype float8", 1, "float8"),
        ("--model {}/model --prompts {}/a.jsonl --device tpu", 2, "--device: tpu"),
        ("--model {}/model --prompts {}/a.jsonl --json {}", 2, "--json: cannot write"),
        ("--model {}/model --prompts {}/a.jsonl --json {}/plain.txt/x", 2, "cannot write"),
        ("--model {}/model --prompts {}/a.jsonl --plot {}/x.svg", 2, "must end in .png"),
        ("--model {}/model --prompts {}/a.jsonl --plot {}/plain.txt/x.png", 2, "cannot write"),
    ],
)
def test_bad_input_is_told_in_one_line(
    arguments: str, status: int, words: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found_status, _, err = run_cli(arguments, files, capsys)
    assert (found_status, words in err) == (status, True), err
    assert "Traceback" not in err
    assert err.startswith("Usage:") or len(err.splitlines()) == 1


def test_a_model_that_ends_at_once_is_told(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"eos_token_id": list(range(VOCAB_SIZE))}
    folder = write_model(tmp_path / "mute")
    (folder / "generation_config.json").write_text(json.dumps(ends))
    status, _, err = run_cli(f"--model {folder} --prompts {{}}/a.jsonl {QUICK}", files, capsys)
    assert status == 1
    assert "ended every text at its first token" in err
