"""What a round does to memory, and what it costs: every length of acceptance, forced.

`shared/speculation` promises that after a commit every layer has KV of [0, n'-1) as if the text had
been decoded plainly, and that a round of k drafts runs k+1 rows once through every layer.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch

from services.verify.session import Emitted, Session
from shared.model.sampling import RowChoice, choose
from shared.speculation.vocabulary import (
    KANGAROO,
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    RoundTask,
    SamplingParams,
    TokenSource,
)
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    SplitDrafter,
    make_request,
    split_with,
)
from tests.forced_drafter import ForcedDrafter
from tests.golden.reference import GREEDY, TIE_GAP, ModelShelf, PlainPass, make_prompt, sampled
from tests.model_builder import NUM_LAYERS

KV_TOLERANCE = 1e-4
MAX_DRAFT_LEN = 7


@dataclass
class Script:
    """Rounds (exit layer, draft length k, drafts that are right m), one after the other.

    methods: take turns.
    """

    rounds: list[tuple[int, int, int]]
    methods: tuple[str, ...] = (LAYERSKIP,)
    index: int = 0

    def decide(self, session: Session) -> Decision:
        """Return the decision of the next round."""
        if self.index == len(self.rounds):
            return PLAIN_DECISION
        exit_layer, draft_len, _ = self.rounds[self.index]
        return Decision(self.methods[self.index % len(self.methods)], exit_layer, draft_len)

    def num_right(self, task: RoundTask) -> int:
        """Return m of the round in hand, and go on to the next."""
        num_right = self.rounds[self.index][2]
        self.index += 1
        return num_right


@dataclass
class KvObserver:
    """Compares a session's KV after every commit with that of one plain pass over the text."""

    plain: PlainPass
    cell: EngineHarness | None = None
    lengths: list[int] = field(default_factory=list)

    def __call__(self, session: Session, emitted: Emitted) -> None:
        """Compare the KV of every layer, those of adapters too, on [0, n'-1)."""
        assert self.cell is not None and session.table is not None
        assert len(self.plain.kv_layers) == len(self.cell.pool.layers)
        end = session.committed_len - 1
        slots = torch.tensor(session.table.slots(0, end))
        for layer, kv in enumerate(self.cell.pool.layers):
            found = kv.index_select(2, slots)
            expected = self.plain.kv_layers[layer][:, :, :end]
            worst = (found - expected).abs().max().item()
            assert worst < KV_TOLERANCE, f"layer {layer}, [0, {end}): off by {worst:.1e}"
        self.lengths.append(end)


def all_acceptances(exit_layers: tuple[int, ...], max_draft_len: int) -> list[tuple[int, int, int]]:
    """Return rounds of every k and every m in [0, k], the exits taking turns."""
    pairs = [(k, m) for k in range(1, max_draft_len + 1) for m in range(k + 1)]
    return [(exit_layers[i % len(exit_layers)], k, m) for i, (k, m) in enumerate(pairs)]


@pytest.mark.parametrize("page_size", [1, 4, 16])
@pytest.mark.parametrize(
    ("kind", "exit_layers", "max_draft_len", "methods"),
    [
        ("llama", (1,), 6, (LAYERSKIP,)),
        ("llama", (2,), 6, (LAYERSKIP,)),
        ("llama", (3,), 6, (LAYERSKIP,)),
        ("qwen3", (3, 1, 2), 6, (LAYERSKIP,)),
        ("mistral-window", (1, 2, 3), 6, (LAYERSKIP,)),
        ("llama", (2,), 6, (KANGAROO,)),
        ("qwen3", (3, 1, 2), 6, (KANGAROO, LAYERSKIP, LAYERSKIP, KANGAROO)),
        ("mistral-window", (1, 2, 3), 5, (LAYERSKIP, KANGAROO, KANGAROO, LAYERSKIP)),
    ],
)
def test_kv_of_every_layer_equals_that_of_a_plain_pass_after_every_length_of_acceptance(
    kind: str,
    exit_layers: tuple[int, ...],
    max_draft_len: int,
    methods: tuple[str, ...],
    page_size: int,
    shelf: ModelShelf,
) -> None:
    stack = shelf.adapted(kind) if KANGAROO in methods else shelf.stack(kind)
    script = Script(all_acceptances(exit_layers, max_draft_len), methods)
    num_new = 1 + sum(m + 1 for _, _, m in script.rounds)
    prompt = make_prompt(8, 6)
    # Room for whole drafts to the last round: limits would shorten them.
    num_asked = num_new + MAX_DRAFT_LEN
    text = [*prompt, *shelf.plain(kind, prompt, num_asked).token_ids]
    observer = KvObserver(PlainPass(stack, text))
    with EngineHarness(
        stack,
        lambda cell, inbox: ForcedDrafter(cell, inbox, text, script.num_right),
        HarnessOptions(page_size=page_size, prefill_chunk_len=4),
        policy=script.decide,
        observer=observer,
    ) as cell:
        observer.cell = cell
        [recorded] = cell.run(make_request(prompt, num_asked))
    drafted = [each for each in recorded.rounds if each.draft_len]
    assert [(each.decision.exit_layer, each.draft_len) for each in drafted] == [
        (exit_layer, k) for exit_layer, k, _ in script.rounds
    ]
    assert [len(each.token_ids) - 1 for each in drafted] == [m for _, _, m in script.rounds]
    for each, (_, k, m) in zip(drafted, script.rounds, strict=True):
        last = TokenSource.BONUS if m == k else TokenSource.RECOVERED
        assert each.sources == (TokenSource.ACCEPTED,) * m + (last,)
    assert recorded.token_ids == text[len(prompt) :]
    assert len(observer.lengths) >= len(script.rounds)


@dataclass
class WorkObserver:
    """Notes what both stacks ran from one emission to the next."""

    cell: EngineHarness | None = None
    rounds: list[tuple[Emitted, tuple[int, int], tuple[int, int]]] = field(default_factory=list)
    _verify: tuple[int, int] = (0, 0)
    _draft: tuple[int, int] = (0, 0)

    def __call__(self, session: Session, emitted: Emitted) -> None:
        """Note the work of the round just committed."""
        assert self.cell is not None
        assert isinstance(self.cell.drafter, SplitDrafter)
        stack = self.cell.drafter.stack
        verify, draft = self.cell.count_work(), (stack.num_row_layers, stack.num_head_rows)
        self.rounds.append((emitted, _minus(verify, self._verify), _minus(draft, self._draft)))
        self._verify, self._draft = verify, draft


def _minus(now: tuple[int, int], before: tuple[int, int]) -> tuple[int, int]:
    return now[0] - before[0], now[1] - before[1]


@pytest.mark.parametrize("exit_layer", range(1, NUM_LAYERS))
@pytest.mark.parametrize("draft_len", [1, 4, 7])
def test_a_round_runs_each_layer_once_per_row_and_heads_where_the_table_says(
    exit_layer: int, draft_len: int, shelf: ModelShelf
) -> None:
    observer = WorkObserver()
    with EngineHarness(
        shelf.stack("llama"), split_with(shelf.draft_stack("llama")), observer=observer
    ) as cell:
        observer.cell = cell
        wished = Decision(LAYERSKIP, exit_layer, draft_len)
        cell.run(make_request(make_prompt(1, 9), 30, wished=wished))
    drafted = [each for each in observer.rounds if each[0].draft_len]
    assert len(drafted) >= 3
    for emitted, verify, draft in drafted:
        k = emitted.draft_len
        assert draft == ((k + 1) * exit_layer, k)
        assert verify == ((k + 1) * (NUM_LAYERS - exit_layer), k + 1)
    for emitted, verify, draft in observer.rounds[1:]:
        if not emitted.draft_len:
            assert (verify, draft) == ((NUM_LAYERS, 1), (0, 0))


@pytest.mark.parametrize("draft_len", [1, 6])
def test_a_round_of_kangaroo_runs_the_adapter_once_per_draft_and_writes_one_row_more(
    draft_len: int, shelf: ModelShelf
) -> None:
    exit_layer, draft_stack = 2, shelf.adapted_draft_stack("llama")
    num_rows: list[tuple[int, int, int]] = []
    observer = WorkObserver()
    verify_stack = shelf.adapted("llama")
    num_read_before = verify_stack.num_adapter_rows

    def observe(session: Session, emitted: Emitted) -> None:
        observer(session, emitted)
        counts = draft_stack.num_adapter_rows, draft_stack.num_adapter_kv_rows
        num_rows.append((emitted.draft_len, *counts))

    with EngineHarness(verify_stack, split_with(draft_stack), observer=observe) as cell:
        observer.cell = cell
        wished = Decision(KANGAROO, exit_layer, draft_len, 0.05)
        cell.run(make_request(make_prompt(1, 9), 30, wished=wished))
    drafted = [each for each in observer.rounds if each[0].draft_len]
    assert len(drafted) >= 3
    for emitted, verify, draft in drafted:
        k = emitted.draft_len
        assert draft == ((k + 1) * exit_layer, k)
        assert verify == ((k + 1) * (NUM_LAYERS - exit_layer), k + 1)
    for (_, *before), (k, *now) in pairwise(num_rows):
        # Adapters hang at exits 1 and 2 of the layers that the draft side runs.
        assert [n - b for n, b in zip(now, before, strict=True)] == [k, 2 * (k + 1) if k else 0]
    # Verification never reads an adapter.
    assert verify_stack.num_adapter_rows == num_read_before


@pytest.mark.parametrize("sampling", [GREEDY, sampled(3), SamplingParams(1.0, seed=9)], ids=str)
@pytest.mark.parametrize("exit_layer", range(1, NUM_LAYERS))
def test_agreement_of_an_exit_with_the_text_predicts_every_round(
    exit_layer: int, sampling: SamplingParams, shelf: ModelShelf
) -> None:
    """One teacher-forced pass says where the exit chooses what the text has; rounds follow."""
    prompt, num_new, draft_len = make_prompt(4, 7), 48, 5
    plain = shelf.plain("llama3-rope", prompt, num_new, sampling)
    text = [*prompt, *plain.token_ids]
    stack = shelf.stack("llama3-rope")
    logits = PlainPass(stack, text).logits_of_exit(exit_layer)
    rows = [
        RowChoice(sampling, position + 1, len(prompt), text[: position + 1])
        for position in range(len(text))
    ]
    choices = choose(logits, rows, with_gaps=True)
    agrees = [choices.tokens[i] == text[i + 1] for i in range(len(text) - 1)]
    is_near_tie = [gap < TIE_GAP for gap in choices.gaps]
    with EngineHarness(stack) as cell:
        wished = Decision(LAYERSKIP, exit_layer, draft_len)
        [recorded] = cell.run(make_request(prompt, num_new, wished=wished, sampling=sampling))
    assert recorded.token_ids == plain.token_ids
    length = len(prompt) + 1
    for each in recorded.rounds[1:]:
        k = min(draft_len, len(text) - length - 1)
        window = agrees[length - 1 : length - 1 + k]
        predicted = window.index(False) if False in window else k
        if not any(is_near_tie[length - 1 : length - 1 + k]):
            assert (each.draft_len, len(each.token_ids)) == (k, predicted + 1), f"at {length}"
        length += len(each.token_ids)
    assert length == len(text)


def test_an_exit_that_agrees_everywhere_keeps_every_draft(shelf: ModelShelf) -> None:
    prompt = make_prompt(2, 5)
    text = [*prompt, *shelf.plain("llama", prompt, 60).token_ids]
    with EngineHarness(
        shelf.stack("llama"),
        lambda cell, inbox: ForcedDrafter(cell, inbox, text, lambda task: 7),
    ) as cell:
        wished = Decision(LAYERSKIP, 2, 7)
        [recorded] = cell.run(make_request(prompt, 1 + 8 * 3, wished=wished))
    assert recorded.token_ids == text[len(prompt) :][: 1 + 8 * 3]
    assert recorded.summary.acceptance_rate == 1.0
    assert recorded.summary.mean_emitted_len == 8.0
    assert recorded.summary.acceptance_histogram == [0, 0, 0, 0, 0, 0, 0, 3]
    assert recorded.summary.num_plain_rounds == 0


def test_a_low_threshold_keeps_the_unsure_token_and_ends_the_draft_behind_it(
    shelf: ModelShelf,
) -> None:
    prompt = make_prompt(2, 5)
    with EngineHarness(shelf.stack("llama"), FusedDrafter) as cell:
        wished = Decision(LAYERSKIP, 2, 7, stop_threshold=1.0)
        [recorded] = cell.run(make_request(prompt, 20, wished=wished))
    assert {each.draft_len for each in recorded.rounds[1:-1]} == {1}
    assert recorded.token_ids == shelf.plain("llama", prompt, 20).token_ids
