"""Many sessions in too little memory: every text is that of plain decoding of its request alone.

Beginnings are shared, pages are promised, evicted and taken away, draft workers stall, die and
write late, clients pause and give up: none of that may show in a text, and nobody may wait for
ever. The machine drives a fused cell step by step on the test's own thread, so that what is drawn
is what happens.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from shared.control.fair_queue import Priority
from shared.speculation.vocabulary import KANGAROO, LAYERSKIP
from tests.golden.moody_drafter import Mood
from tests.golden.pairwise import pairwise
from tests.golden.reference import ModelShelf, TieCount
from tests.golden.stepped_cell import KIND, SteppedCell, tight_options
from tests.golden.traffic import (
    MAX_NEW,
    SAMPLINGS,
    Arrival,
    TextCheck,
    Traffic,
    random_arrival,
)

SHARINGS = ("all", "tenant", "off")
# Whether drafting and verifying overlap; as measured in life, where it may change at any step.
MODES = ("one batch", "overlap", "changing")

arrivals = st.builds(
    Arrival,
    prefix=st.integers(0, 3),
    tail_len=st.integers(0, 6),
    tail_seed=st.integers(0, 2),
    num_new=st.integers(1, MAX_NEW),
    sampling=st.integers(0, len(SAMPLINGS) - 1),
    has_stop_ids=st.booleans(),
    num_logprobs=st.sampled_from((None, 2)),
    exit_layer=st.integers(1, 3),
    draft_len=st.integers(0, 7),
    threshold=st.sampled_from((0.0, 0.4)),
    tenant=st.sampled_from(("", "ann")),
    priority=st.sampled_from(Priority),
    is_pinned=st.booleans(),
)


# --- drawn operation by operation -----------------------------------------------------------------


class CellMachine(RuleBasedStateMachine):
    """One cell; the rules are all that clients and draft workers can do to it.

    No rule depends on the cell's state: with `sheds` the clock has a say in that.
    """

    shelf: ModelShelf
    ties: TieCount
    folder: Path
    mode: str

    @initialize(
        page_size=st.sampled_from((2, 4)),
        sheds=st.booleans(),
        sharing=st.sampled_from(SHARINGS),
        chunk_len=st.sampled_from((4, 16)),
        first=st.lists(arrivals, min_size=2, max_size=5),
    )
    def start(
        self, page_size: int, sheds: bool, sharing: str, chunk_len: int, first: list[Arrival]
    ) -> None:
        options = tight_options(page_size, self.mode == "overlap", sheds, sharing, chunk_len)
        self.cell = SteppedCell(
            self.shelf.stack(KIND), options, self.folder, changes=self.mode == "changing"
        ).__enter__()
        self.traffic = Traffic(self.cell, TextCheck(self.shelf, KIND, self.ties))
        for arrival in first:
            self.traffic.arrive(arrival)

    @rule(arrival=arrivals)
    def arrive(self, arrival: Arrival) -> None:
        self.traffic.arrive(arrival)
        self.traffic.step()

    @rule(num_steps=st.integers(1, 8))
    def go_on(self, num_steps: int) -> None:
        self.traffic.step(num_steps)

    @rule(index=st.integers(0, 7))
    def give_up(self, index: int) -> None:
        self.traffic.give_up(index)
        self.traffic.step()

    @rule(index=st.integers(0, 7))
    def pause(self, index: int) -> None:
        self.traffic.pause(index)

    @rule()
    def resume_all(self) -> None:
        self.traffic.resume_all()
        self.traffic.step()

    @rule(mood=st.sampled_from(Mood), num_steps=st.integers(1, 3))
    def change_mood(self, mood: Mood, num_steps: int) -> None:
        self.cell.drafter.mood = mood
        self.traffic.step(num_steps)

    @rule()
    def answer(self) -> None:
        self.cell.drafter.answer()
        self.traffic.step()

    @rule(lives_on=st.booleans(), is_replaced=st.booleans())
    def lose_draft_worker(self, lives_on: bool, is_replaced: bool) -> None:
        self.cell.drafter.lose(lives_on=lives_on)
        if is_replaced:
            self.cell.drafter.attach()
        self.traffic.step()

    @rule()
    def mend(self) -> None:
        self.traffic.mend()
        self.traffic.step(2)

    def teardown(self) -> None:
        if not hasattr(self, "cell"):
            return
        try:
            self.traffic.finish()
        finally:
            self.cell.__exit__()


@pytest.mark.parametrize("mode", MODES)
def test_whatever_happens_texts_are_plain_texts_and_everybody_ends(
    mode: str, shelf: ModelShelf, ties: TieCount, tmp_path: Path
) -> None:
    class Machine(CellMachine):
        pass

    Machine.shelf, Machine.ties, Machine.mode = shelf, ties, mode
    Machine.folder = tmp_path
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=14,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            # Shrinking takes longer than a test may: the steps of a failure are printed as drawn.
            phases=(Phase.generate,),
        ),
    )


# --- fixed seeds ----------------------------------------------------------------------------------


@dataclass
class Pressure:
    """What really happened, over some runs."""

    num_preemptions: int = 0
    num_fenced: int = 0
    num_hits: int = 0
    num_drafts: int = 0

    def add(self, cell: SteppedCell) -> None:
        """Count a cell's."""
        self.num_preemptions += cell.roster.num_preemptions
        self.num_fenced += cell.rounds.num_fenced
        self.num_hits += cell.memory.num_prefix_tokens_hit
        self.num_drafts += cell.roster.summary.num_drafts


def stall(traffic: Traffic, mood: Mood) -> None:
    """Let a sound draft worker leave its next message, or half of it, unanswered."""
    traffic.mend()
    traffic.step()
    traffic.cell.drafter.mood = mood


def disturb(traffic: Traffic, draw: random.Random) -> None:
    """Do one random thing."""
    drafter = traffic.cell.drafter
    disturbances: list[Callable[[], object]] = [
        lambda: traffic.give_up(draw.randrange(8)),
        lambda: traffic.pause(draw.randrange(8)),
        traffic.resume_all,
        lambda: setattr(drafter, "mood", draw.choice(list(Mood))),
        lambda: stall(traffic, Mood.SILENT),
        lambda: stall(traffic, Mood.HALF),
        drafter.answer,
        lambda: drafter.lose(lives_on=draw.random() < 0.5),
        drafter.attach,
        traffic.mend,
        traffic.mend,
    ]
    draw.choice(disturbances)()


def run_traffic(
    traffic: Traffic,
    seed: int,
    num_sessions: int,
    disturbance: float,
    methods: Sequence[str] = (LAYERSKIP,),
) -> None:
    """Let sessions come in bursts, a few steps apart, and run all to their ends."""
    draw = random.Random(seed)
    # Short prompts that are let in together and then grow beyond the pool.
    for index in range(5):
        traffic.arrive(Arrival(tail_len=1, tail_seed=index, num_new=MAX_NEW, sampling=index % 4))
    if disturbance:
        traffic.step(6)
        stall(traffic, Mood.SILENT)
        traffic.step(3)
    for index in range(num_sessions):
        traffic.arrive(random_arrival(draw, methods))
        for _ in range(draw.randrange(16) if index % 4 == 3 else 0):
            if draw.random() < disturbance:
                disturb(traffic, draw)
            traffic.step()
    traffic.finish()


@pytest.mark.parametrize(("mode", "sheds", "sharing"), pairwise(MODES, (False, True), SHARINGS))
def test_texts_under_pressure_are_plain_texts(
    mode: str,
    sheds: bool,
    sharing: str,
    shelf: ModelShelf,
    ties: TieCount,
    tmp_path: Path,
) -> None:
    pressure = Pressure()
    for page_size, disturbance in ((4, 0.0), (2, 0.4)):
        options = tight_options(page_size, mode == "overlap", sheds, sharing)
        stack, changes = shelf.stack(KIND), mode == "changing"
        with SteppedCell(stack, options, tmp_path, changes=changes) as cell:
            traffic = Traffic(cell, TextCheck(shelf, KIND, ties))
            run_traffic(traffic, 7 * page_size + MODES.index(mode), 8, disturbance)
            pressure.add(cell)
    assert pressure.num_preemptions > 0, "the pool was too large to prove anything"
    assert (pressure.num_hits > 0) == (sharing != "off")
    if not sheds:
        assert pressure.num_fenced > 0
        assert pressure.num_drafts > 20


@pytest.mark.parametrize("mode", MODES)
def test_adapters_under_pressure_draft_plain_texts_and_leave_their_kv_in_every_shared_page(
    mode: str, shelf: ModelShelf, ties: TieCount, tmp_path: Path
) -> None:
    """Both methods among sessions that are preempted, fenced, replayed and share beginnings."""
    pressure = Pressure()
    stack = shelf.adapted(KIND)
    for page_size, disturbance in ((4, 0.0), (2, 0.4)):
        options = tight_options(page_size, mode == "overlap", False, "all")
        with SteppedCell(stack, options, tmp_path, changes=mode == "changing") as cell:
            traffic = Traffic(cell, TextCheck(shelf, KIND, ties))
            run_traffic(traffic, 5 * page_size, 8, disturbance, (LAYERSKIP, KANGAROO))
            pressure.add(cell)
    assert pressure.num_preemptions > 0 and pressure.num_hits > 0 and pressure.num_fenced > 0
    assert pressure.num_drafts > 20


def test_the_next_turn_of_a_text_finds_its_pages_and_copies_where_it_goes_on_otherwise(
    shelf: ModelShelf, ties: TieCount, tmp_path: Path
) -> None:
    options = tight_options(4, overlap=False, sheds=False, sharing="all")
    with SteppedCell(shelf.stack(KIND), options, tmp_path) as cell:
        traffic = Traffic(cell, TextCheck(shelf, KIND, ties))
        first = traffic.arrive(Arrival(prefix=1, tail_len=3, num_new=9))
        while not first.is_checked:
            traffic.step()
        # Positions [0, 22) were run of the 23 tokens: five pages of four are full.
        assert len(cell.memory.prefixes) == 5
        second = traffic.arrive(Arrival(prefix=3, tail_len=5, num_new=9))
        other = traffic.arrive(Arrival(prefix=1, tail_len=6, num_new=9))
        while not (second.is_checked and other.is_checked):
            traffic.step()
        assert second.recorded is not None and other.recorded is not None
        assert second.recorded.finished.num_cached == 20
        # Eleven tokens of the prefix are known: two pages, and three tokens of the third.
        assert other.recorded.finished.num_cached == 11
        traffic.finish()


@pytest.mark.parametrize("overlap", [False, True], ids=["one batch", "overlap"])
def test_the_oldest_session_is_never_taken_off(
    overlap: bool, shelf: ModelShelf, ties: TieCount, tmp_path: Path
) -> None:
    options = tight_options(2, overlap, sheds=False, sharing="off")
    with SteppedCell(shelf.stack(KIND), options, tmp_path) as cell:
        traffic = Traffic(cell, TextCheck(shelf, KIND, ties))
        arrivals = [
            Arrival(prefix=index % 3, tail_len=6, tail_seed=index % 3, num_new=MAX_NEW)
            for index in range(6)
        ]
        clients = [traffic.arrive(arrival) for arrival in arrivals]
        traffic.finish()
        assert cell.roster.num_preemptions > 0
        assert clients[0].recorded is not None
        assert clients[0].recorded.finished.num_preemptions == 0


def test_a_session_that_lost_its_memory_in_flight_and_has_it_again_is_replayed_first(
    shelf: ModelShelf, ties: TieCount, tmp_path: Path
) -> None:
    """Its round was ordered a step ahead: it must not be verified as if it had never gone."""
    num_back_at_once = 0
    for num_pages in range(15, 20):
        options = tight_options(2, overlap=True, sheds=False, sharing="off")
        options = replace(options, num_pages=num_pages)
        with SteppedCell(shelf.stack(KIND), options, tmp_path) as cell:
            traffic = Traffic(cell, TextCheck(shelf, KIND, ties))
            cell.drafter.mood = Mood.SILENT
            traffic.arrive(Arrival(prefix=2, tail_len=4, num_new=8, draft_len=7))
            traffic.arrive(Arrival(prefix=0, tail_len=0, num_new=8, draft_len=7))
            for _ in range(9):
                traffic.step()
                if cell.rounds.num_fenced == 2:
                    break
            lost = [each.recorded.session for each in traffic.clients if each.recorded]
            lost = [session for session in lost if session.table is None]
            # Makes room for the other.
            traffic.give_up(0)
            traffic.step()
            num_back_at_once += any(session.table is not None for session in lost)
            traffic.finish()
    assert num_back_at_once > 0
