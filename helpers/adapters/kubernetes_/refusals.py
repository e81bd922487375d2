"""From HTTP answers to our error tree. The API server's own words are kept: they name the repair."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from helpers.domain.errors import ClusterError, Conflict, Forbidden, NotFound, Rejected


class Gone(ClusterError):
    """The resource version is too old (410): list again."""


class TooManyRequests(ClusterError):
    """Not now (429): a PodDisruptionBudget says so, or (`disruption_budget` false) the server is busy."""

    def __init__(self, text: str, *, disruption_budget: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(text)
        self.disruption_budget = disruption_budget
        self.retry_after_seconds = retry_after_seconds


_KINDS: dict[int, type[ClusterError]] = {
    HTTPStatus.BAD_REQUEST: Rejected,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Gone,
    HTTPStatus.UNPROCESSABLE_ENTITY: Rejected,
}
_LONGEST_TEXT = 300
# policy/v1 DisruptionBudgetCause: how an eviction's 429 differs from a busy server's.
_DISRUPTION_BUDGET = "DisruptionBudget"


def refusal(status: int, content: bytes, *, subject: str, address: str) -> ClusterError:
    """The error for an answer of 400 or more to `subject` (verb and object, `apply Node t4-node`)."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _too_many(content, subject=subject, address=address)
    return of_status(status, _words(content), subject=subject, address=address)


def _too_many(content: bytes, *, subject: str, address: str) -> TooManyRequests:
    details = _details(content)
    causes = [cause for cause in details.get("causes") or () if cause.get("reason") == _DISRUPTION_BUDGET]
    why = "".join(f" ({cause['message']})" for cause in causes if cause.get("message"))
    after = details.get("retryAfterSeconds")
    return TooManyRequests(
        f"{subject} at {address}: 429: {_words(content)}{why}",
        disruption_budget=bool(causes),
        retry_after_seconds=float(after) if after else None,
    )


def _details(content: bytes) -> dict[str, Any]:
    try:
        status = json.loads(content)
    except ValueError:
        return {}
    details = status.get("details") if isinstance(status, dict) else None
    return details if isinstance(details, dict) else {}


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
