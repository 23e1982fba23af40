"""iroh from Python, its official package: QUIC, here without relays and discovery."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from .packages import PackagePeer, load
from .streams import StreamPeer, answer, header

__all__ = ["Iroh"]

_ALPN = b"bench"


class _Stream:
    """iroh's pair under the names of the others."""

    def __init__(self, pair: Any) -> None:
        self._send, receive = pair.send(), pair.recv()
        self.read = receive.read
        self.readexactly = receive.read_exact
        self.write = self._send.write_all

    async def close(self) -> None:
        await self._send.finish()


class Iroh(StreamPeer, PackagePeer):
    """Streams of one connection."""

    name = "iroh (Python)"
    package = "iroh"

    async def bind(self) -> Any:
        self._iroh = load("iroh")
        endpoint = await self._iroh.Endpoint.bind(
            self._iroh.EndpointOptions(
                preset=self._iroh.preset_minimal(),
                bind_addr=f"{self.lab.host}:0",
                alpns=[_ALPN],
                relay_mode=self._iroh.RelayMode.disabled(),
            )
        )
        self.stack.push_async_callback(endpoint.close)
        return endpoint

    async def serve(self) -> dict[str, Any]:
        endpoint = await self.bind()
        serving = asyncio.create_task(_serve(endpoint))
        self.stack.callback(serving.cancel)
        return {"id": list(endpoint.id().to_bytes()), "sockets": endpoint.bound_sockets()}

    async def connect(self, where: dict[str, Any]) -> None:
        self._endpoint = await self.bind()
        peer = self._iroh.EndpointId.from_bytes(bytes(where["id"]))
        self._peer = self._iroh.EndpointAddr(peer, None, where["sockets"])
        self._connection = await self._endpoint.connect(self._peer, _ALPN)
        await self.warm(where)

    async def open(self) -> _Stream:
        return _Stream(await self._connection.open_bi())

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        """From endpoints that have just been bound."""
        times = []
        for _ in range(count):
            endpoint = await self.bind()
            start = time.perf_counter()
            connection = await endpoint.connect(self._peer, _ALPN)
            stream = _Stream(await connection.open_bi())
            await stream.write(header(b"E") + payload)
            await stream.readexactly(len(payload))
            times.append(time.perf_counter() - start)
            connection.close(0, b"")
        return times


async def _serve(endpoint: Any) -> None:
    tasks = set()
    while (incoming := await endpoint.accept_next()) is not None:
        task = asyncio.create_task(_answer(await (await incoming.accept()).connect()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _answer(connection: Any) -> None:
    tasks = set()
    with suppress(Exception):  # its end is an error
        while True:
            task = asyncio.create_task(_answer_stream(_Stream(await connection.accept_bi())))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def _answer_stream(stream: _Stream) -> None:
    with suppress(Exception):
        await answer(stream)
