"""NATS over TLS: nats-py at both ends, nats-server between them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from typing import Any

from .base import KIB, free_port, in_flight, timed
from .packages import PackagePeer, load
from .tls import NO_OPENSSL, certificate, client_context

__all__ = ["NatsTls"]

_WINDOW = 64
"""Messages on their way: a server drops what a subscriber is too slow for."""
_ACK = 8


class NatsTls(PackagePeer):
    """Requests and replies; for throughput, messages that the other end acknowledges in groups."""

    name = "NATS, TLS"
    package = "nats-py"
    chunks = (256 * KIB,)

    @classmethod
    def missing(cls) -> str | None:
        server = None if shutil.which("nats-server") else "nats-server is not installed"
        return super().missing() or server or NO_OPENSSL

    @classmethod
    def version(cls) -> str:
        program = shutil.which("nats-server")
        if program is None:
            return super().version()
        text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        return f"{super().version()}, {text.stdout.strip()}"

    async def client(self) -> Any:
        client = await load("nats").connect(
            self._url,
            tls=client_context(self.lab.directory),
            tls_hostname="localhost",
            pending_size=64 << 20,
        )
        self.stack.push_async_callback(client.close)
        return client

    async def serve(self) -> dict[str, Any]:
        port = free_port(self.lab.host)
        crt, key = certificate(self.lab.directory)
        server = await asyncio.create_subprocess_exec(
            *("nats-server", "-a", self.lab.host, "-p", str(port)),
            *("--tls", "--tlscert", str(crt), "--tlskey", str(key)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.stack.push_async_callback(server.wait)
        self.stack.callback(server.terminate)
        await _listening(self.lab.host, port)
        self._url = f"nats://{self.lab.host}:{port}"
        client = await self.client()
        received = 0

        async def echo(message: Any) -> None:
            await message.respond(message.data)

        async def give(message: Any) -> None:
            await message.respond(bytes(int(message.data)))

        async def take(message: Any) -> None:
            nonlocal received
            received += 1
            if received % _ACK == 0 or message.reply:
                await client.publish("bench.ack", b"%d" % received)
            if message.reply:
                await message.respond(b".")

        handlers = {"echo": echo, "give": give, "sink": take}
        for name, handler in handlers.items():
            await client.subscribe(f"bench.{name}", cb=handler, pending_bytes_limit=1 << 30)
        await client.flush()
        return {"url": self._url}

    async def connect(self, where: dict[str, Any]) -> None:
        self._url = where["url"]
        self._client = await self.client()
        self._sent = self._acknowledged = 0
        self._progress = asyncio.Event()

        async def acknowledged(message: Any) -> None:
            self._acknowledged = int(message.data)
            self._progress.set()

        await self._client.subscribe("bench.ack", cb=acknowledged)
        await self.echo(b"?")

    async def echo(self, payload: bytes) -> Any:
        return await self._client.request("bench.echo", payload, timeout=10)

    async def _room(self) -> None:
        while self._sent - self._acknowledged >= _WINDOW:
            self._progress.clear()
            await self._progress.wait()

    async def send(self, size: int, chunk: int) -> float:
        data = bytes(chunk)
        start = time.perf_counter()
        while size > chunk:
            await self._room()
            self._sent += 1
            await self._client.publish("bench.sink", data)
            size -= chunk
        self._sent += 1
        await self._client.request("bench.sink", data[:size], timeout=60)
        return time.perf_counter() - start

    async def keep_sending(self) -> None:
        while True:
            await self.send(1 << 30, self.chunks[0])

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await timed(count, lambda: self.echo(payload))

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        return await in_flight(count, depth, lambda: self.echo(payload))

    async def fetch(self, parallel: int, size: int) -> list[float]:
        start = time.perf_counter()

        async def one() -> float:
            await self._client.request("bench.give", b"%d" % size, timeout=60)
            return time.perf_counter() - start

        return list(await asyncio.gather(*(one() for _ in range(parallel))))


async def _listening(host: str, port: int) -> None:
    for _ in range(500):
        with suppress(OSError):
            await asyncio.to_thread(lambda: socket.create_connection((host, port), 1).close())
            return
        await asyncio.sleep(0.02)
    raise RuntimeError("nats-server does not listen")
