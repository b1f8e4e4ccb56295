"""Arguments that cannot be carried out end in one clear line and a status, never in a trace."""

from pathlib import Path

import pytest

from shortstack.cli import app

NOBODY = "127.0.0.1:1"


def run_cli(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command line; return its exit status and what it wrote to stderr."""
    with pytest.raises(SystemExit) as ended:
        app(args=arguments, prog_name="shortstack")
    status = ended.value.code
    assert isinstance(status, int)
    return status, capsys.readouterr().err


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a broken model directory and some files of prompts."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "no-weights").mkdir()
    (tmp_path / "no-weights" / "config.json").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "fine"}\n{"question": "x"}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("nonsense", 2, "No such command"),
        ("up --nonsense", 2, "No such option"),
        ("up --cells 0", 2, "--cells"),
        ("up --cell both", 2, "--cell"),
        ("up --model {}/missing", 2, "does not exist"),
        ("up --model {}/empty", 2, "no config.json"),
        ("up --model {}/no-weights", 2, "no *.safetensors"),
        ("generate", 2, "text"),
        ("generate hello --temperature warm", 2, "--temperature"),
        ("generate hello --temperature -1", 2, "--temperature"),
        ("generate hello --top-p 2", 2, "--top-p"),
        ("generate hello --max-new-tokens 0", 2, "--max-new-tokens"),
        ("generate hello --draft-len -1", 2, "--draft-len"),
        ("generate hello --stop-threshold 1.5", 2, "--stop-threshold"),
        ("generate hello --tree-nodes 0", 2, "--tree-nodes"),
        ("generate hello --tree-nodes 8 --tree-width 1", 2, "--tree-width"),
        ("generate hello --tree-nodes 8 --tree-threshold 1.5", 2, "--tree-threshold"),
        ("generate hello --tree-width 3", 2, "need --tree-nodes"),
        ("chat --tree-threshold 0.5", 2, "need --tree-nodes"),
        ("generate hello --tree-nodes 8 --method off", 2, "leave --tree-nodes out"),
        ("chat --tree-nodes 8 --policy goodput", 2, "use static or leave --policy out"),
        ("generate hello --model {}/missing", 2, "does not exist"),
        (f"generate hello --target {NOBODY} --model {{}}/model", 2, "exclude each other"),
        (f"generate hello --target {NOBODY}", 1, f"no gateway answers at {NOBODY}"),
        (f"chat --target {NOBODY}", 1, f"no gateway answers at {NOBODY}"),
        (f"info --target {NOBODY}", 1, f"no gateway answers at {NOBODY}"),
        (f"sessions --target {NOBODY}", 1, f"no gateway answers at {NOBODY}"),
        ("sessions --plot {}/s.png", 2, "--plot needs the session"),
        ("sessions s --ended", 2, "for the table of all sessions"),
        ("sessions s --plot {}/s.jpg", 2, "must end in .png"),
        ("check --model {}/model", 2, "--prompts"),
        ("check --model {}/model --prompts {}/missing.jsonl", 2, "cannot read"),
        ("check --model {}/model --prompts {}/bad.jsonl", 2, "bad.jsonl, line 2"),
        ("check --model {}/missing --prompts {}/bad.jsonl", 2, "does not exist"),
        ("demo --model {}/missing", 2, "does not exist"),
        ("bench nonsense", 2, "No such command"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments: str, status: int, words: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words_given = [word.replace("{}", str(files)) for word in arguments.split()]
    actual_status, errors = run_cli(words_given, capsys)
    assert (actual_status, words in errors) == (status, True), errors
    assert "Traceback" not in errors


COMMANDS = ["up", "generate", "chat", "info", "sessions", "check", "draft-vocab", "exits", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(args=[command, "--help"], prog_name="shortstack")
    assert ended.value.code == 0
    assert f"Usage: shortstack {command}" in capsys.readouterr().out
