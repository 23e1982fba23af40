"""Streams: asyncio's reading methods, back-pressure, both ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from array import array
from typing import TYPE_CHECKING

import pytest

from pilot_agent import (
    ConnectionRefused,
    NodeClosed,
    PortInUse,
    Stream,
    StreamReset,
)
from support.waits import soon, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from typing_extensions import Buffer

    from pilot_agent import Node

PORT = 4000


@contextlib.asynccontextmanager
async def connected(pair: tuple[Node, Node], limit: int = 65536) -> AsyncIterator[list[Stream]]:
    """Both ends of a stream: alice's, who opened it, and bob's."""
    alice, bob = pair
    async with bob.listen(PORT, limit=limit) as listener:
        ours = await soon(alice.open_stream("bob", PORT, limit=limit))
        async with ours, await soon(listener.accept()) as theirs:
            yield [ours, theirs]


async def test_both_ends_know_each_other(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with connected(pair) as (ours, theirs):
        assert (ours.peer, ours.port) == (bob.address, PORT)
        assert (theirs.peer, theirs.port) == (alice.address, ours.local_port)
        assert theirs.local_port == PORT
        assert bob.address in repr(ours)


async def test_read_returns_what_there_is(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        await ours.write(b"hello")
        assert await soon(theirs.read(100)) == b"hello"
        await ours.write(b"hello")
        assert await soon(theirs.read(2)) == b"he"
        assert await soon(theirs.read(100)) == b"llo"
        assert await theirs.read(0) == b""


async def test_send_eof_ends_one_direction_only(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        await ours.write(b"question")
        await ours.send_eof()
        assert await soon(theirs.read()) == b"question"
        assert await soon(theirs.read()) == b""
        await theirs.write(b"answer")
        await theirs.send_eof()
        assert await soon(ours.read()) == b"answer"


async def test_readexactly_waits_for_all_of_it(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        reading = await started(theirs.readexactly(6))
        await ours.write(b"abc")
        await ours.write(b"defg")
        assert await soon(reading) == b"abcdef"
        assert await soon(theirs.read(10)) == b"g"
        assert await theirs.readexactly(0) == b""


async def test_readexactly_at_the_end_has_what_came(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        await ours.write(b"abc")
        await ours.send_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await soon(theirs.readexactly(5))
        assert (caught.value.partial, caught.value.expected) == (b"abc", 5)


async def test_lines_are_lines_however_they_arrive(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        for piece in (b"one\ntw", b"o\n", b"\nlast"):
            await ours.write(piece)
        await ours.send_eof()
        lines = [line async for line in theirs]
        assert lines == [b"one\n", b"two\n", b"\n", b"last"]
        assert await theirs.readline() == b""


async def test_readuntil_takes_any_separator(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        await ours.write(b"a\r\nb\r")
        assert await soon(theirs.readuntil(b"\r\n")) == b"a\r\n"
        await ours.write(b"\nc")
        assert await soon(theirs.readuntil(b"\r\n")) == b"b\r\n"
        await ours.send_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await soon(theirs.readuntil(b"\r\n"))
        assert caught.value.partial == b"c"
        with pytest.raises(ValueError, match="empty"):
            await theirs.readuntil(b"")


async def test_a_line_over_the_limit_is_an_error_as_in_asyncio(pair: tuple[Node, Node]) -> None:
    async with connected(pair, limit=10) as (ours, theirs):
        await ours.write(b"x" * 20 + b"\nshort\n")
        with pytest.raises(asyncio.LimitOverrunError):
            await soon(theirs.readuntil(b"\n"))
        assert await soon(theirs.readexactly(5)) == b"xxxxx"
        with pytest.raises(ValueError, match="within 10 bytes"):
            await soon(theirs.readline())
        assert await soon(theirs.readline()) == b"short\n"


async def test_megabytes_arrive_unchanged_both_ways_at_once(pair: tuple[Node, Node]) -> None:
    size = 8 << 20
    data = bytes(range(256)) * (size // 256)

    async def write(stream: Stream) -> None:
        await stream.write(data)
        await stream.send_eof()

    async with connected(pair) as (ours, theirs):
        writing = asyncio.gather(write(ours), write(theirs))
        received = await soon(asyncio.gather(ours.read(), theirs.read()), 30)
        await soon(writing)
    digest = hashlib.sha256(data).digest()
    assert [hashlib.sha256(part).digest() for part in received] == [digest, digest]


async def test_write_waits_while_the_peer_does_not_read(pair: tuple[Node, Node]) -> None:
    size = 64 << 20
    async with connected(pair) as (ours, theirs):
        writing = await started(ours.write(bytes(size)))
        left = size
        while left:
            stats = ours.stats()
            assert stats.send_buffered + stats.bytes_acked <= size
            left -= len(await soon(theirs.read(1 << 20)))
            if left > size // 2:
                assert not writing.done()
        await soon(writing)


async def test_writes_of_two_tasks_do_not_mix(pair: tuple[Node, Node]) -> None:
    size = 3 << 20
    async with connected(pair) as (ours, theirs):
        writing = asyncio.gather(ours.write(b"a" * size), ours.write(b"b" * size))
        received = await soon(theirs.readexactly(2 * size), 30)
        await soon(writing)
    assert received == b"a" * size + b"b" * size


async def test_any_buffer_can_be_written(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        await ours.write(bytearray(b"ab"))
        await ours.write(memoryview(b"xcd")[1:])
        assert await soon(theirs.readexactly(4)) == b"abcd"
        await ours.write(b"")


async def test_two_readers_of_one_stream_are_an_error(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (_ours, theirs):
        first = await started(theirs.read(1))
        with pytest.raises(RuntimeError, match="another task"):
            await theirs.read(1)
        first.cancel()


async def test_what_was_written_before_close_is_delivered(pair: tuple[Node, Node]) -> None:
    data = b"x" * (2 << 20)
    async with connected(pair) as (ours, theirs):
        reading = asyncio.create_task(theirs.read())
        await ours.write(data)
        await ours.close()
        assert await soon(reading) == data
        with pytest.raises(NodeClosed, match="stream is closed"):
            await ours.write(b"more")
        with pytest.raises(NodeClosed, match="stream is closed"):
            await ours.read(1)
        await ours.close()


async def test_abort_is_an_error_at_the_peer(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        reading = await started(theirs.read(1))
        ours.abort()
        with pytest.raises(StreamReset) as caught:
            await soon(reading)
        assert isinstance(caught.value, ConnectionResetError)


async def test_a_reader_ends_when_its_own_task_closes_the_stream(
    pair: tuple[Node, Node],
) -> None:
    async with connected(pair) as (ours, _theirs):
        reading = await started(ours.read(1))
        await soon(ours.close())
        with pytest.raises(NodeClosed):
            await soon(reading)


async def test_a_port_without_listener_refuses(pair: tuple[Node, Node]) -> None:
    with pytest.raises(ConnectionRefused, match="port 4321") as caught:
        await pair[0].open_stream("bob", 4321)
    assert caught.value.port == 4321
    assert isinstance(caught.value, ConnectionRefusedError)


async def test_a_port_is_taken_once_and_free_after_close(pair: tuple[Node, Node]) -> None:
    _, bob = pair
    async with bob.listen(PORT) as listener:
        with pytest.raises(PortInUse, match="4000") as caught:
            bob.listen(PORT)
        assert caught.value.port == listener.port == PORT
    bob.listen(PORT).close()


async def test_closing_a_listener_ends_its_iteration(pair: tuple[Node, Node]) -> None:
    _, bob = pair
    listener = bob.listen(PORT)

    async def iterate() -> list[Stream]:
        return [stream async for stream in listener]

    iterating = await started(iterate())
    listener.close()
    assert await soon(iterating) == []
    with pytest.raises(NodeClosed, match="listener is closed"):
        await listener.accept()


async def test_many_streams_share_a_tunnel(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    async def serve(stream: Stream) -> None:
        async with stream:
            await stream.write(await stream.readline())

    async def ask(number: int) -> bytes:
        async with alice.open_stream("bob", PORT) as stream:
            await stream.write(b"%d\n" % number)
            return await stream.readline()

    async def accept() -> None:
        async for stream in listener:
            task = asyncio.create_task(serve(stream))
            serving.append(task)

    serving: list[asyncio.Task[None]] = []
    async with bob.listen(PORT) as listener:
        accepting = asyncio.create_task(accept())
        answers = await soon(asyncio.gather(*(ask(number) for number in range(100))), 30)
    await soon(accepting)
    await soon(asyncio.gather(*serving))
    assert answers == [b"%d\n" % number for number in range(100)]
    assert len(alice.peers()) == 1


async def test_the_echo_service_answers_on_port_7(pair: tuple[Node, Node]) -> None:
    async with pair[0].open_stream("bob", 7) as stream:
        await stream.write(b"echo")
        assert await soon(stream.readexactly(4)) == b"echo"


async def test_stats_count_what_went_by(pair: tuple[Node, Node]) -> None:
    async with connected(pair) as (ours, theirs):
        await ours.write(b"x" * 1000)
        await soon(theirs.readexactly(1000))
        await soon(ours.drain())
        stats = ours.stats()
        assert stats.bytes_sent == stats.bytes_acked == 1000
        assert stats.send_buffered == 0
        assert theirs.stats().bytes_received == 1000
        assert stats.state == "established"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: array("B", data)])
async def test_a_buffer_of_any_type_and_size_can_be_written(
    pair: tuple[Node, Node], make: Callable[[bytes], Buffer]
) -> None:
    alice, bob = pair
    data = bytes(number % 251 for number in range(300_000))
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())
        for size in (0, 1, 8 << 10, len(data)):
            writing = asyncio.create_task(ours.write(make(data[:size])))
            assert await soon(theirs.readexactly(size)) == data[:size]
            await soon(writing)
        # Elements of more than one byte, and bytes that are not in one piece.
        await ours.write(array("I", [1, 2]))
        assert await soon(theirs.readexactly(8)) == array("I", [1, 2]).tobytes()
        await ours.write(memoryview(data)[::3])
        assert await soon(theirs.readexactly(100_000)) == data[::3]
        with pytest.raises(TypeError, match="str"):
            await ours.write("text")  # type: ignore[arg-type]


async def test_a_buffer_may_change_once_it_is_written(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())
        data = bytearray(b"a" * 100_000)
        await ours.write(data)
        data[:] = b"b" * 100_000
        data.clear()
        assert await soon(theirs.readexactly(100_000)) == b"a" * 100_000


async def test_readinto_fills_a_buffer(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    data = bytes(number % 251 for number in range(500_000))
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())

        async def write() -> None:
            await ours.write(b"a line\nand ")
            await ours.write(data)
            await ours.send_eof()

        writing = asyncio.create_task(write())
        assert await soon(theirs.readline()) == b"a line\n"
        buffer, received = bytearray(70_001), bytearray()
        assert await soon(theirs.readinto(bytearray())) == 0
        while count := await soon(theirs.readinto(memoryview(buffer)[1:])):
            received += memoryview(buffer)[1 : 1 + count]
        assert received == b"and " + data
        assert buffer[0] == 0
        assert await soon(theirs.readinto(buffer)) == 0
        await soon(writing)
        for wrong, error in ((b"read-only", BufferError), ("text", TypeError), (1, TypeError)):
            with pytest.raises((error, TypeError)):
                await theirs.readinto(wrong)  # type: ignore[arg-type]


async def test_a_cancelled_readinto_loses_no_bytes(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())
        buffer = bytearray(10)
        reading = await started(theirs.readinto(buffer))
        with pytest.raises(RuntimeError, match="another task"):
            await theirs.readinto(buffer)
        reading.cancel()
        await asyncio.wait([reading])
        await ours.write(b"0123456789")
        assert await soon(theirs.readinto(buffer)) == 10
        assert buffer == b"0123456789"
