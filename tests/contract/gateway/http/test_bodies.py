"""What is refused, and how it is told: malformed bodies never end in a 5xx."""

import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings

from services.gateway.http_face.bodies import ChatBody, TextBody
from services.gateway.http_face.edge import MAX_BODY_BYTES
from shortstack.bench.hostile.http_attacks import any_bodies
from tests.contract.gateway.http.conftest import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
TEXT = {"prompt": "So:", "max_tokens": 3}


async def post(served: Served, path: str, body: Any) -> httpx2.Response:
    """Send a body; Python's JSON holds what others refuse to write."""
    headers = {"content-type": "application/json"}
    return await served.http.post(path, content=json.dumps(body).encode(), headers=headers)


async def refused(served: Served, path: str, body: Any) -> dict[str, Any]:
    """Return the error that a body is answered with."""
    before = len(served.worker.requests)
    answer = await post(served, path, body)
    assert answer.status_code == 400, answer.text
    assert len(served.worker.requests) == before
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"frobnicate": 1}, "frobnicate", "unknown_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"tool_choice": "auto"}, "tool_choice", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "name": "ann"}]},
            "messages[0].name",
            "unsupported_parameter",
        ),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 5000}, "max_tokens", "invalid_value"),
        ({"min_tokens": 4}, "min_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"temperature": "0.5"}, "temperature", "invalid_type"),
        ({"temperature": 101}, "temperature", "invalid_value"),
        ({"temperature": float("nan")}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"9999": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"5": 1e300}}, "logit_bias", "invalid_value"),
        ({"seed": 2**64}, "seed", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stop": [""]}, "stop", "invalid_value"),
        ({"stop": ["x"] * 17}, "stop", "invalid_value"),
        ({"stop_token_ids": [9999]}, "stop_token_ids", "invalid_value"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"priority": "urgent"}, "priority", "invalid_value"),
        ({"session_key": "a\nb"}, "session_key", "invalid_value"),
        ({"user": "\ud800"}, "user", "invalid_value"),
        ({"speculation": {"mode": "sometimes"}}, "speculation.mode", "invalid_value"),
        ({"speculation": {"speed": 2}}, "speculation.speed", "unknown_parameter"),
        ({"speculation": {"stop_threshold": 2}}, "speculation.stop_threshold", "invalid_value"),
        (
            {"speculation": {"allow_approximate": True}},
            "speculation.allow_approximate",
            "unsupported_parameter",
        ),
    ],
)
async def test_a_fault_is_named(
    served: Served, fields: dict[str, Any], param: str, code: str
) -> None:
    error = await refused(served, "/v1/chat/completions", {**CHAT, **fields})
    assert (error["param"], error["code"]) == (param, code)
    assert param in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": [5, "a"]}, "prompt[1]"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": [9999]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": ["a"] * 20, "n": 7}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": 1, "echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"messages": []}, "messages"),
    ],
)
async def test_a_fault_of_a_completion_is_named(
    served: Served, fields: dict[str, Any], param: str
) -> None:
    assert (await refused(served, "/v1/completions", {**TEXT, **fields}))["param"] == param


async def test_what_cannot_change_the_text_is_accepted_and_so_is_what_is_null(
    served: Served,
) -> None:
    harmless = {
        "user": "ann", "metadata": {"a": 1}, "store": True, "service_tier": "auto",
        "parallel_tool_calls": True, "response_format": {"type": "text"}, "tools": [],
        "tool_choice": "none", "modalities": ["text"], "stream_options": None,
    }  # fmt: skip
    for body in ({**CHAT, **harmless}, {**dict.fromkeys(ChatBody.model_fields), **CHAT}):
        assert (await served.http.post("/v1/chat/completions", json=body)).status_code == 200
    body = {**dict.fromkeys(TextBody.model_fields), **TEXT}
    assert (await served.http.post("/v1/completions", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"content": b"{"}, "no JSON"),
        ({"content": b"\xff\xfe"}, "no JSON"),
        ({"content": b"[" * 100_000}, "parsing the body"),
        ({"content": b'{"prompt": ' + b"9" * 5000 + b"}"}, "parsing the body"),
        ({"content": b"5"}, "must be a JSON object"),
        ({"content": b"null"}, "must be a JSON object"),
        ({"content": b""}, "the body is missing"),
        ({"data": {"prompt": "So:"}}, "Content-Type"),
        ({"json": dict.fromkeys(map(str, range(200)))}, "more than 100 fields"),
        ({"json": {"prompt": ["x"] * 3 + [0] * 100_000}}, "prompt[3]"),
        (
            {"json": {**TEXT, "logit_bias": dict.fromkeys(map(str, range(5000)), "x")}},
            "4096 entries",
        ),
    ],
    ids=[
        "cut",
        "bytes",
        "deep",
        "digits",
        "number",
        "null",
        "nothing",
        "form",
        "fields",
        "list",
        "biases",
    ],
)
async def test_what_is_no_body_at_all_is_told(
    served: Served, sent: dict[str, Any], words: str
) -> None:
    headers = {} if "data" in sent else {"content-type": "application/json"}
    answer = await served.http.post("/v1/completions", headers=headers, **sent)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert len(answer.content) < 2000


async def test_a_body_that_is_too_long_is_not_read_to_its_end(served: Served) -> None:
    body = json.dumps({"prompt": "x" * MAX_BODY_BYTES}).encode()
    answer = await served.http.post(
        "/v1/completions", content=body, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_unknown_places_are_told_as_errors_too(served: Served) -> None:
    missing = await served.http.get("/v2/chat")
    wrong = await served.http.get("/v1/completions")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_url")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_ids_and_text_are_turned_into_each_other(served: Served) -> None:
    ids = served.tokenizer.encode("So what").ids
    told = (await served.http.post("/tokenize", json={"prompt": "So what"})).json()
    assert told == {"tokens": ids, "count": len(ids), "max_model_len": 256}
    chat = (await served.http.post("/tokenize", json={"messages": CHAT["messages"]})).json()
    assert served.tokenizer.decode(chat["tokens"]) == "<user>Hi\n<assistant>"
    back = await served.http.post("/detokenize", json={"tokens": ids})
    assert back.json() == {"prompt": "So what"}
    for path, body, param in (
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": CHAT["messages"]}, "prompt"),
        ("/detokenize", {"tokens": [9999]}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
    ):
        assert (await refused(served, path, body))["param"] == param


async def test_the_version_is_told(served: Served) -> None:
    assert (await served.http.get("/version")).json() == {"version": "0.1.0"}


FIELDS = {
    path: list(body.model_fields)
    for path, body in (("/v1/chat/completions", ChatBody), ("/v1/completions", TextBody))
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=any_bodies(FIELDS))
async def test_no_body_ends_in_a_server_error(served: Served, case: tuple[str, Any]) -> None:
    path, body = case
    answer = await post(served, path, body)
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]


async def test_the_openapi_document_describes_the_bodies(served: Served) -> None:
    schemas = (await served.http.get("/openapi.json")).json()["components"]["schemas"]
    for name, body in (("ChatBody", ChatBody), ("TextBody", TextBody)):
        assert set(schemas[name]["properties"]) == set(body.model_fields)
        assert schemas[name]["additionalProperties"] is False
