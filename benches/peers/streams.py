"""The protocol that every peer with byte streams speaks, so that all do the same work.

A stream begins with a header: a letter and a number (u64, big-endian).

- `S n`: the server takes n bytes, says one byte, and expects another header;
- `E 0`: the server echoes from here on;
- `F 0`: the server answers messages with themselves from here on: length (u32), and as many bytes;
- `G n`: the server sends n bytes, and expects another header.
"""

from __future__ import annotations

import asyncio
import struct
import time
from abc import abstractmethod
from contextlib import suppress
from typing import Any, Protocol

from .base import CHUNK, Peer, timed

__all__ = ["AsyncioStream", "ByteStream", "StreamPeer", "answer", "answer_request", "header"]

_HEADER = struct.Struct(">cQ")
_LENGTH = struct.Struct(">I")
_DONE = b"."


class ByteStream(Protocol):
    """What is driven here: the names of ours, which are asyncio's but for `write`."""

    async def read(self, n: int) -> bytes:
        """Some bytes, at most `n`; none at the end."""

    async def readexactly(self, n: int) -> bytes:
        """Exactly `n` bytes."""

    async def write(self, data: bytes) -> None:
        """Take `data`; wait while there is no room."""

    async def close(self) -> None:
        """End both directions."""


class AsyncioStream:
    """asyncio's pair as one object."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.read = reader.read
        self.readexactly = reader.readexactly

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def header(kind: bytes, size: int = 0) -> bytes:
    """The header of a request."""
    return _HEADER.pack(kind, size)


async def answer(stream: ByteStream) -> None:
    """The server's side of one stream, until it ends."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            kind, size = _HEADER.unpack(await stream.readexactly(_HEADER.size))
            if kind == b"S":
                await _take(stream, size)
                await stream.write(_DONE)
            elif kind == b"G":
                await _give(stream, size, CHUNK)
            elif kind == b"F":
                await _answer_messages(stream)
            else:
                while data := await stream.read(CHUNK):
                    await stream.write(data)
                return


def answer_request(question: bytes) -> bytes:
    """What a request is answered with: the bytes it asks for, else itself."""
    if len(question) == _HEADER.size:
        return bytes(_HEADER.unpack(question)[1])
    return question


async def _answer_messages(stream: ByteStream) -> None:
    while True:
        length = await stream.readexactly(_LENGTH.size)
        await stream.write(length + await stream.readexactly(*_LENGTH.unpack(length)))


async def _take(stream: ByteStream, size: int, chunk: int = 1 << 20) -> None:
    while size > 0:
        data = await stream.read(min(chunk, size))
        if not data:
            message = f"the stream ended with {size} bytes to come"
            raise ConnectionError(message)
        size -= len(data)


async def _give(stream: ByteStream, size: int, chunk: int) -> None:
    data = bytes(chunk)
    while size > 0:
        await stream.write(data if size >= chunk else data[:size])
        size -= chunk


class StreamPeer(Peer):
    """A peer with byte streams: it has to be able to open one."""

    _echoing: ByteStream | None = None
    _messages: ByteStream | None = None
    _bulk: ByteStream | None = None

    @abstractmethod
    async def open(self) -> ByteStream:
        """A new stream to the peer that `connect` found."""

    async def warm(self, where: dict[str, Any]) -> None:
        """Make the streams that the measurements use; for the end of `connect`."""
        self.where = where
        self._bulk = await self.open()
        self._echoing = await self.open()
        await self._echoing.write(header(b"E"))
        self._messages = await self.open()
        await self._messages.write(header(b"F"))

    async def send(self, size: int, chunk: int) -> float:
        stream = self._bulk
        assert stream is not None, "connected"
        start = time.perf_counter()
        await stream.write(header(b"S", size))
        await _give(stream, size, chunk)
        await stream.readexactly(len(_DONE))
        return time.perf_counter() - start

    async def flow(self, seconds: float, piece: int) -> list[float]:
        """The server says that a piece has arrived while the next ones are on their way."""
        stream = self._bulk
        assert stream is not None, "connected"
        data, times = header(b"S", piece) + bytes(piece), []
        start = time.perf_counter()

        async def give() -> None:
            while True:
                await stream.write(data)

        async def take() -> None:
            while done := await stream.read(CHUNK):
                times.extend([time.perf_counter() - start] * len(done))
            raise ConnectionError("the stream ended")

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(give(), take()), seconds)
        return times

    async def keep_sending(self) -> None:
        stream = await self.open()
        try:
            await stream.write(header(b"S", 1 << 60))
            await _give(stream, 1 << 60, CHUNK)
        finally:
            await asyncio.shield(stream.close())

    async def round_trips(self, count: int, payload: bytes) -> list[float]:
        stream = self._echoing
        assert stream is not None, "connected"

        async def once() -> None:
            await stream.write(payload)
            await stream.readexactly(len(payload))

        return await timed(count, once)

    async def in_flight(self, count: int, depth: int, payload: bytes) -> float:
        """Messages of their own; answers come in the order of the requests."""
        stream = self._messages
        assert stream is not None, "connected"
        message = _LENGTH.pack(len(payload)) + payload
        start = time.perf_counter()
        for number in range(count + depth):
            if number >= depth:
                (size,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
                await stream.readexactly(size)
            if number < count:
                await stream.write(message)
        return time.perf_counter() - start

    async def _first_reply(self, payload: bytes) -> float:
        start = time.perf_counter()
        stream = await self.open()
        await stream.write(header(b"E") + payload)
        await stream.readexactly(1)
        seconds = time.perf_counter() - start
        await stream.readexactly(len(payload) - 1)
        await stream.close()
        return seconds

    async def new_streams(self, count: int, payload: bytes) -> list[float]:
        return [await self._first_reply(payload) for _ in range(count)]

    async def fetch(self, parallel: int, size: int) -> list[float]:
        """Each on a stream of its own."""
        start = time.perf_counter()

        async def one() -> float:
            stream = await self.open()
            await stream.write(header(b"G", size))
            await _take(stream, size)
            seconds = time.perf_counter() - start
            await stream.close()
            return seconds

        return list(await asyncio.gather(*(one() for _ in range(parallel))))
