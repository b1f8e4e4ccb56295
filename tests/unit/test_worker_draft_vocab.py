"""Which workers read the draft vocabulary of their settings, and what a bad one does to them."""

from pathlib import Path
from typing import Any

import pytest

from services.draft.main import load_draft_stack
from services.draft.settings import DraftServiceSettings, DraftSettings
from services.verify.main import load_verify_stack
from services.verify.settings import VerifyServiceSettings, VerifySettings
from shared.errors import BadModel
from shared.model.layer_stack import LayerStack
from shared.settings import ModelSettings
from shared.speculation.draft_vocab import FILE_NAME, DraftVocab
from tests.model_builder import EOS_ID, VOCAB_SIZE, write_model

VOCAB = DraftVocab(VOCAB_SIZE, "", 0.5, ("made up",), (EOS_ID, 8, 9))


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A tiny model with a draft vocabulary beside it."""
    folder = write_model(tmp_path / "model", num_layers=2)
    VOCAB.write(folder)
    return folder


def draft_worker(model_dir: Path, **options: Any) -> LayerStack:
    settings = DraftServiceSettings(
        model=ModelSettings(path=model_dir, **options),
        draft=DraftSettings(listen="unix:/x", runtime_dir=model_dir),
    )
    return load_draft_stack(settings)


def verify_worker(model_dir: Path, cell_kind: Any, **options: Any) -> LayerStack:
    settings = VerifyServiceSettings(
        model=ModelSettings(path=model_dir, **options),
        verify=VerifySettings(
            listen="unix:/x", runtime_dir=model_dir, cell_kind=cell_kind, draft_target="unix:/y"
        ),
    )
    return load_verify_stack(settings)


def test_whoever_drafts_or_reads_exits_takes_the_file_beside_the_model(model_dir: Path) -> None:
    assert draft_worker(model_dir).draft_vocab == VOCAB
    assert verify_worker(model_dir, "fused").draft_vocab == VOCAB
    # It reads exits as its draft worker does.
    assert verify_worker(model_dir, "split").draft_vocab == VOCAB
    assert verify_worker(model_dir, "plain").draft_vocab is None


def test_the_setting_turns_it_off_or_names_another(model_dir: Path, tmp_path: Path) -> None:
    assert draft_worker(model_dir, draft_vocab="off").draft_vocab is None
    assert verify_worker(model_dir, "fused", draft_vocab="off").draft_vocab is None
    other = DraftVocab(VOCAB_SIZE, "", 0.5, ("made up",), (EOS_ID, 50))
    assert draft_worker(model_dir, draft_vocab=str(other.write(tmp_path))).draft_vocab == other


def test_a_corrupt_file_stops_whoever_drafts_and_nobody_else(model_dir: Path) -> None:
    (model_dir / FILE_NAME).write_text("{")
    for load in (lambda: draft_worker(model_dir), lambda: verify_worker(model_dir, "fused")):
        with pytest.raises(BadModel, match=r"not JSON.*SHORTSTACK_MODEL__DRAFT_VOCAB=off"):
            load()
    # A split verify worker drafts nothing: it goes on without.
    for kind in ("split", "plain"):
        assert verify_worker(model_dir, kind).draft_vocab is None
