"""Rounds between the workers of a cell: messages <-> values. What a peer sent is checked here."""

from shared.ids import SessionId, TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import check_field, sampling_from_proto, sampling_to_proto
from shared.speculation.skip_set import SkipSet
from shared.speculation.vocabulary import Decision, Draft, Extent, RoundTask, ShadowRead, TreeBudget


def task_to_proto(task: RoundTask, boot_id: int, max_rows: int) -> pb.RoundTask:
    """Write a round for the draft worker."""
    return pb.RoundTask(
        session_id=task.session_id,
        round_index=task.round_index,
        kv_handle=pb.KVHandle(
            boot_id=boot_id,
            extents=[
                pb.PageExtent(first_page=extent.first_page, num_pages=extent.num_pages)
                for extent in task.extents
            ],
        ),
        exit_states_handle=pb.ExitStatesHandle(slot=task.exit_slot, num_rows=max_rows),
        pending_tokens=task.pending_tokens,
        committed_len=task.committed_len,
        prompt_len=task.prompt_len,
        method=task.decision.method,
        exit_layer=task.decision.exit_layer,
        max_draft_len=task.decision.max_draft_len,
        stop_threshold=task.decision.stop_threshold,
        by_chance=task.decision.by_chance,
        sampling=sampling_to_proto(task.sampling),
        stop_token_ids=sorted(task.stop_token_ids),
        shadow_exits=task.shadow_exits,
        traceparent=task.traceparent,
        tree=_tree_to_proto(task.decision.tree),
        skip_set=task.skip_set.to_wire(),
        skip_version=task.skip_version,
    )


def _tree_to_proto(tree: TreeBudget | None) -> pb.TreeBudget | None:
    """Write a budget; None leaves the field unset."""
    if tree is None:
        return None
    return pb.TreeBudget(
        max_nodes=tree.max_nodes, max_width=tree.max_width, branch_threshold=tree.branch_threshold
    )


def _tree_from_proto(message: pb.RoundTask) -> TreeBudget | None:
    if not message.HasField("tree"):
        return None
    tree = message.tree
    check_field(tree.max_nodes >= 1, "tree.max_nodes", "must be at least 1")
    check_field(tree.max_width >= 1, "tree.max_width", "must be at least 1")
    return TreeBudget(tree.max_nodes, tree.max_width, tree.branch_threshold)


def task_from_proto(message: pb.RoundTask, vocab_size: int) -> RoundTask:
    """Read a round; bounds of handles are the attachment's to check.

    Raises:
        InvalidRequest: a field is out of range.
    """
    check_field(len(message.pending_tokens) >= 1, "pending_tokens", "must not be empty")
    check_field(
        all(token < vocab_size for token in message.pending_tokens),
        "pending_tokens",
        "holds an id outside the vocabulary",
    )
    check_field(message.committed_len >= 1, "committed_len", "must be at least 1")
    check_field(message.max_draft_len >= 1, "max_draft_len", "must be at least 1")
    return RoundTask(
        session_id=SessionId(message.session_id),
        round_index=message.round_index,
        extents=tuple(
            Extent(extent.first_page, extent.num_pages) for extent in message.kv_handle.extents
        ),
        exit_slot=message.exit_states_handle.slot,
        pending_tokens=tuple(TokenId(token) for token in message.pending_tokens),
        committed_len=message.committed_len,
        prompt_len=message.prompt_len,
        decision=Decision(
            message.method,
            message.exit_layer,
            message.max_draft_len,
            message.stop_threshold,
            tree=_tree_from_proto(message),
            by_chance=message.by_chance,
        ),
        sampling=sampling_from_proto(message.sampling, vocab_size),
        stop_token_ids=frozenset(message.stop_token_ids),
        shadow_exits=tuple(message.shadow_exits),
        traceparent=message.traceparent,
        skip_set=SkipSet.from_wire(message.skip_set),
        skip_version=message.skip_version,
    )


def draft_to_proto(draft: Draft) -> pb.RoundDraft:
    """Write a draft for the verify worker."""
    return pb.RoundDraft(
        session_id=draft.session_id,
        round_index=draft.round_index,
        draft_tokens=draft.draft_tokens,
        confidences=draft.confidences,
        exit_states_handle=pb.ExitStatesHandle(
            slot=draft.exit_slot, num_rows=len(draft.draft_tokens) + 1
        ),
        timings=pb.DraftTimings(
            queue_ns=draft.queue_ns, draft_ns=draft.draft_ns, started_ns=draft.started_ns
        ),
        shadow_exits=[
            pb.ShadowExit(
                exit_layer=read.exit_layer, choices=read.tokens, confidences=read.confidences
            )
            for read in draft.shadow
        ],
        tree_parents=draft.parents,
        error=draft.error,
    )


def draft_from_proto(message: pb.RoundDraft) -> Draft:
    """Read a draft; that it fits its task is the verify worker's to check."""
    return Draft(
        session_id=SessionId(message.session_id),
        round_index=message.round_index,
        draft_tokens=tuple(TokenId(token) for token in message.draft_tokens),
        confidences=tuple(message.confidences),
        exit_slot=message.exit_states_handle.slot,
        queue_ns=message.timings.queue_ns,
        draft_ns=message.timings.draft_ns,
        started_ns=message.timings.started_ns,
        error=message.error,
        shadow=tuple(
            ShadowRead(
                read.exit_layer,
                tuple(TokenId(token) for token in read.choices),
                tuple(read.confidences),
            )
            for read in message.shadow_exits
        ),
        parents=tuple(message.tree_parents),
    )
