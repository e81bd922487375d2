"""What a webhook's server asks for each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer: its status, the content's type, and the content."""

    status: int
    content_type: str
    content: bytes


class Reviews(Protocol):
    """Answers reviews. It never raises: a server that fails is a cluster in which pods cannot start."""

    def serves(self, path: str) -> bool:
        """Whether reviews are sent to `path`."""
        ...

    def answer(self, path: str, content: bytes) -> Reply:
        """The reply to one request with that body."""
        ...
