"""Pausing through Immich's own API, for its queues: it pauses with its own BullMQ, whichever that is."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote, urlsplit

from helpers.domain.errors import DependencyError
from helpers.domain.lanes.clients import ClientName
from helpers.ports.queues import QueueHands

ANSWER_SECONDS = 5.0


class ImmichHands:
    """`ports.queues.QueueHands` by `PUT /api/jobs/<queue>` with command pause or resume."""

    def __init__(self, url: str, api_key: str) -> None:
        self._parts = urlsplit(url)
        self._api_key = api_key

    def pause(self, queue: str, client: ClientName) -> None:  # noqa: ARG002 - there is one
        """Pauses it; raises DependencyError where Immich refuses or is silent."""
        self._command(queue, "pause")

    def resume(self, queue: str, client: ClientName) -> None:  # noqa: ARG002 - there is one
        """Resumes it; raises as `pause` does."""
        self._command(queue, "resume")

    def warm(self, client: ClientName) -> None:
        """Nothing to get ready."""

    def _command(self, queue: str, command: str) -> None:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
        what = f"Immich: {command} of {queue}"
        try:
            headers = {"Content-Type": "application/json", "x-api-key": self._api_key}
            body = json.dumps({"command": command, "force": False})
            connection.request("PUT", f"{parts.path}/api/jobs/{quote(queue, safe='')}", body, headers)
            answer = connection.getresponse()
            text = answer.read(2000)
        except (OSError, http.client.HTTPException) as error:
            raise DependencyError(f"{what}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status >= http.client.MULTIPLE_CHOICES:
            raise DependencyError(f"{what}: status {answer.status}: {text.decode(errors='replace')[:200]}")


class EitherHands:
    """The hands that a queue's client names: Immich's API, or BullMQ's own clients."""

    def __init__(self, bullmq: QueueHands, immich: QueueHands | None) -> None:
        self._bullmq = bullmq
        self._immich = immich

    def pause(self, queue: str, client: ClientName) -> None:
        """Pauses it; raises DependencyError."""
        self._of(client).pause(queue, client)

    def resume(self, queue: str, client: ClientName) -> None:
        """Resumes it; raises DependencyError."""
        self._of(client).resume(queue, client)

    def warm(self, client: ClientName) -> None:
        """Gets it ready; raises DependencyError."""
        self._of(client).warm(client)

    def _of(self, client: ClientName) -> QueueHands:
        if client != "immich":
            return self._bullmq
        if self._immich is None:
            raise DependencyError("the lane pauses through Immich, and no address of Immich is declared")
        return self._immich
