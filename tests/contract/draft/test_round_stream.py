"""A stream that is of no more use is ended, and the cell attaches anew."""

from services.verify.drafter import DrafterEvent, DrafterLost, DrafterReady
from services.verify.remote_drafter import RemoteDrafter
from services.verify.round_stream import MAX_PATIENCE_S, MIN_PATIENCE_S, Patience
from shared.rpc import shortstack_pb2 as pb
from tests.contract.draft.conftest import Pair
from tests.polling import poll_until


class Attachments:
    """What the engine is told."""

    def __init__(self, pair: Pair, patience: Patience) -> None:
        self.events: list[DrafterEvent] = []
        self.remote = RemoteDrafter(
            pair.host.address,
            pair.attach_request,
            self.events.append,
            self._hear,
            None,
            None,
            patience,
        )

    async def _hear(self, is_on: bool) -> None:
        """Nobody asks for health."""

    @property
    def ready(self) -> list[DrafterReady]:
        """The attachments so far."""
        return [each for each in self.events if isinstance(each, DrafterReady)]

    @property
    def reasons(self) -> list[str]:
        """Why those that are over ended."""
        return [each.reason for each in self.events if isinstance(each, DrafterLost)]


async def test_a_round_that_is_never_answered_ends_the_attachment(pair: Pair) -> None:
    seen = Attachments(pair, Patience(min_s=0.2))
    seen.remote.start()
    await poll_until(lambda: seen.ready)
    stream = seen.ready[0].drafter
    assert stream is not None
    # The draft worker never hears of it: its answer is as good as lost.
    stream._put(pb.RoundRequest(), [("lost", 1)])  # type: ignore[attr-defined]
    await poll_until(lambda: len(seen.ready) == 2)
    assert "was not answered" in seen.reasons[0]
    await seen.remote.stop()


async def test_an_attachment_that_is_given_up_is_followed_by_another(pair: Pair) -> None:
    seen = Attachments(pair, Patience())
    seen.remote.start()
    await poll_until(lambda: seen.ready)
    seen.ready[0].give_up("3 malformed drafts in a row")
    await poll_until(lambda: len(seen.ready) == 2)
    assert seen.reasons == ["3 malformed drafts in a row"]
    await seen.remote.stop()


def test_patience_follows_the_slowest_answer_and_grows_in_silence() -> None:
    patience = Patience()
    assert patience.limit_s == MIN_PATIENCE_S
    patience.note_answer(0.01)
    assert patience.limit_s == MIN_PATIENCE_S
    patience.note_answer(2.0)
    assert patience.limit_s == 16.0
    patience.note_silence()
    assert patience.limit_s == 32.0
    for _ in range(5):
        patience.note_silence()
    assert patience.limit_s == MAX_PATIENCE_S
