"""Which workers read the exit adapters of their settings, and what bad ones do to them."""

from pathlib import Path
from typing import Any

import pytest

from services.draft.main import load_draft_stack
from services.draft.settings import DraftServiceSettings, DraftSettings
from services.verify.main import load_verify_stack
from services.verify.settings import VerifyServiceSettings, VerifySettings
from shared.errors import BadModel
from shared.model.config import read_config
from shared.model.exit_adapter_file import FILE_NAME, FOLDER, write_exit_adapters
from shared.model.layer_stack import LayerStack
from shared.settings import ModelSettings
from tests.adapter_builder import make_adapters
from tests.model_builder import write_model


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A tiny model with exit adapters beside it."""
    folder = write_model(tmp_path / "model", num_layers=3)
    write_exit_adapters(make_adapters(read_config(folder), (1, 2)), folder)
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


def exits_of(stack: LayerStack) -> tuple[int, ...]:
    """Return the exits that the stack has adapters for."""
    return () if stack.exit_adapters is None else stack.exit_adapters.exit_layers


def test_whoever_drafts_or_reads_exits_takes_the_adapters_beside_the_model(model_dir: Path) -> None:
    assert exits_of(draft_worker(model_dir)) == (1, 2)
    assert exits_of(verify_worker(model_dir, "fused")) == (1, 2)
    # It reads exits as its draft worker does.
    assert exits_of(verify_worker(model_dir, "split")) == (1, 2)
    assert exits_of(verify_worker(model_dir, "plain")) == ()


def test_the_setting_turns_them_off_or_names_others(model_dir: Path, tmp_path: Path) -> None:
    assert exits_of(draft_worker(model_dir, exit_adapters="off")) == ()
    assert exits_of(verify_worker(model_dir, "fused", exit_adapters="off")) == ()
    other = write_exit_adapters(make_adapters(read_config(model_dir), (2,)), tmp_path)
    assert exits_of(draft_worker(model_dir, exit_adapters=str(other))) == (2,)


def test_a_corrupt_file_stops_whoever_drafts_and_nobody_else(model_dir: Path) -> None:
    (model_dir / FOLDER / FILE_NAME).write_text("{")
    for load in (lambda: draft_worker(model_dir), lambda: verify_worker(model_dir, "fused")):
        with pytest.raises(BadModel, match=r"cannot be read.*SHORTSTACK_MODEL__EXIT_ADAPTERS=off"):
            load()
    # A split verify worker drafts nothing: it goes on without.
    for kind in ("split", "plain"):
        assert exits_of(verify_worker(model_dir, kind)) == ()
