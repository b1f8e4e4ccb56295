"""Acceptance: which drafts of a round survive, and what of them is emitted.

Values in, values out: no model, no cache, no network, no tensors. The caller has already sampled
the target at every position with the session's own noise, so agreement is equality of token ids
(common random numbers, drafter-invariant coupling: Daliri et al. 2024, arXiv:2408.07978).
"""

from collections.abc import Sequence

from shared.ids import TokenId
from shared.speculation.tree import PENDING
from shared.speculation.vocabulary import FinishReason, StopParams, TokenSource, Verdict


def judge(
    draft_tokens: Sequence[TokenId],
    target_tokens: Sequence[TokenId],
    parents: Sequence[int] = (),
) -> Verdict:
    """Follow the target's choices down the draft, as far as there is a draft of each.

    The target's own choice where there is none is the recovered token; behind a draft that nothing
    follows it is the bonus token; with no draft at all it is a plain token. Nothing but
    `target_tokens` is ever emitted, which is why output equals plain decoding.

        chain       positions   n-1      [n ........ n+k)
                    rows        pending  draft_tokens[0:k)
                    choices     target_tokens[0:k+1); choice i fills position n+i
        tree        rows        likewise, by node; choice i fills position n + depth of row i

    Args:
        draft_tokens: k ids, k >= 0; k = 0 is a plain round.
        target_tokens: k + 1 ids, the target's choice after the pending token and each draft.
        parents: of a tree, checked by `draft_fault`; empty for a chain.

    Raises:
        ValueError: the lengths do not fit; the engine ends the session with INTERNAL.
    """
    num_drafts = len(draft_tokens)
    if len(target_tokens) != num_drafts + 1:
        raise ValueError(
            f"{num_drafts} drafts need {num_drafts + 1} choices, not {len(target_tokens)}"
        )
    # A parent comes before its children, and these differ: one look at each node is enough.
    at, path = PENDING, []
    hangs_from = parents or range(PENDING, num_drafts - 1)
    for node, (parent, token) in enumerate(zip(hangs_from, draft_tokens, strict=True)):
        if parent == at and token == target_tokens[at + 1]:
            at = node
            path.append(node)
    if num_drafts == 0:
        source = TokenSource.PLAIN
    elif at in hangs_from:
        source = TokenSource.RECOVERED
    else:
        source = TokenSource.BONUS
    return Verdict(len(path), target_tokens[at + 1], source, tuple(path) if parents else ())


def cut_at_finish(
    tokens: Sequence[TokenId], num_emitted: int, stop: StopParams
) -> tuple[int, FinishReason | None]:
    """Say how many tokens of a round are emitted, and why the session ends with them, if it does.

    Args:
        tokens: the committed tokens of the round, in order.
        num_emitted: tokens emitted before the round.
        stop: limits; the token that ends the session is itself emitted.

    Returns:
        The count in [0, len(tokens)] and the reason, or None while the session goes on.
    """
    for index, token in enumerate(tokens):
        num_total = num_emitted + index + 1
        if token in stop.stop_token_ids and num_total > stop.min_new_tokens:
            return index + 1, FinishReason.STOP
        if num_total >= stop.max_new_tokens:
            return index + 1, FinishReason.LENGTH
    return len(tokens), None
