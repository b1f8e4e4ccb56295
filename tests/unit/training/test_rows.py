"""Rows: pure functions of seed and index, in the shares asked for, labels where they belong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TrainingError
from training.rows import IGNORED, Example, Mixture, TaskRows, TextRows, corpus_of

END, PAD = 0, 1


def text_of(num_tokens: int, document_len: int = 10, first: int = 2) -> TextRows:
    """Tokens that count upwards, so that each names its place; END every document_len."""
    tokens = np.arange(first, first + num_tokens)
    tokens[document_len - 1 :: document_len] = END
    return TextRows("text", corpus_of(tokens.astype(np.uint16), END))


def tasks_of(lengths: Sequence[tuple[int, int]]) -> TaskRows:
    """Examples of so many prompt and completion tokens."""
    examples = [
        Example([*range(10, 10 + p)], [*range(50, 50 + c - 1), END], f"tasks.jsonl:{number}")
        for number, (p, c) in enumerate(lengths, start=1)
    ]
    return TaskRows("tasks", examples, PAD)


def mixture_of(shares: Sequence[float], rows_per_step: int = 8, seed: int = 3) -> Mixture:
    sources = {f"text{index}": text_of(500, first=1 + 1000 * index) for index in range(len(shares))}
    return Mixture(sources, shares, seed, num_steps=50, rows_per_step=rows_per_step, row_len=12)


def test_rows_are_pure_functions_of_seed_and_index() -> None:
    first, second = mixture_of([0.5, 0.5]), mixture_of([0.5, 0.5])
    indices = list(range(0, 400, 7))
    expected = {index: first[index]["input_ids"] for index in indices}
    for index in reversed(indices):
        assert torch.equal(second[index]["input_ids"], expected[index])
    other = mixture_of([0.5, 0.5], seed=4)
    assert any(not torch.equal(other[i]["input_ids"], expected[i]) for i in indices)


def test_a_longer_run_begins_with_the_rows_of_a_shorter_one() -> None:
    mixture = mixture_of([0.5, 0.5])
    longer = replace(mixture, num_steps=90)
    assert (len(mixture), len(longer)) == (400, 720)
    assert all(torch.equal(mixture[i]["labels"], longer[i]["labels"]) for i in range(0, 400, 9))


def test_rows_come_again_after_an_epoch_where_one_is_asked_for() -> None:
    endless = replace(mixture_of([0.5, 0.5]), long_row_len=16, long_share=0.3)
    mixture = replace(endless, epoch_steps=6)
    row_lens = [mixture.row_len_of(step) for step in range(20)]
    assert row_lens == [endless.row_len_of(step % 6) for step in range(20)]
    epoch_len = 6 * mixture.rows_per_step
    for index in range(epoch_len):
        for again in (index, epoch_len + index, 2 * epoch_len + index):
            assert torch.equal(mixture[again]["input_ids"], endless[index]["input_ids"])
    assert not torch.equal(endless[epoch_len]["input_ids"], endless[0]["input_ids"])


@given(
    parts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    rows_per_step=st.integers(1, 40),
    step=st.integers(0, 1000),
)
def test_every_step_has_the_shares_to_within_one_row(
    parts: list[int], rows_per_step: int, step: int
) -> None:
    shares = [part / sum(parts) for part in parts]
    mixture = mixture_of(shares, rows_per_step)
    counts = Counter(mixture.source_of(step, row) for row in range(rows_per_step))
    for source, share in enumerate(shares):
        assert abs(counts[source] - share * rows_per_step) <= 1 + 1e-9


def test_small_sources_get_their_share_over_many_steps() -> None:
    mixture = mixture_of([0.9, 0.1], rows_per_step=1)
    found = sum(mixture.source_of(step, 0) for step in range(4000)) / 4000
    assert found == pytest.approx(0.1, abs=0.02)


def test_long_steps_have_their_share_and_fall_on_every_phase_of_a_rotation() -> None:
    mixture = replace(mixture_of([1.0]), long_row_len=40, long_share=0.25)
    long_steps = [step for step in range(4000) if mixture.row_len_of(step) == 40]
    assert len(long_steps) / 4000 == pytest.approx(0.25, abs=0.03)
    for count in Counter(step % 4 for step in long_steps).values():
        assert count / len(long_steps) == pytest.approx(0.25, abs=0.05)


def test_the_rows_of_a_step_have_one_length_and_are_counted_by_it() -> None:
    mixture = replace(mixture_of([0.5, 0.5]), long_row_len=40, long_share=0.5)
    lengths = [{len(mixture[8 * step + row]["labels"]) for row in range(8)} for step in range(20)]
    assert {frozenset(found) for found in lengths} == {frozenset({12}), frozenset({40})}
    assert mixture.num_tokens(20) == sum(8 * min(found) for found in lengths)


@given(row_len=st.integers(2, 60), key=st.integers(0, 10_000))
def test_the_labels_of_text_are_the_tokens_that_follow(row_len: int, key: int) -> None:
    rows = text_of(100)
    row = rows.draw(row_len, (key,))
    assert row["input_ids"].shape == row["labels"].shape == (row_len,)
    assert torch.equal(row["input_ids"][1:], row["labels"][:-1])
    tokens = rows.corpus.tokens.tolist()
    window = [*row["input_ids"].tolist(), int(row["labels"][-1])]
    assert any(tokens[at : at + row_len + 1] == window for at in range(len(tokens) - row_len))


def test_the_first_and_the_last_window_of_a_text_are_drawn() -> None:
    rows = text_of(14, document_len=100)
    starts = {int(rows.draw(12, (key,))["input_ids"][0]) for key in range(100)}
    assert starts == {2, 3}
    exact = text_of(13, document_len=100)
    assert exact.draw(12, (0,))["labels"][-1] == exact.corpus.tokens[-1]


def test_half_of_the_rows_that_could_begin_with_their_document_do() -> None:
    rows = text_of(5000)
    starts = set(rows.corpus.tokens[rows.corpus.starts].tolist())
    found = [int(rows.draw(12, (key,))["input_ids"][0]) in starts for key in range(2000)]
    assert sum(found) / len(found) == pytest.approx(0.5 + 0.5 / 10, abs=0.05)


def test_documents_start_behind_the_end_tokens() -> None:
    assert text_of(25).corpus.starts.tolist() == [0, 10, 20]
    assert text_of(20).corpus.starts.tolist() == [0, 10]


@given(prompt=st.integers(1, 10), completion=st.integers(1, 10), room=st.integers(0, 20))
def test_of_a_task_only_the_completion_is_learnt(prompt: int, completion: int, room: int) -> None:
    row_len = prompt + completion - 1 + room
    rows = tasks_of([(prompt, completion)])
    (example,) = rows.examples
    row = rows.draw(row_len, (5,))
    inputs, labels = row["input_ids"].tolist(), row["labels"].tolist()
    assert len(inputs) == len(labels) == row_len
    assert inputs[: prompt + completion - 1] == [*example.prompt, *example.completion][:-1]
    assert inputs[prompt + completion - 1 :] == [PAD] * room
    learnt = [place for place, label in enumerate(labels) if label != IGNORED]
    assert learnt == list(range(prompt - 1, prompt - 1 + completion))
    assert [labels[place] for place in learnt] == example.completion


def test_all_tasks_are_drawn() -> None:
    rows = tasks_of([(length, 2) for length in range(1, 6)])
    lengths = {rows.draw(8, (key,))["labels"].tolist().index(50) for key in range(100)}
    assert lengths == {0, 1, 2, 3, 4}


def test_a_task_that_is_too_long_is_named_by_its_place() -> None:
    rows = tasks_of([(3, 3), (8, 6)])
    rows.check([13])
    with pytest.raises(TrainingError, match=r"tasks\.jsonl:2: 14 tokens do not fit a row of 12;"):
        rows.check([12, 40])


def test_text_shorter_than_the_longest_row_is_refused() -> None:
    text_of(41).check([12, 40])
    with pytest.raises(TrainingError, match=r"text: 40 tokens make no row of 40; add text"):
        text_of(40).check([12, 40])


def test_held_out_rows_are_spread_and_always_the_same() -> None:
    rows = text_of(200)
    first, second = rows.spread(5, 12), rows.spread(5, 12)
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(first, second, strict=True))
    starts = [int(row["input_ids"][0]) for row in first]
    assert starts[0] == 2
    assert starts == sorted(starts)
    assert first[-1]["labels"][-1] == rows.corpus.tokens[-1]


def test_held_out_rows_do_not_overlap_when_there_is_little_text() -> None:
    assert len(text_of(40).spread(50, 12)) == 3
    assert len(text_of(13).spread(50, 12)) == 1
    assert len(tasks_of([(1, 2)] * 3).spread(50, 12)) == 3
