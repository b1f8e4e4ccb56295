"""Where tokens came from, in streams that ask for a detailed report: nothing else changes."""

import json
from typing import Any

import pytest

from tests.contract.gateway.conftest import TEXT
from tests.contract.gateway.http.conftest import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "So:"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "So:"}]},
}
paths = pytest.mark.parametrize("path", INPUTS)


async def choices_of(served: Served, path: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the choice of every chunk of a stream."""
    ask = {"max_tokens": 40, "stream": True, **INPUTS[path], **fields}
    answer = await served.http.post(path, json=ask)
    assert answer.status_code == 200, answer.text
    data = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert data.pop() == "[DONE]"
    return [choice for each in data for choice in json.loads(each)["choices"]]


def delta_of(choice: dict[str, Any]) -> str:
    """Return the text that a chunk adds."""
    text: str = choice["delta"].get("content", "") if "delta" in choice else choice["text"]
    return text


@paths
async def test_each_token_is_told_with_its_text_and_source(served: Served, path: str) -> None:
    choices = await choices_of(served, path, speculation={"report": "detailed"})
    rounds = [choice for choice in choices if "speculation" in choice]
    for choice in rounds:
        texts = [token["text"] for token in choice["speculation"]["tokens"]]
        assert "".join(texts) == delta_of(choice)
    told = [choice["speculation"] for choice in rounds]
    tokens = [token for each in told for token in each["tokens"]]
    assert [token["id"] for token in tokens] == served.ids
    assert "".join(map(delta_of, choices)) == TEXT
    # The cell of this test makes one plain token, then rounds of three.
    assert told[0]["tokens"][0]["source"] == "plain"
    assert told[0]["draft"] is None
    assert [token["source"] for token in told[1]["tokens"]] == ["accepted", "accepted", "bonus"]
    assert told[1]["draft"] == {
        "draft_len": 2, "num_accepted": 2, "method": "layerskip", "exit_layer": 2,
        "reason": "policy",
    }  # fmt: skip
    assert {each["session_id"] for each in told} == {served.worker.requests[-1].session_id}


@paths
async def test_a_stop_string_ends_the_tokens_as_it_ends_the_text(served: Served, path: str) -> None:
    ask = {"stop": ["little girl"]}
    plain = await choices_of(served, path, **ask)
    told = await choices_of(served, path, **ask, speculation={"report": "detailed"})
    expected = TEXT.partition("little girl")[0]
    assert "".join(map(delta_of, plain)) == "".join(map(delta_of, told)) == expected
    tokens = [token for each in told for token in each.get("speculation", {}).get("tokens", [])]
    assert "".join(token["text"] for token in tokens) == expected
    assert served.tokenizer.decode([token["id"] for token in tokens]).startswith(expected)


@paths
@pytest.mark.parametrize("report", [None, "none", "summary"])
async def test_who_does_not_ask_is_not_told(served: Served, path: str, report: str | None) -> None:
    choices = await choices_of(served, path, speculation={"report": report})
    assert not any("speculation" in choice for choice in choices)


@paths
async def test_a_whole_answer_has_no_rounds(served: Served, path: str) -> None:
    ask = {"max_tokens": 40, **INPUTS[path], "speculation": {"report": "detailed"}}
    answer = (await served.http.post(path, json=ask)).json()
    assert "speculation" not in answer["choices"][0]
    assert answer["metrics"]["speculative_decoding"]["per_step_drafted"]
