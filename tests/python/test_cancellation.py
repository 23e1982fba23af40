"""Every await can be cancelled, and a cancelled one leaves nothing broken behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import Node, Request
from pilot_agent.testing import LocalNetwork
from support.waits import soon, started

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

PORT = 4000


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancels a task and sees that it lets itself be cancelled."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)


async def serve_nothing(bob: Node) -> None:
    """Bob takes requests and never answers."""

    @bob.on_request
    async def never(request: Request) -> bytes:
        await asyncio.Event().wait()
        return request.payload


async def _open(node: Node) -> None:
    async with node.open_stream("bob", PORT):
        await asyncio.Event().wait()


async def _open_connection(node: Node) -> None:
    _, writer = await node.open_connection("bob", PORT)
    try:
        await asyncio.Event().wait()
    finally:
        writer.close()


AWAITS: dict[str, Callable[[Node], Coroutine[Any, Any, Any]]] = {
    "send": lambda node: node.send("bob", b"x"),
    "request": lambda node: node.request("bob", b"x"),
    "ping": lambda node: node.ping("bob"),
    "recv": lambda node: node.recv(),
    "find": lambda node: node.find("anything"),
    "resolve": lambda node: node.resolve("bob"),
    "open_stream": _open,
    "open_connection": _open_connection,
    "set_public": lambda node: node.set_public(True),
    "set_capabilities": lambda node: node.set_capabilities(["nothing"]),
}


@pytest.mark.parametrize("name", AWAITS)
async def test_a_cancelled_call_leaves_the_node_working(pair: tuple[Node, Node], name: str) -> None:
    alice, bob = pair
    await serve_nothing(bob)
    async with bob.listen(PORT):
        # Cancelled while it is under way as well as before it began; some are too quick for that.
        for _ in range(10):
            task = asyncio.create_task(AWAITS[name](alice))
            await asyncio.sleep(0)
            if not task.done():
                await cancelled(task)
        for delay in (0.0, 0.0002, 0.001, 0.003):
            task = asyncio.create_task(AWAITS[name](alice))
            done, _ = await asyncio.wait([task], timeout=delay)
            if not done:
                await cancelled(task)
    await soon(alice.send("bob", "still there"))
    while (await soon(bob.recv())).payload != b"still there":
        pass  # what was sent before it was cancelled


async def test_a_cancelled_read_loses_no_bytes(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    total = 200_000
    data = bytes(number % 251 for number in range(total))
    received = bytearray()
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())

        async def write() -> None:
            for offset in range(0, total, 500):
                await ours.write(data[offset : offset + 500])
                await asyncio.sleep(0)
            await ours.send_eof()

        writing = asyncio.create_task(write())
        cancellations = 0
        while True:
            reading = asyncio.create_task(theirs.read(700))
            await asyncio.sleep(0)
            if not reading.done():
                reading.cancel()
            try:
                chunk = await soon(reading)
            except asyncio.CancelledError:
                cancellations += 1
                if cancellations % 3 == 0:
                    await asyncio.sleep(0)
                continue
            if not chunk:
                break
            received += chunk
        await soon(writing)
    assert cancellations
    assert received == data


async def test_a_cancelled_readexactly_and_readline_keep_what_came(
    pair: tuple[Node, Node],
) -> None:
    alice, bob = pair
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())
        await ours.write(b"half a li")
        await soon(ours.drain())
        for reading in (theirs.readline(), theirs.readexactly(100), theirs.readuntil(b";")):
            await cancelled(await started(reading))
        await ours.write(b"ne\nand more")
        assert await soon(theirs.readline()) == b"half a line\n"
        assert await soon(theirs.readexactly(8)) == b"and more"


async def test_a_cancelled_write_does_not_break_the_order(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.listen(PORT) as listener, alice.open_stream("bob", PORT) as ours:
        theirs = await soon(listener.accept())
        first = await started(ours.write(b"a" * (64 << 20)))
        second = await started(ours.write(b"b" * 1000))
        await cancelled(second)
        await cancelled(first)
        third = asyncio.create_task(ours.write(b"c" * 1000))
        received = bytearray()
        while not received.endswith(b"c" * 1000):
            received += await soon(theirs.read(1 << 20))
        await soon(third)
    assert received == b"a" * received.count(b"a") + b"c" * 1000


async def test_a_cancelled_accept_loses_no_stream(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.listen(PORT) as listener:
        await cancelled(await started(listener.accept()))
        async with alice.open_stream("bob", PORT) as ours:
            await ours.write(b"x")
            async with await soon(listener.accept()) as theirs:
                assert await soon(theirs.read(1)) == b"x"


async def test_a_cancelled_recv_loses_no_message(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    received: list[int] = []
    cancellations = 0
    for number in range(200):
        taking = await started(bob.recv())
        sending = asyncio.create_task(alice.send("bob", number))
        for _ in range(number % 20):
            await asyncio.sleep(0)
        taking.cancel()
        try:
            received.append((await soon(taking)).json())
        except asyncio.CancelledError:
            cancellations += 1
            received.append((await soon(bob.recv())).json())
        await soon(sending)
    assert cancellations
    assert received == list(range(200))


async def test_a_cancelled_request_cancels_nothing_else(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    release = asyncio.Event()

    @bob.on_request
    async def wait(request: Request) -> bytes:
        await release.wait()
        return request.payload

    kept = await started(alice.request("bob", b"kept"))
    dropped = await started(alice.request("bob", b"dropped"))
    await cancelled(dropped)
    release.set()
    assert (await soon(kept)).payload == b"kept"


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    async with LocalNetwork() as network:
        for delay in (0.0, 0.0, 0.001, 0.002, 0.004):
            starting = asyncio.ensure_future(_start("alice", network.rendezvous, tmp_path))
            done, _ = await asyncio.wait([starting], timeout=delay)
            if done:
                await (await starting).close()
            else:
                await cancelled(starting)
        # The identity is free again, and the name is still ours.
        async with Node.start("alice", rendezvous=network.rendezvous, home=tmp_path) as alice:
            assert alice.hostname == "alice"


async def _start(hostname: str, rendezvous: str, home: Path) -> Node:
    return await Node.start(hostname, rendezvous=rendezvous, home=home)


async def test_closing_goes_on_when_the_caller_is_cancelled(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    closing = asyncio.create_task(alice.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await soon(alice.close())
    assert alice.is_closed
