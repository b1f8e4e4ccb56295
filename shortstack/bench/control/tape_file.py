"""A recorded text in a file: one npz with a header of JSON. Imported late: numpy.

header                JSON: see `TapeHeader`
matches               bool [E, N]     exits in the header's order, tokens but the first
confidences           float16 [E, N]
chances               float16 [E, N]  that the full model agrees, as the exit tells it
prompt_matches        bool [E, M]     the last positions of the prompt: equal to the model's own
prompt_confidences    float16 [E, M]  choice there
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.control.replay.texts import RecordedText
from shared.speculation.tape import ExitTrack, Tape
from shortstack.errors import UsageError

SCHEMA = 2
ARRAYS = ("matches", "confidences", "chances", "prompt_matches", "prompt_confidences")


@dataclass(frozen=True, slots=True)
class TapeHeader:
    """What a tape is of. task is the prompt's kind; sampling and machine are the values' fields.

    num_near_ties: places where the pass over the text chose another token at the last layer than
        decoding had.
    """

    fingerprint: str
    model: str
    dtype: str
    sampling: Mapping[str, Any]
    seed: int
    exits: tuple[int, ...]
    num_layers: int
    task: str
    prompt_id: str
    prompt_len: int
    num_unused: int
    num_near_ties: int
    machine: Mapping[str, Any]
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Recording:
    """A header and its text."""

    header: TapeHeader
    text: RecordedText


def write_recording(file: Path, recording: Recording) -> None:
    """Write a recording; confidences lose all but three digits."""
    header, text = recording.header, recording.text
    np.savez_compressed(
        file,
        allow_pickle=False,
        header=np.array(json.dumps(asdict(header))),
        matches=_stack([text.tape.tracks[e].matches for e in header.exits], np.bool_),
        confidences=_stack([text.tape.tracks[e].confidences for e in header.exits], np.float16),
        chances=_stack([text.tape.tracks[e].chances for e in header.exits], np.float16),
        prompt_matches=_stack([text.prompt[e].matches for e in header.exits], np.bool_),
        prompt_confidences=_stack([text.prompt[e].confidences for e in header.exits], np.float16),
    )


def _stack(rows: Sequence[Sequence[Any]], dtype: Any) -> Any:
    return np.array([list(row) for row in rows], dtype=dtype)


def read_recording(file: Path) -> Recording:
    """Read a recording.

    Raises:
        UsageError: the file is none, or of another schema; names it.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            fields = json.loads(str(arrays["header"]))
            if fields.get("schema") != SCHEMA:
                raise UsageError(
                    f"{file} has schema {fields.get('schema')}, this reads {SCHEMA}: "
                    "record it again"
                )
            matches, confidences, chances, prompt_matches, prompt_confidences = (
                arrays[name].tolist() for name in ARRAYS
            )
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{file} is no recorded text: {error}") from None
    header = TapeHeader(**fields | {"exits": tuple(fields["exits"])})
    tracks = _tracks(header.exits, matches, confidences, chances)
    tape = Tape(len(matches[0]), tracks, header.num_unused)
    prompt = _tracks(header.exits, prompt_matches, prompt_confidences, [()] * len(header.exits))
    return Recording(header, RecordedText(header.prompt_id, header.task, tape, prompt))


def _tracks(
    exits: Sequence[int],
    matches: Sequence[Sequence[bool]],
    confidences: Sequence[Sequence[float]],
    chances: Sequence[Sequence[float]],
) -> dict[int, ExitTrack]:
    rows = zip(exits, matches, confidences, chances, strict=True)
    return {exit_layer: ExitTrack(row, values, own) for exit_layer, row, values, own in rows}


def read_recordings(folder: Path) -> list[Recording]:
    """Read every recording of a folder, in the order of their names.

    Raises:
        UsageError: there is none, or they are not all of one model read at the same exits.
    """
    recordings = [read_recording(file) for file in sorted(folder.glob("*.npz"))]
    if not recordings:
        raise UsageError(f"{folder} holds no recorded texts (*.npz); make some with record-tapes")
    for what in ("fingerprint", "exits"):
        if len({str(getattr(each.header, what)) for each in recordings}) > 1:
            raise UsageError(f"{folder} holds texts of more than one {what}: keep them apart")
    return recordings
