"""A stand-in for Ollama: no model, but the part of its API that the coordinator rests on, and its memory.

It behaves as Ollama 0.33 was read to do: `/api/ps` lists what is loaded with `size_vram` in bytes; a
generate with a prompt loads the model (evicting others beyond `max_loaded`) and takes a while; one with
an empty prompt and `keep_alive: 0` answers at once with done_reason "unload", and the model leaves
when no request runs any more, its memory a moment after that. The memory is given to `usage`, which
the lab's exporter shows. Run as a program for the guide: `python -m lab.ollama --port 11434`.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.domain.memory import mib_to_bytes
from lab.usage import PodUsage

KEEP_ALIVE_SECONDS = 300.0


@dataclass
class _Model:
    vram_mib: int
    requests_count: int = 0
    expires_seconds: float = 0.0
    unload_wished: bool = False


@dataclass
class StandInOllama:
    """`models`: what it can load, `{name: MiB}`. `free_seconds`: how long memory lags behind an unload."""

    models: Mapping[str, int]
    max_loaded: int = 1
    work_seconds: float = 0.05
    free_seconds: float = 0.3
    context_mib: int = 300
    port: int = 0
    down: bool = False
    _loaded: dict[str, _Model] = field(default_factory=dict)
    _leaving: list[tuple[float, int]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def used_mib(self) -> int:
        """What its process holds now: loaded models, those on their way out, the CUDA context."""
        with self._lock:
            self._expire()
            held = sum(model.vram_mib for model in self._loaded.values()) + sum(mib for _, mib in self._leaving)
            return held + (self.context_mib if held else 0)

    def loaded(self) -> list[str]:
        """Names of the models that `/api/ps` lists."""
        with self._lock:
            self._expire()
            return sorted(self._loaded)

    def usage(self, node: str) -> dict[str, PodUsage]:
        """For `lab.small_exporter`: this process as a pod."""
        return {"ai/ollama": PodUsage(node=node, used_mib=self.used_mib)}

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of a GET."""
        if path == "/api/version":
            return 200, {"version": "0.33.0-stand-in"}
        if path != "/api/ps":
            return 404, {"error": "not found"}
        with self._lock:
            self._expire()
            return 200, {"models": [self._listed(name, model) for name, model in self._loaded.items()]}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of a POST."""
        name = str(body.get("model", ""))
        if path not in ("/api/generate", "/api/chat"):
            return 404, {"error": "not found"}
        if name not in self.models:
            return 404, {"error": f"model '{name}' not found"}
        empty = not (body.get("prompt") or body.get("messages"))
        if empty and body.get("keep_alive") == 0:
            with self._lock:
                self._wish_unload(name)
            return 200, {"model": name, "response": "", "done": True, "done_reason": "unload"}
        with self._lock:
            model = self._load(name)
            model.requests_count += 1
        time.sleep(0 if empty else self.work_seconds)
        with self._lock:
            model.requests_count -= 1
            keep = body.get("keep_alive", KEEP_ALIVE_SECONDS)
            model.expires_seconds = time.monotonic() + float(keep)
            if model.unload_wished and not model.requests_count:
                self._remove(name)
        reason = "load" if empty else "stop"
        return 200, {"model": name, "response": "" if empty else "42", "done": True, "done_reason": reason}

    def _load(self, name: str) -> _Model:
        self._expire()
        if name not in self._loaded:
            idle = [other for other, model in self._loaded.items() if not model.requests_count]
            while len(self._loaded) >= self.max_loaded and idle:
                self._remove(idle.pop(0))
            self._loaded[name] = _Model(self.models[name], expires_seconds=time.monotonic() + KEEP_ALIVE_SECONDS)
        return self._loaded[name]

    def _wish_unload(self, name: str) -> None:
        model = self._loaded.get(name)
        if model is None:
            return
        model.unload_wished = True
        if not model.requests_count:
            self._remove(name)

    def _remove(self, name: str) -> None:
        model = self._loaded.pop(name)
        self._leaving.append((time.monotonic() + self.free_seconds, model.vram_mib))

    def _expire(self) -> None:
        now = time.monotonic()
        for name in [n for n, m in self._loaded.items() if not m.requests_count and m.expires_seconds < now]:
            self._remove(name)
        self._leaving = [(until, mib) for until, mib in self._leaving if until > now]

    def _listed(self, name: str, model: _Model) -> dict[str, Any]:
        left = timedelta(seconds=max(0.0, model.expires_seconds - time.monotonic()))
        size = mib_to_bytes(model.vram_mib)
        return {
            "name": name,
            "model": name,
            "size": size,
            "size_vram": size,
            "digest": "0" * 64,
            "details": {"format": "gguf"},
            "expires_at": (datetime.now(UTC) + left).isoformat(),
            "context_length": 4096,
        }


@contextmanager
def stand_in_ollama(ollama: StandInOllama) -> Iterator[StandInOllama]:
    """Serves `ollama` on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(lambda: ollama.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            self._answer(lambda: ollama.post(self.path, body))

        def _answer(self, ask: Any) -> None:
            if ollama.down:  # its process is gone: the connection ends without an answer
                self.close_connection = True
                return
            status, document = ask()
            content = json.dumps(document).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", ollama.port), Handler)
    server.daemon_threads = True
    ollama.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield ollama
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """For the guide: the reference's two models."""
    parser = argparse.ArgumentParser(description="A stand-in for Ollama: its API and its memory, no model.")
    parser.add_argument("--port", type=int, default=11434)
    models = {"gemma4:e4b-q8_0": 4608, "nomic-embed-text": 512}
    with stand_in_ollama(StandInOllama(models, port=parser.parse_args().port)) as ollama:
        print(f"a stand-in for Ollama answers at {ollama.url}; it knows {', '.join(models)}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
