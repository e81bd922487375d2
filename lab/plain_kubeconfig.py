"""A kubeconfig for a scripted API server that speaks plain HTTP."""

from __future__ import annotations

import json
from pathlib import Path


def write_kubeconfig(folder: Path, server: str) -> Path:
    """Writes `folder/kubeconfig` with `server` and a token; returns its path."""
    path = folder / "kubeconfig"
    named = {"name": "it"}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "clusters": [{**named, "cluster": {"server": server}}],
                "users": [{**named, "user": {"token": "secret"}}],
                "contexts": [{**named, "context": {"cluster": "it", "user": "it"}}],
            }
        )
    )
    return path
