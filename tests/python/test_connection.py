"""`open_connection`: asyncio's own reader and writer over our streams."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from pilot_agent import ConnectionRefused, NodeClosed, Stream, StreamReset
from support.waits import soon, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pilot_agent import Node

PORT = 4000


@contextlib.asynccontextmanager
async def connected(
    pair: tuple[Node, Node],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Stream]]:
    alice, bob = pair
    async with bob.listen(PORT) as listener:
        reader, writer = await soon(alice.open_connection("bob", PORT))
        async with await soon(listener.accept()) as theirs:
            yield reader, writer, theirs
            writer.close()
            with contextlib.suppress(ConnectionError, NodeClosed):
                await soon(writer.wait_closed())


async def test_reader_and_writer_are_asyncios(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with connected(pair) as (reader, writer, theirs):
        assert type(reader) is asyncio.StreamReader
        assert type(writer) is asyncio.StreamWriter
        assert writer.get_extra_info("peername") == (bob.address, PORT)
        assert writer.get_extra_info("sockname") == (alice.address, theirs.port)
        writer.write(b"hello\n")
        assert await soon(theirs.readline()) == b"hello\n"
        await theirs.write(b"one\ntwo\n")
        assert await soon(reader.readline()) == b"one\n"
        assert await soon(reader.readexactly(4)) == b"two\n"


async def test_each_direction_ends_by_itself(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (reader, writer, theirs):
        assert writer.can_write_eof()
        writer.write(b"question")
        writer.write_eof()
        assert await soon(theirs.read()) == b"question"
        await theirs.write(b"answer")
        await theirs.send_eof()
        assert await soon(reader.read()) == b"answer"
        with pytest.raises(RuntimeError, match="write_eof"):
            writer.write(b"more")


async def test_eof_comes_after_what_is_still_buffered(pair: tuple[Node, Node]) -> None:
    size = 16 << 20
    async with connected(pair) as (_reader, writer, theirs):
        writer.write(b"x" * size)
        writer.write_eof()
        assert len(await soon(theirs.read(), 30)) == size


async def test_drain_waits_while_the_peer_does_not_read(pair: tuple[Node, Node]) -> None:
    size = 32 << 20
    async with connected(pair) as (_reader, writer, theirs):
        writer.write(bytes(size))
        draining = await started(writer.drain())
        assert writer.transport.get_write_buffer_size() > 0
        await soon(theirs.readexactly(size), 30)
        await soon(draining)
        low, high = writer.transport.get_write_buffer_limits()
        assert 0 < low < high
        writer.transport.set_write_buffer_limits(high=100)
        assert writer.transport.get_write_buffer_limits() == (25, 100)


async def test_a_reader_that_is_full_stops_the_peer(pair: tuple[Node, Node]) -> None:
    size = 32 << 20
    async with connected(pair) as (reader, _writer, theirs):
        writing = await started(theirs.write(bytes(size)))
        # asyncio's reader takes 2 * limit, the native stream its window; the rest waits.
        _, waiting = await asyncio.wait([writing], timeout=0.3)
        assert waiting
        assert len(await soon(reader.readexactly(size), 30)) == size
        await soon(writing)


async def test_what_was_written_before_close_is_delivered(pair: tuple[Node, Node]) -> None:
    size = 16 << 20
    async with connected(pair) as (_reader, writer, theirs):
        writer.write(b"x" * size)
        writer.close()
        assert writer.is_closing()
        assert len(await soon(theirs.read(), 30)) == size
        await soon(writer.wait_closed())


async def test_a_reset_reaches_the_reader(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (reader, _writer, theirs):
        reading = await started(reader.read(1))
        theirs.abort()
        with pytest.raises(StreamReset):
            await soon(reading)


async def test_abort_resets_the_peer(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (_reader, writer, theirs):
        reading = await started(theirs.read(1))
        writer.transport.abort()
        with pytest.raises(StreamReset):
            await soon(reading)


async def test_closing_the_node_ends_the_connection(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    async with connected(pair) as (reader, writer, _theirs):
        reading = await started(reader.read(1))
        await soon(alice.close())
        with pytest.raises(NodeClosed):
            await soon(reading)
        with pytest.raises(NodeClosed):
            await soon(writer.wait_closed())


async def test_a_refused_connection_says_so(pair: tuple[Node, Node]) -> None:
    with pytest.raises(ConnectionRefused):
        await pair[0].open_connection("bob", 4321)
