"""Task keys: equal kinds of text of one tenant get equal keys, and nobody else's do."""

from pathlib import Path

import pytest

from services.gateway.chat import ChatTurn
from services.gateway.request import TextRequest
from services.gateway.settings import GatewayServiceSettings
from services.gateway.task_keys import TaskKeys
from shared.ids import RequestId
from shared.settings import SettingsError, load_settings
from shared.speculation.vocabulary import SamplingParams

KEYS = TaskKeys(b"secret")


def chat(system: str, *, tenant: str = "ann", task: str = "", user: str = "Hi") -> TextRequest:
    """Return a chat request; without a system turn where its text is empty."""
    turns = [ChatTurn("system", system)] if system else []
    prompt = (*turns, ChatTurn("user", user))
    return TextRequest(RequestId("r"), "m", prompt, SamplingParams(), 8, tenant=tenant, task=task)


def test_a_label_is_the_key() -> None:
    assert KEYS.key_of(chat("Be brief.", task="letters")) == "letters"
    assert TaskKeys().key_of(chat("", task="letters")) == "letters"


def test_equal_system_prompts_of_a_tenant_get_equal_keys() -> None:
    key = KEYS.key_of(chat("Be brief."))
    assert key == KEYS.key_of(chat("Be brief.", user="Ho"))
    assert len(key) == 16
    others = [
        KEYS.key_of(chat("Be long.")),
        KEYS.key_of(chat("Be brief.", tenant="bob")),
        TaskKeys(b"other").key_of(chat("Be brief.")),
    ]
    assert key not in others


def test_without_a_secret_or_a_system_prompt_the_kind_is_unknown() -> None:
    assert TaskKeys().key_of(chat("Be brief.")) == ""
    assert KEYS.key_of(chat("")) == ""
    for prompt in ("text", (1, 2)):
        request = TextRequest(RequestId("r"), "m", prompt, SamplingParams(), 8)
        assert KEYS.key_of(request) == ""


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_secret_that_is_none_is_refused_at_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    environ = {
        "SHORTSTACK_MODEL__PATH": str(tmp_path),
        "SHORTSTACK_GATEWAY__CELLS": "unix:/a",
        "SHORTSTACK_GATEWAY__TASK_SECRET_PATH": str(path),
    }
    with pytest.raises(SettingsError, match="TASK_SECRET_PATH: there is no file"):
        load_settings(GatewayServiceSettings, environ)
