"""`python -m bench.swift`: rounds along a text that is known, and combs beside their chains."""

import pytest

from bench.swift.rounds import DRAFT_LEN, Online, compare_combs, play_round
from bench.swift.texts import Bench
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.speculation.skip_set import NOTHING_SKIPPED, SkipSet
from tests.model_builder import NUM_LAYERS, write_model

SKIPPED = SkipSet.from_wire((1,))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    model = write_model(tmp_path_factory.mktemp("swift") / "model")
    return Bench(model, [[5, 9, 12, 7], [8, 3, 20]], 40)


def test_a_draft_with_nothing_left_out_is_the_text(bench: Bench) -> None:
    text = bench.texts[0]
    played = play_round(bench, text, text.prompt_len + 1, NOTHING_SKIPPED)
    # The round is short where the draft was unsure, but never wrong.
    assert 1 <= played.num_drafted == played.num_accepted <= DRAFT_LEN
    assert (played.num_tokens, played.is_hit, played.is_same) == (
        played.num_drafted + 1, False, True,
    )  # fmt: skip


def test_from_the_same_starts_a_comb_commits_what_its_chain_does_and_what_its_leaves_hit(
    bench: Bench,
) -> None:
    found = compare_combs(bench, SKIPPED, bench.texts)
    assert found["num_rounds_with_fewer_tokens"] == found["num_differences"] == 0
    assert found["num_leaf_hits"] > 0
    tokens, num_rounds = found["tokens_per_round"], found["num_rounds"]
    # A leaf at the end of a text may add nothing.
    gained = round((tokens["comb"] - tokens["chain"]) * num_rounds)
    assert found["num_leaf_hits"] - len(bench.texts) <= gained <= found["num_leaf_hits"]
    assert found["leaves_per_round"] > 0


def test_every_token_of_a_text_is_committed_once(bench: Bench) -> None:
    used = Online(bench, StreamRecord(SKIPPED, phase=Phase.LOCKED), SearchOptions(NUM_LAYERS))
    rounds = used.run(bench.texts, SearchBudget(0.0))
    assert rounds.num_tokens == sum(text.num_new - 1 for text in bench.texts)
    assert rounds.num_differences == 0
