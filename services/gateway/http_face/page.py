"""The web page at `/`: files that are read at start and given to whoever asks.

They hold nothing of anybody, so that they need no key; what the page shows it asks for itself. A
browser asks each time whether a file is still as it has it, so that an upgrade is seen at once.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).resolve().parent.parent / "page"
INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, no text taken for markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "Asset":
        """Read a file; its tag changes with its content."""
        body = path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:16]
        return cls(body, _TYPES[path.suffix], f'"{digest}"')

    def answer(self, request: Request) -> Response:
        """Return the file, or that the caller has it already."""
        headers = _HEADERS | {"etag": self.etag}
        known = {each.strip().removeprefix("W/") for each in _if_none_match(request).split(",")}
        if known & {self.etag, "*"}:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media_type)


def page_router() -> APIRouter:
    """Return the page's endpoints; reads its files."""
    assets = {path.name: Asset.read(path) for path in FOLDER.iterdir() if path.suffix in _TYPES}
    page = assets.pop(INDEX)
    router = APIRouter(include_in_schema=False)
    methods = ["GET", "HEAD"]

    @router.api_route("/", methods=methods, response_model=None)
    async def index(request: Request) -> Response:
        return page.answer(request)

    @router.api_route("/page/{name}", methods=methods, response_model=None)
    async def asset(name: str, request: Request) -> Response:
        if name not in assets:
            raise HTTPException(404, "Not Found")
        return assets[name].answer(request)

    return router


def _if_none_match(request: Request) -> str:
    return str(request.headers.get("if-none-match", ""))
