"""Tapes and times made by hand or by a seed."""

from random import Random

from shared.control.replay.step_times import StepTimes
from shared.control.replay.texts import RecordedText
from shared.speculation.cost_model import CostTable
from shared.speculation.tape import ExitTrack, Tape

NUM_LAYERS = 8
EXITS = (2, 4)
US = 1_000.0


def track_of(bits: str) -> ExitTrack:
    """Return a track from bits such as "1101"; wrong choices are unsure."""
    matches = [bit == "1" for bit in bits]
    told = [0.9 if match else 0.3 for match in matches]
    return ExitTrack(matches, told, told)


def random_track(rate: float, num_tokens: int, random: Random) -> ExitTrack:
    """Return independent matches of one rate, confidences and chances that tell a little."""
    matches = [random.random() < rate for _ in range(num_tokens)]
    told = [random.betavariate(3 if m else 1, 1.5) for m in matches]
    return ExitTrack(matches, told, [0.5 + each / 2 for each in told])


def random_text(
    text_id: str, seed: int, rates: tuple[float, ...] = (0.7, 0.85), num_tokens: int = 200
) -> RecordedText:
    """Return a text whose exits match at these rates; the kind is the id's first word."""
    random = Random(seed)
    tracks = {
        exit_layer: random_track(rate, num_tokens, random)
        for exit_layer, rate in zip(EXITS, rates, strict=True)
    }
    prompt = {
        exit_layer: random_track(rate, 32, random)
        for exit_layer, rate in zip(EXITS, rates, strict=True)
    }
    tape = Tape(num_tokens, tracks, random.choice([0, 0, 40]))
    return RecordedText(text_id, text_id.split("-")[0], tape, prompt)


def make_costs() -> CostTable:
    """Return the table of one session: 100 us a layer, 60 a head, rows not quite free."""
    return CostTable(
        draft_step_ns={e: 100 * US * e + 60 * US for e in EXITS},
        closing_step_ns={e: 100 * US * e for e in EXITS},
        verify_ns={
            (e, n): (100 * US * (NUM_LAYERS - e) + 60 * US) * (1 + 0.03 * n)
            for e in EXITS
            for n in (1, 2, 4, 9)
        },
        plain_step_ns=(100 * US * NUM_LAYERS + 60 * US) * 1.03,
        hand_over_ns=40 * US,
    )


def make_times(overhead_us: float = 20.0, row_cost: float = 0.03) -> StepTimes:
    """Return times of many sessions; of one they are those of `make_costs`."""
    sizes, rows = (1, 2, 4, 8, 16), (1, 2, 4, 9, 16, 32, 64, 144)

    def rise(n: int) -> float:
        return 1 + row_cost * n

    def share(b: int) -> float:
        return 1 + row_cost * (b - 1)

    return StepTimes(
        num_layers=NUM_LAYERS,
        draft_ns={
            (e, b): (100 * US * e + 60 * US) * (1 + row_cost * (b - 1))
            for e in EXITS
            for b in sizes
        },
        closing_ns={(e, b): 100 * US * e * share(b) for e in EXITS for b in sizes},
        verify_ns={
            (e, n): (100 * US * (NUM_LAYERS - e) + 60 * US) * rise(n)
            for e in (0, *EXITS)
            for n in rows
        },
        head_ns={n: 60 * US * rise(n) for n in (1, 4, 64)},
        hand_over_ns=40 * US,
        overhead_ns=overhead_us * US,
    )
