"""Evidence of exits: it changes no text, and it is what a draft from there would have met.

Shadow truth: a bit recorded at an exit while other arms were in force says whether a draft from
that exit is accepted at that position, greedy and with a seed alike.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from services.verify.session import Session, SessionRequest
from shared.control.policies.registry import GOODPUT
from shared.model.config import ModelConfig
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.vocabulary import (
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    SamplingParams,
    TokenSource,
    TreeBudget,
)
from tests.adapter_builder import make_adapters
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    MakeDrafter,
    PlainCell,
    Recorded,
    SplitDrafter,
    make_request,
    split_with,
)
from tests.golden.draft_sides import DraftSides
from tests.golden.pairwise import pairwise
from tests.golden.reference import GREEDY, TIE_GAP, ModelShelf, TieCount, make_prompt
from tests.golden.watched_cell import Evidence, Truth, evidence_of, read_truth, watch
from tests.model_builder import EOS_ID, NUM_LAYERS, VOCAB_SIZE

EXITS = tuple(range(1, NUM_LAYERS))
MAX_DRAFT_LEN = 7
NUM_NEW = 34
OPTIONS = HarnessOptions()
SHEDDING = HarnessOptions(sheds=True)
SEEDED = SamplingParams(0.8, seed=5, repetition_penalty=1.2)
SAMPLINGS = {"greedy": GREEDY, "seeded": SEEDED}
# Half of the ids, and maps that bend two of the three exits a little.
SIDES = ("raw", "vocab", "adapters")
CELLS = pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])


def make_stack(config: ModelConfig, side: str, num_layers: int) -> LayerStack:
    """Load a stack whose exits are read in one of three ways."""
    vocab = adapters = None
    if side == "vocab":
        drawn = random.Random(3).sample(range(VOCAB_SIZE), 50)
        vocab = DraftVocab(VOCAB_SIZE, "", 1.0, ("made up",), tuple(sorted({EOS_ID, *drawn})))
    if side == "adapters":
        adapters = make_adapters(config, (1, 3), 0.05)
    return LayerStack(config, num_layers=num_layers, draft_vocab=vocab, exit_adapters=adapters)


@pytest.fixture(scope="module")
def sides(shelf: ModelShelf) -> DraftSides:
    return DraftSides(shelf, make_stack)


def drafter_of(sides: DraftSides, kind: str, side: str, is_split: bool) -> MakeDrafter:
    """Return a fused drafter, or a split one that reads exits alike."""
    return split_with(sides.stack(kind, side, num_layers=1)) if is_split else FusedDrafter


class RandomRounds:
    """Draws a decision, and exits to watch, anew for every round."""

    def __init__(self, seed: int, *, watches_all: bool) -> None:
        self._draw = random.Random(seed)
        self._watches_all = watches_all
        self.drawn: set[tuple[int, int]] = set()

    def decide(self, session: Session) -> Decision:
        """Return the decision of the session's next round."""
        draw = self._draw
        if draw.random() < 0.25:
            return PLAIN_DECISION
        exit_layer, draft_len = draw.choice(EXITS), draw.randint(1, MAX_DRAFT_LEN)
        self.drawn.add((exit_layer, draft_len))
        threshold = draw.choice((0.0, 0.3, 0.7))
        tree = draw.choice((None, TreeBudget(MAX_DRAFT_LEN, 3, 1.0)))
        return Decision(LAYERSKIP, exit_layer, draft_len, threshold, tree=tree)

    def watch(self, session: Session) -> Sequence[int] | None:
        """Return the exits to be read in the session's next round."""
        if self._watches_all:
            return EXITS
        return self._draw.choice((None, self._draw.sample(EXITS, self._draw.randint(0, 3))))


def run_randomly(
    stack: LayerStack,
    make_drafter: MakeDrafter,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    rounds: RandomRounds,
    options: HarnessOptions = OPTIONS,
    stop_token_ids: Sequence[int] = (),
) -> list[Recorded]:
    """Run sessions side by side under random decisions."""
    requests = [
        make_request(
            prompt,
            NUM_NEW,
            session_id=f"ses-{index}",
            sampling=sampling,
            stop_token_ids=stop_token_ids,
        )
        for index, prompt in enumerate(prompts)
    ]
    cell = EngineHarness(stack, make_drafter, options, policy=rounds.decide)
    with watch(cell, rounds.watch):
        return cell.run(*requests)


def assert_complete(recorded: Recorded) -> None:
    """Fail unless every exit is known at every position behind the prefill's token."""
    for position, reads in list(evidence_of(recorded).items())[1:]:
        assert tuple(sorted(reads)) == EXITS, f"position {position}"


@pytest.mark.parametrize(
    ("kind", "mode", "overlap", "is_split"),
    pairwise(("llama", "qwen3", "mistral-window"), list(SAMPLINGS), (False, True), (False, True)),
)
def test_full_shadow_changes_no_text_and_leaves_no_position_out(
    kind: str,
    mode: str,
    overlap: bool,
    is_split: bool,
    shelf: ModelShelf,
    sides: DraftSides,
    ties: TieCount,
) -> None:
    prompts = [make_prompt(index, 5 + 4 * index) for index in range(3)]
    rounds = RandomRounds(len(kind), watches_all=True)
    stack = sides.stack(kind, "raw")
    found = run_randomly(
        stack,
        drafter_of(sides, kind, "raw", is_split),
        prompts,
        SAMPLINGS[mode],
        rounds,
        HarnessOptions(overlap=overlap),
        stop_token_ids=[EOS_ID],
    )
    assert rounds.drawn, "nothing was drafted"
    for recorded, prompt in zip(found, prompts, strict=True):
        plain = shelf.plain(kind, prompt, NUM_NEW, SAMPLINGS[mode], [EOS_ID])
        ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, f"{kind}, {mode}")
        assert recorded.reason == plain.finish_reason
        assert_complete(recorded)
        text = [*prompt, *recorded.token_ids]
        compare(evidence_of(recorded), read_truth(stack, text, len(prompt), SAMPLINGS[mode]))


@pytest.mark.parametrize(
    ("seed", "mode", "is_split"), pairwise(range(6), list(SAMPLINGS), (False, True))
)
def test_random_shadow_plans_change_no_text_and_read_what_was_wished(
    seed: int, mode: str, is_split: bool, shelf: ModelShelf, sides: DraftSides, ties: TieCount
) -> None:
    prompts = [make_prompt(seed + index, 4 + 5 * index) for index in range(3)]
    side = SIDES[seed % len(SIDES)]
    found = run_randomly(
        sides.stack("llama", side),
        drafter_of(sides, "llama", side, is_split),
        prompts,
        SAMPLINGS[mode],
        RandomRounds(seed, watches_all=False),
        HarnessOptions(page_size=1 + 3 * (seed % 2), overlap=seed % 3 == 0),
    )
    for recorded, prompt in zip(found, prompts, strict=True):
        plain = shelf.plain("llama", prompt, NUM_NEW, SAMPLINGS[mode])
        ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, f"{side}, {mode}, {seed}")
        truth = read_truth(
            sides.stack("llama", side),
            [*prompt, *recorded.token_ids],
            len(prompt),
            SAMPLINGS[mode],
        )
        assert compare(evidence_of(recorded), truth) > 0


def compare(evidence: Evidence, truth: dict[int, Truth]) -> int:
    """Hold evidence to the truth, near ties of the exit's own choice aside; count what was held."""
    num_held = num_ties = 0
    for position, reads in evidence.items():
        for exit_layer, read in reads.items():
            track = truth[exit_layer]
            if track.gap(position) < TIE_GAP:
                num_ties += 1
                continue
            label = f"exit {exit_layer} at {position}"
            assert read.is_match == track.is_match(position), label
            assert read.confidence == pytest.approx(track.confidence(position), abs=1e-3), label
            num_held += 1
    assert num_ties <= 1 + num_held // 50, "near ties are not rare"
    return num_held


@pytest.mark.parametrize(
    ("side", "mode", "is_split"), pairwise(SIDES, list(SAMPLINGS), (False, True))
)
def test_evidence_recorded_under_other_arms_predicts_every_forced_round(
    side: str, mode: str, is_split: bool, sides: DraftSides
) -> None:
    kind, sampling, prompt = "llama-tied-biased", SAMPLINGS[mode], make_prompt(1, 7)
    stack, make_drafter = sides.stack(kind, side), drafter_of(sides, kind, side, is_split)
    rounds = RandomRounds(1, watches_all=True)
    [recorded] = run_randomly(stack, make_drafter, [prompt], sampling, rounds)
    evidence, text = evidence_of(recorded), [*prompt, *recorded.token_ids]
    truth = read_truth(stack, text, len(prompt), sampling)
    # A draft may look beyond the text's end.
    starts = range(len(prompt) + 1, len(text) - MAX_DRAFT_LEN)
    num_checked = num_kept = 0
    for exit_layer in EXITS:
        with EngineHarness(stack, make_drafter, HarnessOptions(max_waiting=len(starts))) as cell:
            requests = [force(text, len(prompt), s, exit_layer, sampling) for s in starts]
            forced = [each.rounds[1] for each in cell.run(*requests)]
        for start, each in zip(starts, forced, strict=True):
            window = range(start, start + MAX_DRAFT_LEN)
            if any(truth[exit_layer].gap(position) < TIE_GAP for position in window):
                continue
            bits = [evidence[position][exit_layer].is_match for position in window]
            expected = bits.index(False) if False in bits else MAX_DRAFT_LEN
            assert each.draft_len == MAX_DRAFT_LEN
            num_accepted = each.sources.count(TokenSource.ACCEPTED)
            assert num_accepted == expected, f"exit {exit_layer} from {start}"
            num_checked += 1
            num_kept += num_accepted
    assert num_checked > 0.9 * len(EXITS) * len(starts), "near ties are not rare"
    assert num_kept > len(starts) // 2, "hardly anything was accepted: little was predicted"


def force(
    text: Sequence[int], prompt_len: int, start: int, exit_layer: int, sampling: SamplingParams
) -> SessionRequest:
    """Return a session that goes on with a text, its first round filling positions from `start` on.

    The position before is filled by its prefill.
    """
    before = text[: start - 1]
    return make_request(
        before,
        start - prompt_len + MAX_DRAFT_LEN + 1,
        session_id=f"from-{start}",
        wished=Decision(LAYERSKIP, exit_layer, MAX_DRAFT_LEN),
        sampling=sampling,
        num_emitted=len(before) - prompt_len,
    )


@pytest.mark.parametrize("side", SIDES)
@CELLS
def test_evidence_is_what_the_exit_reader_says_of_the_finished_text(
    side: str, is_split: bool, sides: DraftSides
) -> None:
    stack, prompt = sides.stack("qwen3", side), make_prompt(3, 9)
    [recorded] = run_randomly(
        stack,
        drafter_of(sides, "qwen3", side, is_split),
        [prompt],
        GREEDY,
        RandomRounds(7, watches_all=True),
    )
    text = [*prompt, *recorded.token_ids]
    found = ExitReader(stack, len(text)).read(text, start=len(prompt) + 1)
    truth = read_truth(stack, text, len(prompt), GREEDY)
    evidence = evidence_of(recorded)
    num_matches = 0
    for index, position in enumerate(range(len(prompt) + 1, len(text))):
        for exit_layer in EXITS:
            read = evidence[position][exit_layer]
            if truth[exit_layer].gap(position) >= TIE_GAP:
                chosen = found[exit_layer].tokens[index]
                assert read.is_match == (chosen == text[position])
                confidence = found[exit_layer].confidences[index]
                assert read.confidence == pytest.approx(confidence, abs=1e-3)
                num_matches += read.is_match
    assert num_matches > 5, "no exit was ever right"


def test_without_a_wish_nothing_is_read(sides: DraftSides) -> None:
    stack, prompt = sides.stack("llama", "raw"), make_prompt(1, 6)
    wished = Decision(LAYERSKIP, 2, 3)
    with EngineHarness(stack, FusedDrafter) as cell:
        [recorded] = cell.run(make_request(prompt, 24, wished=wished))
    for position, reads in evidence_of(recorded).items():
        assert set(reads) <= {2}, f"position {position}"


def test_the_closing_row_alone_makes_the_exit_in_use_known_everywhere(sides: DraftSides) -> None:
    """A draft kept whole leaves the position behind it unknown, but for this row."""
    stack, prompt = sides.stack("llama", "raw"), make_prompt(1, 6)
    wished = Decision(LAYERSKIP, 3, 1)
    known: dict[bool, Evidence] = {}
    for closes in (False, True):
        cell = EngineHarness(stack, FusedDrafter)
        with watch(cell, lambda session, closes=closes: () if closes else None):  # type: ignore[misc]
            [recorded] = cell.run(make_request(prompt, 40, wished=wished))
        assert 2 in {len(each.token_ids) for each in recorded.rounds}, "no draft was kept whole"
        # The last token fills the limit by itself, in a plain round.
        known[closes] = dict(list(evidence_of(recorded).items())[1:-1])
    assert all(set(reads) == {3} for reads in known[True].values())
    assert not all(set(reads) == {3} for reads in known[False].values())


def test_a_plain_cell_reads_every_exit_behind_its_rows(sides: DraftSides) -> None:
    stack, prompt = sides.stack("llama", "raw"), make_prompt(3, 6)
    cell = EngineHarness(stack, PlainCell)
    with watch(cell, lambda session: EXITS):
        [recorded] = cell.run(make_request(prompt, 20, wished=Decision(LAYERSKIP, 2, 3)))
    assert recorded.summary.num_drafts == 0
    assert_complete(recorded)


def test_shadow_costs_head_rows_and_no_layer(sides: DraftSides) -> None:
    stack, draft_stack = sides.stack("llama", "raw"), sides.stack("llama", "raw", num_layers=1)
    prompt, wished = make_prompt(1, 9), Decision(LAYERSKIP, 2, 4)
    work: list[tuple[int, int, int, int]] = []
    for exits in (None, EXITS):
        cell = EngineHarness(stack, split_with(draft_stack))
        counts = (stack, draft_stack)
        before = [(each.num_row_layers, each.num_head_rows) for each in counts]
        with watch(cell, lambda session, exits=exits: exits):  # type: ignore[misc]
            [recorded] = cell.run(make_request(prompt, 30, wished=wished))
        assert isinstance(cell.drafter, SplitDrafter)
        after = [(each.num_row_layers, each.num_head_rows) for each in counts]
        (verify, draft) = (
            (now[0] - then[0], now[1] - then[1]) for now, then in zip(after, before, strict=True)
        )
        work.append((*verify, *draft))
        rounds = recorded.rounds[1:]
    drafted = [each for each in rounds if each.draft_len]
    num_plain = len(rounds) - len(drafted)
    watched = [now - then for now, then in zip(work[1], work[0], strict=True)]
    # By the draft worker exit 1 behind all rows; by the verify worker, who knows which rows are on
    # the path, 3 and 2, which drafts, behind these.
    num_verified = 2 * sum(len(each.token_ids) for each in drafted) + 3 * num_plain
    assert watched == [0, num_verified, 0, sum(each.draft_len + 1 for each in drafted)]


@pytest.mark.parametrize("mode", SAMPLINGS)
@CELLS
def test_the_governor_sees_to_it_that_every_exit_of_a_young_session_is_read(
    mode: str, is_split: bool, shelf: ModelShelf, sides: DraftSides, ties: TieCount
) -> None:
    prompt = make_prompt(3, 9)
    stack = sides.stack("llama", "raw")
    request = make_request(
        prompt,
        NUM_NEW,
        sampling=SAMPLINGS[mode],
        wished=Decision(LAYERSKIP, 2, MAX_DRAFT_LEN, reason="policy"),
    )
    request = replace(request, policy=GOODPUT, arms=EXITS)
    cell = EngineHarness(stack, drafter_of(sides, "llama", "raw", is_split), SHEDDING)
    with cell:
        [recorded] = cell.run(request)
    plain = shelf.plain("llama", prompt, NUM_NEW, SAMPLINGS[mode], [])
    ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, mode)
    # The prefill's token is no round's; the first burst lasts at least 16 positions.
    first = list(evidence_of(recorded).values())[1:17]
    assert [tuple(sorted(reads)) for reads in first] == [EXITS] * 16
