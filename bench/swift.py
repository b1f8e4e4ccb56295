"""Method `swift` at small scale: sets and their scores, a search, acceptance, cost and speed.

    python -m bench.swift --model DIR [--tokens N] [--threads N] [--out FILE]

One process, one session, greedy, against plain decoding of the same texts. Half of the prompts are
searched on, the other half is held out. With eight layers and fewer all sets are scored, else a
sample. The search then runs online, between rounds and within its share of their time; what it
takes is measured. Writes bench/results/swift-MODEL-MACHINE.json.
"""

import argparse
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from tokenizers import Tokenizer

from bench.decode import RESULTS, absolute, machine_slug
from shared.control.skip_search.bayes import propose_set
from shared.control.skip_search.candidates import CandidateSource
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.set_search import SetSearch
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.ids import SessionId, TokenId
from shared.model.draft_runner import StackDraftRunner
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import load_stack
from shared.model.page_table import PageTable, num_pages_for
from shared.model.plain import PlainDecoder, pool_layout
from shared.model.rows import SessionRows, pack_rows
from shared.model.sampling import RowChoice
from shared.model.segment import LocalSegment
from shared.model.skip_scores import SkipScorer
from shared.speculation.drafting import draft_rounds
from shared.speculation.methods.swift import STOP_THRESHOLD
from shared.speculation.skip_set import SkipSet, num_open, random_set
from shared.speculation.vocabulary import (
    SWIFT,
    Decision,
    Extent,
    RoundTask,
    SamplingParams,
    StopParams,
)
from shared.telemetry.machine import describe_machine

GREEDY = SamplingParams()
PAGE_SIZE = 16
WINDOW_LEN = 32
MAX_SETS = 800
NUM_SAMPLED = 120
DRAFT_LEN = 7
NUM_RUNS = 30


@dataclass
class Text:
    """A prompt and its plain continuation, with exact KV of all of it in a pool of its own."""

    prompt_len: int
    tokens: list[TokenId]
    pool: KVPool = field(repr=False)

    @property
    def num_new(self) -> int:
        """Tokens of the continuation."""
        return len(self.tokens) - self.prompt_len

    @property
    def windows(self) -> list[int]:
        """First inputs of windows behind the opening, page by page, none of them overlapping."""
        first = -(-(self.prompt_len + WINDOW_LEN) // PAGE_SIZE) * PAGE_SIZE
        return list(range(first, len(self.tokens) - WINDOW_LEN, WINDOW_LEN))


class Bench:
    """A model and texts that it wrote."""

    def __init__(self, model: Path, prompts: list[list[int]], num_tokens: int) -> None:
        self.stack = load_stack(model)
        self.num_layers = self.stack.config.num_layers
        self._decoder = PlainDecoder(model, stack=self.stack)
        self.texts = [self._write(prompt, num_tokens) for prompt in prompts]

    def _write(self, prompt: list[int], num_tokens: int) -> Text:
        room = self.stack.config.max_context_len - len(prompt) - DRAFT_LEN - 1
        stop = StopParams(min(num_tokens, room))
        found = self._decoder.generate(prompt, GREEDY, stop, with_gaps=False)
        tokens = [TokenId(token) for token in (*prompt, *found.token_ids)]
        num_positions = len(tokens) + DRAFT_LEN + 1 + WINDOW_LEN + PAGE_SIZE
        layout = pool_layout(self.stack, num_positions, PAGE_SIZE)
        pool = KVPool(LocalSegment(layout.size_bytes, self.stack.device), layout)
        rows = pack_rows([SessionRows(table_of(pool), tokens, 0)], self.stack.rope_table_P1C)
        with torch.inference_mode():
            self.stack.run(self.stack.embed(rows), 0, self.num_layers, rows, pool.layers)
        return Text(len(prompt), tokens, pool)

    def plain_ns(self, text: Text) -> int:
        """Return the time that plain decoding of a text takes now, its prompt left out."""
        prompt, stop = text.tokens[: text.prompt_len], StopParams(text.num_new)
        return self._decoder.generate(prompt, GREEDY, stop, with_gaps=False).decode_ns

    def score(self, skip_set: SkipSet, text: Text, start: int) -> float:
        """Return the share of a window's answers that a set would have drafted."""
        num_pages = num_pages_for(WINDOW_LEN, PAGE_SIZE)
        last = text.pool.layout.num_pages
        spare = Extent(last - num_pages, num_pages)
        table = PageTable([Extent(0, start // PAGE_SIZE), spare], PAGE_SIZE)
        end = start + WINDOW_LEN
        rows = [RowChoice(GREEDY, position + 1) for position in range(start, end)]
        with torch.inference_mode():
            scorer = SkipScorer(self.stack, text.pool)
            found = scorer.choices(skip_set, table, text.tokens[start:end], start, rows)
        pairs = zip(found, text.tokens[start + 1 : end + 1], strict=True)
        return mean(a == b for a, b in pairs)

    def mean_score(self, skip_set: SkipSet, texts: list[Text]) -> float:
        """Return the mean score over all windows of some texts."""
        return mean(self.score(skip_set, text, start) for text in texts for start in text.windows)


def table_of(pool: KVPool) -> PageTable:
    """Return a table of all of a pool."""
    return PageTable([Extent(0, pool.layout.num_pages)], PAGE_SIZE)


def search_offline(bench: Bench, options: SearchOptions, texts: list[Text]) -> StreamRecord:
    """Search on windows of texts, again and again, until the search ends."""
    source = CandidateSource(options, 1, lambda seen, seed: propose_set(options, seen, seed))
    record, search = StreamRecord(options.start_set), SetSearch(options, source)
    windows = [(text, start) for text in texts for start in text.windows]
    random.Random(1).shuffle(windows)
    index = 0
    while (trial := search.next_trial(record, ())) is not None:
        text, start = windows[index % len(windows)]
        scores = {each: bench.score(each, text, start) for each in trial.sets}
        search.note_trial(record, trial, scores)
        index += 1
    return record


@dataclass
class Rounds:
    """What drafting and verifying did along texts."""

    num_rounds: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_tokens: int = 0
    step_ns: int = 0
    plain_ns: int = 0
    num_differences: int = 0

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
                n = self._round(text, n, rounds)
                step_ns = time.perf_counter_ns() - started_ns
                rounds.step_ns += step_ns
                budget.earn(step_ns)
                if windows and windows[0] + WINDOW_LEN < n:
                    self._look(text, windows, budget)
            rounds.plain_ns += (plain_ns + self._bench.plain_ns(text)) // 2
        return rounds

    def _round(self, text: Text, n: int, rounds: Rounds) -> int:
        bench, stack = self._bench, self._bench.stack
        draft_len = min(DRAFT_LEN, len(text.tokens) - n)
        decision = Decision(SWIFT, 0, draft_len, STOP_THRESHOLD)
        extents = table_of(text.pool).extents
        task = RoundTask(
            SessionId("s"), rounds.num_rounds, extents, 0, (text.tokens[n - 1],), n,
            text.prompt_len, decision, GREEDY, skip_set=self.record.skip_set,
        )  # fmt: skip
        with torch.inference_mode():
            (draft,) = draft_rounds([task], StackDraftRunner(stack, text.pool))
            tokens = [text.tokens[n - 1], *draft.draft_tokens]
            rows = pack_rows(
                [SessionRows(table_of(text.pool), tokens, n - 1)], stack.rope_table_P1C
            )
            x_RD = stack.run(stack.embed(rows), 0, bench.num_layers, rows, text.pool.layers)
            target = stack.head(x_RD).argmax(-1).tolist()
        num_accepted = 0
        while num_accepted < len(draft.draft_tokens) and (
            draft.draft_tokens[num_accepted] == target[num_accepted]
        ):
            num_accepted += 1
        known = text.tokens[n : n + num_accepted + 1]
        # Near ties, where sums of more rows fall out otherwise; the text goes on as it was.
        rounds.num_differences += target[: len(known)] != known
        rounds.num_rounds += 1
        rounds.num_drafted += len(draft.draft_tokens)
        rounds.num_accepted += num_accepted
        kept = min(num_accepted + 1, len(text.tokens) - n)
        rounds.num_tokens += kept
        self._search.note_round(self.record, len(draft.draft_tokens), num_accepted)
        return n + kept

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


def measure_costs(bench: Bench, skip_set: SkipSet) -> dict[str, float]:
    """Return median times of one row of all layers, one less the set, and a verify pass, in us."""
    stack, text = bench.stack, bench.texts[0]
    at = text.prompt_len + WINDOW_LEN
    table = table_of(text.pool)

    def timed(num_rows: int, skipped: SkipSet | None) -> float:
        tokens = text.tokens[at : at + num_rows]
        taken = []
        for _ in range(NUM_RUNS):
            started_ns = time.perf_counter_ns()
            rows = pack_rows([SessionRows(table, tokens, at)], stack.rope_table_P1C)
            x_RD = stack.embed(rows)
            if skipped is None:
                x_RD = stack.run(x_RD, 0, bench.num_layers, rows, text.pool.layers)
            else:
                x_RD = stack.run_without(skipped, x_RD, rows, text.pool.layers)
            stack.head(x_RD).argmax(-1).tolist()
            taken.append((time.perf_counter_ns() - started_ns) / 1e3)
        return median(taken)

    with torch.inference_mode():
        # What was drafted over is written anew by the full model first.
        return {
            "draft_step_us": timed(1, skip_set),
            "plain_step_us": timed(1, None),
            "verify_pass_us": timed(DRAFT_LEN + 1, None),
        }


def run(bench: Bench, share: float) -> dict[str, Any]:
    """Return all figures."""
    half = len(bench.texts) // 2
    seen, held_out = bench.texts[:half], bench.texts[half:]
    options = SearchOptions(bench.num_layers, num_challengers=3)
    num_sets = math.comb(num_open(bench.num_layers), options.num_skipped)
    draw = random.Random(0)
    sets = {
        random_set(bench.num_layers, options.num_skipped, draw)
        for _ in range(num_sets * 12 if num_sets <= MAX_SETS else NUM_SAMPLED)
    }
    scores = sorted(bench.mean_score(each, held_out) for each in sets)
    record = search_offline(bench, options, seen)
    found, found_score = record.skip_set, bench.mean_score(record.skip_set, held_out)
    costs = measure_costs(bench, found)
    c = costs["draft_step_us"] / costs["plain_step_us"]
    budget = SearchBudget(share)
    online = Online(bench, StreamRecord(options.start_set), options)
    with_search = online.run(bench.texts, budget)
    used = Online(bench, StreamRecord(found, phase=Phase.LOCKED), options)
    without = used.run(held_out, SearchBudget(0.0)).figures()
    # As long as drafts were in the mean; a pass of fewer rows than measured may take a little less.
    mean_len = without["num_drafted"] / without["num_rounds"]
    round_us = mean_len * costs["draft_step_us"] + costs["verify_pass_us"]
    return {
        "num_layers": bench.num_layers,
        "num_skipped": options.num_skipped,
        "num_sets": num_sets,
        "num_sets_scored": len(sets),
        "held_out_score": {
            "start_set": bench.mean_score(options.start_set, held_out),
            "found_set": found_score,
            "random_median": median(scores),
            "random_best": scores[-1],
            "share_of_sets_as_good": mean(each >= found_score for each in scores),
            "empty_set": bench.mean_score(SkipSet(), held_out),
        },
        "search": {
            "found_set": list(found.to_wire()),
            "phase": record.phase.value,
            "evaluations": record.num_evaluations,
            "version": record.version,
        },
        "costs": costs | {"c": c, "kept_share": 1 - options.num_skipped / (2 * bench.num_layers)},
        "held_out_rounds": without,
        "predicted_speedup": without["tokens_per_round"] * costs["plain_step_us"] / round_us,
        "online": with_search.figures()
        | {
            "search_share_asked": share,
            "search_share_measured": budget.spent_ns / (budget.steps_ns + budget.spent_ns),
            "evaluations": online.record.num_evaluations,
        },
    }


def main(arguments: list[str]) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("models/shortstack-10m"))
    parser.add_argument(
        "--prompt", action="append", help="may be given again; even numbers of them"
    )
    parser.add_argument("--tokens", type=int, default=224, help="of each text")
    parser.add_argument("--share", type=float, default=0.02, help="of the time, for the search")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=absolute)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    prompts = options.prompt or PROMPTS
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    bench = Bench(options.model, [tokenizer.encode(each).ids for each in prompts], options.tokens)
    machine = asdict(describe_machine())
    figures = {"model": options.model.name, "machine": machine} | run(bench, options.share)
    out = options.out or RESULTS / f"swift-{options.model.name}-{machine_slug(machine)}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    print(out)


PROMPTS = [
    "Once upon a time, there was a little girl named Lily. She",
    "Tom and Ben went to the park. They saw",
    "One day, a small dog found a big red ball. He",
    "Mia had a toy boat. She put it in the water and",
    "The sun was hot and the bird was thirsty. It",
    "Sam wanted to bake a cake with his mom. They",
]


if __name__ == "__main__":
    main(sys.argv[1:])
