"""Streams and datagrams: the half of `Node` that moves bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ._base import DEFAULT_TIMEOUT, Base
from ._opening import Opening
from ._transport import StreamTransport
from .datagram import DatagramPort
from .payload import as_bytes
from .stream import DEFAULT_LIMIT, Listener, Stream

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from . import _native
    from .message import Peer
    from .path import Traffic

__all__ = ["Connecting"]


class Connecting(Base):
    """Opens and accepts streams, sends and receives datagrams."""

    def open_stream(
        self,
        peer: Peer,
        port: int,
        *,
        nodelay: bool = True,
        traffic: Traffic = "normal",
        timeout: float | None = DEFAULT_TIMEOUT,
        limit: int = DEFAULT_LIMIT,
    ) -> Opening[Stream]:
        """Opens a stream: ``await`` it, or enter it with ``async with``.

        Args:
            peer: Hostname, address, or node id.
            port: Port at the peer.
            nodelay: Send small writes at once instead of collecting them (Nagle).
            traffic: What it carries, for the path policy: ``"normal"``, ``"bulk"`` (much of it, it
                can wait) or ``"control"`` (little of it, it must arrive soon); see `PathPolicy`.
            timeout: Longest wait for the peer, in seconds; `None` for no limit.
            limit: Longest line that `Stream.readline` accepts, in bytes.

        Returns:
            The stream, once awaited or entered.

        Raises:
            ConnectionRefused: Nothing listens on that port.
            PilotError: What `send` raises.
        """

        async def open_() -> Stream:
            native = await self._open(peer, port, nodelay, traffic, timeout)
            return Stream(self._scope, native, limit)

        return Opening(open_)

    async def open_connection(
        self,
        peer: Peer,
        port: int,
        *,
        nodelay: bool = True,
        traffic: Traffic = "normal",
        timeout: float | None = DEFAULT_TIMEOUT,
        limit: int = DEFAULT_LIMIT,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a stream as `asyncio.open_connection` does, for code that wants its types.

        ``writer.get_extra_info`` knows ``"peername"`` (address and port) and ``"sockname"``.

        Args:
            peer: Hostname, address, or node id.
            port: Port at the peer.
            nodelay: Send small writes at once instead of collecting them (Nagle).
            traffic: What it carries, for the path policy: ``"normal"``, ``"bulk"`` (much of it, it
                can wait) or ``"control"`` (little of it, it must arrive soon); see `PathPolicy`.
            timeout: Longest wait for the peer, in seconds; `None` for no limit.
            limit: Bytes that the reader buffers, and its longest line.

        Returns:
            asyncio's own reader and writer.

        Raises:
            PilotError: What `open_stream` raises.
        """
        native = await self._open(peer, port, nodelay, traffic, timeout)
        loop = self._scope.loop
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        extra = {
            "peername": (native.peer, native.remote_port),
            "sockname": (self._address, native.local_port),
        }
        transport = StreamTransport(self._scope, native, protocol, extra)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def listen(self, port: int, *, limit: int = DEFAULT_LIMIT) -> Listener:
        """Accepts streams on a port.

        Args:
            port: The port, 1 to 65535.
            limit: Longest line that `Stream.readline` accepts, in bytes.

        Returns:
            The listener: an async iterator and an async context manager.

        Raises:
            PortInUse: Somebody listens there already.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        return Listener(self._scope, self._native.listen(port), limit)

    def datagrams(self, port: int) -> DatagramPort:
        """Receives datagrams on a port.

        Args:
            port: The port, 1 to 65535.

        Returns:
            The port: an async iterator and an async context manager.

        Raises:
            PortInUse: Somebody has it already.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        native = self._native.bind_datagrams(port)
        return DatagramPort(self._scope, self._native, native)

    async def send_datagram(
        self, peer: Peer, port: int, data: Buffer, *, source_port: int = 0
    ) -> None:
        """Sends a datagram: encrypted, but it may be lost, repeated or overtaken.

        Args:
            peer: Hostname, address, or node id.
            port: Port at the peer.
            data: The bytes; about 1200 fit one packet.
            source_port: Port that an answer comes to; 0 for any.

        Raises:
            PayloadTooLarge: The bytes do not fit a datagram.
            PilotError: What `send` raises, but never for lack of an answer.
        """
        data = as_bytes(data)
        await self._scope.run(
            lambda bridge, token: self._native.send_datagram(
                bridge, token, peer, source_port, port, data
            )
        )

    async def _open(
        self, peer: Peer, port: int, nodelay: bool, traffic: Traffic, timeout: float | None
    ) -> _native.Stream:
        return await self._scope.run(
            lambda bridge, token: self._native.open_stream(
                bridge, token, peer, port, nodelay, traffic, timeout
            )
        )
