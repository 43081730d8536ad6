"""A small round-robin proxy, as a Service and its Ingress are one: asks readiness, sends each request to the next replica.

One connection a request. What could not be sent goes to the next replica; what was sent is never sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter

PROBE_SECONDS = 0.2


class Proxy:
    """Serves on a loopback port until the end of the `async with` block."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.ready: dict[int, bool] = dict.fromkeys(ports, False)
        self.turns = itertools.cycle(ports)
        self.sent: Counter[int] = Counter()
        self.base = ""

    async def __aenter__(self) -> Proxy:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.probes = [asyncio.create_task(self.probe(port)) for port in self.ports]
        return self

    async def __aexit__(self, *_: object) -> None:
        for probe in self.probes:
            probe.cancel()
        self.server.close()

    async def probe(self, port: int) -> None:
        """Asks a replica again and again whether it is ready."""
        while True:
            try:
                async with asyncio.timeout(2):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    status = await reader.readline()
                    writer.close()
                self.ready[port] = b" 200 " in status
            except (OSError, TimeoutError):
                self.ready[port] = False
            await asyncio.sleep(PROBE_SECONDS)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the next replica that is ready."""
        for _ in self.ports:
            port = next(self.turns)
            if not self.ready[port]:
                continue
            try:
                streams = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                self.ready[port] = False
                continue
            self.sent[port] += 1
            return streams
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of a client."""
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
            length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
            body = await reader.readexactly(length)
            upstream = await self.connect()
            if upstream is None:
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
                return
            answers, requests = upstream
            with contextlib.closing(requests):
                requests.write(b"\r\n".join([*lines, b"connection: close", b"", b""]) + body)
                await self.pass_on(answers, reader, writer)

    async def pass_on(
        self, answers: asyncio.StreamReader, client: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Passes the answer on as it comes; a client that goes away takes the request with it."""
        gone = asyncio.ensure_future(client.read(1))
        try:
            while True:
                chunk = asyncio.ensure_future(answers.read(65536))
                await asyncio.wait({chunk, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done():
                    chunk.cancel()
                    return
                if not (data := chunk.result()):
                    return
                writer.write(data)
                await writer.drain()
        finally:
            gone.cancel()
