"""The web page: three files of this package, and the headers that keep it to itself.

It has no rights of its own. Whoever opens it gives a token, and the page asks the API with it as any client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources

from fastapi import APIRouter, Request, Response

_FOLDER = "static"
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
# Nothing from elsewhere, nothing inline, nobody's frame: a job's name that holds a script stays a name.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # The files belong to one version of the manager; a browser asks whether they changed.
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    """`/` and what it loads. No token: the files are the same for everybody."""
    routes = APIRouter(include_in_schema=False)
    folder = resources.files(__package__) / _FOLDER
    for name, media_type in _FILES.items():
        path = "/" if name == "index.html" else f"/{_FOLDER}/{name}"
        routes.add_api_route(path, _answer((folder / name).read_bytes(), media_type), methods=["GET", "HEAD"])
    return routes


def _answer(content: bytes, media_type: str) -> Callable[[Request], Response]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_HEADERS, "ETag": tag}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return answer
