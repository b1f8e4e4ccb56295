"""Field numbers of the wire contract never change: what was once sent must be read for ever.

A new field or value is added to `field_numbers.json` by
`python -m tests.contract.verify.test_field_numbers`; this refuses to change what is there.
"""

import json
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor

from shared.rpc import shortstack_pb2 as pb

SNAPSHOT = Path(__file__).with_name("field_numbers.json")


def current_numbers() -> dict[str, dict[str, int]]:
    """Return the numbers of every field and enum value, by message or enum."""
    numbers: dict[str, dict[str, int]] = {}
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        _note_message(message, numbers)
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        _note_enum(enum, numbers)
    return numbers


def _note_message(message: Descriptor, numbers: dict[str, dict[str, int]]) -> None:
    numbers[message.full_name] = {field.name: field.number for field in message.fields}
    for nested in message.nested_types:
        _note_message(nested, numbers)
    for enum in message.enum_types:
        _note_enum(enum, numbers)


def _note_enum(enum: EnumDescriptor, numbers: dict[str, dict[str, int]]) -> None:
    numbers[enum.full_name] = {value.name: value.number for value in enum.values}


def changes() -> list[str]:
    """Return what differs from the snapshot other than by being new."""
    stored, current = json.loads(SNAPSHOT.read_text()), current_numbers()
    return [
        f"{owner}.{name} was {number}, is {current.get(owner, {}).get(name, 'gone')}"
        for owner, fields in stored.items()
        for name, number in fields.items()
        if current.get(owner, {}).get(name) != number
    ]


def test_no_number_was_changed_or_dropped() -> None:
    assert changes() == []


def test_every_number_is_guarded() -> None:
    stored = json.loads(SNAPSHOT.read_text())
    missing = [
        f"{owner}.{name}"
        for owner, fields in current_numbers().items()
        for name in fields
        if name not in stored.get(owner, {})
    ]
    assert missing == [], "new: run python -m tests.contract.verify.test_field_numbers"


if __name__ == "__main__":
    if SNAPSHOT.exists() and changes():
        raise SystemExit("\n".join(changes()))
    SNAPSHOT.write_text(json.dumps(current_numbers(), indent=1, sort_keys=True) + "\n")
