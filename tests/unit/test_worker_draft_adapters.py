"""Which workers load the draft adapters of their settings, and what bad ones do to them."""

from pathlib import Path

import pytest

from shared.errors import BadModel
from shared.model.config import read_config
from shared.model.draft_adapter_file import CARD_NAME, FOLDER, AdapterOrigin, write_draft_adapter
from tests.draft_adapter_builder import make_draft_adapters
from tests.model_builder import write_model
from tests.unit.test_worker_exit_adapters import draft_worker, verify_worker


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A tiny model with draft adapters beside it."""
    folder = write_model(tmp_path / "model", num_layers=5)
    config = read_config(folder)
    for adapter in make_draft_adapters(config, (1, 4)):
        write_draft_adapter(adapter, config.adapter_host, AdapterOrigin("", 0), folder / FOLDER)
    return folder


def test_both_workers_of_a_cell_that_drafts_take_them(model_dir: Path) -> None:
    for kind in ("split", "fused"):
        assert verify_worker(model_dir, kind).means.adapter_layers == (1, 4)
        assert verify_worker(model_dir, kind, draft_adapters="off").means.adapter_layers == ()
    stack = draft_worker(model_dir)
    assert stack.means.adapter_layers == (1, 4)
    # Loading more in the middle of a round would hold it up.
    assert stack.num_loaded == 4
    # Nobody drafts there: no layer of the pool goes to them.
    assert verify_worker(model_dir, "plain").num_kv_layers == 5


def test_one_that_is_not_sound_stops_both(model_dir: Path) -> None:
    (model_dir / FOLDER / "exit-4" / CARD_NAME).write_text("{")
    for load in (
        lambda: draft_worker(model_dir),
        lambda: verify_worker(model_dir, "fused"),
        lambda: verify_worker(model_dir, "split"),
    ):
        with pytest.raises(BadModel, match=r"exit-4 .*SHORTSTACK_MODEL__DRAFT_ADAPTERS=off"):
            load()
    assert verify_worker(model_dir, "plain").num_kv_layers == 5
