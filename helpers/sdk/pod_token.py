"""Where a pod finds its own token."""

from __future__ import annotations

from pathlib import Path

TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
