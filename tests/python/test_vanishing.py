"""Peers and rendezvous that vanish: an error within the configured time, and life goes on."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import Node, PeerUnreachable, PilotError, Rendezvous, StreamReset
from support.programs import running
from support.waits import soon, started

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_agent.testing import LocalNetwork

PEER = """
import asyncio, sys
from pilot_agent import Node

async def echo(stream):
    await stream.write(await stream.readline())

async def main(rendezvous, home):
    async with Node.start("mortal", rendezvous=rendezvous, home=home) as node:
        @node.on_request
        async def answer(request):
            if request.text() == "hang":
                await asyncio.Event().wait()
            return request.payload
        async with node.listen(4000) as listener:
            print("ready", flush=True)
            streams = []
            async for stream in listener:
                streams.append(stream)
                asyncio.ensure_future(echo(stream))

asyncio.run(main(*sys.argv[1:]))
"""

TIMEOUT = 1.5


async def test_a_peer_killed_in_mid_stream_is_an_error_in_time(network: LocalNetwork) -> None:
    alice = await network.node("alice", peer_timeout=TIMEOUT)
    async with running("-c", PEER, network.rendezvous, str(network.home)) as peer:
        assert await peer.line() == "ready"
        async with (
            alice.open_stream("mortal", 4000) as reading,
            alice.open_stream("mortal", 4000) as writing,
        ):
            await reading.write(b"line\n")
            assert await soon(reading.readline()) == b"line\n"
            await peer.kill()
            killed = time.monotonic()
            waiting = await started(reading.readline())
            flood = await started(writing.write(bytes(64 << 20)))
            for task in (waiting, flood):
                with pytest.raises((PeerUnreachable, StreamReset)) as caught:
                    await soon(task, 4 * TIMEOUT)
                assert isinstance(caught.value, ConnectionError)
            assert time.monotonic() - killed < 3 * TIMEOUT


async def test_a_request_to_a_peer_that_dies_ends_with_its_timeout(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    async with running("-c", PEER, network.rendezvous, str(network.home)) as peer:
        assert await peer.line() == "ready"
        asking = await started(alice.request("mortal", "hang", timeout=1.5))
        await soon(alice.request("mortal", "alive?"))
        await peer.kill()
        with pytest.raises(PilotError):
            await soon(asking, 5)


async def test_a_peer_that_comes_back_is_found_at_once(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    for _ in range(2):
        async with running("-c", PEER, network.rendezvous, str(network.home)) as peer:
            assert await peer.line() == "ready"
            begun = time.monotonic()
            reply = await soon(alice.request("mortal", "hello", timeout=8))
            assert reply.text() == "hello"
            assert time.monotonic() - begun < 5
            await peer.kill()


async def test_streams_to_a_peer_that_restarted_fail_at_once(network: LocalNetwork) -> None:
    alice = await network.node("alice")
    async with running("-c", PEER, network.rendezvous, str(network.home)) as peer:
        assert await peer.line() == "ready"
        stream = await soon(alice.open_stream("mortal", 4000))
        await stream.write(b"line\n")
        assert await soon(stream.readline()) == b"line\n"
        await peer.kill()
    async with running("-c", PEER, network.rendezvous, str(network.home)) as peer:
        assert await peer.line() == "ready"
        waiting = await started(stream.readline())
        assert (await soon(alice.request("mortal", "hello", timeout=8))).text() == "hello"
        with pytest.raises((StreamReset, PeerUnreachable)):
            await soon(waiting)
        await stream.close()


async def test_peers_who_know_each_other_need_no_rendezvous(tmp_path: Path) -> None:
    rendezvous = await Rendezvous.start("127.0.0.1:0")
    options: dict[str, Any] = {"rendezvous": rendezvous.address, "home": tmp_path}
    async with Node.start("alice", **options) as alice, Node.start("bob", **options) as bob:
        await alice.send("bob", "before")
        await rendezvous.close()
        await soon(alice.send("bob", "after"))
        await soon(bob.send((await soon(bob.recv())).sender, "back"))
        assert (await soon(alice.recv())).text() == "back"
        with pytest.raises(PilotError):
            await soon(alice.resolve("somebody-else"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


HOST = """
import asyncio, sys
from pilot_agent import Node

async def main(name, rendezvous, home):
    async with Node.start(name, rendezvous=rendezvous, home=home) as node:
        print("host" if node.info().hosts_rendezvous else "guest", flush=True)
        async for message in node.messages():
            print(message.text(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_first_node_hosts_the_rendezvous_and_another_takes_over(
    tmp_path: Path,
) -> None:
    embedded = f"embedded:{free_port()}"
    home = str(tmp_path)
    async with running("-c", HOST, "first", embedded, home) as first:
        assert await first.line() == "host"
        async with (
            running("-c", HOST, "second", embedded, home) as second,
            Node.start("third", rendezvous=embedded, home=home) as third,
        ):
            assert await second.line() == "guest"
            await soon(third.send("first", "hello"))
            assert await first.line() == "hello"
            await first.kill()
            # Known or not, the others are reached while and after another takes over.
            for number in range(5):
                await soon(third.send("second", f"number {number}", timeout=10), 15)
                assert await second.line() == f"number {number}"
            async with Node.start("fourth", rendezvous=embedded, home=home) as fourth:
                await soon(fourth.send("second", "from a newcomer"), 15)
                assert await second.line() == "from a newcomer"
                await soon(third.send("fourth", "welcome"), 15)
                assert (await soon(fourth.recv())).text() == "welcome"


async def test_nodes_that_start_at_once_agree_on_one_host(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rendezvous": f"embedded:{free_port()}", "home": tmp_path}

    async def start(name: str) -> Node:
        return await Node.start(name, **options)

    nodes = await soon(asyncio.gather(*(start(f"node-{number}") for number in range(6))), 20)
    try:
        assert sum(node.info().hosts_rendezvous for node in nodes) == 1
        await soon(asyncio.gather(*(node.ping("node-0") for node in nodes[1:])), 20)
    finally:
        await asyncio.gather(*(node.close() for node in nodes))
