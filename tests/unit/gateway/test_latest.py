"""Many askers cost as one."""

import asyncio

from services.gateway.latest import Latest

AGES_S = 3600.0


class Source:
    """Counts what is read, and waits until it may answer."""

    def __init__(self) -> None:
        self.num_read = 0
        self.may_answer = asyncio.Event()

    async def read(self, key: str) -> str:
        self.num_read += 1
        await self.may_answer.wait()
        return f"{key} {self.num_read}"


async def test_who_asks_meanwhile_or_soon_after_gets_the_same() -> None:
    source = Source()
    latest = Latest(source.read, AGES_S)
    asking = [asyncio.create_task(latest.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    source.may_answer.set()
    assert await asyncio.gather(*asking) == ["a 1"] * 5
    assert await latest.get("a") == "a 1"
    assert await latest.get("b") == "b 2"


async def test_what_is_no_longer_young_is_read_again() -> None:
    source = Source()
    source.may_answer.set()
    latest = Latest(source.read, 0.0)
    assert [await latest.get("a"), await latest.get("a")] == ["a 1", "a 2"]


async def test_an_asker_that_goes_away_does_not_take_the_answer_from_others() -> None:
    source = Source()
    latest = Latest(source.read, AGES_S)
    first, second = [asyncio.create_task(latest.get("a")) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    source.may_answer.set()
    assert await second == "a 1"
    assert source.num_read == 1
