"""Recording, on a tiny model: what an exit would have chosen, greedy and sampled, and commands."""

import json
from pathlib import Path

import pytest

from shared.ids import TokenId
from shared.model.plain import PlainDecoder
from shared.model.sampling import RowChoice, choose
from shared.speculation.vocabulary import SamplingParams, StopParams
from shortstack.bench.control.costs_file import read_times, times_to_json
from shortstack.bench.control.measure import NUM_SESSIONS, measure_step_times
from shortstack.bench.control.record import RecordPlan, load, record
from shortstack.bench.control.tape_file import read_recordings
from shortstack.bench.prompts import BenchPrompt
from shortstack.cli import app
from shortstack.errors import UsageError
from tests.golden.reference import PlainPass
from tests.model_builder import EOS_ID, NUM_LAYERS, VOCAB_SIZE, write_model
from tests.unit.bench.control.builders import write_tapes
from tests.unit.control.replay.builders import make_times

PROMPT = BenchPrompt("p", "odd", tuple(range(5, 45)))
SAMPLED = SamplingParams(temperature=0.8, seed=11, repetition_penalty=1.3, frequency_penalty=0.2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("record") / "model")


@pytest.mark.parametrize("sampling", [SamplingParams(), SAMPLED], ids=["greedy", "sampled"])
def test_a_match_is_the_exits_own_choice_under_the_texts_noise(
    model: Path, sampling: SamplingParams
) -> None:
    plan = RecordPlan(model, (1, 3), 30, sampling)
    stack = load(plan)
    (found,) = record(stack, plan, [PROMPT])
    made = PlainDecoder(model, stack=stack).generate(
        list(PROMPT.token_ids), sampling, StopParams(30, frozenset({EOS_ID}))
    )
    text = [TokenId(token) for token in (*PROMPT.token_ids, *made.token_ids)]
    tape = found.text.tape
    assert tape.num_tokens == len(made.token_ids) - 1
    passed = PlainPass(stack, text)
    start = len(PROMPT.token_ids) + 1
    rows = [
        RowChoice(sampling, position, len(PROMPT.token_ids), text[:position])
        for position in range(start, len(text))
    ]
    for exit_layer in (1, 3):
        logits = passed.logits_of_exit(exit_layer)[start - 1 : -1]
        expected = choose(logits, rows, with_confidences=True)
        matches = [a == b for a, b in zip(expected.tokens, text[start:], strict=True)]
        assert tape.tracks[exit_layer].matches == matches
        confidences = tape.tracks[exit_layer].confidences
        assert confidences == pytest.approx(expected.confidences, abs=1e-3)
    assert found.header.num_near_ties == 0
    assert found.header.sampling["temperature"] == sampling.temperature


def test_the_prompt_is_compared_with_the_models_own_choices(model: Path) -> None:
    plan = RecordPlan(model, (), 8, SamplingParams())
    stack = load(plan)
    (found,) = record(stack, plan, [PROMPT])
    assert found.header.exits == tuple(range(1, NUM_LAYERS))
    made = PlainDecoder(model, stack=stack).generate(
        list(PROMPT.token_ids), SamplingParams(), StopParams(1)
    )
    text = [TokenId(token) for token in (*PROMPT.token_ids, *made.token_ids)]
    passed = PlainPass(stack, text)
    own = passed.logits_of_exit(NUM_LAYERS).argmax(-1)[:-1][-32:]
    for exit_layer, track in found.text.prompt.items():
        theirs = passed.logits_of_exit(exit_layer).argmax(-1)[:-1][-32:]
        assert track.matches == (theirs == own).tolist()


def test_a_text_of_one_token_leaves_no_recording(model: Path) -> None:
    plan = RecordPlan(model, (1,), 1, SamplingParams())
    assert list(record(load(plan), plan, [PROMPT])) == []


def test_an_exit_that_the_model_has_not_is_refused(model: Path) -> None:
    plan = RecordPlan(model, (NUM_LAYERS,), 8, SamplingParams())
    with pytest.raises(UsageError, match="--exits"):
        list(record(load(plan), plan, [PROMPT]))


def test_measured_times_know_every_part(model: Path, tmp_path: Path) -> None:
    plan = RecordPlan(model, (), 2, SamplingParams())
    times = measure_step_times(load(plan), (1, 2, 3), num_runs=1)
    assert times.exits == (1, 2, 3)
    assert all(times.round_ns(e, k) > 0 for e in times.exits for k in range(9))
    assert tuple(times.chance_ns) == NUM_SESSIONS
    assert all(ns >= 0.0 for ns in times.chance_ns.values())
    # Deeper is never cheaper to draft and never dearer to verify, nor are more rows cheaper.
    assert times.closing_ns[1, 1] <= times.closing_ns[2, 1] <= times.closing_ns[3, 1]
    assert times.verify_ns[1, 5] >= times.verify_ns[2, 5] >= times.verify_ns[3, 5]
    assert times.verify_ns[2, 1] <= times.verify_ns[2, 5] <= times.verify_ns[2, 16]
    assert times.verify_ns[0, 1] <= times.verify_ns[0, 16]
    file = tmp_path / "times.json"
    file.write_text(json.dumps(times_to_json(times)))
    assert read_times(file) == times


def run_cli(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command line; return its exit status and what it wrote."""
    status = 0
    try:
        app(args=["bench", *words], prog_name="shortstack")
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        status = ended.code
    written = capsys.readouterr()
    return status, written.out, written.err


def write_prompts(file: Path, *lines: object) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_prompts_become_files_and_files_a_table(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(
        tmp_path / "a.jsonl",
        {"id": "a", "kind": "odd", "token_ids": [5, 7, 9]},
        {"id": "b", "kind": "even", "token_ids": [6, 8]},
    )
    out = tmp_path / "tapes"
    words = ["record-tapes", "--model", str(model), "--prompts", str(prompts), "--out", str(out)]
    status, written, _ = run_cli([*words, "--max-new-tokens", "20", "--num-threads", "1"], capsys)
    assert (status, written) == (0, f"2 texts in {out}\n")
    assert [each.header.prompt_id for each in read_recordings(out)] == ["a", "b"]
    status, _, error = run_cli(words, capsys)
    assert (status, error.count("\n")) == (2, 1)
    assert "holds recordings already" in error


def test_policies_are_replayed_from_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shortstack.bench.control.load_steps.NUM_PLAIN_STEPS", 10)
    monkeypatch.setattr("shortstack.bench.control.load_steps.NUM_TRIED_STEPS", 2)
    tapes = write_tapes(tmp_path / "tapes", 2)
    costs = tmp_path / "costs.json"
    costs.write_text(json.dumps(times_to_json(make_times())))
    out = tmp_path / "found.json"
    words = f"policies --tapes {tapes} --costs {costs} --exits 2,4 --session-len 100 --out {out}"
    status, written, error = run_cli([*words.split(), "--policies", "o1,pm1,goodput"], capsys)
    assert status == 0, error
    assert "required of goodput" in written
    found = json.loads(out.read_text())
    assert set(found["in_turn"]["contenders"]) == {"off", "o1", "pm1", "goodput"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("policies --tapes {} --policies nonsense", "--policies: nonsense is none of off"),
        ("policies --tapes {} --exits 2,5", "--exits: 5 was not recorded"),
        ("policies --tapes {}/none", "record-tapes"),
        ("policies --tapes {} --exits 2,4 --costs {}/none.json", "cannot read"),
        ("policies --tapes {} --exits 2,4 --costs {}/odd.json", "holds no times"),
        ("policies --tapes {} --prompts {}/p.jsonl", "not both"),
        ("policies --tapes {} --plot {}/a.gif", "must end in .png"),
        ("policies-live --model {}/none", "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tapes(tmp_path, 1)
    (tmp_path / "odd.json").write_text("[1]")
    status, _, error = run_cli(words.replace("{}", str(tmp_path)).split(), capsys)
    assert (status, error.count("\n")) == (2, 1), error
    assert said in error


def test_a_prompt_of_another_vocabulary_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", {"id": "a", "token_ids": [VOCAB_SIZE]})
    words = f"record-tapes --model {model} --prompts {prompts} --out {tmp_path}/t"
    status, _, error = run_cli(words.split(), capsys)
    assert status == 2
    assert "vocabulary" in error
