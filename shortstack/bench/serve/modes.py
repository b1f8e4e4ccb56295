"""Modes: how the gateway is asked to speculate. All modes meet one and the same stack. Pure.

auto                    what the server does on its own
off                     plain decoding
static:E=2:d=4:t=0.3    this exit layer, draft length and stop threshold, never shed
"""

from dataclasses import dataclass

from shortstack.errors import UsageError
from shortstack.request import PLAIN, Speculation

STATIC = "static"
FIELDS = {"E": int, "d": int, "t": float}


@dataclass(frozen=True, slots=True)
class Mode:
    """A name for tables and the wishes it stands for."""

    name: str
    speculation: Speculation


AUTO_MODE = Mode("auto", Speculation())
OFF_MODE = Mode("off", PLAIN)


def parse_modes(text: str) -> tuple[Mode, ...]:
    """Read modes by comma.

    Raises:
        UsageError: there is none, one is unknown, or one occurs twice.
    """
    modes = tuple(parse_mode(part.strip()) for part in text.split(",") if part.strip())
    if not modes:
        raise UsageError("--modes: name at least one of auto, off, static:E=…:d=…")
    names = [mode.name for mode in modes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--modes: {', '.join(twice)} occurs twice")
    return modes


def parse_mode(text: str) -> Mode:
    """Read one mode.

    Raises:
        UsageError: it is unknown or malformed.
    """
    known = {mode.name: mode for mode in (AUTO_MODE, OFF_MODE)}
    if text in known:
        return known[text]
    kind, _, rest = text.partition(":")
    if kind != STATIC:
        raise UsageError(f"--modes: unknown {text}; there are auto, off and static:E=2:d=4")
    return Mode(text, _static(text, rest))


def _static(text: str, rest: str) -> Speculation:
    values = dict(part.partition("=")[::2] for part in rest.split(":"))
    if not {"E", "d"} <= set(values) <= set(FIELDS):
        raise UsageError(f"--modes: {text} must name E and d, and may name t, as static:E=2:d=4")
    try:
        numbers = {name: FIELDS[name](value) for name, value in values.items()}
    except ValueError:
        raise UsageError(f"--modes: a value of {text} is no number") from None
    return Speculation(
        method="layerskip",
        exit_layer=int(numbers["E"]),
        max_draft_len=int(numbers["d"]),
        stop_threshold=numbers.get("t", 0.0),
        policy="static",
        mode="force",
    )
