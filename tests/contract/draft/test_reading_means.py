"""Whether a verify worker's reads are evidence of what the draft worker at the port would draft."""

import pytest

from services.verify.drafter import DrafterEvent
from services.verify.remote_drafter import ReadingMeans, RemoteDrafter
from shared.rpc import shortstack_pb2 as pb
from tests.contract.draft.conftest import Pair
from tests.polling import poll_until

VOCAB = pb.DraftVocabInfo(num_tokens=4, coverage=0.25)
ADAPTERS = pb.ExitAdaptersInfo(rank=3, exit_layers=[1])
HEADS = pb.AcceptanceHeadsInfo(width=3, exit_layers=[1])


@pytest.mark.parametrize(
    ("own_means", "reads_alike"),
    [
        (ReadingMeans(), True),
        (ReadingMeans(draft_vocab=VOCAB), False),
        (ReadingMeans(exit_adapters=ADAPTERS), False),
        (ReadingMeans(acceptance_heads=HEADS), False),
        (None, False),
    ],
    ids=["alike", "vocabulary", "adapters", "heads", "reads none"],
)
async def test_workers_read_alike_while_attached_with_the_same_means(
    own_means: ReadingMeans | None, reads_alike: bool, pair: Pair
) -> None:
    events: list[DrafterEvent] = []
    heard: list[tuple[bool, bool]] = []

    async def hear(is_on: bool) -> None:
        heard.append((is_on, remote.reads_alike))

    remote = RemoteDrafter(pair.host.address, pair.attach_request, events.append, hear, own_means)
    assert not remote.reads_alike
    remote.start()
    await poll_until(lambda: heard)
    assert heard == [(True, reads_alike)]
    await remote.stop()
    assert heard[1:] == [(False, False)]
