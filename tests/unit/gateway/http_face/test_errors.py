"""Every error of ours has its status, type and code in OpenAI's shape."""

import json

import pytest

from services.gateway.http_face.errors import error_response, in_http_terms
from shared.errors import InvalidRequest, QueueFull, ShortstackError, all_errors

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
    499: "invalid_request_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)
def test_every_error_has_a_status_a_type_and_a_code(cls: type[ShortstackError]) -> None:
    response = error_response(cls("why", field="model"))
    told = json.loads(response.body)["error"]
    assert response.status_code == cls.http_status
    assert (told["message"], told["param"]) == ("why", "model")
    assert told["type"] == TYPES[cls.http_status]
    assert told["code"] and told["code"].islower()
    assert ("retry-after" in response.headers) is cls.is_retriable


def test_codes_are_distinct() -> None:
    codes = [json.loads(error_response(cls("")).body)["error"]["code"] for cls in all_errors()]
    assert len(set(codes)) == len(codes)


def test_fields_are_called_as_in_the_body() -> None:
    with (
        pytest.raises(InvalidRequest, match="stop must") as caught,
        in_http_terms({"stop_strings": "stop"}),
    ):
        raise InvalidRequest("stop_strings must not be empty", field="stop_strings")
    assert caught.value.field == "stop"
    with pytest.raises(QueueFull) as kept, in_http_terms({"stop_strings": "stop"}):
        raise QueueFull("full", retry_delay_ms=5)
    assert kept.value.retry_delay_ms == 5
