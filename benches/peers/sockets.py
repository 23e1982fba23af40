"""Plain asyncio: what a program without an overlay would use, and the floor of the latency."""

from __future__ import annotations

import asyncio
import platform
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, cast

from .base import Peer, timed
from .streams import AsyncioStream, StreamPeer, answer
from .tls import NO_OPENSSL, client_context, server_context

if TYPE_CHECKING:
    from .streams import ByteStream

__all__ = ["AsyncioTcp", "AsyncioTls", "AsyncioUdp", "choose_congestion"]


def choose_congestion(endpoint: socket.socket, name: str) -> None:
    """Set the kernel's congestion control; accepted sockets inherit a listener's."""
    if name:
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


class AsyncioTcp(StreamPeer):
    """`asyncio.open_connection`; a new stream is a new connection."""

    name = "asyncio TCP"
    encrypted = False

    @classmethod
    def version(cls) -> str:
        return f"Python {platform.python_version()}"

    def server_tls(self) -> ssl.SSLContext | None:
        return None

    def client_tls(self) -> ssl.SSLContext | None:
        return None

    async def serve(self) -> dict[str, Any]:
        tasks = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = AsyncioStream(reader, writer)
            await answer(stream)
            await stream.close()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        listening = socket.create_server((self.lab.host, 0), backlog=128)
        choose_congestion(listening, self.lab.congestion)
        server = await asyncio.start_server(accept, sock=listening, ssl=self.server_tls())
        self.stack.callback(server.close)
        return {"port": listening.getsockname()[1], "host": self.lab.host}

    async def connect(self, where: dict[str, Any]) -> None:
        self._tls = self.client_tls()
        await self.warm(where)

    async def open(self) -> ByteStream:
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        endpoint.setblocking(False)
        choose_congestion(endpoint, self.lab.congestion)
        address = (self.where["host"], self.where["port"])
        await asyncio.get_running_loop().sock_connect(endpoint, address)
        reader, writer = await asyncio.open_connection(
            sock=endpoint, ssl=self._tls, server_hostname="localhost" if self._tls else None
        )
        return AsyncioStream(reader, writer)

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        return await self.new_streams(count, payload)


class AsyncioTls(AsyncioTcp):
    """The same with TLS 1.3."""

    name = "asyncio TLS"
    encrypted = True

    @classmethod
    def missing(cls) -> str | None:
        return NO_OPENSSL

    @classmethod
    def version(cls) -> str:
        return f"{super().version()}, {ssl.OPENSSL_VERSION}"

    def server_tls(self) -> ssl.SSLContext | None:
        return server_context(self.lab.directory)

    def client_tls(self) -> ssl.SSLContext | None:
        return client_context(self.lab.directory)


class _Echo(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class _Waiting(asyncio.DatagramProtocol):
    """Wakes one task for whatever arrives."""

    def __init__(self) -> None:
        self.arrived = 0
        self._waiter: asyncio.Future[None] | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        self.arrived += 1
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def beyond(self, count: int) -> None:
        while self.arrived <= count:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class AsyncioUdp(Peer):
    """Datagrams without reliability: the floor of the latency, and no throughput to speak of."""

    name = "asyncio UDP"
    encrypted = False

    _transport: asyncio.DatagramTransport
    _waiting: _Waiting

    @classmethod
    def version(cls) -> str:
        return AsyncioTcp.version()

    async def serve(self) -> dict[str, Any]:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            _Echo, local_addr=(self.lab.host, 0)
        )
        self.stack.callback(transport.close)
        host, port = transport.get_extra_info("sockname")
        return {"host": host, "port": port}

    async def connect(self, where: dict[str, Any]) -> None:
        self._transport, self._waiting = await asyncio.get_running_loop().create_datagram_endpoint(
            _Waiting, remote_addr=(where["host"], where["port"])
        )
        self.stack.callback(self._transport.close)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        async def once() -> None:
            before = self._waiting.arrived
            self._transport.sendto(payload)
            await self._waiting.beyond(before)

        return await timed(count, once)

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        first = self._waiting.arrived
        start = time.perf_counter()
        for number in range(count + depth):
            if number >= depth:
                await self._waiting.beyond(first + number - depth)
            if number < count:
                self._transport.sendto(payload)
        return time.perf_counter() - start
