"""HTTP/1.1 over TLS, client and server of aiohttp."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

from .base import KIB, in_flight, timed
from .packages import PackagePeer, load
from .sockets import choose_congestion
from .tls import NO_OPENSSL, client_context, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Aiohttp"]


class Aiohttp(PackagePeer):
    """POST and GET with one client session; 64 in flight are 64 connections."""

    name = "aiohttp, TLS"
    package = "aiohttp"
    chunks = (256 * KIB, 1024 * KIB)

    @classmethod
    def missing(cls) -> str | None:
        return super().missing() or NO_OPENSSL

    async def serve(self) -> dict[str, Any]:
        web = load("aiohttp.web")

        async def sink(request: Any) -> Any:
            async for _ in request.content.iter_any():
                pass
            return web.Response()

        async def echo(request: Any) -> Any:
            return web.Response(body=await request.read())

        async def give(request: Any) -> Any:
            return web.Response(body=bytes(int(request.match_info["size"])))

        application = web.Application(client_max_size=1 << 62)
        application.add_routes(
            [web.post("/sink", sink), web.post("/echo", echo), web.get("/give/{size}", give)]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        listening = socket.create_server((self.lab.host, 0), backlog=128)
        choose_congestion(listening, self.lab.congestion)
        tls = server_context(self.lab.directory)
        await web.SockSite(runner, listening, ssl_context=tls, shutdown_timeout=1).start()
        return {"host": self.lab.host, "port": listening.getsockname()[1]}

    async def connect(self, where: dict[str, Any]) -> None:
        self._aiohttp = load("aiohttp")
        self._url = f"https://{where['host']}:{where['port']}"
        self._session = await self.session()
        await self.echo(self._session, b"")

    async def session(self, limit: int = 64) -> Any:
        connector = self._aiohttp.TCPConnector(
            limit=limit,
            ssl=client_context(self.lab.directory),
            socket_factory=self._socket,
        )
        session = self._aiohttp.ClientSession(connector=connector)
        return await self.stack.enter_async_context(session)

    def _socket(self, info: Any) -> socket.socket:
        endpoint = socket.socket(*info[:3])
        endpoint.setblocking(False)
        choose_congestion(endpoint, self.lab.congestion)
        return endpoint

    async def echo(self, session: Any, payload: bytes) -> bytes:
        answer = session.post(f"{self._url}/echo", data=payload, server_hostname="localhost")
        async with answer as response:
            body: bytes = await response.read()
            return body

    async def sink(self, size: int, chunk: int) -> None:
        async def body() -> AsyncIterator[bytes]:
            data, left = bytes(chunk), size
            while left > 0:
                yield data if left >= chunk else data[:left]
                left -= chunk

        answer = self._session.post(f"{self._url}/sink", data=body(), server_hostname="localhost")
        async with answer as response:
            await response.read()

    async def send(self, size: int, chunk: int) -> float:
        start = time.perf_counter()
        await self.sink(size, chunk)
        return time.perf_counter() - start

    async def keep_sending(self) -> None:
        await self.sink(1 << 60, self.chunks[0])

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await timed(count, lambda: self.echo(self._session, payload))

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        return await in_flight(count, depth, lambda: self.echo(self._session, payload))

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        times = []
        for _ in range(count):
            session = await self.session()
            start = time.perf_counter()
            await self.echo(session, payload)
            times.append(time.perf_counter() - start)
            await session.close()
        return times

    async def fetch(self, parallel: int, size: int) -> list[float]:
        """One after the other on one connection, as HTTP/1.1 has it."""
        session = await self.session(limit=1)
        await self.echo(session, b"")
        start = time.perf_counter()

        async def one() -> float:
            url = f"{self._url}/give/{size}"
            async with session.get(url, server_hostname="localhost") as response:
                await response.read()
            return time.perf_counter() - start

        times = await asyncio.gather(*(one() for _ in range(parallel)))
        await session.close()
        return list(times)
