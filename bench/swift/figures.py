"""All figures of a model: scores of sets, a search, rounds, costs, combs."""

import math
import random
from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from bench.swift.costs import measure_costs
from bench.swift.rounds import Online, compare_combs
from bench.swift.texts import Bench, Text
from shared.control.skip_search.bayes import propose_set
from shared.control.skip_search.candidates import CandidateSource
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.set_search import SetSearch
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.speculation.skip_set import SkipSet, num_open, random_set

MAX_SETS = 800
NUM_SAMPLED = 120


def run(bench: Bench, share: float) -> dict[str, Any]:
    """Return all figures; a search may take a share of the time of the rounds beside it."""
    half = len(bench.texts) // 2
    seen, held_out = bench.texts[:half], bench.texts[half:]
    options = SearchOptions(bench.num_layers, num_challengers=3)
    record = search_offline(bench, options, seen)
    found = record.skip_set
    # Before rounds write KV of their own over the texts'.
    scores = score_sets(bench, options, found, held_out)
    costs = measure_costs(bench, found)
    budget = SearchBudget(share)
    online = Online(bench, StreamRecord(options.start_set), options)
    with_search = online.run(bench.texts, budget)
    used = Online(bench, StreamRecord(found, phase=Phase.LOCKED), options)
    rounds = used.run(held_out, SearchBudget(0.0)).figures()
    return {
        "num_layers": bench.num_layers,
        "num_skipped": options.num_skipped,
        **scores,
        "search": {
            "found_set": list(found.to_wire()),
            "phase": record.phase.value,
            "evaluations": record.num_evaluations,
            "version": record.version,
        },
        "costs": costs
        | {
            "c": costs["draft_step_us"] / costs["plain_step_us"],
            "kept_share": 1 - options.num_skipped / (2 * bench.num_layers),
        },
        "held_out_rounds": rounds,
        "combs": compare_combs(bench, found, held_out),
        "predicted_speedup": predicted_speedup(rounds, costs),
        "online": with_search.figures()
        | {
            "search_share_asked": share,
            "search_share_measured": budget.spent_ns / (budget.steps_ns + budget.spent_ns),
            "evaluations": online.record.num_evaluations,
        },
    }


def run_combs(bench: Bench) -> dict[str, Any]:
    """Return the figures of combs alone: counts, which no load of the machine disturbs."""
    half = len(bench.texts) // 2
    options = SearchOptions(bench.num_layers, num_challengers=3)
    found = search_offline(bench, options, bench.texts[:half]).skip_set
    return {
        "num_layers": bench.num_layers,
        "num_skipped": options.num_skipped,
        "found_set": list(found.to_wire()),
        "combs": compare_combs(bench, found, bench.texts[half:]),
    }


def score_sets(
    bench: Bench, options: SearchOptions, found: SkipSet, texts: list[Text]
) -> dict[str, Any]:
    """Score the set found beside all others of its size, or a sample of them."""
    num_sets = math.comb(num_open(bench.num_layers), options.num_skipped)
    draw = random.Random(0)
    sets = {
        random_set(bench.num_layers, options.num_skipped, draw)
        for _ in range(num_sets * 12 if num_sets <= MAX_SETS else NUM_SAMPLED)
    }
    scores = sorted(bench.mean_score(each, texts) for each in sets)
    found_score = bench.mean_score(found, texts)
    return {
        "num_sets": num_sets,
        "num_sets_scored": len(sets),
        "held_out_score": {
            "start_set": bench.mean_score(options.start_set, texts),
            "found_set": found_score,
            "random_median": median(scores),
            "random_best": scores[-1],
            "share_of_sets_as_good": mean(each >= found_score for each in scores),
            "empty_set": bench.mean_score(SkipSet(), texts),
        },
    }


def predicted_speedup(rounds: Mapping[str, float], costs: Mapping[str, float]) -> float:
    """Predict from what steps cost; a pass of fewer rows than measured may take a little less."""
    mean_len = rounds["num_drafted"] / rounds["num_rounds"]
    round_us = mean_len * costs["draft_step_us"] + costs["verify_pass_us"]
    return rounds["tokens_per_round"] * costs["plain_step_us"] / round_us


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
