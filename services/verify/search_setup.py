"""Puts together who looks for the skip sets of a cell's task streams."""

from services.verify.cell_store import CellStore
from services.verify.memory import SessionMemory
from services.verify.set_search import SetSearcher
from services.verify.settings import SwiftSettings
from shared.control.load_governor import LoadGovernor
from shared.control.skip_search.bayes import BackgroundProposer
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_book import StreamBook
from shared.model.layer_stack import LayerStack
from shared.model.skip_scores import SkipScorer


def make_searcher(
    settings: SwiftSettings,
    stack: LayerStack,
    memory: SessionMemory,
    governor: LoadGovernor,
    store: CellStore,
) -> SetSearcher:
    """Return the searcher of a cell whose stack has a head to draft with."""
    options = SearchOptions(
        stack.config.num_layers,
        settings.skip_ratio,
        settings.window_len,
        settings.max_score,
        num_challengers=settings.num_challengers,
        interval_rounds=settings.interval_rounds,
    )
    return SetSearcher(
        StreamBook(options, BackgroundProposer(options), settings.max_live_sets),
        SearchBudget(settings.search_share),
        SkipScorer(stack, memory.pool),
        memory,
        governor,
        store.link_streams(options),
    )
