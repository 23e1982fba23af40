"""Reliable streams, and the listeners that accept them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ._bridge import Signal
from .errors import NodeClosed, PilotError
from .message import StreamStats
from .payload import as_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from typing_extensions import Buffer, Self

    from . import _native
    from ._bridge import Scope
    from .path import Traffic

__all__ = ["Congestion", "Listener", "Stream"]

Congestion: TypeAlias = Literal["bbr", "cubic", "newreno"]
"""What decides how fast a stream sends."""

CHUNK: Final = 256 * 1024
"""Most bytes taken from the native part at once."""

DEFAULT_LIMIT: Final = 64 * 1024
"""Longest line that `readline` and `readuntil` accept, as in asyncio."""


class Stream:
    r"""A reliable, ordered, encrypted stream of bytes with one peer.

    The names are those of `asyncio.StreamReader`, with a `write` that waits while the peer does
    not keep up. Leaving ``async with`` closes the stream: what was written is delivered first,
    for at most five seconds.

    One task may read while another writes. A cancelled read loses no bytes.

    Example:
        >>> async with node.open_stream("specialist-papers", 1000) as stream:
        ...     await stream.write(b"hello\n")
        ...     print(await stream.readline())
    """

    def __init__(self, scope: Scope, native: _native.Stream, limit: int = DEFAULT_LIMIT) -> None:
        self._scope = scope
        self._native = native
        self._limit = limit
        self._buffer = bytearray()
        self._readable = Signal(scope)
        self._writable = Signal(scope)
        self._drained = Signal(scope)
        self._write_lock = asyncio.Lock()
        self._is_closed = False
        self._peer = native.peer
        self._port = native.remote_port
        self._local_port = native.local_port

    @property
    def peer(self) -> str:
        """Address of the node at the other end."""
        return self._peer

    @property
    def port(self) -> int:
        """Port at the other end."""
        return self._port

    @property
    def local_port(self) -> int:
        """Port at this end."""
        return self._local_port

    def stats(self) -> StreamStats:
        """Returns counters and estimates."""
        return StreamStats(**self._native.stats())

    async def read(self, n: int = -1) -> bytes:
        """Reads what there is, at most `n` bytes; waits until there is something.

        Args:
            n: Most bytes to return; -1 reads until the end.

        Returns:
            The bytes; ``b""`` at the end of the stream.

        Raises:
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
            RuntimeError: Another task reads already.
        """
        if n < 0:
            return await self._read_all()
        if n == 0:
            return b""
        if self._buffer:
            return self._take(min(n, len(self._buffer)))
        return await self._receive(n)

    async def readinto(self, buffer: Buffer) -> int:
        """Reads what there is into a buffer; waits until there is something.

        Unlike `read` it makes no object for the bytes: a program that reads much keeps one buffer.

        Args:
            buffer: Any writable buffer in one piece, such as a `bytearray`.

        Returns:
            How many bytes were read; 0 at the end of the stream, or if the buffer is empty.

        Raises:
            TypeError: It is no buffer.
            BufferError: It is read-only, or not in one piece.
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
            RuntimeError: Another task reads already.
        """
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        if self._buffer:
            taken = min(len(view), len(self._buffer))
            view[:taken] = self._take(taken)
            return taken
        self._check_reader()
        while not self._is_closed:
            count = self._native.try_read_into(view)
            if count is not None:
                return count
            await self._readable.ready(self._poll_readable)
        message = "the stream is closed"
        raise NodeClosed(message)

    async def readexactly(self, n: int) -> bytes:
        """Reads exactly `n` bytes.

        Args:
            n: How many.

        Returns:
            The bytes.

        Raises:
            asyncio.IncompleteReadError: The stream ended first; `partial` has what came.
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
        """
        if n < 0:
            message = "readexactly of a negative size"
            raise ValueError(message)
        while len(self._buffer) < n:
            chunk = await self._receive(max(n - len(self._buffer), 1))
            if not chunk:
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), n)
            if not self._buffer and len(chunk) == n:
                return chunk
            self._buffer += chunk
        return self._take(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Reads up to and including `separator`.

        Args:
            separator: What to look for.

        Returns:
            The bytes, with the separator at their end.

        Raises:
            asyncio.IncompleteReadError: The stream ended first; `partial` has what came.
            asyncio.LimitOverrunError: The limit was reached first; the bytes stay readable.
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
        """
        if not separator:
            message = "the separator is empty"
            raise ValueError(message)
        searched = 0
        while True:
            found = self._buffer.find(separator, searched)
            if found > self._limit or (found < 0 and len(self._buffer) > self._limit):
                message = f"no separator within {self._limit} bytes; open the stream with limit="
                raise asyncio.LimitOverrunError(message, max(found, self._limit))
            if found >= 0:
                return self._take(found + len(separator))
            searched = max(0, len(self._buffer) - len(separator) + 1)
            chunk = await self._receive(self._limit + len(separator))
            if not chunk:
                raise asyncio.IncompleteReadError(self._take(len(self._buffer)), None)
            self._buffer += chunk

    async def readline(self) -> bytes:
        r"""Reads a line.

        Returns:
            The line with its ``\n``; without one if the stream ended in it; ``b""`` at the end.

        Raises:
            ValueError: The line is longer than the limit; it is thrown away, as asyncio does.
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
        """
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            found = self._buffer.find(b"\n")
            del self._buffer[: found + 1 if found >= 0 else len(self._buffer)]
            raise ValueError(error.args[0]) from None

    async def write(self, data: Buffer) -> None:
        """Writes all of `data`; waits while the peer does not keep up.

        Returns when the stream has taken the bytes, not when the peer has them. Cancelled in the
        middle, it may have taken a part: close the stream then.

        Large `bytes` are not copied; what other buffers hold must not change until this returns.

        Args:
            data: `bytes` or any buffer.

        Raises:
            StreamReset: The stream ended before its time.
            NodeClosed: The node, or the stream, was closed.
        """
        if self._is_closed:
            message = "the stream is closed"
            raise NodeClosed(message)
        data = as_view(data)
        # Without a lock if nobody waits in front: the usual case is one call into Rust.
        taken = 0 if self._write_lock.locked() else self._native.try_write(data, 0)
        if taken == len(data):
            return
        async with self._write_lock:
            while True:
                taken += self._native.try_write(data, taken)
                if taken == len(data):
                    return
                await self._writable.ready(self._native.poll_writable)

    async def drain(self) -> None:
        """Waits until the peer has acknowledged all that was written.

        Raises:
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
        """
        await self._drained.ready(self._native.poll_drained)

    async def send_eof(self) -> None:
        """Says that no more will be written; reading goes on.

        Raises:
            Unsupported: The peer is a Go node, which has no half-closed streams.
            StreamReset: The stream ended before its time.
            NodeClosed: The node was closed.
        """
        self._native.finish()

    async def close(self, *, timeout: float = 5.0) -> None:
        """Closes both directions; what was written is still delivered.

        Returns when the peer has acknowledged everything, or after `timeout`: then the node goes
        on trying in the background. Idempotent; never raises for what the network does.

        Args:
            timeout: Longest wait, in seconds.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._native.close()
            await asyncio.wait_for(self.drain(), timeout)
        except (PilotError, asyncio.TimeoutError):
            pass
        finally:
            self._readable.wake()

    def set_traffic(self, traffic: Traffic) -> None:
        """Says what this end sends, for the path policy of its node.

        Args:
            traffic: ``"normal"``, ``"bulk"`` or ``"control"``; see `PathPolicy`.

        Raises:
            InvalidArgument: There is no such class.
            StreamReset: The stream is over.
        """
        self._native.set_traffic(traffic)

    def set_congestion(self, congestion: Congestion) -> None:
        """Chooses what decides how fast this end sends; it starts anew.

        Args:
            congestion: ``"bbr"``, ``"cubic"`` or ``"newreno"``.

        Raises:
            InvalidArgument: There is no such congestion control.
            StreamClosed: The stream is over.
        """
        self._native.set_congestion(congestion)

    def abort(self) -> None:
        """Resets the stream: the peer gets an error, what was written may be lost."""
        self._is_closed = True
        self._native.abort()
        self._readable.wake()
        self._writable.wake()

    async def __aenter__(self) -> Self:
        """Returns the stream."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        await self.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterates over the lines."""
        return self

    async def __anext__(self) -> bytes:
        """Returns the next line."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __repr__(self) -> str:
        state = " closed" if self._is_closed else ""
        return f"<pilot_agent.Stream {self._peer} port {self._port}{state}>"

    async def _receive(self, n: int) -> bytes:
        """At least one byte from the native part, not from the buffer; ``b""`` at the end."""
        self._check_reader()
        n = min(n, CHUNK)
        while not self._is_closed:
            chunk = self._native.try_read(n)
            if chunk is not None:
                return chunk
            await self._readable.ready(self._poll_readable)
        message = "the stream is closed"
        raise NodeClosed(message)

    def _check_reader(self) -> None:
        if self._readable.is_awaited:
            message = "another task reads from this stream already"
            raise RuntimeError(message)

    def _poll_readable(self, alarm: _native.Alarm) -> bool:
        return self._is_closed or self._native.poll_readable(alarm)

    async def _read_all(self) -> bytes:
        while chunk := await self._receive(CHUNK):
            self._buffer += chunk
        return self._take(len(self._buffer))

    def _take(self, n: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:n])
        del self._buffer[:n]
        return taken


class Listener:
    """Accepts the streams that peers open to a port.

    Leaving ``async with`` closes the port; accepted streams stay open.

    Example:
        >>> async with node.listen(1000) as listener:
        ...     async for stream in listener:
        ...         tasks.create_task(serve(stream))
    """

    def __init__(self, scope: Scope, native: _native.Listener, limit: int = DEFAULT_LIMIT) -> None:
        self._scope = scope
        self._native = native
        self._limit = limit
        self._port = native.port
        self._accepted = Signal(scope)

    @property
    def port(self) -> int:
        """The port."""
        return self._port

    async def accept(self) -> Stream:
        """Waits for a stream. A cancelled call loses none.

        Returns:
            The stream.

        Raises:
            NodeClosed: The node, or the listener, was closed.
        """
        native = await self._accepted.take(self._native.poll_accept)
        return Stream(self._scope, native, self._limit)

    def close(self) -> None:
        """Gives the port back and ends waiting `accept` calls. Idempotent."""
        self._native.close()
        self._accepted.wake()

    async def __aenter__(self) -> Self:
        """Returns the listener."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def __aiter__(self) -> AsyncIterator[Stream]:
        """Iterates over the streams; ends when the listener or the node is closed."""
        return self

    async def __anext__(self) -> Stream:
        """Returns the next stream."""
        try:
            return await self.accept()
        except NodeClosed:
            raise StopAsyncIteration from None

    def __repr__(self) -> str:
        return f"<pilot_agent.Listener port {self._port}>"


for _class in (Stream, Listener):
    _class.__module__ = "pilot_agent"
del _class
