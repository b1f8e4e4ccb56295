"""X: the exit layers that a policy may choose from. Pure.

Three or four are enough, and every one more is read along every text that evidence is taken of.
Until tapes of a model say which cover its best choices, they are spread over its lower half.
"""

from shared.errors import InvalidRequest

AUTO = "auto"


def default_exits(num_layers: int) -> tuple[int, ...]:
    """Return L/8, L/4, 3L/8 and L/2, rounded, each once; empty for a model of one layer."""
    exits = {round(num_layers * eighths / 8) for eighths in (1, 2, 3, 4)}
    return tuple(sorted(each for each in exits if 1 <= each < num_layers))


def parse_exits(text: str, num_layers: int) -> tuple[int, ...]:
    """Read a setting: `auto`, or layers by comma, ascending.

    Raises:
        InvalidRequest: it is neither, or a layer lies outside [1, L).
    """
    if text.strip() == AUTO:
        return default_exits(num_layers)
    try:
        exits = tuple(int(part) for part in text.split(","))
    except ValueError:
        exits = ()
    if not exits or list(exits) != sorted(set(exits)):
        raise InvalidRequest(
            f"exits {text!r} must be `auto` or layers by comma, ascending, such as 2,3,6",
            field="exits",
        )
    if exits[0] < 1 or exits[-1] >= num_layers:
        raise InvalidRequest(
            f"exits {text!r} must lie in [1, {num_layers - 1}], below the model's last layer",
            field="exits",
        )
    return exits
