"""How much slower texts came than by plain decoding, whatever mood the machine was in."""

import pytest

from shared.speculation.vocabulary import SpeculationSummary
from shortstack.bench.control.slower import share_slower, slowdowns
from shortstack.bench.samples import Peer, Sample

MS = 1_000_000
# Behind the first message.
NUM_PASSES = 10


def sample(
    prompt_id: str, ms: float, pass_ms: float, *, num_drafts: int = 0, num_tokens: int = 11
) -> Sample:
    """Return a text and what its passes took, the prompt's own plain round counted as cells do."""
    did = SpeculationSummary(num_plain_rounds=NUM_PASSES + 1 - num_drafts, num_drafts=num_drafts)
    tokens, times = tuple(range(num_tokens)), (int(ms * MS), did, int(pass_ms * MS))
    return Sample(Peer.PIPELINE, prompt_id, "a", tokens, 1, MS, *times)


PLAIN = [sample("one", 11.0, 10.0), sample("two", 21.0, 20.0)]


def test_a_mood_that_makes_passes_slow_counts_for_nothing() -> None:
    moody = [sample("one", 16.5, 15.0), sample("two", 31.5, 30.0)]
    assert slowdowns(moody, PLAIN) == pytest.approx({"one": 1.0, "two": 1.0})
    assert share_slower(slowdowns(moody, PLAIN)) == 0.0


@pytest.mark.parametrize(("more_ms", "share"), [(0.2, 0.0), (0.25, 0.5)])
def test_what_was_done_beside_the_passes_counts_in_full(more_ms: float, share: float) -> None:
    # Of 11 ms 2 % are 0.22; the machine was half as fast.
    busy = [sample("one", 2.0 * (11.0 + more_ms), 20.0), sample("two", 21.0, 20.0)]
    found = slowdowns(busy, PLAIN)
    assert found["one"] == pytest.approx(1.0 + more_ms / 11.0)
    assert share_slower(found) == share


def test_a_text_with_drafts_counts_by_its_time() -> None:
    drafted = [sample("one", 12.1, 15.0, num_drafts=1), sample("two", 10.5, 25.0, num_drafts=8)]
    assert slowdowns(drafted, PLAIN) == pytest.approx({"one": 1.1, "two": 0.5})


def test_plain_decoding_in_the_same_turn_is_what_counts() -> None:
    plain = [sample("one", 11.0, 10.0), sample("one", 12.0, 10.0), sample("one", 11.0, 10.0)]
    assert slowdowns(plain, plain) == {"one": 1.0}
    again = [sample("one", 13.0, 10.0), *plain[1:]]
    assert slowdowns(again, plain) == {"one": 1.0}
    # Of two the mean: 12.0 in the first turn.
    assert slowdowns([sample("one", 12.0, 10.0), *plain[1:]], plain, again) == {"one": 1.0}


def test_peers_that_tell_no_passes_are_compared_by_their_times() -> None:
    assert slowdowns([sample("one", 12.1, 0.0)], PLAIN[:1]) == pytest.approx({"one": 1.1})
    silent = [sample("one", 12.0, 0.0)]
    assert slowdowns([sample("one", 12.0, 9.0)], silent) == {"one": 1.0}


def test_texts_without_a_time_are_left_out() -> None:
    short = [sample("one", 0.0, 0.0, num_tokens=1), sample("two", 30.0, 20.0)]
    assert list(slowdowns(short, PLAIN)) == ["two"]
    assert slowdowns([], []) == {}
    assert share_slower({}) == 0.0
