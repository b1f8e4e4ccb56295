"""Recordings of made-up texts, and files of them."""

from pathlib import Path

from shortstack.bench.control.tape_file import Recording, TapeHeader, write_recording
from tests.unit.control.replay.builders import EXITS, NUM_LAYERS, random_text

KINDS = {"easy": (0.8, 0.97), "hard": (0.3, 0.5)}


def make_recording(text_id: str, seed: int, *, temperature: float = 0.0) -> Recording:
    """Return the recording of a random text; its kind says how often exits match."""
    text = random_text(text_id, seed, KINDS[text_id.split("-")[0]])
    header = TapeHeader(
        fingerprint="f",
        model="tiny",
        dtype="float32",
        sampling={"temperature": temperature},
        seed=seed,
        exits=EXITS,
        num_layers=NUM_LAYERS,
        task=text.kind,
        prompt_id=text_id,
        prompt_len=9,
        num_unused=text.tape.num_unused,
        num_near_ties=0,
        machine={"cpu_model": "Some CPU"},
    )
    return Recording(header, text)


def write_tapes(folder: Path, texts_of_kind: int = 4) -> Path:
    """Write texts of every kind into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for index in range(texts_of_kind):
            name = f"{kind}-{index}"
            write_recording(folder / f"{name}.npz", make_recording(name, index))
    return folder
