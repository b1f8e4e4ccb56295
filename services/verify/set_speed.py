"""What drafts with a stream's skip set are predicted to bring one of its sessions."""

from collections.abc import Sequence

from services.verify.session import Session
from shared.control.evidence.survival import NUM_PLACES
from shared.control.load_governor import LoadGovernor
from shared.control.skip_search.stream_record import StreamRecord
from shared.speculation.arm import arm_of
from shared.speculation.vocabulary import SWIFT

# What drafts by a skip set are known by.
SKIPPING = arm_of(SWIFT, 0)


def predicted_speedup(
    governor: LoadGovernor, session: Session, record: StreamRecord
) -> float | None:
    """Return the best speed over plain decoding that a session's drafts may bring.

    By what its drafts showed, or by the scores of a set that it has hardly drafted with yet; None
    while neither is known, or not what drafts take.
    """
    found = []
    evidence = governor.sessions.evidence(session.session_id)
    if evidence is not None and evidence.knows(SKIPPING):
        found.append(best_speedup(governor, evidence.survival(SKIPPING).kept))
    if record.mean_score is not None:
        kept = [record.mean_score**place for place in range(1, NUM_PLACES + 1)]
        found.append(best_speedup(governor, kept))
    return max((each for each in found if each is not None), default=None)


def best_speedup(governor: LoadGovernor, kept: Sequence[float]) -> float | None:
    """Return the speed of the best draft length, by the chances that so many drafts are kept."""
    plain_ns = governor.round_ns(SKIPPING, 0)
    num_tokens, best = 1.0, 0.0
    for draft_len, chance in enumerate(kept, 1):
        num_tokens += chance
        round_ns = governor.round_ns(SKIPPING, draft_len)
        if round_ns is None or plain_ns is None:
            return None
        best = max(best, num_tokens * plain_ns / round_ns)
    return best
