"""Where a page of jobs ended: the instant and id of its last job, so that new jobs move nothing."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime

from helpers.domain.errors import Problem
from helpers.domain.jobs.problems import RequestInvalid


def cursor_of(created_at: datetime, job_id: str) -> str:
    """Opaque to callers."""
    text = json.dumps([created_at.astimezone(UTC).isoformat(), job_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(cursor: str) -> tuple[datetime, str]:
    """What `cursor_of` was given.

    Raises:
        RequestInvalid: the cursor is none of ours.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        at, job_id = json.loads(raw)
        position = (datetime.fromisoformat(at), str(job_id))
    except (binascii.Error, ValueError, TypeError) as error:
        problem = Problem("cursor", cursor[:100], "a cursor is what the page before it gave", "begin without a cursor")
        raise RequestInvalid([problem]) from error
    if position[0].tzinfo is None or "\x00" in position[1]:
        problem = Problem("cursor", cursor[:100], "a cursor is what the page before it gave", "begin without a cursor")
        raise RequestInvalid([problem])
    return position
