"""Which pods have ended, and so hold nothing any more. Pure."""

from __future__ import annotations

ENDED = ("Succeeded", "Failed")
# The same for the API server, as a field selector.
NOT_ENDED = ",".join(f"status.phase!={phase}" for phase in ENDED)
