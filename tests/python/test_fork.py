"""`fork` in a process that has a node: the child gets a clear error, the parent notices nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import ForkedProcessError, Node
from pilot_agent.testing import LocalNetwork
from support.waits import soon

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


async def in_child(body: Callable[[], None]) -> str:
    """Runs `body` in a forked child; what it complained of."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python warns of fork beside threads, and is right; that it works is the point here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            body()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must not return into pytest
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(write)
    try:
        _, status = await soon(asyncio.to_thread(lambda: os.waitpid(child, 0)), 20)
        with os.fdopen(read, "rb", closefd=False) as pipe:
            return "" if status == 0 else f"status {status}: {pipe.read().decode()}"
    finally:
        os.close(read)


def run(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs a coroutine in a child: what the parent's loop left in this thread is put away."""
    asyncio.events._set_running_loop(None)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


async def check(alice: Node, bob: Node) -> None:
    """The two can still talk."""
    for number in range(20):
        await soon(alice.send(bob.address, number))
        assert (await soon(bob.recv())).json() == number


async def test_the_childs_inherited_handles_say_whose_they_are(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    async with bob.listen(4000) as listener, alice.open_stream("bob", 4000) as stream:
        theirs = await soon(listener.accept())

        def child() -> None:
            for use in (
                lambda: alice.send("bob", b"x"),
                lambda: alice.request("bob", b"x"),
                alice.recv,
                alice.close,
                lambda: alice.find("x"),
                lambda: stream.read(1),
                lambda: stream.write(b"x"),
                listener.accept,
            ):
                with pytest.raises(ForkedProcessError, match="fork"):
                    run(use())
            for look in (alice.info, alice.peers, stream.stats, lambda: bob.listen(9)):
                with pytest.raises(ForkedProcessError):
                    look()

        assert await in_child(child) == ""
        await check(alice, bob)
        await theirs.write(b"still here")
        assert await soon(stream.readexactly(10)) == b"still here"


async def test_a_child_starts_nodes_of_its_own(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    async def life() -> None:
        async with LocalNetwork() as network:
            carol, dave = await network.nodes("carol", "dave")
            await check(carol, dave)

    assert await in_child(lambda: run(life())) == ""
    await check(alice, bob)


async def test_a_child_that_drops_everything_does_no_harm(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    kept = [alice, bob, alice.listen(1), bob.datagrams(2)]

    def child() -> None:
        warnings.simplefilter("error")
        for thing in kept:
            vars(thing).clear()
        kept.clear()
        gc.collect()

    assert await in_child(child) == ""
    await check(alice, bob)


async def test_many_forks_while_traffic_flows(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    stop = asyncio.Event()
    sent = 0

    async def talk() -> None:
        nonlocal sent
        while not stop.is_set():
            await soon(alice.send("bob", sent))
            assert (await soon(bob.recv())).json() == sent
            sent += 1

    talking = asyncio.create_task(talk())
    for _ in range(20):
        assert await in_child(sys.stdout.flush) == ""
    stop.set()
    await soon(talking)
    assert sent > 0


async def test_the_parent_takes_its_identity_again_while_a_child_lives(
    network: LocalNetwork,
) -> None:
    alice = await network.node("alice")
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent is done
        os._exit(0)
    os.close(read)
    try:
        await alice.close()
        again = await network.node("alice")
        assert again.address == alice.address
    finally:
        os.close(write)
        await soon(asyncio.to_thread(lambda: os.waitpid(child, 0)))
