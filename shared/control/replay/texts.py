"""Recorded texts: a tape with what it is of, joined where a session's subject is to shift. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from shared.speculation.tape import ExitTrack, Tape


@dataclass(frozen=True)
class RecordedText:
    """One text that a model made, and what every exit said along it.

    kind: what the text is about, as its prompt's file says.
    prompt: by exit, choices at the last positions of the prompt; there a match is the model's own
        choice, not the prompt's token.
    shifts: places of the tape at which another text was joined on.
    """

    text_id: str
    kind: str
    tape: Tape
    prompt: Mapping[int, ExitTrack] = field(default_factory=dict)
    shifts: tuple[int, ...] = ()

    @property
    def by_chance(self) -> "RecordedText":
        """The same, read where exits tell chances in the place of confidences.

        Raises:
            ValueError: the chances were not recorded.
        """
        tracks = {exit_layer: track.by_chance for exit_layer, track in self.tape.tracks.items()}
        return replace(self, tape=replace(self.tape, tracks=tracks))


def join(texts: Sequence[RecordedText]) -> RecordedText:
    """Return one session that goes through texts one after the other, as if it had changed subject.

    Raises:
        ValueError: there is no text, or they were read at different exits.
    """
    if not texts:
        raise ValueError("nothing to join")
    exits = set(texts[0].tape.tracks)
    if any(set(text.tape.tracks) != exits for text in texts):
        raise ValueError("texts to join must have been read at the same exits")
    tracks = {
        exit_layer: ExitTrack(
            [match for text in texts for match in text.tape.tracks[exit_layer].matches],
            [value for text in texts for value in text.tape.tracks[exit_layer].confidences],
            [value for text in texts for value in text.tape.tracks[exit_layer].chances],
        )
        for exit_layer in texts[0].tape.tracks
    }
    shifts, place = [], 0
    for text in texts[:-1]:
        place += text.tape.num_tokens
        shifts.append(place)
    num_tokens = place + texts[-1].tape.num_tokens
    return RecordedText(
        "+".join(text.text_id for text in texts),
        ">".join(text.kind for text in texts),
        Tape(num_tokens, tracks, texts[-1].tape.num_unused),
        texts[0].prompt,
        tuple(shifts),
    )


def cut(text: RecordedText, start: int, end: int) -> RecordedText:
    """Return places [start, end) of a text, which the request's limit ends there."""
    tracks = {
        exit_layer: ExitTrack(
            track.matches[start:end], track.confidences[start:end], track.chances[start:end]
        )
        for exit_layer, track in text.tape.tracks.items()
    }
    num_tokens = len(range(text.tape.num_tokens)[start:end])
    num_unused = text.tape.num_unused if end >= text.tape.num_tokens else 0
    return RecordedText(
        f"{text.text_id}[{start}:{end}]",
        text.kind,
        Tape(num_tokens, tracks, num_unused),
        text.prompt,
    )
