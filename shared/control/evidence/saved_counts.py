"""A session's decayed counts as bytes, for its next turn. Pure.

    format u8 | exits u8 | J u8 | pad u8 | exit layer u16 each | R float32 each | H float32 each

Little-endian; R and H by exit, within one by place.
"""

from collections.abc import Mapping
from math import isfinite
from struct import calcsize, pack, unpack_from

from shared.control.evidence.survival import NUM_PLACES
from shared.control.evidence.virtual_rounds import MEMORY

FORMAT = 1
_HEADER = "<BBBx"
# All that ever was counted of an exit, decayed, with room for rounding.
MAX_REACHED = 1.01 / (1.0 - MEMORY)

# R[1] .. R[J] and H[1] .. H[J] of an exit.
Counts = tuple[tuple[float, ...], tuple[float, ...]]


def pack_counts(counts: Mapping[int, Counts]) -> bytes:
    """Return the counts as bytes.

    Raises:
        ValueError: more than 255 exits.
    """
    if len(counts) > 255:
        raise ValueError(f"{len(counts)} exits; a session's state has room for 255")
    numbers = [number for reached, _ in counts.values() for number in reached]
    numbers += [number for _, matched in counts.values() for number in matched]
    header = pack(_HEADER, FORMAT, len(counts), NUM_PLACES)
    return header + pack(f"<{len(counts)}H{len(numbers)}f", *counts, *numbers)


def unpack_counts(data: bytes) -> dict[int, Counts]:
    """Return the counts by exit layer.

    Raises:
        ValueError: not such bytes, or counts that cannot be; the session starts without them.
    """
    if len(data) < calcsize(_HEADER):
        raise ValueError(f"a session's state of {len(data)} bytes is cut off: start afresh")
    version, num_exits, num_places = unpack_from(_HEADER, data)
    if version != FORMAT or num_places != NUM_PLACES:
        raise ValueError(
            f"a session's state of format {version} with {num_places} places; known is format "
            f"{FORMAT} with {NUM_PLACES}: start afresh"
        )
    layout = f"<{num_exits}H{2 * num_exits * num_places}f"
    if len(data) != calcsize(_HEADER) + calcsize(layout):
        raise ValueError(
            f"a session's state of {len(data)} bytes does not fit its {num_exits} exits: start "
            "afresh"
        )
    values = unpack_from(layout, data, calcsize(_HEADER))
    exits, numbers = values[:num_exits], values[num_exits:]
    if len(set(exits)) != num_exits:
        raise ValueError(f"a session's state names an exit twice: {exits}; start afresh")
    rows = [numbers[i : i + num_places] for i in range(0, len(numbers), num_places)]
    counts = dict(zip(exits, zip(rows[:num_exits], rows[num_exits:], strict=True), strict=True))
    for exit_layer, each in counts.items():
        _check(exit_layer, *each)
    return counts


def _check(exit_layer: int, reached: tuple[float, ...], matched: tuple[float, ...]) -> None:
    is_sound = all(
        isfinite(num) and 0.0 <= num_matched <= num
        for num, num_matched in zip(reached, matched, strict=True)
    )
    if not is_sound or sum(reached) > MAX_REACHED:
        raise ValueError(
            f"a session's state holds counts of exit {exit_layer} that no session has: {reached} "
            f"reached, {matched} matched; start afresh"
        )
