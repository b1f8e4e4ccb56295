"""From the session log's values to messages."""

from collections.abc import Sequence

from services.verify.session_track import RoundRecord, SessionState
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import REASON_ON_WIRE


def state_to_proto(
    state: SessionState, cell_id: str, now_ns: int, now_unix_ns: int
) -> pb.SessionState:
    """Write how a session stands; now_ns is on the clock of its arrival, now_unix_ns since 1970."""
    decision, totals = state.decision, state.totals
    message = pb.SessionState(
        session_id=state.session_id,
        cell_id=cell_id,
        tenant=state.tenant,
        method=decision.method,
        exit_layer=decision.exit_layer,
        max_draft_len=decision.max_draft_len,
        stop_threshold=decision.stop_threshold,
        policy=state.policy,
        reason=decision.reason,
        prompt_len=state.prompt_len,
        num_emitted=state.num_emitted,
        num_rounds=totals.num_rounds,
        num_plain_rounds=totals.num_plain_rounds,
        num_draft_tokens=totals.num_draft_tokens,
        num_accepted_tokens=totals.num_accepted_tokens,
        tokens_per_s=state.tokens_per_s,
        mean_emitted_len=state.mean_emitted_len,
        age_ms=max(0, now_ns - state.arrived_ns) // 1_000_000,
        arrived_unix_ns=now_unix_ns - (now_ns - state.arrived_ns),
    )
    if state.finish_reason is not None:
        message.has_ended = True
        message.finish_reason = REASON_ON_WIRE[state.finish_reason]
    return message


def rounds_to_proto(rounds: Sequence[RoundRecord]) -> pb.RoundColumns:
    """Write rounds by columns."""
    decisions = [each.decision for each in rounds]
    method_names = list(dict.fromkeys(each.method for each in decisions))
    reason_names = list(dict.fromkeys(each.reason for each in decisions))
    method_index = {name: index for index, name in enumerate(method_names)}
    reason_index = {name: index for index, name in enumerate(reason_names)}
    return pb.RoundColumns(
        round_indices=[each.round_index for each in rounds],
        positions=[each.position for each in rounds],
        at_ns=[each.at_ns for each in rounds],
        round_ns=[each.round_ns for each in rounds],
        method_names=method_names,
        methods=[method_index[each.method] for each in decisions],
        exit_layers=[each.exit_layer for each in decisions],
        max_draft_lens=[each.max_draft_len for each in decisions],
        stop_thresholds=[each.stop_threshold for each in decisions],
        draft_lens=[each.draft_len for each in rounds],
        nums_accepted=[each.num_accepted for each in rounds],
        nums_emitted=[each.num_emitted for each in rounds],
        reason_names=reason_names,
        reasons=[reason_index[each.reason] for each in decisions],
        are_alarms=[each.is_alarm for each in rounds],
    )
