"""The web page's files: what they are, what they may do, and that upgrades are seen."""

import json
import re
from pathlib import Path

import httpx2
import pytest

from services.gateway.http_face.page import FOLDER
from shortstack.sessions.reasons import REASONS
from tests.contract.gateway.conftest import StartCells
from tests.contract.gateway.http.conftest import Served

shared_gateway = pytest.mark.asyncio(loop_scope="module")
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
REFERENCE = re.compile(r'(?:href|src)="(page/[^"]+)"')
IMPORT = re.compile(r'from "\./([^"]+)"')
OUTSIDE = re.compile(r"(?:https?:)?//[\w.-]+\.\w+")


def policy_of(answer: httpx2.Response) -> dict[str, str]:
    """Return the rules of a content security policy."""
    rules = answer.headers["content-security-policy"].split(";")
    return dict(rule.split(maxsplit=1) for rule in map(str.strip, rules))


@shared_gateway
async def test_the_page_is_there_and_may_load_nothing_from_elsewhere(served: Served) -> None:
    answer = await served.http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    policy = policy_of(answer)
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    own = {"script-src", "style-src", "img-src", "connect-src"}
    assert {policy[name] for name in own} == {"'self'"}
    assert not any("unsafe" in rule for rule in policy.values())


@shared_gateway
async def test_all_that_the_page_refers_to_is_served_and_nothing_else_lies_there(
    served: Served,
) -> None:
    page = await served.http.get("/")
    names = set(REFERENCE.findall(page.text))
    for name in list(names):
        if name.endswith(".js"):
            text = (await served.http.get(f"/{name}")).text
            names |= {f"page/{module}" for module in IMPORT.findall(text)}
    for name in names:
        answer = await served.http.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith(TYPES[Path(name).suffix])
        assert policy_of(answer) == policy_of(page)
    files = {f"page/{path.name}" for path in FOLDER.iterdir()}
    assert names == files - {"page/index.html"}


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_holds_what_the_policy_forbids(path: Path) -> None:
    text = path.read_text("utf-8").replace('"http://www.w3.org/2000/svg"', "")
    assert not OUTSIDE.search(text)
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
    if path.suffix == ".js":
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


@shared_gateway
async def test_a_browser_that_has_a_file_is_told_so_until_it_changes(served: Served) -> None:
    for path in ("/", "/page/main.js"):
        first = await served.http.get(path)
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await served.http.get(path, headers={"if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        changed = await served.http.get(path, headers={"if-none-match": '"other"'})
        assert (changed.status_code, changed.content) == (200, first.content)


@shared_gateway
async def test_heads_are_answered_like_bodies(served: Served) -> None:
    head, whole = await served.http.head("/"), await served.http.get("/")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-type"):
        assert head.headers[name] == whole.headers[name]


@shared_gateway
@pytest.mark.parametrize("name", ["absent.js", "index.html", "..%2Fmain.py", "%2e%2e/main.py", ""])
async def test_what_is_no_file_of_the_page_is_not_found(served: Served, name: str) -> None:
    answer = await served.http.get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_url"


@shared_gateway
async def test_files_are_only_read(served: Served) -> None:
    for path in ("/", "/page/main.js"):
        answer = await served.http.post(path, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_a_gateway_without_the_page_has_none_of_it(start: StartCells) -> None:
    client = await start(http_listen="127.0.0.1:0", has_page=False)
    assert client.gateway.page_url == ""
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        for path in ("/", "/page/main.js", "/v1/shortstack/cells", "/v1/shortstack/sessions"):
            assert (await http.get(path)).status_code == 404
        assert (await http.get("/v1/models")).status_code == 200


async def test_a_gateway_tells_where_a_browser_finds_the_page(
    start: StartCells, tmp_path: Path
) -> None:
    at_port = (await start(http_listen="127.0.0.1:0")).gateway
    assert at_port.page_url == f"{at_port.http_url}/"
    at_path = (await start(http_listen=f"unix:{tmp_path}/http.sock")).gateway
    assert at_path.page_url == ""


def test_reasons_are_told_as_the_command_line_tells_them() -> None:
    text = (FOLDER / "reasons.js").read_text("utf-8")
    body = text.partition("REASONS = ")[2].strip().removesuffix(";")
    quoted = re.sub(r"^  (\w+):", r'"\1":', body, flags=re.MULTILINE)
    assert json.loads(re.sub(r",\s*}", "}", quoted)) == REASONS
