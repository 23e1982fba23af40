"""pilot-agent."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pilot_agent import Node

from .base import CHUNK, KIB, in_flight, timed
from .streams import StreamPeer, answer, answer_request, header

if TYPE_CHECKING:
    from pilot_agent import Listener, Request, Stream

__all__ = ["OurRequest", "OurStream"]

_PORT = 4000


class _Ours(StreamPeer):
    needs_rendezvous = True

    _node: Node

    @classmethod
    def version(cls) -> str:
        return version("pilot-agent")

    async def start(self, role: str) -> Node:
        node = await Node.start(
            self.lab.hostname(role),
            rendezvous=self.lab.rendezvous,
            home=self.lab.directory / role,
            listen=f"{self.lab.host}:0",
        )
        return await self.stack.enter_async_context(node)

    async def serve(self) -> dict[str, Any]:
        node = await self.start("server")

        @node.on_request
        async def reply(request: Request) -> bytes:
            return answer_request(request.payload)

        serving = asyncio.create_task(_serve(node.listen(_PORT)))
        self.stack.callback(serving.cancel)
        return {"peer": node.address}

    async def connect(self, where: dict[str, Any]) -> None:
        self._node = await self.start("client")
        await self.warm(where)

    async def open(self) -> Stream:
        return await self._node.open_stream(self.where["peer"], _PORT)


async def _serve(listener: Listener) -> None:
    tasks = set()
    async for stream in listener:
        task = asyncio.create_task(_answer(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _answer(stream: Stream) -> None:
    async with stream:
        await answer(stream)


class OurStream(_Ours):
    """`Stream.write` and `Stream.read`."""

    name = "pilot-agent, stream"
    chunks = (64 * KIB, CHUNK, 1024 * KIB)

    async def new_peers(self, count: int, payload: bytes) -> list[float]:
        """From nodes that have just started: the start itself is not counted."""
        times = []
        for number in range(count):
            node = await self.start(f"client-{number}-{time.monotonic_ns()}")
            start = time.perf_counter()
            stream = await node.open_stream(self.where["peer"], _PORT)
            await stream.write(header(b"E") + payload)
            await stream.readexactly(1)
            times.append(time.perf_counter() - start)
            await stream.close()
            await node.close()
        return times


class OurRequest(_Ours):
    """`Node.request`, answered by an `async def` handler."""

    name = "pilot-agent, request()"

    async def send(self, size: int, chunk: int) -> float:
        raise NotImplementedError

    async def new_streams(self, count: int, payload: bytes) -> list[float]:
        raise NotImplementedError

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await timed(count, lambda: self._node.request(self.where["peer"], payload))

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        return await in_flight(
            count, depth, lambda: self._node.request(self.where["peer"], payload)
        )

    async def fetch(self, parallel: int, size: int) -> list[float]:
        question, peer = header(b"G", size), self.where["peer"]
        start = time.perf_counter()

        async def one() -> float:
            # A bad link takes its time; how long is what is asked.
            await self._node.request(peer, question, timeout=100)
            return time.perf_counter() - start

        return list(await asyncio.gather(*(one() for _ in range(parallel))))
