"""Turns: every peer decodes every prompt, one at a time, in an order that rotates."""

from dataclasses import dataclass, field

from shared.telemetry.machine import Machine
from shortstack.bench.decode_run import compare_tokens, take_turns
from shortstack.bench.open_bench import Bench
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.runners import Work, mean_speed
from shortstack.bench.samples import Peer, Sample
from shortstack.bench.sweep import Setting, make_report
from shortstack.checking.compare import Outcome

PROMPTS = [BenchPrompt("a", "code", (1, 2)), BenchPrompt("b", "math", (3,))]


@dataclass
class FakeRunner:
    """Answers at once with fixed tokens."""

    peer: Peer
    log: list[tuple[Peer, str]] = field(default_factory=list)
    token_ids: tuple[int, ...] = (7, 8, 9)
    decode_ns: int = 10_000_000

    async def run(self, prompt: BenchPrompt) -> Sample:
        self.log.append((self.peer, prompt.prompt_id))
        return Sample(
            self.peer, prompt.prompt_id, prompt.kind, self.token_ids, 1, 1000, self.decode_ns
        )


def make_bench(*runners: FakeRunner) -> Bench:
    return Bench(Work(3, ()), 8, list(runners), None, [], {})


async def test_all_peers_take_a_turn_per_prompt_and_the_first_one_rotates() -> None:
    log: list[tuple[Peer, str]] = []
    runners = [FakeRunner(peer, log) for peer in (Peer.PIPELINE, Peer.FUSED, Peer.PLAIN)]
    num_told = 0

    def on_turn() -> None:
        nonlocal num_told
        num_told += 1

    samples = await take_turns(runners, PROMPTS, 2, on_turn)
    assert [prompt_id for _, prompt_id in log] == ["a"] * 3 + ["b"] * 3 + ["a"] * 3 + ["b"] * 3
    firsts = [peer for peer, _ in log[::3]]
    assert firsts == [Peer.PIPELINE, Peer.FUSED, Peer.PLAIN, Peer.PIPELINE]
    assert len(samples) == num_told == 12


async def test_equal_tokens_are_no_differences() -> None:
    runners = [FakeRunner(Peer.PIPELINE), FakeRunner(Peer.PLAIN_GATEWAY)]
    samples = await take_turns(runners, PROMPTS, 1)
    assert await compare_tokens(make_bench(*runners), PROMPTS, samples) == []


async def test_other_tokens_are_mismatches_where_no_plain_peer_tells_the_gap() -> None:
    runners = [
        FakeRunner(Peer.PIPELINE, token_ids=(7, 9, 9)),
        FakeRunner(Peer.PLAIN_GATEWAY),
        FakeRunner(Peer.HF, token_ids=(7, 8)),
    ]
    samples = await take_turns(runners, PROMPTS[:1], 2)
    found = await compare_tokens(make_bench(*runners), PROMPTS[:1], samples)
    assert [(peer, difference.outcome, difference.index) for peer, _, difference in found] == [
        (Peer.PIPELINE, Outcome.MISMATCH, 1),
        (Peer.HF, Outcome.MISMATCH, 2),
    ]


async def test_mean_speed_is_over_prompts() -> None:
    assert await mean_speed(FakeRunner(Peer.HF), PROMPTS) == 200


async def test_a_sweep_finds_the_fastest_setting_of_each_kind() -> None:
    slow, fast = Setting(2, 4, 0.0), Setting(4, 2, 0.0)
    plain = FakeRunner(Peer.PLAIN_GATEWAY)
    runners = {
        None: plain,
        slow: FakeRunner(Peer.PIPELINE, decode_ns=8_000_000),
        fast: FakeRunner(Peer.PIPELINE, decode_ns=5_000_000),
    }
    samples = {
        setting: [await runner.run(prompt) for prompt in PROMPTS]
        for setting, runner in runners.items()
    }
    machine = Machine("Some CPU", 2, 1, "Linux", {}, 0.0)
    report = make_report(machine, "tiny", samples)
    best = report.best_by_kind()
    assert {kind: point.setting for kind, point in best.items()} == {"code": fast, "math": fast}
    assert best["code"].speedup == 2
    assert len(report.points) == 4
    values = report.to_json()
    assert values["best_by_kind"]["math"]["exit_layer"] == 4
    assert values["plain_gateway_tok_s"] == {"code": 200, "math": 200}
