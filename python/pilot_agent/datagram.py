"""Datagrams: unreliable, unordered, but encrypted and authenticated like everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._bridge import Signal
from .errors import NodeClosed
from .message import Datagram
from .payload import as_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from . import _native
    from ._bridge import Scope
    from .message import Peer

__all__ = ["DatagramPort"]


class DatagramPort:
    """A port of this node that sends and receives datagrams.

    Datagrams wait in a bounded queue; when nobody takes them in time the oldest are dropped.

    Example:
        >>> async with node.datagrams(5000) as port:
        ...     async for datagram in port:
        ...         await port.send(datagram.sender, datagram.port, b"pong")
    """

    def __init__(self, scope: Scope, node: _native.Node, native: _native.DatagramPort) -> None:
        self._scope = scope
        self._node = node
        self._native = native
        self._port = native.port
        self._received = Signal(scope)

    @property
    def port(self) -> int:
        """The port."""
        return self._port

    @property
    def dropped(self) -> int:
        """How many datagrams were dropped because nobody took them in time."""
        return self._native.dropped

    async def recv(self) -> Datagram:
        """Waits for a datagram. A cancelled call loses none.

        Returns:
            The datagram.

        Raises:
            NodeClosed: The node, or the port, was closed.
        """
        return Datagram(*await self._received.take(self._native.poll_recv))

    async def send(self, peer: Peer, port: int, data: Buffer) -> None:
        """Sends a datagram from this port; see `Node.send_datagram`.

        Args:
            peer: Whom to send to.
            port: Port at the peer.
            data: The bytes.
        """
        data = as_bytes(data)
        await self._scope.run(
            lambda bridge, token: self._node.send_datagram(
                bridge, token, peer, self._port, port, data
            )
        )

    def close(self) -> None:
        """Gives the port back and ends waiting `recv` calls. Idempotent."""
        self._native.close()
        self._received.wake()

    async def __aenter__(self) -> Self:
        """Returns the port."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def __aiter__(self) -> AsyncIterator[Datagram]:
        """Iterates over the datagrams; ends when the port or the node is closed."""
        return self

    async def __anext__(self) -> Datagram:
        """Returns the next datagram."""
        try:
            return await self.recv()
        except NodeClosed:
            raise StopAsyncIteration from None

    def __repr__(self) -> str:
        return f"<pilot_agent.DatagramPort {self._port}>"


DatagramPort.__module__ = "pilot_agent"
