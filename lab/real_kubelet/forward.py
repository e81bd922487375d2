"""Passes connections of pods on to the API server: `python -m lab.real_kubelet.forward SETTINGS`."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Forward:
    """From where to where; connections that come from outside `allowed_range` are closed."""

    listen_address: str
    listen_port: int
    target_port: int
    allowed_range: str

    def write(self, path: Path) -> None:
        """Writes what `read` reads."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Forward:
        """The settings in that file."""
        return cls(**json.loads(path.read_text()))


async def serve(forward: Forward) -> None:
    """Forwards until it is cancelled."""
    allowed = ipaddress.ip_network(forward.allowed_range)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ipaddress.ip_address(writer.get_extra_info("peername")[0]) not in allowed:
            writer.close()
            return
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", forward.target_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))

    server = await asyncio.start_server(connected, forward.listen_address, forward.listen_port)
    async with server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(Forward.read(Path(sys.argv[1]))))
