"""Closing a node ends what waits on it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import Node, NodeClosed, Request
from support.waits import native_threads, soon, started

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pilot_agent import Stream
    from pilot_agent._opening import Opening
    from pilot_agent.testing import LocalNetwork

PORT = 4000


async def test_every_pending_await_ends_with_an_error(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def never(request: Request) -> bytes:
        await asyncio.Event().wait()
        return request.payload

    listener = alice.listen(PORT)
    datagrams = alice.datagrams(PORT)
    async with bob.listen(PORT):
        reading: Stream = await soon(alice.open_stream("bob", PORT))
        writing: Stream = await soon(alice.open_stream("bob", PORT))
        waiting: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            alice.recv,
            alice.recv,
            lambda: alice.request("bob", b"x", timeout=None),
            listener.accept,
            datagrams.recv,
            lambda: reading.read(1),
            lambda: writing.write(bytes(64 << 20)),
            writing.drain,
        ]
        tasks = [await started(wait()) for wait in waiting]
        # Undelivered data holds up closing for a while, not for ever.
        await soon(alice.close())
        done, pending = await asyncio.wait(tasks, timeout=1)
    assert not pending
    for task in done:
        assert isinstance(task.exception(), NodeClosed), task


async def test_close_can_be_called_again_and_by_many(pair: tuple[Node, Node]) -> None:
    alice, _ = pair
    await soon(asyncio.gather(*(alice.close() for _ in range(5))))
    await alice.close()
    assert alice.is_closed
    assert "closed" in repr(alice)
    with pytest.raises(NodeClosed):
        alice.info()
    with pytest.raises(NodeClosed):
        alice.listen(PORT)


async def test_close_cancels_handlers_and_waits_for_them(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    entered = asyncio.Event()
    left = False

    @bob.on_request
    async def handle(request: Request) -> bytes:
        nonlocal left
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            left = True
        return request.payload

    asking = await started(alice.request("bob", b"x"))
    await soon(entered.wait())
    await soon(bob.close())
    assert left
    asking.cancel()


async def test_a_handler_may_close_its_node(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_message
    async def stop(_message: object) -> None:
        await bob.close()

    await alice.send("bob", "stop")
    async for _ in bob.messages():
        pass
    await soon(bob.close())


async def test_what_was_sent_before_close_arrives(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.listen(PORT) as listener:
        stream = await soon(alice.open_stream("bob", PORT))
        accepted = await soon(listener.accept())
        await stream.write(b"x" * 500_000)
        closing = asyncio.create_task(alice.close())
        assert len(await soon(accepted.readexactly(500_000))) == 500_000
        await soon(closing)


async def test_no_thread_survives_the_last_close(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    assert native_threads() > 0
    await alice.close()
    # The rendezvous of the network still runs.
    assert native_threads() > 0
    await network.__aexit__(None, None, None)
    assert native_threads(0) == 0


async def test_a_node_that_nobody_closed_warns_and_ends(
    network: LocalNetwork, tmp_path: Path
) -> None:
    async def forget() -> None:
        await Node.start("alice", rendezvous=network.rendezvous, home=tmp_path)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await forget()
        await asyncio.sleep(0)  # the loop itself holds the last result until its next turn
        gc.collect()
    assert "unclosed <pilot_agent.Node" in str([warning.message for warning in caught])
    caught.clear()  # a warning refers to the node that it is about
    gc.collect()
    # Its identity is free again.
    async with Node.start("alice", rendezvous=network.rendezvous, home=tmp_path) as again:
        assert again.hostname == "alice"


FORGETFUL = """
import asyncio, gc, sys, warnings
from pilot_agent import Node, Rendezvous

async def forget(home):
    rendezvous = await Rendezvous.start("127.0.0.1:0")
    node = await Node.start("alice", rendezvous=rendezvous.address, home=home)
    asyncio.ensure_future(node.recv())
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(forget(sys.argv[1]))
for task in asyncio.all_tasks(loop):
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
loop.close()
# That the node was not closed is said, and nothing else.
warnings.filterwarnings("ignore", "unclosed <pilot_agent", ResourceWarning)
del loop, task
gc.collect()
from support.waits import native_threads
print(native_threads(0))
"""


async def test_a_loop_that_ends_without_close_leaves_no_complaint(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    out, err = await soon(process.communicate(), 20)
    assert (process.returncode, out, err.decode()) == (0, b"0\n", "")


async def test_leaving_async_with_closes(network: LocalNetwork, tmp_path: Path) -> None:
    def start() -> Opening[Node]:
        return Node.start("alice", rendezvous=network.rendezvous, home=tmp_path)

    async with start() as node:
        assert not node.is_closed
    assert "closed" in repr(node)
    async with await start() as node:
        assert not node.is_closed
    assert "closed" in repr(node)
    node = await start()
    await node.close()


async def test_an_error_inside_async_with_is_not_hidden(network: LocalNetwork) -> None:
    with pytest.raises(ZeroDivisionError):
        async with await network.node("alice") as node:
            raise ZeroDivisionError
    assert node.is_closed
