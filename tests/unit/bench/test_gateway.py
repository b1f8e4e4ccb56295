"""What the gateway adds: figures from turns, and delays from the worker's own times."""

import pytest

from shared.rpc import shortstack_pb2 as pb
from shortstack.bench.gateway.callers import DIRECT, GRPC, HTTP, Stream
from shortstack.bench.gateway.figures import figures_of, table, verdict_table, verdicts_of
from shortstack.bench.gateway.turns import Turn, delays_of
from shortstack.errors import CommandError

SLOWER_MS = {DIRECT: (0.0, 0.0), GRPC: (1.0, 0.2), HTTP: (2.5, 0.4)}


def turns_of(num_clients: int, moods_ms: list[float]) -> list[Turn]:
    """Return a turn of each way in each mood of the machine; 100 messages in a second."""
    return [
        Turn(way, num_clients, repeat, 10 + mood + ttft, 1 + mood + delay, 100, 0.02, 1.0)
        for repeat, mood in enumerate(moods_ms)
        for way, (ttft, delay) in SLOWER_MS.items()
    ]


def test_differences_are_of_turns_that_followed_each_other() -> None:
    one, many = figures_of([*turns_of(16, [0.0, 50.0, 3.0]), *turns_of(1, [0.0])])
    assert (one["num_clients"], many["num_clients"]) == (1, 16)
    assert many[GRPC]["added_ttft_ms"]["median"] == pytest.approx(1.0)
    assert many[HTTP]["added_delay_ms"]["high"] == pytest.approx(0.4)
    assert many[GRPC]["gateway_cpu_ms_per_chunk"] == pytest.approx(0.2)
    assert many[GRPC]["gateway_cpu_share"] == pytest.approx(0.02)
    assert many[DIRECT]["ttft_ms"] == pytest.approx(13.0)


def test_verdicts_hold_each_way_against_the_targets() -> None:
    loads = figures_of(turns_of(16, [0.0, 1.0]))
    verdicts = {each["what"]: each["finding"] for each in verdicts_of(loads)}
    assert verdicts == {
        "grpc, 16 clients: to first token": "met",
        "grpc, 16 clients: delay per chunk": "met",
        "grpc, 16 clients: CPU per chunk": "met",
        "http, 16 clients: to first token": "MISSED",
        "http, 16 clients: delay per chunk": "MISSED",
        "http, 16 clients: CPU per chunk": "met",
    }
    assert len(table(loads).splitlines()) == 2 + 3
    assert "| MISSED |" in verdict_table(verdicts_of(loads))


def test_a_delay_is_from_the_commit_of_a_round_to_the_arrival_of_its_message() -> None:
    told = pb.VerifyServiceGetSessionTimelineResponse(
        session=pb.SessionState(arrived_unix_ns=1000), rounds=pb.RoundColumns(at_ns=[50, 90])
    )
    # The first message holds the prompt's token, the last one of HTTP no token at all.
    assert delays_of(Stream("s", 990, [1030, 1057, 1099, 1101]), told) == [7, 9]
    with pytest.raises(CommandError, match="2 rounds came in 1 messages"):
        delays_of(Stream("s", 990, [1030, 1057]), told)
