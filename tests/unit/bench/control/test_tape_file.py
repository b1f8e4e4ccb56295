"""Recorded texts in files: what is written is read, and what is none is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shortstack.bench.control.tape_file import read_recording, read_recordings, write_recording
from shortstack.errors import UsageError
from tests.unit.bench.control.builders import make_recording, write_tapes


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = make_recording("easy-1", 3)
    write_recording(tmp_path / "a.npz", made)
    found = read_recording(tmp_path / "a.npz")
    assert found.header == made.header
    assert (found.text.text_id, found.text.kind) == ("easy-1", "easy")
    assert found.text.tape.num_unused == made.text.tape.num_unused
    for own, other, is_text in (
        (made.text.tape.tracks, found.text.tape.tracks, True),
        (made.text.prompt, found.text.prompt, False),
    ):
        assert list(own) == list(other)
        for exit_layer, track in own.items():
            assert other[exit_layer].matches == track.matches
            assert other[exit_layer].confidences == pytest.approx(track.confidences, abs=1e-3)
            # Of the end of a prompt no draft was made.
            told = track.chances if is_text else ()
            assert other[exit_layer].chances == pytest.approx(told, abs=1e-3)


def test_all_recordings_of_a_folder_are_read_in_order(tmp_path: Path) -> None:
    found = read_recordings(write_tapes(tmp_path, 2))
    assert [each.header.prompt_id for each in found] == ["easy-0", "easy-1", "hard-0", "hard-1"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="record-tapes"):
        read_recordings(tmp_path)


def test_what_is_no_recording_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match=r"bad\.npz"):
        read_recordings(tmp_path)
    np.savez(tmp_path / "bad.npz", header=np.array("{}"))
    with pytest.raises(UsageError, match=r"bad\.npz"):
        read_recordings(tmp_path)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    made = make_recording("easy-1", 3)
    write_recording(tmp_path / "a.npz", replace(made, header=replace(made.header, schema=1)))
    with pytest.raises(UsageError, match="schema 1"):
        read_recording(tmp_path / "a.npz")


def test_texts_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    write_tapes(tmp_path, 1)
    made = make_recording("easy-9", 3)
    other = replace(made, header=replace(made.header, fingerprint="g"))
    write_recording(tmp_path / "z.npz", other)
    with pytest.raises(UsageError, match="more than one fingerprint"):
        read_recordings(tmp_path)
