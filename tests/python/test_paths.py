"""Which way packets go, what is wanted of that, and how one learns that it has changed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from pilot_agent import (
    Events,
    InvalidArgument,
    NodeClosed,
    PathChanged,
    PathPolicy,
    PeerNotFound,
    Request,
    RequestTimeout,
)
from support.waits import soon

if TYPE_CHECKING:
    from pilot_agent import Node
    from pilot_agent.testing import LocalNetwork


async def path_change(events: Events, kind: str) -> PathChanged:
    """The next change to a path of this kind."""
    async for event in events:
        if isinstance(event, PathChanged) and event.new.kind == kind:
            return event
    raise AssertionError


async def test_a_path_is_made_where_there_is_none_and_then_shown(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    path = await alice.path("bob")
    assert path.address == bob.address
    assert (path.kind, path.endpoint) == ("direct", bob.info().local_addr)
    assert path.local == alice.info().local_addr
    assert path.rtt is None or 0 < path.rtt < 10
    assert path.last_received is None or abs(path.last_received - time.time()) < 60
    used = path.candidates[0]
    assert used.active
    assert (used.kind, used.endpoint) == (path.kind, path.endpoint)


async def test_a_path_to_nobody_is_an_error(pair: tuple[Node, Node]) -> None:
    alice, _bob = pair
    with pytest.raises(PeerNotFound):
        await alice.path("nobody")
    with alice.simulate(block="udp"), pytest.raises(RequestTimeout):
        await alice.path("bob", timeout=0.2)


async def test_a_ping_tells_of_the_path_that_it_took(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    pong = await alice.ping("bob")
    assert (pong.path, pong.endpoint) == ("direct", bob.info().local_addr)
    assert pong.loss is None or 0 <= pong.loss <= 1
    assert pong.path_mtu is None or pong.path_mtu >= 1200


async def test_a_change_of_path_is_told_and_counted(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    await alice.ping("bob")

    async def keep_in_use() -> None:
        while True:
            await alice.send("bob", "still there?", timeout=30)
            await asyncio.sleep(0.02)

    async with alice.events() as events, alice.events() as others:
        using = asyncio.create_task(keep_in_use())
        began = time.time()
        with alice.simulate(block="direct"):
            lost = await soon(path_change(events, "relay"), 30)
            assert (await alice.path("bob")).kind == "relay"
        found = await soon(path_change(events, "direct"), 30)
        using.cancel()
        for event in (lost, found):
            assert (event.peer, event.hostname) == (bob.address, "bob")
            assert began - 1 < event.at < time.time() + 1
        assert lost.old is not None
        assert lost.old.kind == "direct"
        assert str(found.new) == f"direct via {bob.info().local_addr}"
        # Everybody who watches is told everything.
        assert await soon(path_change(others, "relay")) == lost
        assert events.dropped == 0
    counters = alice.info().counters
    assert counters["paths_lost"] >= 1
    assert counters["paths_upgraded"] >= 1
    since = (await alice.path("bob")).since
    assert since is not None
    assert since >= lost.at


async def test_watching_ends_with_the_node_or_before(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    events = alice.events()
    waiting = asyncio.create_task(events.next())
    await asyncio.sleep(0)
    events.close()
    events.close()
    with pytest.raises(NodeClosed):
        await soon(waiting)
    async with bob.events() as events:
        iterating = asyncio.create_task(_exhaust(events))
        await asyncio.sleep(0)
        await bob.close()
        await soon(iterating)
    with pytest.raises(NodeClosed):
        bob.events()


async def _exhaust(events: Events) -> None:
    async for _event in events:
        pass


async def test_traffic_of_every_class_arrives(pair: tuple[Node, Node]) -> None:
    alice, bob = pair

    @bob.on_request
    async def double(request: Request) -> Any:
        return request.payload * 2

    for traffic in ("normal", "bulk", "control"):
        assert (await alice.request("bob", b"x", traffic=traffic)).payload == b"xx"
        await alice.send("bob", traffic, traffic=traffic)
        await alice.send("bob", bytes(100_000), traffic=traffic)
        async with (
            bob.listen(4000) as listener,
            alice.open_stream("bob", 4000, traffic=traffic) as stream,
        ):
            await stream.write(b"hello")
            async with await soon(listener.accept()) as accepted:
                accepted.set_traffic(traffic)
                assert await soon(accepted.readexactly(5)) == b"hello"
    got = [(await soon(bob.recv())).payload for _ in range(6)]
    assert sorted(map(len, got)) == [4, 6, 7, 100_000, 100_000, 100_000]


async def test_a_class_that_there_is_not_is_refused(pair: tuple[Node, Node]) -> None:
    alice, _bob = pair
    nonsense: Any = "urgent"
    for call in (
        alice.send("bob", "x", traffic=nonsense),
        alice.request("bob", "x", traffic=nonsense),
        alice.open_stream("bob", 4000, traffic=nonsense),
    ):
        with pytest.raises(InvalidArgument, match="control"):
            await call


async def test_a_policy_that_leaves_no_path_is_refused(network: LocalNetwork) -> None:
    with pytest.raises(InvalidArgument, match="no path"):
        PathPolicy(direct=False, relay=False)
    nonsense: Any = "sometimes"
    with pytest.raises(InvalidArgument, match="bulk"):
        PathPolicy(bulk=nonsense)
    alice = await network.node("alice")
    with pytest.raises(PeerNotFound):
        await alice.set_path_policy("nobody", PathPolicy())


async def test_a_node_with_a_policy_reaches_its_peers(network: LocalNetwork) -> None:
    policy = PathPolicy(bulk="direct-only", control="duplicate")
    alice = await network.node("alice", paths=policy)
    bob = await network.node("bob")
    await alice.set_path_policy("bob", PathPolicy(lan_only=True))
    await alice.set_path_policy(bob.address, policy)
    await alice.set_path_policy(None, PathPolicy())
    await alice.send("bob", "hello")
    assert (await soon(bob.recv())).text() == "hello"


async def test_what_is_known_of_the_network_is_in_info(pair: tuple[Node, Node]) -> None:
    info = pair[0].info()
    assert info.nat.mapping
    assert all(candidate.address for candidate in info.candidates)
