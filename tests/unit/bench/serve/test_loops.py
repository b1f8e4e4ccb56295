"""Loops: who sends when, and what a refused client does."""

from itertools import count, islice

from shortstack.bench.serve.loops import Extent, closed_loop, open_loop
from shortstack.bench.serve.result import Outcome
from tests.unit.bench.serve.builders import FakeSender, item


def items() -> "map":  # type: ignore[type-arg]
    return map(item, count())


async def test_a_closed_loop_keeps_as_many_requests_under_way_as_it_has_clients() -> None:
    sender = FakeSender()
    run = await closed_loop(sender, items(), 3, Extent(10))
    assert sender.most_open == 3
    assert sorted(each.item.index for each in run.results) == list(range(10))
    assert run.started_ns < run.dry_ns <= run.ended_ns


async def test_a_loop_of_some_time_sends_nothing_more_when_it_is_over() -> None:
    sender = FakeSender()
    run = await closed_loop(sender, items(), 2, Extent(duration_s=0.02))
    assert len(run.results) == len(sender.sent) > 2
    assert max(each.sent_ns for each in run.results) <= run.started_ns + 20_000_000 + 5_000_000


async def test_a_refused_client_sends_the_same_request_again() -> None:
    def answer(num_tries: int) -> Outcome:
        return Outcome.REFUSED if num_tries <= 2 else Outcome.DONE

    sender = FakeSender(answer=answer)
    run = await closed_loop(sender, items(), 1, Extent(2))
    assert [each.index for each in sender.sent] == [0, 0, 0, 1]
    assert [(each.outcome, each.num_refusals) for each in run.results] == [
        (Outcome.DONE, 2),
        (Outcome.DONE, 0),
    ]


async def test_a_failed_request_is_not_sent_again() -> None:
    sender = FakeSender(answer=lambda _: Outcome.FAILED)
    run = await closed_loop(sender, items(), 1, Extent(3))
    assert [each.outcome for each in run.results] == [Outcome.FAILED] * 3
    assert len(sender.sent) == 3


async def test_arrivals_are_sent_once_each_and_counted_from_when_they_were_due() -> None:
    sender = FakeSender(answer=lambda _: Outcome.REFUSED)
    run = await open_loop(sender, items(), (0.001 * i for i in count()), Extent(5))
    assert len(run.results) == len(sender.sent) == 5
    due = sorted(each.sent_ns - run.started_ns for each in run.results)
    assert due == [int(0.001 * i * 1e9) for i in range(5)]
    assert run.dry_ns == run.started_ns + due[-1]


async def test_arrivals_behind_the_end_of_time_are_not_sent() -> None:
    sender = FakeSender()
    arrivals_s = iter([0.0, 0.001, 0.5, 0.6])
    run = await open_loop(sender, items(), arrivals_s, Extent(duration_s=0.1))
    assert len(run.results) == 2
    assert list(islice(arrivals_s, 2)) == [0.6]


async def test_every_result_is_told_when_it_comes() -> None:
    told: list[int] = []
    await closed_loop(
        FakeSender(), items(), 2, Extent(4), lambda each: told.append(each.item.index)
    )
    assert sorted(told) == [0, 1, 2, 3]
