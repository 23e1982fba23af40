"""pilot-agent, both sides in Python processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent import Node
from support.ours import AgentProcess

from .base import Peer, bulk, timed

if TYPE_CHECKING:
    from pilot_agent import Stream

__all__ = ["OurRequest", "OurStream"]

_ECHO = 7


class _Ours(Peer):
    encrypted = True

    _node: Node | None = None
    _other: AgentProcess | None = None

    async def start(self) -> None:
        home = self.lab.directory
        self._other = AgentProcess(home / "other", self.lab.rendezvous, self.other)
        await self._other.start()
        self._node = await Node.start(
            self.lab.hostname("ours"), rendezvous=self.lab.rendezvous, home=home / "self"
        )

    async def stop(self) -> None:
        if self._node is not None:
            await self._node.close()
        if self._other is not None:
            await self._other.kill()

    @property
    def other(self) -> str:
        return self.lab.hostname("other")

    @property
    def node(self) -> Node:
        assert self._node is not None, "started"
        return self._node


class OurStream(_Ours):
    """`Stream.write` and `Stream.read` through the node's echo service."""

    name = "pilot-agent, stream"

    _stream: Stream | None = None

    async def start(self) -> None:
        await super().start()
        self._stream = await self.node.open_stream(self.other, _ECHO)

    async def stop(self) -> None:
        if self._stream is not None:
            await self._stream.close()
        await super().stop()

    async def throughput(self, size: int) -> float:
        assert self._stream is not None, "started"
        return await bulk(self._stream, size)

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        stream = self._stream
        assert stream is not None, "started"

        async def once() -> None:
            await stream.write(payload)
            await stream.readexactly(len(payload))

        return await timed(count, once)


class OurRequest(_Ours):
    """`Node.request`, answered by an `async def` handler in the other process."""

    name = "pilot-agent, request()"

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        return await timed(count, lambda: self.node.request(self.other, payload))
