"""API keys and TLS on the HTTP face."""

import ssl
from pathlib import Path

import httpx2
import openai
import pytest
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings
from shared.access.api_key import make_key
from shared.access.certificate_authority import CertificateAuthority
from shared.access.key_file import write_key_file
from shared.rpc import shortstack_pb2 as pb
from tests.contract.gateway.conftest import StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker
from tests.contract.gateway.test_api_keys import KEYS, record
from tests.contract.tls import HOST, options_of

BODY = {"model": "small", "prompt": "So:", "max_tokens": 10}
HTTP = {"http_listen": f"{HOST}:0"}


def bearer(key: str) -> dict[str, str]:
    """Return the header of a key."""
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of keys."""
    path = tmp_path / "keys.jsonl"
    write_key_file(path, (record("a", max_new_tokens=10), record("b", priorities=["low"])))
    return path


async def test_only_keys_are_served_and_the_tenant_is_the_keys(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    url = (await start(worker, api_keys_path=path, **HTTP)).gateway.http_url
    async with httpx2.AsyncClient(base_url=url) as http:
        for header in ({}, bearer(make_key()), {"authorization": "Basic x"}):
            for endpoint in ("/v1/completions", "/tokenize"):
                # A body that cannot be parsed: who may not call is told so before it is read.
                refused = await http.post(endpoint, content=b"{", headers=header)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
                assert refused.json()["error"]["code"] == "invalid_api_key"
                assert refused.headers["x-request-id"]
            assert (await http.get("/v1/models", headers=header)).status_code == 401
        for endpoint in ("/health", "/version"):
            assert (await http.get(endpoint)).status_code == 200

        async def status_of(key: str, **more: object) -> int:
            headers = {**bearer(KEYS[key]), "x-shortstack-tenant": str(more.pop("tenant", ""))}
            answer = await http.post("/v1/completions", json={**BODY, **more}, headers=headers)
            return int(answer.status_code)

        assert await status_of("a") == 200
        assert await status_of("a", tenant="a") == 200
        assert await status_of("a", tenant="b") == 403
        assert await status_of("a", max_tokens=11) == 400
        assert await status_of("b", priority="normal") == 403
        assert await status_of("b") == 200
    assert [request.tenant for request in worker.requests] == ["a", "a", "b"]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEYS["a"], max_retries=0) as client:
        assert (await client.models.list()).data[0].id == "small"
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_health_can_be_closed(start: StartCells, path: Path) -> None:
    options = {"api_keys_path": path, "health_is_open": False, **HTTP}
    url = (await start(**options)).gateway.http_url
    async with httpx2.AsyncClient(base_url=url) as http:
        assert (await http.get("/health")).status_code == 401
        assert (await http.get("/health", headers=bearer(KEYS["a"]))).status_code == 200


async def test_https_shows_the_gateways_certificate_and_a_renewed_one(
    start: StartCells, completion_ids: list[int], authority: CertificateAuthority
) -> None:
    port = options_of(authority.issue("port", ["old.example"]))
    worker = FakeVerifyWorker(completion_ids)
    gateway = (await start(worker, **port, **HTTP)).gateway
    assert gateway.http_url.startswith("https://") and gateway._http is not None
    context = ssl.create_default_context(cafile=authority.ca_path)
    with pytest.raises(httpx2.ConnectError):
        async with httpx2.AsyncClient(base_url=gateway.http_url, verify=context) as http:
            await http.get("/health")
    authority.issue("port", [HOST])
    assert gateway._http._tls is not None
    await gateway._http._tls.refresh()
    async with httpx2.AsyncClient(base_url=gateway.http_url, verify=context) as http:
        answer = await http.post("/v1/completions", json=BODY)
        assert answer.json()["usage"]["completion_tokens"] == 10
        authority.ca_path.with_name("port.pem").write_text("half")
        await gateway._http._tls.refresh()
        assert (await http.get("/health")).status_code == 200


def test_names_that_http_cannot_tell_are_refused(authority: CertificateAuthority) -> None:
    port = options_of(authority.issue("port", []))
    with pytest.raises(ValidationError, match="HTTP tells no names"):
        GatewaySettings(**port, **HTTP, tls_requires_client_cert=True, tls_callers="urn:x")
    GatewaySettings(listen="unix:/x", **port, **HTTP)


async def test_whoever_watches_sees_the_sessions_of_its_own_tenant(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    sessions = [pb.SessionState(session_id=f"ses-{each}", tenant=each) for each in ("a", "b")]
    timelines = [
        pb.VerifyServiceGetSessionTimelineResponse(session=session) for session in sessions
    ]
    worker = FakeVerifyWorker(completion_ids, timelines=timelines)
    url = (await start(worker, api_keys_path=path, **HTTP)).gateway.http_url
    async with httpx2.AsyncClient(base_url=url) as http:
        # The page's files hold nothing of anybody.
        for endpoint in ("/", "/page/main.js"):
            assert (await http.get(endpoint)).status_code == 200
        for endpoint in ("sessions", "cells", "sessions/ses-a/timeline"):
            assert (await http.get(f"/v1/shortstack/{endpoint}")).status_code == 401
        for key, other in (("a", "b"), ("b", "a")):
            header = bearer(KEYS[key])
            told = (await http.get("/v1/shortstack/sessions", headers=header)).json()
            assert [each["session_id"] for each in told["sessions"]] == [f"ses-{key}"]
            for tenant, status in ((key, 200), (other, 404)):
                timeline = f"/v1/shortstack/sessions/ses-{tenant}/timeline"
                assert (await http.get(timeline, headers=header)).status_code == status
