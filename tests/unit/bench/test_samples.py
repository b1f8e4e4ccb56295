"""Samples: the two speeds, medians within a prompt, means over prompts, ratios of peers."""

import pytest

from shared.speculation.vocabulary import SpeculationSummary
from shortstack.bench.samples import (
    Peer,
    Sample,
    kinds_of,
    ratio,
    speed_of,
    speeds_by_peer,
    total_speculation,
)

MS = 1_000_000


def sample(
    num_tokens: int,
    decode_ms: float,
    *,
    peer: Peer = Peer.PIPELINE,
    prompt_id: str = "a",
    first_len: int = 1,
    first_ms: float = 10,
    speculation: SpeculationSummary | None = None,
) -> Sample:
    return Sample(
        peer=peer,
        prompt_id=prompt_id,
        kind="code",
        token_ids=tuple(range(num_tokens)),
        first_len=first_len,
        first_ns=int(first_ms * MS),
        decode_ns=int(decode_ms * MS),
        speculation=speculation,
    )


def test_decode_speed_leaves_out_the_first_message_and_its_time() -> None:
    assert sample(11, 100).decode_tok_s == pytest.approx(100)
    assert sample(13, 100, first_len=3).decode_tok_s == pytest.approx(100)


def test_end_to_end_speed_counts_everything() -> None:
    assert sample(11, 100, first_ms=10).end_to_end_tok_s == pytest.approx(100)


def test_a_sample_that_came_at_once_has_no_decode_speed() -> None:
    assert sample(1, 0).decode_tok_s is None
    assert speed_of([sample(1, 0)]) is None
    assert speed_of([]) is None


def test_a_peer_is_as_fast_as_the_mean_over_prompts_of_the_median_over_repeats() -> None:
    speeds_a = [sample(11, ms, prompt_id="a") for ms in (100, 50, 1000)]
    speeds_b = [sample(11, ms, prompt_id="b") for ms in (25, 20, 50)]
    speed = speed_of([*speeds_a, *speeds_b])
    assert speed is not None
    # Medians: 100 and 400 tokens per second.
    assert speed.decode_tok_s == pytest.approx(250)
    assert speed.decode_tok_s_range == pytest.approx((10, 500))
    assert speed.num_samples == 6


def test_samples_without_a_speed_do_not_count() -> None:
    speed = speed_of([sample(11, 100, prompt_id="a"), sample(1, 0, prompt_id="b")])
    assert speed is not None
    assert (speed.num_samples, speed.decode_tok_s) == (1, pytest.approx(100))


def test_the_first_token_time_is_a_mean_of_medians_too() -> None:
    samples = [sample(11, 100, first_ms=ms, prompt_id="a") for ms in (10, 20, 90)]
    samples += [sample(11, 100, first_ms=40, prompt_id="b")]
    speed = speed_of(samples)
    assert speed is not None
    assert speed.ttft_ms == pytest.approx(30)


def test_a_ratio_says_how_many_times_faster_the_pipeline_is() -> None:
    speeds = speeds_by_peer([sample(11, 50), sample(11, 100, peer=Peer.PLAIN)])
    assert ratio(speeds, Peer.PLAIN) == pytest.approx(2)
    assert ratio(speeds, Peer.PIPELINE, Peer.PLAIN) == pytest.approx(0.5)


def test_a_peer_that_was_not_measured_has_no_ratio() -> None:
    assert ratio(speeds_by_peer([sample(11, 50)]), Peer.HF) is None
    assert ratio({}, Peer.HF) is None


def test_what_speculation_did_is_summed_over_samples() -> None:
    one = SpeculationSummary()
    one.count(4, 3, 4)
    total = total_speculation(
        [sample(5, 1, speculation=one), sample(5, 1), sample(5, 1, speculation=one)]
    )
    assert (total.num_drafts, total.num_accepted_tokens) == (2, 6)
    assert total.mean_emitted_len == 4


def test_peers_and_kinds_keep_their_order() -> None:
    samples = [sample(11, 50, peer=Peer.HF), sample(11, 50)]
    assert list(speeds_by_peer(samples)) == [Peer.PIPELINE, Peer.HF]
    assert kinds_of(samples) == ["code"]


def test_keys_have_no_hyphen() -> None:
    assert Peer.HF_EARLY_EXIT.key == "hf_early_exit"
