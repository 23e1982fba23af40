"""The node: one agent's presence on the network."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from . import _native, otel
from ._bridge import Scope, Signal
from ._dispatch import Dispatcher
from ._opening import Opening
from ._transport import StreamTransport
from .config import home_directory, settings
from .datagram import DatagramPort
from .errors import InvalidArgument, NodeClosed, PilotError
from .message import AgentInfo, Message, NodeInfo, PeerInfo, Pong, Reply, Request
from .payload import Payload, as_bytes, encode
from .stream import DEFAULT_LIMIT, Listener, Stream

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from .message import Peer

__all__ = ["Node"]

logger = logging.getLogger("pilot_agent")

RequestHandler: TypeAlias = Callable[[Request], Awaitable[Payload]]
MessageHandler: TypeAlias = Callable[[Message], Awaitable[None]]
OnRequest = TypeVar("OnRequest", bound=RequestHandler)
OnMessage = TypeVar("OnMessage", bound=MessageHandler)

DEFAULT_TIMEOUT = 10.0
MAX_CONCURRENCY = 64


class Node:
    """A node of the network; `start` makes one.

    A node belongs to the event loop it was started in. Its methods may be called by any number of
    that loop's tasks, and every ``await`` may be cancelled. Leaving ``async with`` closes it.

    Example:
        >>> async with Node.start("coordinator") as node:
        ...     reply = await node.request("specialist-fx", {"pair": "EUR/USD"})
        ...     print(reply.json())
    """

    def __init__(self, scope: Scope, native: _native.Node) -> None:
        self._scope = scope
        self._native = native
        self._messages = Signal(scope)
        self._dispatchers: list[Dispatcher[Any]] = []
        self._request_handler: RequestHandler | None = None
        self._message_handler: MessageHandler | None = None
        self._closing: asyncio.Task[None] | None = None
        self._address, self._node_id, self._hostname, self._public_key = native.identity()

    @classmethod
    def start(
        cls,
        hostname: str | None = None,
        *,
        rendezvous: str | None = None,
        home: str | os.PathLike[str] | None = None,
        listen: str | None = None,
        public: bool | None = None,
        capabilities: Sequence[str] = (),
        inbox: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        peer_timeout: float | None = None,
        heartbeat: float | None = None,
        max_message: int | None = None,
        inbox_limit: int | None = None,
    ) -> Opening[Self]:
        """Starts a node: ``await`` it, or enter it with ``async with``.

        What is left open is looked up as `pilot_agent.config` says.

        Args:
            hostname: Name that others find this node by; `None` for a node that only calls.
                Each hostname has an identity of its own, and keeps its address.
            rendezvous: ``host:port``, ``registry=host:port,beacon=host:port``, or ``embedded``:
                one that the first node of this machine hosts.
            home: Directory of identities and pinned keys.
            listen: UDP address to bind, such as ``"127.0.0.1:4000"`` or ``":4000"``.
            public: Whether every agent may find this one and connect.
            capabilities: What this agent can do, in words that others search for; at most 16 of
                at most 64 bytes.
            inbox: Directory that received files go to.
            timeout: Longest time that starting may take, in seconds.
            peer_timeout: Silence, in seconds, after which a peer that something is wanted of
                counts as lost.
            heartbeat: Seconds between two signs of life to the rendezvous.
            max_message: Largest message that this node takes, in bytes.
            inbox_limit: Bytes of messages that wait to be taken; more are not acknowledged.

        Returns:
            The node, once awaited or entered.

        Raises:
            HostnameTaken: The hostname belongs to another identity.
            IdentityInUse: Another process runs with this identity.
            IdentityError: The identity cannot be read or written.
            RegistryError: The rendezvous cannot be reached, hangs, or answers nonsense.
            InvalidArgument: An option makes no sense.
            LocalError: The UDP address cannot be bound.
        """
        if isinstance(capabilities, str):
            message = "capabilities is a sequence of texts, not one text"
            raise InvalidArgument(message)
        options = {
            "rendezvous": rendezvous,
            "listen": listen,
            "public": public,
            "capabilities": list(capabilities),
            "inbox": inbox,
            "timeout": timeout,
            "peer_timeout": peer_timeout,
            "heartbeat": heartbeat,
            "max_message": max_message,
            "inbox_limit": inbox_limit,
        }
        return Opening(partial(cls._start, hostname, home_directory(home), options))

    @classmethod
    async def _start(cls, hostname: str | None, home: Path, options: dict[str, Any]) -> Self:
        options = settings(home, options)
        scope = Scope()
        try:
            native = await scope.run(
                lambda bridge, token: _native.start_node(bridge, token, hostname, options),
                join=True,
            )
            return cls(scope, native)
        except BaseException:
            scope.close()
            raise

    @property
    def address(self) -> str:
        """Address on the network, such as ``0:0000.A91F.7C2E``."""
        return self._address

    @property
    def node_id(self) -> int:
        """The address as a number."""
        return self._node_id

    @property
    def hostname(self) -> str | None:
        """Hostname, if it has one."""
        return self._hostname

    @property
    def public_key(self) -> bytes:
        """Ed25519 public key, 32 bytes."""
        return self._public_key

    @property
    def is_closed(self) -> bool:
        """Whether the node is closed, or being closed."""
        return self._closing is not None or self._scope.is_closed

    def info(self) -> NodeInfo:
        """Returns what the node knows of itself.

        Raises:
            NodeClosed: The node is closed.
        """
        return NodeInfo(**self._native.info())

    def peers(self) -> list[PeerInfo]:
        """Returns the peers that this node has a tunnel with, or is making one.

        Raises:
            NodeClosed: The node is closed.
        """
        return [PeerInfo(**fields) for fields in self._native.peers()]

    async def send(
        self, peer: Peer, payload: Payload, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> None:
        """Sends a message; returns when the peer's node has it.

        The message is in the peer's inbox then, once, whether or not its application has taken
        it. Cancelled or timed out, it may or may not have arrived.

        Args:
            peer: Hostname, address, or node id.
            payload: `bytes`, `str`, or what JSON takes.
            timeout: Longest wait for the acknowledgement, in seconds; `None` for no limit.

        Raises:
            PeerNotFound: No such hostname or node.
            PeerUnreachable: The peer does not answer.
            RequestTimeout: No acknowledgement in time.
            TrustRequired: The peer is private and has not approved this node.
            IdentityMismatch: The peer's key has changed.
            PayloadTooLarge: More than 64 MiB.
            InvalidArgument: More than the peer takes.
            NodeClosed: The node is closed.
        """
        kind, data = encode(payload)
        with otel.outgoing("send", peer, len(data)) as headers:
            await self._scope.run(
                lambda bridge, token: self._native.send(
                    bridge, token, peer, kind, data, headers, timeout
                )
            )

    async def send_file(
        self, peer: Peer, path: str | os.PathLike[str], *, timeout: float | None = 60.0
    ) -> None:
        """Sends a file; returns when the peer's node has it in its inbox directory.

        Args:
            peer: Hostname, address, or node id.
            path: The file.
            timeout: Longest wait for the acknowledgement, in seconds; `None` for no limit.

        Raises:
            LocalError: The file cannot be read.
            PilotError: What `send` raises.
        """
        await self._scope.run(
            lambda bridge, token: self._native.send_file(bridge, token, peer, Path(path), timeout)
        )

    async def request(
        self, peer: Peer, payload: Payload, *, timeout: float | None = DEFAULT_TIMEOUT
    ) -> Reply:
        """Asks a peer and waits for the answer of its handler.

        Args:
            peer: Hostname, address, or node id.
            payload: `bytes`, `str`, or what JSON takes.
            timeout: Longest wait for the answer, in seconds; `None` for no limit.

        Returns:
            The answer.

        Raises:
            RequestTimeout: No answer in time.
            RequestFailed: The peer's handler raised, or the peer has none.
            Unsupported: The peer is a Go node, which has no requests.
            PilotError: What `send` raises.
        """
        kind, data = encode(payload)
        with otel.outgoing("request", peer, len(data)) as headers:
            sender, reply_kind, reply, reply_headers = await self._scope.run(
                lambda bridge, token: self._native.request(
                    bridge, token, peer, kind, data, headers, timeout
                )
            )
        return Reply(sender, reply, reply_kind, dict(reply_headers))

    async def recv(self, *, timeout: float | None = None) -> Message:
        """Takes the next message. A cancelled call loses none.

        Args:
            timeout: Longest wait, in seconds; `None` for no limit.

        Returns:
            The message.

        Raises:
            TimeoutError: No message in time.
            NodeClosed: The node is closed.
        """
        taking = self._messages.take(self._native.poll_message)
        if timeout is None:
            return _message(await taking)
        try:
            return _message(await asyncio.wait_for(taking, timeout))
        except asyncio.TimeoutError:
            message = f"no message within {timeout:g} s"
            raise TimeoutError(message) from None

    async def messages(self) -> AsyncIterator[Message]:
        """Iterates over the messages that arrive; ends when the node is closed.

        Several iterators share the messages: each message goes to one of them.

        Yields:
            Messages, in the order in which they arrived.
        """
        while True:
            try:
                message = await self.recv()
            except NodeClosed:
                return
            yield message

    @overload
    def on_request(self, handler: OnRequest, /) -> OnRequest: ...
    @overload
    def on_request(
        self, /, *, concurrency: int = MAX_CONCURRENCY
    ) -> Callable[[OnRequest], OnRequest]: ...
    def on_request(
        self, handler: OnRequest | None = None, /, *, concurrency: int = MAX_CONCURRENCY
    ) -> OnRequest | Callable[[OnRequest], OnRequest]:
        """Has `handler` answer requests; a decorator, with or without arguments.

        The handler gets a `Request` and returns a payload. What it raises is logged here once,
        and the caller gets `RequestFailed`. Closing the node cancels handlers that run.

        Args:
            handler: An ``async def``.
            concurrency: How many requests are handled at a time; more wait in the node.

        Returns:
            The handler itself.

        Raises:
            InvalidArgument: There is a handler already, or `concurrency` is not positive.
            NodeClosed: The node is closed.

        Example:
            >>> @node.on_request
            ... async def answer(request: Request) -> Payload:
            ...     return {"echo": request.json()}
        """

        def register(handler: OnRequest) -> OnRequest:
            self._check_handler(self._request_handler, concurrency)
            self._native.set_serving(True)
            self._request_handler = handler
            self._dispatchers.append(
                Dispatcher(self._scope, self._native.poll_request, self._answer, concurrency)
            )
            return handler

        return register if handler is None else register(handler)

    @overload
    def on_message(self, handler: OnMessage, /) -> OnMessage: ...
    @overload
    def on_message(
        self, /, *, concurrency: int = MAX_CONCURRENCY
    ) -> Callable[[OnMessage], OnMessage]: ...
    def on_message(
        self, handler: OnMessage | None = None, /, *, concurrency: int = MAX_CONCURRENCY
    ) -> OnMessage | Callable[[OnMessage], OnMessage]:
        """Has `handler` take messages, instead of `messages` and `recv`; a decorator.

        What it raises is logged once. Closing the node cancels handlers that run.

        Args:
            handler: An ``async def`` that gets a `Message`.
            concurrency: How many messages are handled at a time; more wait in the node. With 1,
                they are handled in the order in which they arrived.

        Returns:
            The handler itself.

        Raises:
            InvalidArgument: There is a handler already, or `concurrency` is not positive.
            NodeClosed: The node is closed.
        """

        def register(handler: OnMessage) -> OnMessage:
            self._check_handler(self._message_handler, concurrency)
            self._message_handler = handler
            self._dispatchers.append(
                Dispatcher(self._scope, self._native.poll_message, self._deliver, concurrency)
            )
            return handler

        return register if handler is None else register(handler)

    def open_stream(
        self,
        peer: Peer,
        port: int,
        *,
        nodelay: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
        limit: int = DEFAULT_LIMIT,
    ) -> Opening[Stream]:
        """Opens a stream: ``await`` it, or enter it with ``async with``.

        Args:
            peer: Hostname, address, or node id.
            port: Port at the peer.
            nodelay: Send small writes at once instead of collecting them (Nagle).
            timeout: Longest wait for the peer, in seconds; `None` for no limit.
            limit: Longest line that `Stream.readline` accepts, in bytes.

        Returns:
            The stream, once awaited or entered.

        Raises:
            ConnectionRefused: Nothing listens on that port.
            PilotError: What `send` raises.
        """

        async def open_() -> Stream:
            native = await self._open(peer, port, nodelay, timeout)
            return Stream(self._scope, native, limit)

        return Opening(open_)

    async def open_connection(
        self,
        peer: Peer,
        port: int,
        *,
        nodelay: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
        limit: int = DEFAULT_LIMIT,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a stream as `asyncio.open_connection` does, for code that wants its types.

        ``writer.get_extra_info`` knows ``"peername"`` (address and port) and ``"sockname"``.

        Args:
            peer: Hostname, address, or node id.
            port: Port at the peer.
            nodelay: Send small writes at once instead of collecting them (Nagle).
            timeout: Longest wait for the peer, in seconds; `None` for no limit.
            limit: Bytes that the reader buffers, and its longest line.

        Returns:
            asyncio's own reader and writer.

        Raises:
            PilotError: What `open_stream` raises.
        """
        native = await self._open(peer, port, nodelay, timeout)
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

    async def ping(self, peer: Peer, *, timeout: float | None = 5.0) -> Pong:
        """Measures the round trip to a peer.

        Args:
            peer: Hostname, address, or node id.
            timeout: Longest wait, in seconds; `None` for no limit.

        Returns:
            Time and path.

        Raises:
            RequestTimeout: No answer in time.
            PilotError: What `send` raises.
        """
        parts = await self._scope.run(
            lambda bridge, token: self._native.ping(bridge, token, peer, timeout)
        )
        return Pong(*parts)

    async def find(self, query: str, *, limit: int = 10) -> list[AgentInfo]:
        """Finds agents by what they can do.

        Args:
            query: Words, such as ``"academic citations"``.
            limit: Most agents to return.

        Returns:
            Public agents that are online, best first.

        Raises:
            RegistryError: The rendezvous cannot be reached.
            Unsupported: The rendezvous is not one of ours.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        return [
            AgentInfo(address, hostname, tuple(capabilities), score)
            for address, hostname, capabilities, score in await self._native.find(query, limit)
        ]

    async def resolve(self, peer: Peer) -> str:
        """Looks a peer up.

        Args:
            peer: Hostname, address, or node id.

        Returns:
            Its address.

        Raises:
            PeerNotFound: No such hostname or node.
            RegistryError: The rendezvous cannot be reached.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        address, _node_id = await self._native.resolve(peer)
        return address

    async def set_public(self, public: bool) -> None:
        """Says whether every agent may find this one and connect.

        Args:
            public: Whether.

        Raises:
            RegistryError: The rendezvous cannot be reached.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.set_public(public)

    async def set_capabilities(self, capabilities: Sequence[str]) -> None:
        """Says what this agent can do.

        Args:
            capabilities: At most 16 texts of at most 64 bytes.

        Raises:
            RegistryError: The rendezvous cannot be reached.
            NodeClosed: The node is closed.
        """
        self._scope.check()
        await self._native.set_capabilities(list(capabilities))

    def forget(self, peer: Peer) -> bool:
        """Forgets the key that was pinned for a peer, so that a new one is accepted.

        Do this only when its owner has told you that the key changed.

        Args:
            peer: Address, node id, or hostname.

        Returns:
            Whether there was one.
        """
        return self._native.forget(peer)

    async def close(self) -> None:
        """Ends the node; waiting calls raise `NodeClosed`, handlers are cancelled.

        Afterwards nothing of it is left: no task, no thread, no descriptor. Idempotent; closing
        goes on when the caller is cancelled.
        """
        if self._scope.is_closed:
            return
        if self._closing is None:
            self._scope.check()
            self._closing = self._scope.loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        """Returns the node."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        await self.close()

    def __repr__(self) -> str:
        state = " closed" if self.is_closed else ""
        name = f" {self._hostname}" if self._hostname else ""
        return f"<pilot_agent.Node {self._address}{name}{state}>"

    def __del__(self) -> None:
        scope = getattr(self, "_scope", None)
        if scope is not None and not scope.is_closed and scope.is_ours:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)

    async def _close(self) -> None:
        try:
            await asyncio.gather(*(dispatcher.stop() for dispatcher in self._dispatchers))
            await self._native.close()
        finally:
            self._scope.close()

    async def _open(
        self, peer: Peer, port: int, nodelay: bool, timeout: float | None
    ) -> _native.Stream:
        return await self._scope.run(
            lambda bridge, token: self._native.open_stream(
                bridge, token, peer, port, nodelay, timeout
            )
        )

    def _check_handler(self, present: object, concurrency: int) -> None:
        self._scope.check()
        if present is not None:
            message = "this node has such a handler already"
            raise InvalidArgument(message)
        if concurrency < 1:
            message = "concurrency must be at least 1"
            raise InvalidArgument(message)

    async def _answer(self, parts: _native._Request) -> None:
        ticket, sender, hostname, kind, data, headers = parts
        request = Request(sender, hostname, data, kind, dict(headers))
        handler = self._request_handler
        assert handler is not None
        try:
            with otel.handling("handle request", sender, request.headers):
                reply_kind, reply = encode(await handler(request))
            self._native.reply(ticket, reply_kind, reply, [])
        except PilotError as error:
            if not self.is_closed:
                self._refuse(ticket, request, error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises
            self._refuse(ticket, request, error)

    def _refuse(self, ticket: int, request: Request, error: Exception) -> None:
        logger.error("request handler failed for %s", request.sender, exc_info=error)
        try:
            self._native.reply_error(ticket, f"{type(error).__name__}: {error}")
        except PilotError as gone:
            logger.debug("cannot tell %s of it: %s", request.sender, gone)

    async def _deliver(self, parts: _native._Message) -> None:
        message = _message(parts)
        handler = self._message_handler
        assert handler is not None
        try:
            with otel.handling("handle message", message.sender, message.headers):
                await handler(message)
        except Exception:
            logger.exception("message handler failed for %s", message.sender)


def _message(parts: _native._Message) -> Message:
    sender, hostname, id_, kind, data, headers, filename, path = parts
    stored = None if path is None else Path(path)
    return Message(sender, hostname, data, kind, id_, dict(headers), filename, stored)


Node.__module__ = "pilot_agent"
