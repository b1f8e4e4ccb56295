"""Options of `bench decode`: peers, numbers by comma, prompts."""

import json
from pathlib import Path

import pytest

from shortstack.bench.arguments import parse_numbers
from shortstack.bench.decode import ALWAYS, DEFAULT_PEERS, parse_peers
from shortstack.bench.open_bench import DecodePlan
from shortstack.bench.prompts import BenchPrompt, read_bench_prompts, tokenizer_of
from shortstack.bench.samples import Peer
from shortstack.bench.sweep import Grid, Setting, default_exits
from shortstack.bench.torch_peer import ModelChoice
from shortstack.errors import UsageError


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def write_lines(file: Path, *lines: object) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def test_by_default_all_peers_are_measured() -> None:
    assert parse_peers(DEFAULT_PEERS) == frozenset(Peer)


def test_the_pipeline_and_its_plain_decoding_are_always_measured() -> None:
    assert parse_peers("") == ALWAYS == {Peer.PIPELINE, Peer.PLAIN_GATEWAY}
    assert parse_peers(" hf , plain") == ALWAYS | {Peer.HF, Peer.PLAIN}


def test_an_unknown_peer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown vllm; there are pipeline, fused"):
        parse_peers("plain,vllm")


def test_numbers_are_read_by_comma() -> None:
    assert parse_numbers("--exits", "2, 4,8", int) == (2, 4, 8)
    assert parse_numbers("--thresholds", "0,0.5", float) == (0.0, 0.5)
    assert parse_numbers("--exits", "", int) == ()


def test_a_number_that_is_none_names_its_option() -> None:
    with pytest.raises(UsageError, match="--exits"):
        parse_numbers("--exits", "2,x", int)


def test_prompts_have_id_kind_and_ids(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", {"id": "code-0", "kind": "code", "prompt": "ab"})
    assert read_bench_prompts([file], encode, 0) == [BenchPrompt("code-0", "code", (97, 98))]


def test_what_a_line_does_not_say_is_taken_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "math.jsonl"
    file.write_text('\n{"token_ids": [5, 6]}\n', encoding="utf-8")
    assert read_bench_prompts([file], encode, 0) == [BenchPrompt("math-2", "math", (5, 6))]


def test_the_limit_counts_per_file(tmp_path: Path) -> None:
    files = [
        write_lines(tmp_path / f"{name}.jsonl", *({"prompt": name * (i + 1)} for i in range(3)))
        for name in ("a", "b")
    ]
    prompts = read_bench_prompts(files, encode, 2)
    assert [prompt.prompt_id for prompt in prompts] == ["a-1", "a-2", "b-1", "b-2"]


def test_long_prompts_are_cut_where_that_is_wished(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", {"prompt": "abcd"}, {"token_ids": [1, 2]})
    cut = read_bench_prompts([file], encode, 0, max_len=3)
    assert [prompt.token_ids for prompt in cut] == [(97, 98, 99), (1, 2)]


def test_ids_that_occur_twice_are_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "p.jsonl", *({"id": "x", "prompt": "a"} for _ in range(2)))
    with pytest.raises(UsageError, match="x occurs twice"):
        read_bench_prompts([file], encode, 0)


def test_a_model_without_a_tokenizer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="token_ids"):
        tokenizer_of(tmp_path)


def test_the_default_exit_is_a_quarter_of_the_layers() -> None:
    plan = DecodePlan(ModelChoice(Path()), (), ALWAYS, 16)
    assert [plan.exit_of(num_layers) for num_layers in (2, 8, 16)] == [1, 2, 4]
    chosen = DecodePlan(ModelChoice(Path()), (), ALWAYS, 16, exit_layer=3)
    assert chosen.exit_of(16) == 3


def test_a_plan_asks_for_a_static_setting() -> None:
    plan = DecodePlan(ModelChoice(Path()), (), ALWAYS, 16, draft_len=6, stop_threshold=0.5)
    wished = plan.speculation(16)
    assert (wished.method, wished.policy) == ("layerskip", "static")
    assert (wished.exit_layer, wished.max_draft_len, wished.stop_threshold) == (4, 6, 0.5)


def test_a_grid_is_every_combination_that_the_model_has() -> None:
    grid = Grid((2, 16), (3, 4), (0.0,))
    assert list(grid.settings(16)) == [Setting(2, 3, 0.0), Setting(2, 4, 0.0)]


@pytest.mark.parametrize(
    ("num_layers", "exits"), [(4, (2,)), (8, (2, 3, 4)), (16, (2, 4, 6, 8)), (32, (4, 8, 12, 16))]
)
def test_default_exits_go_from_shallow_to_half(num_layers: int, exits: tuple[int, ...]) -> None:
    assert default_exits(num_layers) == exits
