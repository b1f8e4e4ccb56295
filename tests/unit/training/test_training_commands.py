"""The commands one after the other, as a user types them: train, stop, resume, evaluate, card."""

import json
import os
import signal
from pathlib import Path

import pytest

from training import card, data, evaluate, train
from training.errors import TrainingError
from training.tokenizer import END

SMALL = {
    "--layers": 2, "--hidden-size": 16, "--ffn-size": 16, "--heads": 2, "--kv-heads": 1,
    "--head-size": 8, "--vocab-size": 300, "--step-tokens": 1024, "--warmup": 1, "--rotation": 2,
    "--threads": 1,
}  # fmt: skip


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of counting sentences, and a library of one file."""
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [f"User: What follows {number}?\nAssistant: {number + 1}.\n" for number in range(400)]
    for kind in ("dialogue", "math", "stories"):
        for split in ("train", "valid"):
            text = f"{kind}\n{''.join(lines)}{END}\n"
            (folder / f"{kind}.{split}.txt").write_text(text, encoding="utf-8")
    code = "".join(f"def add_{number}(x):\n    return x + {number}\n" for number in range(300))
    monkeypatch.setattr(data, "_library_files", lambda split: iter([code]))
    return folder


@pytest.fixture
def run_train(texts: Path, tmp_path: Path):
    """Runs the training command with more flags; returns the lines of its log."""

    def run(*flags: str) -> list[dict]:
        small = [f"{flag}={value}" for flag, value in SMALL.items()]
        paths = ["--data", str(texts), "--out", str(tmp_path / "run")]
        train.train(train.parse_arguments([*paths, *small, *flags]))
        log = (tmp_path / "run/log.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in log.splitlines()]

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_train_evaluate_and_card(run_train, texts: Path, tmp_path: Path, monkeypatch) -> None:
    log = run_train("--steps", "4", "--evaluate-every", "4")
    assert log[0]["last_layer_loss_share"]["mean"] == pytest.approx(1.0)
    assert [line["step"] for line in log if line["event"] == "step"] == [1, 2, 3, 4]

    model, scores = tmp_path / "run/model", tmp_path / "scores.json"
    arguments = ["evaluate", "--model", str(model), "--data", str(texts), "--json", str(scores)]
    monkeypatch.setattr("sys.argv", [*arguments, "--windows", "2"])
    evaluate.main()
    assert json.loads(scores.read_text())["math"]["agreement"][1] == 1

    arguments = ["card", "--model", str(model), "--run", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", [*arguments, "--scores", str(scores), "--machine", "a desk"])
    card.main()
    text = (model / "README.md").read_text(encoding="utf-8")
    for part in ("--steps 4", "4 steps, 0.0 million tokens", "on a desk", "CC-BY-SA", "| math |"):
        assert part in text


def test_a_signal_stops_after_the_step_and_resume_goes_on(run_train, monkeypatch) -> None:
    unstopped = train.train_step

    def stopping_step(run, settings, tokens):
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return unstopped(run, settings, tokens)

    monkeypatch.setattr(train, "train_step", stopping_step)
    assert run_train("--steps", "6", "--evaluate-every", "0")[-1]["step"] == 3
    log = run_train("--steps", "5", "--evaluate-every", "0", "--resume")
    assert [line["step"] for line in log if line["event"] == "step"] == [1, 2, 3, 4, 5]
    assert log[-1]["num_tokens"] == 5 * 1024
    assert card.changed_steps([line for line in log if line["event"] == "start"]) == [(3, 6)]


def test_a_second_run_does_not_overwrite_the_first(run_train) -> None:
    run_train("--steps", "1", "--evaluate-every", "0")
    with pytest.raises(TrainingError, match="add --resume"):
        run_train("--steps", "1")


def test_a_card_of_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(TrainingError, match="--run"):
        card.read_run(log)
    log.write_text('{"event": "start", "settings": {"num_steps": 9}}\n')
    with pytest.raises(TrainingError, match="--resume"):
        card.read_run(log)
    log.write_text("no log\n")
    with pytest.raises(TrainingError, match="no log"):
        card.read_run(log)


@pytest.mark.parametrize("content", ["", "{}", '{"math": {}}', "[1]"])
def test_scores_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(TrainingError, match=r"scores\.json"):
        card.read_scores(path)
