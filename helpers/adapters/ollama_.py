"""Ollama's own API: what is loaded, and the wish to unload. `ports.engines.Engines` together with the exporter.

Read in Ollama 0.33: `/api/ps` gives `size_vram` in bytes (weights, KV cache and compute buffers, without
the CUDA context); a `POST /api/generate` with an empty prompt and `keep_alive: 0` unloads, but answers
before the memory is free, and while requests run it only marks the model.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from helpers.domain.lanes.engines import EngineFacts, Unload
from helpers.domain.lanes.settings import EngineRule
from helpers.domain.memory import bytes_to_mib_rounded_up
from helpers.ports.watchdog_telemetry import Exporters, ExporterTarget

ANSWER_SECONDS = 2.0
_LONGEST_ANSWER_BYTES = 1024 * 1024


class OllamaEngines:
    """Asks a tenant's Ollama, and its node's exporter for the memory that is really free."""

    def __init__(self, exporters: Exporters, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._exporters = exporters
        self._answer_seconds = answer_seconds

    def look(self, rule: EngineRule) -> EngineFacts:
        """One look; whoever does not answer is named in `problem`."""
        problems: list[str] = []
        loaded: Mapping[str, int] | None = None
        free_mib: int | None = None
        pods_mib: dict[tuple[str, str], int] = {}
        if rule.engine.ollama_url is not None:
            try:
                loaded = self._loaded(rule.engine.ollama_url)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
                problems.append(f"Ollama does not answer: {error or type(error).__name__}")
        if rule.engine.exporter_url is not None:
            free_mib, pods_mib, why = self._measured(rule.node, rule.engine.exporter_url)
            problems += [why] if why else []
        return EngineFacts(rule.engine.tenant, "; ".join(problems), loaded, free_mib, pods_mib)

    def unload(self, rule: EngineRule, unload: Unload) -> str:
        """Asks; why it was not taken, empty where it was."""
        if rule.engine.ollama_url is None:
            return f"{unload.tenant} has no ollama_url"
        try:
            self._ask(rule.engine.ollama_url, "POST", "/api/generate", {"model": unload.model, "keep_alive": 0})
        except (OSError, http.client.HTTPException, ValueError) as error:
            return str(error) or type(error).__name__
        return ""

    def _loaded(self, url: str) -> dict[str, int]:
        models = self._ask(url, "GET", "/api/ps")["models"] or []
        return {str(one["model"]): bytes_to_mib_rounded_up(int(one["size_vram"])) for one in models}

    def _measured(self, node: str, url: str) -> tuple[int | None, dict[tuple[str, str], int], str]:
        """The most free memory of one card, what each pod uses, and why neither is known."""
        (scrape,) = self._exporters.scrape([ExporterTarget(node, url)])
        if scrape.samples is None:
            return None, {}, f"the exporter of {node}: {scrape.problem}"
        failed = [sample for sample in scrape.samples if not sample.ok]
        measured = [sample.free_mib for sample in scrape.samples if sample.ok and sample.free_mib is not None]
        if failed or not measured:
            return None, {}, f"the exporter of {node}: {failed[0].error if failed else 'no card is measured'}"
        pods_mib: dict[tuple[str, str], int] = {}
        for use in (use for sample in scrape.samples for use in sample.pods):
            pods_mib[use.namespace, use.pod] = pods_mib.get((use.namespace, use.pod), 0) + use.used_mib
        return max(measured), pods_mib, ""

    def _ask(self, url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self._answer_seconds)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, f"{parts.path}{path}", text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read(_LONGEST_ANSWER_BYTES)
            if answer.status >= http.client.MULTIPLE_CHOICES:
                raise ValueError(f"{method} {path}: status {answer.status}")
            found = json.loads(content or b"{}")
        finally:
            connection.close()
        if not isinstance(found, dict):
            raise ValueError(f"{method} {path}: no JSON object")
        return found
