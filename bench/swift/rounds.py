"""Drafting and verifying along texts that are known: chains, a search between them, and combs."""

import time
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from bench.swift.texts import GREEDY, MAX_NODES, WINDOW_LEN, Bench, Text, table_of
from shared.control.skip_search.bayes import propose_set
from shared.control.skip_search.candidates import CandidateSource
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.set_search import SetSearch
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.ids import SessionId
from shared.model.draft_runner import StackDraftRunner
from shared.model.rows import SessionRows, pack_rows
from shared.speculation.acceptance import judge
from shared.speculation.drafting import draft_rounds
from shared.speculation.methods.swift import STOP_THRESHOLD, Swift
from shared.speculation.skip_set import SkipSet
from shared.speculation.tree import depths_of, is_first_child, row_paths
from shared.speculation.vocabulary import SWIFT, Decision, RoundTask, TreeBudget

DRAFT_LEN = 7
COMB = Swift().tree_of(MAX_NODES)


class Played(NamedTuple):
    """What one round did.

    num_drafted, num_accepted: of the chain.
    num_leaves: drafted beside it.
    num_tokens: committed, as far as the text goes.
    is_hit: whether a leaf was accepted.
    is_same: whether the tokens are the text's.
    """

    num_drafted: int
    num_accepted: int
    num_leaves: int
    num_tokens: int
    is_hit: bool
    is_same: bool


def play_round(
    bench: Bench, text: Text, n: int, skip_set: SkipSet, tree: TreeBudget | None = None
) -> Played:
    """Draft behind the first n tokens of a text and verify; the text goes on as it was."""
    draft_len = min(DRAFT_LEN, len(text.tokens) - n)
    task = RoundTask(
        SessionId("s"), 0, table_of(text.pool).extents, 0, (text.tokens[n - 1],), n,
        text.prompt_len, Decision(SWIFT, 0, draft_len, STOP_THRESHOLD, tree=tree), GREEDY,
        skip_set=skip_set,
    )  # fmt: skip
    stack = bench.stack
    with torch.inference_mode():
        (draft,) = draft_rounds([task], StackDraftRunner(stack, text.pool))
        tokens = [text.tokens[n - 1], *draft.draft_tokens]
        paths = row_paths(draft.parents) if draft.parents else None
        own = SessionRows(table_of(text.pool), tokens, n - 1, paths)
        rows = pack_rows([own], stack.rope_table_P1C)
        x_RD = stack.run(stack.embed(rows), 0, bench.num_layers, rows, text.pool.layers)
        target = stack.head(x_RD).argmax(-1).tolist()
    verdict = judge(draft.draft_tokens, target, draft.parents)
    num_drafted, num_accepted = len(draft.draft_tokens), verdict.num_accepted
    accepted = draft.draft_tokens[:num_accepted]
    if draft.parents:
        # The chain of a comb is as deep as the comb, and only its last node is a leaf.
        num_drafted = max(depths_of(draft.parents))
        num_accepted = sum(is_first_child(node, draft.parents) for node in verdict.path)
        accepted = tuple(draft.draft_tokens[node] for node in verdict.path)
    known = tuple(text.tokens[n : n + len(accepted) + 1])
    return Played(
        num_drafted,
        num_accepted,
        len(draft.draft_tokens) - num_drafted,
        len(known),
        len(accepted) > num_accepted,
        (*accepted, verdict.next_token)[: len(known)] == known,
    )


@dataclass
class Rounds:
    """What drafting and verifying did along texts.

    num_differences: rounds with near ties, where sums of more rows fall out otherwise.
    """

    num_rounds: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_tokens: int = 0
    step_ns: int = 0
    plain_ns: int = 0
    num_differences: int = 0

    def add(self, played: Played) -> None:
        """Count a round."""
        self.num_rounds += 1
        self.num_drafted += played.num_drafted
        self.num_accepted += played.num_accepted
        self.num_tokens += played.num_tokens
        self.num_differences += not played.is_same

    def figures(self) -> dict[str, Any]:
        """Return them with what follows from them."""
        return asdict(self) | {
            "acceptance": self.num_accepted / self.num_drafted,
            "tokens_per_round": self.num_tokens / self.num_rounds,
            "measured_speedup": self.plain_ns / self.step_ns,
        }


class Online:
    """Rounds along texts, with a search between them that is paid from their time."""

    def __init__(self, bench: Bench, record: StreamRecord, options: SearchOptions) -> None:
        self._bench = bench
        self._options = options
        source = CandidateSource(options, 2, lambda seen, seed: propose_set(options, seen, seed))
        self.record, self._search = record, SetSearch(options, source)

    def run(self, texts: list[Text], budget: SearchBudget) -> Rounds:
        """Decode texts again, round by round; each must come out as it was.

        Plain decoding takes turns before and behind every text, in the same mood of the machine.
        """
        rounds = Rounds()
        for text in texts:
            plain_ns = self._bench.plain_ns(text)
            windows = text.windows
            n = text.prompt_len + 1
            while n < len(text.tokens):
                started_ns = time.perf_counter_ns()
                played = play_round(self._bench, text, n, self.record.skip_set)
                self._search.note_round(self.record, played.num_drafted, played.num_accepted)
                step_ns = time.perf_counter_ns() - started_ns
                rounds.add(played)
                rounds.step_ns += step_ns
                n += played.num_tokens
                budget.earn(step_ns)
                if windows and windows[0] + WINDOW_LEN < n:
                    self._look(text, windows, budget)
            rounds.plain_ns += (plain_ns + self._bench.plain_ns(text)) // 2
        return rounds

    def _look(self, text: Text, windows: list[int], budget: SearchBudget) -> None:
        """Score a trial where its time is saved; online a set is a look, here all of them are."""
        num_sets = 1 + self._options.num_challengers
        num_rows = num_sets * WINDOW_LEN
        expected_ns = budget.expected_ns(num_rows, 1.0)
        if self.record.phase is not Phase.SEARCH or not budget.can_pay(expected_ns):
            return
        trial = self._search.next_trial(self.record, ())
        if trial is None:
            return
        start = windows.pop(0)
        started_ns = time.perf_counter_ns()
        scores = {each: self._bench.score(each, text, start) for each in trial.sets}
        self._search.note_trial(self.record, trial, scores)
        looked_ns = time.perf_counter_ns() - started_ns
        budget.pay(len(trial.sets) * WINDOW_LEN, expected_ns or 1.0, looked_ns)


def compare_combs(bench: Bench, skip_set: SkipSet, texts: list[Text]) -> dict[str, Any]:
    """Draft a comb and a chain from every start of the chains' rounds; return how both did."""
    pairs: list[tuple[Played, Played]] = []
    for text in texts:
        n = text.prompt_len + 1
        while n < len(text.tokens):
            comb = play_round(bench, text, n, skip_set, COMB)
            # Behind it the chain's verification writes what the next start needs.
            chain = play_round(bench, text, n, skip_set)
            pairs.append((comb, chain))
            n += chain.num_tokens
    tokens = {"comb": 0, "chain": 0}
    rows = {"comb": 0, "chain": 0}
    for pair in pairs:
        for name, played in zip(tokens, pair, strict=True):
            tokens[name] += played.num_tokens
            rows[name] += played.num_drafted + played.num_leaves + 1
    return {
        "num_rounds": len(pairs),
        "tokens_per_round": {name: count / len(pairs) for name, count in tokens.items()},
        "rows_per_token": {name: rows[name] / tokens[name] for name in tokens},
        "chain_acceptance": sum(chain.num_accepted for _, chain in pairs)
        / sum(chain.num_drafted for _, chain in pairs),
        "num_leaf_hits": sum(comb.is_hit for comb, _ in pairs),
        "leaves_per_round": sum(comb.num_leaves for comb, _ in pairs) / len(pairs),
        "num_rounds_with_fewer_tokens": sum(
            comb.num_tokens < chain.num_tokens for comb, chain in pairs
        ),
        "num_differences": sum(not comb.is_same for comb, _ in pairs),
    }
