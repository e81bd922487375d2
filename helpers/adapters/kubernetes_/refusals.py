"""From HTTP answers to our error tree. The API server's own words are kept: they name the repair."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from helpers.domain.errors import ClusterError, Conflict, Forbidden, NotFound, Rejected


class Gone(ClusterError):
    """The resource version is too old (410): list again."""


_KINDS: dict[int, type[ClusterError]] = {
    HTTPStatus.BAD_REQUEST: Rejected,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Gone,
    HTTPStatus.UNPROCESSABLE_ENTITY: Rejected,
}
_LONGEST_TEXT = 300


def refusal(status: int, content: bytes, *, subject: str, address: str) -> ClusterError:
    """The error for an answer of 400 or more to `subject` (verb and object, `apply Node t4-node`)."""
    return of_status(status, _words(content), subject=subject, address=address)


def of_status(status: int, words: str, *, subject: str, address: str) -> ClusterError:
    """The same where the server's words are known already (a watch's ERROR event)."""
    if status == HTTPStatus.UNAUTHORIZED:
        words = f"the credentials in use are not accepted ({words})"
    elif status == HTTPStatus.CONFLICT:
        words = _on_one_line(words)
    return _KINDS.get(status, ClusterError)(f"{subject} at {address}: {status}: {words}")


def unreachable(error: Exception, *, subject: str, address: str) -> ClusterError:
    """The error for no answer at all."""
    reason = getattr(error, "reason", None) or error
    return ClusterError(
        f"{subject}: the Kubernetes API at {address} does not answer: {' '.join(str(reason).split())}. "
        "Check the address in the kubeconfig and that the API server runs; a retry is safe."
    )


def _words(content: bytes) -> str:
    text = content.decode(errors="replace").strip()
    try:
        status: Any = json.loads(text)
    except ValueError:
        return text[:_LONGEST_TEXT] or "(no text)"  # a proxy's page, say
    message = status.get("message") if isinstance(status, dict) else None
    return str(message or text[:_LONGEST_TEXT])


def _on_one_line(words: str) -> str:
    # Several conflicts come as a list of lines, one `- .field` each.
    return " ".join(words.split())
