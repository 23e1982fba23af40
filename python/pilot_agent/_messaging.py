"""Messages and requests: the half of `Node` that exchanges payloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, overload

from . import _native, otel
from ._base import DEFAULT_TIMEOUT, Base
from ._bridge import Signal
from ._dispatch import Dispatcher
from .errors import InvalidArgument, NodeClosed, PilotError
from .message import NO_HEADERS, Message, Reply, Request
from .payload import Payload, encode

if TYPE_CHECKING:
    import os

    from ._bridge import Scope
    from .message import Peer
    from .path import Traffic

__all__ = ["Messaging"]

logger = logging.getLogger("pilot_agent")

RequestHandler: TypeAlias = Callable[[Request], Awaitable[Payload]]
MessageHandler: TypeAlias = Callable[[Message], Awaitable[None]]
OnRequest = TypeVar("OnRequest", bound=RequestHandler)
OnMessage = TypeVar("OnMessage", bound=MessageHandler)

MAX_CONCURRENCY = 64


class Messaging(Base):
    """Sends and takes messages, asks and answers requests."""

    def __init__(self, scope: Scope, native: _native.Node) -> None:
        super().__init__(scope, native)
        self._messages = Signal(scope)
        self._create_future = scope.loop.create_future
        self._flush_soon = partial(scope.loop.call_soon, native.send_gathered)
        self._calls = _native.Calls(
            native, scope.bridge.native, Reply, NO_HEADERS, self._flush_soon
        )
        self._request_handler: RequestHandler | None = None
        self._message_handler: MessageHandler | None = None

    async def send(
        self,
        peer: Peer,
        payload: Payload,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        traffic: Traffic = "normal",
    ) -> None:
        """Sends a message; returns when the peer's node has it.

        The message is in the peer's inbox then, once, whether or not its application has taken
        it. Cancelled or timed out, it may or may not have arrived.

        Args:
            peer: Hostname, address, or node id.
            payload: `bytes`, `str`, or what JSON takes.
            timeout: Longest wait for the acknowledgement, in seconds; `None` for no limit.
            traffic: What it is, for the path policy: ``"normal"``, ``"bulk"`` (much of it, it can
                wait) or ``"control"`` (little of it, it must arrive soon). See `PathPolicy`.

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
        if not otel.is_enabled():
            future: asyncio.Future[None] = self._create_future()
            if number := self._calls.send(peer, kind, data, traffic, timeout, future):
                try:
                    return await future
                except BaseException:
                    self._give_up(number)
                    raise
        with otel.outgoing("send", peer, len(data)) as headers:
            await self._scope.run(
                lambda bridge, token: self._native.send(
                    bridge, token, peer, kind, data, headers, traffic, timeout
                )
            )
        return None

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
        self,
        peer: Peer,
        payload: Payload,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        traffic: Traffic = "normal",
    ) -> Reply:
        """Asks a peer and waits for the answer of its handler.

        Args:
            peer: Hostname, address, or node id.
            payload: `bytes`, `str`, or what JSON takes.
            timeout: Longest wait for the answer, in seconds; `None` for no limit.
            traffic: What it is, for the path policy: ``"normal"``, ``"bulk"`` (much of it, it can
                wait) or ``"control"`` (little of it, it must arrive soon). See `PathPolicy`.

        Returns:
            The answer.

        Raises:
            RequestTimeout: No answer in time.
            RequestFailed: The peer's handler raised, or the peer has none.
            Unsupported: The peer is a Go node, which has no requests.
            PilotError: What `send` raises.
        """
        kind, data = encode(payload)
        if not otel.is_enabled():
            # The usual case, without a layer between this coroutine and the future: a program
            # may have thousands of them under way.
            future: asyncio.Future[Reply] = self._create_future()
            if number := self._calls.request(peer, kind, data, traffic, timeout, future):
                try:
                    return await future
                except BaseException:
                    self._give_up(number)
                    raise
        with otel.outgoing("request", peer, len(data)) as headers:
            sender, reply_kind, reply, reply_headers = await self._scope.run(
                lambda bridge, token: self._native.request(
                    bridge, token, peer, kind, data, headers, traffic, timeout
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
                Dispatcher(self._scope, self._native.poll_requests, self._answer, concurrency)
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
                Dispatcher(self._scope, self._native.poll_messages, self._deliver, concurrency)
            )
            return handler

        return register if handler is None else register(handler)

    def _give_up(self, number: int) -> None:
        """Nobody waits for a call any more: it failed, was cancelled, or was no use."""
        self._calls.withdraw(number)
        if not self._scope.is_closed and asyncio._get_running_loop() is not None:  # noqa: SLF001
            self._scope.check()  # on another loop, asyncio's error would not say what to do

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
        request = Request(sender, hostname, data, kind, dict(headers) if headers else NO_HEADERS)
        handler = self._request_handler
        assert handler is not None
        try:
            if otel.is_enabled():
                with otel.handling("handle request", sender, request.headers):
                    reply_kind, reply = encode(await handler(request))
            else:
                reply_kind, reply = encode(await handler(request))
            if self._native.reply(ticket, reply_kind, reply):
                self._flush_soon()
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
